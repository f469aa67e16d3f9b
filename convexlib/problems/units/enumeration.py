r"""All units of a data set, with a proof that these are all.

Units are built level by level; a node with the children :math:`h_1..h_m` is
:math:`(\sum_j s_j h_j)_+`, where every child is on one of the linear pieces listed before.

**The patterns of a node** are the cells of an arrangement again: of the n rows
:math:`(s_1 [D_{1 i_1}]_{tt} x_t, \dots, s_m [D_{1 i_m}]_{tt} x_t) \in \mathbb R^{md}`, which
`enumerate_arrangements` lists by exact arithmetic. Cells that miss the cone of the leaves give
units without interior; they are harmless. Four reductions keep the list short:

1. A sample that no positive child can activate is off; one that no negative child can activate is
   on, since children are nonnegative. Only the other samples have a row in the arrangement. So a
   sum with positive signs needs :math:`D_2 = I` only, and one with negative signs is zero.
2. Children of one sign may be permuted: multisets, not tuples.
3. Children without any active sample may be left out: with zero weights the same output belongs
   to every other choice of that child, as closed cells cover the space.
4. A negative child that shares no active sample with a positive one has no effect. Its weights are
   best zero, and that output is found where the child has the pattern of a positive one.

The signs need be only +1 and -1, as a ReLU passes positive factors through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexlib.arrangements import Arrangements, enumerate_arrangements
from convexlib.arrays import Bools
from convexlib.errors import TooManyArrangementsError
from convexlib.problems.units.pieces import Signs, Units, check_widths, wall_rows
from convexlib.validation import check_matrix, check_positive_int, readable_count

_WIDE = 100  # children per node


def enumerate_units(
    X: Any, width: int | Sequence[int] = 2, depth: int = 3, max_units: int = 100_000
) -> Units:
    r"""Return all units of tree networks on X, with a proof that these are all.

    Parameters
    ----------
    X : array or tensor (n, d)
    width : int or sequence of int
        Children per inner node; a sequence gives one number for each of the depth - 2 inner
        levels, from the leaves upwards.
    depth : int
        Layers of weights, at least 2. At depth 2 the units are the patterns of X.
    max_units : int
        The most units to return.

    Returns
    -------
    Units
        ``exhaustive`` unless exact enumeration of an arrangement had to fall back on a nearby
        matrix (numerically rank-deficient data).

    Raises
    ------
    TooManyArrangementsError
        If there are more than max_units units, or clearly more before any search.

    Notes
    -----
    See the module's text for the proof; source: Ergen & Pilanci (2021), where each neuron of the
    first layer has its own pattern. Checked by ``tests/problems/test_units.py``.
    """
    X = check_matrix(X)
    widths = check_widths(width, check_positive_int(depth, "depth", minimum=2))
    max_units = check_positive_int(max_units, "max_units")
    try:
        patterns = enumerate_arrangements(X, max_patterns=max_units)
    except TooManyArrangementsError as error:
        reason = str(error).split("Raise")[0].replace("max_patterns", "max_units")
        raise TooManyArrangementsError(f"{reason}{_advice(widths)}") from error
    data = X.double().cpu().numpy()
    units = _leaf_units(patterns)
    for children in widths:
        units = _combine(data, units, children, widths, max_units)
    return replace(units, source=patterns.source)


def _leaf_units(patterns: Arrangements) -> Units:
    """Units of depth 2: one leaf and no inner node."""
    masks = patterns.masks.cpu().numpy()
    if masks.any():
        masks = masks[masks.any(axis=1)]
    K, n = masks.shape
    return Units(
        leaves=masks[:, None],
        inner=(),
        nodes=np.zeros((K, 0, n, 1), dtype=np.int8),
        outputs=masks[:, :, None].astype(np.int8),
        exhaustive=patterns.exhaustive and patterns.perturbation == 0,
    )


def _advice(widths: tuple[int, ...]) -> str:
    width = widths[0] if len(set(widths)) == 1 else widths
    depth = "" if len(widths) == 1 else f", depth={len(widths) + 2}"
    search = ', or units="generate", which searches for some' if len(widths) == 1 else ""
    return (
        f"Raise max_units, or pass units=sample_units(X, n_units=..., width={width}{depth}), whose "
        f"program gives an upper bound{search}."
    )


def _combine(
    X: NDArray[np.float64], below: Units, width: int, widths: tuple[int, ...], max_units: int
) -> Units:
    """All nodes with `width` children out of the list `below`."""
    K = len(below)
    tuples = comb(K + width - 1, width)
    wide = width > _WIDE  # the sum has many terms of many digits, and is not computed to its end
    for p in range(1, width):
        if wide and tuples > 2 * max_units:
            break
        tuples += comb(K + p - 1, p) * comb(K + width - p - 1, width - p)
    if tuples > 2 * max_units:
        known = "at least" if wide else "up to"
        raise _refusal(X, widths, f"{known} {readable_count(tuples)} choices of", max_units)
    cells = _Cells(X)
    on: Bools = (below.outputs != 0).any(axis=2)  # (K, n)
    parts: list[tuple[Signs, Bools, Signs, Signs]] = []
    chosen: list[tuple[int, ...]] = []
    count, exhaustive = 0, below.exhaustive
    for children, n_positive in _choices(on, width):
        signs = np.array([1] * n_positive + [-1] * (width - n_positive), dtype=np.int8)
        scaled = below.outputs[list(children)] * signs[:, None, None]  # (width, n, m)
        coefficients = np.concatenate(list(scaled), axis=1)  # (n, width * m)
        positive: Bools = np.asarray(on[list(children[:n_positive])].any(axis=0))
        undecided: Bools = positive & on[list(children[n_positive:])].any(axis=0)
        patterns, proven = cells(coefficients, undecided)
        exhaustive &= proven
        masks = np.tile(positive, (len(patterns), 1))
        masks[:, undecided] = patterns
        masks = masks[masks.any(axis=1)]
        walls = wall_rows(coefficients, masks, undecided)
        parts.append((np.tile(signs, (len(masks), 1, 1)), masks, walls, coefficients))
        chosen.append(children)
        count += len(masks)
        if count > max_units:
            raise _refusal(X, widths, f"more than {readable_count(count)}", max_units)
    return _assembled(below, parts, chosen, exhaustive)


def _choices(on: Bools, width: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Multisets of positive and of negative children that can act on each other."""
    everything = range(len(on))
    for n_positive in range(width, 0, -1):
        for positive in combinations_with_replacement(everything, n_positive):
            meets = (on & on[list(positive)].any(axis=0)).any(axis=1)
            rest = np.flatnonzero(meets).tolist()
            for negative in combinations_with_replacement(rest, width - n_positive):
                yield (*positive, *negative), n_positive


class _Cells:
    """The patterns of a node on its undecided samples, remembered by the rows that give them."""

    def __init__(self, X: NDArray[np.float64]) -> None:
        self.X = X
        self.known: dict[bytes, tuple[Bools, bool]] = {}

    def __call__(self, coefficients: Signs, undecided: Bools) -> tuple[Bools, bool]:
        if not undecided.any():
            return np.ones((1, 0), dtype=bool), True
        chosen = coefficients[undecided]
        key = undecided.tobytes() + chosen.tobytes()
        if key not in self.known:
            rows = np.einsum("tj,td->tjd", chosen, self.X[undecided]).reshape(len(chosen), -1)
            rows = rows[:, rows.any(axis=0)] if rows.any() else rows[:, :1]
            found = enumerate_arrangements(rows)
            proven = found.exhaustive and found.perturbation == 0
            self.known[key] = found.masks.numpy(), proven
        return self.known[key]


def _assembled(
    below: Units,
    parts: list[tuple[Signs, Bools, Signs, Signs]],
    chosen: list[tuple[int, ...]],
    exhaustive: bool,
) -> Units:
    """Put the children's arrays and the new node's together."""
    repeats = [len(part[1]) for part in parts]
    index = np.repeat(np.array(chosen), repeats, axis=0)  # (K, width)
    K, width = index.shape
    n, m = below.outputs.shape[1:]
    Q = below.nodes.shape[1]
    nodes = np.zeros((K, width * Q + 1, n, width * m), dtype=np.int8)
    for child in range(width):
        block = slice(child * m, (child + 1) * m)
        nodes[:, child * Q : (child + 1) * Q, :, block] = below.nodes[index[:, child]]
    nodes[:, -1] = np.concatenate([part[2] for part in parts])
    inner = tuple(signs[index].reshape(K, -1, signs.shape[2]) for signs in below.inner)
    return Units(
        leaves=below.leaves[index].reshape(K, width * m, n),
        inner=(*inner, np.concatenate([part[0] for part in parts])),
        nodes=nodes,
        outputs=np.concatenate([part[1][:, :, None] * part[3] for part in parts]).astype(np.int8),
        exhaustive=exhaustive,
    )


def _refusal(
    X: NDArray[np.float64], widths: tuple[int, ...], count: str, max_units: int
) -> TooManyArrangementsError:
    return TooManyArrangementsError(
        f"X has shape {X.shape}: {count} units of width {', '.join(map(str, widths))}, more than "
        f"max_units={max_units}. {_advice(widths)}"
    )
