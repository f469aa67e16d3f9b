"""How many bends would be at mirrors anyway.

Only bends that are at no data point and no corner count (`kinks`), and two answers keep the piece
between data and corners that each of them is in.

* *even*: each bend is anywhere in its piece, independently of the others. The share of the piece
  near mirrors (`Places.shares`) is then its chance, and seeds with a hit are a sum of independent
  draws (`hit_at_random`). Bends of one network come in groups, which makes seeds with a hit rarer.
* *moved*: the bends are where they are, and the mirrors are not: within each piece all of them are
  shifted together, round and round, which keeps their number and distances. Where all seeds have
  the same samples there is one set of mirrors, which has few places to go, so that this answer is
  coarse; it is fine where each seed has samples of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convexlib.arrays import Floats
from experiments.reflections.kinks import KINDS, Ints, Places, near

DRAWS = 9999  # of mirrors that are moved
MIRROR = KINDS.index("mirror")
Bends = list[list[float]]  # place and change of each


def hit_at_random(misses: Sequence[float]) -> Floats:
    """Return the distribution (S + 1,) of how many of S seeds hit, each missing with its chance."""
    law = np.ones(1)
    for miss in misses:
        law = np.append(law * miss, 0.0) + np.append(0.0, law * (1.0 - miss))
    return law


def moved(points: Floats, places: Places, draws: Floats) -> Ints:
    """Count the points near mirrors that have been moved, for every draw.

    Parameters
    ----------
    points : ndarray (k,)
        Bends that are within reach of neither data nor corners.
    places : Places
    draws : ndarray (N, number of pieces)
        By which share of its piece each mirror is shifted, modulo the piece.
    """
    counts = np.zeros(len(draws), dtype=np.int64)
    for shift, (low, high) in zip(draws.T, places.pieces, strict=True):
        inside = places.mirrors[(places.mirrors >= low) & (places.mirrors <= high)]
        own = points[(points >= low) & (points <= high)]
        if len(inside) and len(own):
            length = high - low
            # Moving the mirrors forwards is moving the bends back; a mirror at one end of the piece
            # reaches into the other, so that all moves cover as much.
            back = low + (own[None, :] - low - shift[:, None] * length) % length
            around = np.concatenate([inside - length, inside, inside + length])
            counts += near(back, around, places.reach).sum(axis=1)
    return counts


def tally(
    places: list[Places], trained: list[Bends], initial: list[Bends], narrow: list[Bends]
) -> dict[str, Any]:
    """Count the bends of all seeds by what they are near, and what chance would give.

    Parameters
    ----------
    places : list of Places
        Of every seed's samples.
    trained, initial : list
        Every seed's bends.
    narrow : list
        Those of an optimal narrow network on every seed's samples, or on those that all share.
    """
    ended = [_at(own) for own in trained]
    kinds, before, optimal = (
        [one.kinds(_at(own)) for one, own in zip(places, part, strict=False)]
        for part in (trained, initial, narrow)
    )
    free = [points[kind >= MIRROR] for points, kind in zip(ended, kinds, strict=True)]
    hits = [int((kind == MIRROR).sum()) for kind in kinds]
    reflected = [
        bool(near(points, one.corners[one.reflected], one.reach).any())
        for one, points in zip(places, ended, strict=True)
    ]
    chances = [one.chances(points) for one, points in zip(places, free, strict=True)]
    law = hit_at_random([float(np.prod(1.0 - own)) for own in chances])
    seeds = sum(hit > 0 for hit in hits)
    # Seeds with the same samples share the draws, as they share their mirrors.
    source, drawn = np.random.default_rng(0), {}
    shifted = []
    for one, points in zip(places, free, strict=True):
        key = one.data.tobytes(), one.corners.tobytes()
        if key not in drawn:
            drawn[key] = source.random((DRAWS, len(one.pieces)))
        shifted.append(moved(points, one, drawn[key]))
    elsewhere = np.sum(shifted, axis=0)  # (DRAWS,)
    return {
        "trained": _counts(kinds),
        "initial": _counts(before),
        "narrow": _counts(optimal),
        # Seeds with a bend at a mirror; with one there or at a corner that is a mirror.
        "seeds": seeds,
        "seeds_reflected": sum(a > 0 or b for a, b in zip(hits, reflected, strict=True)),
        "seeds_initial": sum(bool((kind == MIRROR).any()) for kind in before),
        "seeds_narrow": sum(bool((kind == MIRROR).any()) for kind in optimal),
        "seeds_even": _short(law @ np.arange(len(law))),
        "seeds_moved": _short(np.mean(np.sum([one > 0 for one in shifted], axis=0))),
        "even": _short(np.concatenate(chances).sum()),
        "moved": _short(elsewhere.mean()),
        "p_even": _short(law[seeds:].sum()),
        "p_moved": _short((1 + (elsewhere >= sum(hits)).sum()) / (1 + DRAWS)),
    }


def _at(bends: Bends) -> Floats:
    """The places of bends."""
    return np.array([place for place, _ in bends])


def _counts(kinds: list[Ints]) -> dict[str, int]:
    """How many bends are near what."""
    found = np.bincount(np.concatenate(kinds), minlength=len(KINDS))
    return {kind: int(count) for kind, count in zip(KINDS, found, strict=True)}


def _short(value: Any) -> float:
    return float(f"{value:.4g}")
