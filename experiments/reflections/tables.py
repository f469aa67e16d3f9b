"""Reflections: the records as text, what chance leaves of them, and the finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convexlib.arrays import Floats
from experiments.reflections.chance import MIRROR
from experiments.reflections.kinks import Places, near
from experiments.reflections.methods import lassos, samples

REACH = 0.005  # at which the book counts; the records have others beside it
LEVEL = 0.05
WORDS = {
    "matched": "fully connected",
    "squares": "the same, squared weights",
    "faint": "the same, almost no penalty",
    "parallel": "narrow, in parallel",
}
Records = Sequence[dict[str, Any]]


def tally_of(record: dict[str, Any], reach: float = REACH) -> dict[str, Any]:
    """Return the counts of a record for one reach, the nearest that it has."""
    tallies: list[dict[str, Any]] = record["result"]["tallies"]
    return min(tallies, key=lambda one: abs(one["reach"] - reach))


def chosen(found: Records, **settings: Any) -> list[dict[str, Any]]:
    """Return the records with these settings."""
    return [r for r in found if all(r["config"][key] == settings[key] for key in settings)]


def free(counts: dict[str, int]) -> int:
    """Return the number of bends that are at no data point and no corner."""
    return sum(counts[kind] for kind in ("mirror", "midpoint", "other"))


def holm(values: Sequence[float]) -> Floats:
    """Return p-values adjusted for their number by Holm's rule, in their order."""
    p = np.asarray(values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def ratios(record: dict[str, Any]) -> Floats:
    """Return each seed's objective over the Lasso optimum, infinite where it diverged."""
    result = record["result"]
    ends = [np.inf if value is None else value for value in result["objective"]]
    return np.array(ends) / np.array(result["lasso"])


def ratio(record: dict[str, Any]) -> float:
    """Return beta / beta_max; where somebody has set beta itself, its median over the seeds."""
    config = record["config"]
    if "ratio" in config:
        return float(config["ratio"])
    pairs = zip(record["result"]["beta"], lassos(config), strict=True)
    return float(np.median([beta / lasso.beta_max() for beta, lasso in pairs]))


def bending_at(record: dict[str, Any], place: float, reach: float = REACH) -> int:
    """Count the seeds with a bend near a place, in the units of the inputs that all seeds share."""
    x, _ = samples(record["config"]["set"], 0)
    target = np.array([(place - x[0]) / (x[-1] - x[0])])
    own = [np.array([at for at, _ in bends]) for bends in record["result"]["bends"]]
    return sum(bool(near(at, target, reach).any()) for at in own)


def around(found: Records, reach: float = REACH) -> tuple[int, int]:
    """Count the bends within reach of a mirror, and those beyond it and within twice of it.

    Both are of the same length of line, so that bends which crowd smoothly give both alike, and
    bends that seek mirrors do not.
    """
    counts = np.zeros(2, dtype=np.int64)
    for record in found:
        config = record["config"]
        for seed, own in zip(config["seeds"], record["result"]["bends"], strict=True):
            places = Places.of(*samples(config["set"], seed), reach)
            points = np.array([at for at, _ in own])
            points = points[places.kinds(points) >= MIRROR]
            within = [int(near(points, places.mirrors, k * reach).sum()) for k in (1, 2)]
            counts += (within[0], within[1] - within[0])
    return int(counts[0]), int(counts[1])


@dataclass(frozen=True)
class Pool:
    """The bends of several cells together.

    Attributes
    ----------
    cells, seeds : int
        Cells, and runs in them.
    every, free, mirrors : int
        Bends; those at no data point and no corner; those of them at mirrors.
    chance : float
        How many would be there if each were anywhere in its piece.
    start : float
        The share of mirrors among the free bends of the same networks before training.
    hit, hit_by_chance : float
        Seeds with a bend at a mirror.
    beyond, beyond_moved : int
        Cells with more of these seeds than chance gives, and with more bends at mirrors than at
        mirrors that were moved: each at 5 % after Holm's adjustment for the number of cells.
    """

    cells: int
    seeds: int
    every: int
    free: int
    mirrors: int
    chance: float
    start: float
    hit: int
    hit_by_chance: float
    beyond: int
    beyond_moved: int


def pooled(found: Records, reach: float = REACH) -> Pool:
    """Return the sums over cells; p-values are adjusted for the number of these cells."""
    tallies = [tally_of(record, reach) for record in found]
    starts = sum(free(one["initial"]) for one in tallies)
    p = {key: holm([one[key] for one in tallies]) for key in ("p_even", "p_moved")}
    return Pool(
        cells=len(found),
        seeds=sum(len(record["config"]["seeds"]) for record in found),
        every=sum(sum(one["trained"].values()) for one in tallies),
        free=sum(free(one["trained"]) for one in tallies),
        mirrors=sum(one["trained"]["mirror"] for one in tallies),
        chance=sum(one["even"] for one in tallies),
        start=sum(one["initial"]["mirror"] for one in tallies) / max(starts, 1),
        hit=sum(one["seeds"] for one in tallies),
        hit_by_chance=sum(one["seeds_even"] for one in tallies),
        beyond=int((p["p_even"] <= LEVEL).sum()),
        beyond_moved=int((p["p_moved"] <= LEVEL).sum()),
    )


def summary(found: Records) -> str:
    """Return a table in Markdown: what kind of network bends how often at mirrors."""
    lines = [
        "| Networks | Activation | Bends | Off data and corners | At mirrors | By chance | "
        "At the start | Cells beyond chance |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for part, words in WORDS.items():
        for activation in ("abs", "relu"):
            cells = chosen(found, part=part, activation=activation)
            if cells:
                one = pooled(cells)
                shares = [one.mirrors / one.free, one.chance / one.free, one.start]
                lines.append(
                    f"| {words} | {activation} | {one.every} | {one.free} | "
                    + " | ".join(f"{100 * share:.1f} %" for share in shares)
                    + f" | {one.beyond} of {one.cells} |"
                )
    return "\n".join(lines)


def finding(found: Records) -> tuple[str, dict[str, bool]]:
    """Return what was measured on fully connected networks, and for which activations it holds.

    It holds for an activation if most of its cells have more seeds with a bend at a mirror than
    chance gives, after Holm's adjustment; and ``"some"`` says whether any cell has.
    """
    connected = chosen(found, part="matched")
    every = pooled(connected)
    adjusted = holm([tally_of(record)["p_even"] for record in connected]) <= LEVEL
    names = np.array([record["config"]["activation"] for record in connected])
    holds = {name: bool(adjusted[names == name].mean() > 0.5) for name in ("abs", "relu")}
    text = (
        f"of {every.free} bends off data and corners {every.mirrors} are at mirrors, by chance "
        f"{every.chance:.0f}; {every.hit} of {every.seeds} runs have one, by chance "
        f"{every.hit_by_chance:.0f}; {every.beyond} of {every.cells} cells are beyond chance"
    )
    return text, holds | {"some": bool(adjusted.any())}


def table(found: list[dict[str, Any]]) -> str:
    """Return one line for each cell."""
    lines = [
        f"{'part':8} {'set':6} {'act.':4} {'L':>1} {'width':>5} {'opt.':4} {'beta/max':>8} "
        f"{'rate':>5} {'obj./Lasso':>10} {'bends':>5} {'data':>5} {'free':>4} {'mirror':>6} "
        f"{'even':>6} {'moved':>6} {'seeds':>5} {'even':>5} {'moved':>5} {'start':>5} {'p':>7} "
        f"{'p moved':>7}"
    ]
    for record in found:
        config, result, tally = record["config"], record["result"], tally_of(record)
        lines.append(
            f"{config['part']:8} {config['set']:6} {config['activation']:4} {config['depth']:1} "
            f"{config['width']:5} {config['optimizer']:4} {ratio(record):8.2g} "
            f"{result['rate']:5g} {np.median(ratios(record)):10.3g} "
            f"{sum(tally['trained'].values()):5} {tally['trained']['data']:5} "
            f"{free(tally['trained']):4} "
            f"{tally['trained']['mirror']:6} {tally['even']:6.1f} {tally['moved']:6.1f} "
            f"{tally['seeds']:5} {tally['seeds_even']:5.1f} {tally['seeds_moved']:5.1f} "
            f"{tally['seeds_initial']:5} {tally['p_even']:7.2g} {tally['p_moved']:7.2g}"
        )
    return "\n".join(lines)


def missed(record: dict[str, Any]) -> str | None:
    """Say why a record cannot be used, or return None."""
    diverged = sum(value is None for value in record["result"]["objective"])
    if 2 * diverged >= len(record["result"]["objective"]):
        return f"{diverged} seeds diverged at the best rate: its median objective is infinite"
    return None
