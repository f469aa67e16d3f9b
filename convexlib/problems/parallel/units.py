r"""Linear pieces of whole sub-networks: leaves, signs and the patterns of inner nodes.

A unit of depth 3 is :math:`(\sum_j s_j (X u_j)_+)_+`. Where every :math:`u_j` keeps its pattern
:math:`D_{1 i_j}`, and the sum its pattern :math:`D_2`, the unit is the linear map
:math:`D_2 \sum_j s_j D_{1 i_j} X u_j`; a deeper unit is a tree of such sums. `Units` holds these
linear maps and the walls of the cones on which they hold.

**All units** of a data set are listed by `enumerate_units`, with a proof that these are all. They
are built level by level; a node with the children :math:`h_1..h_m` is :math:`(\sum_j s_j h_j)_+`,
where every child is on one of the linear pieces listed before.

**The patterns of a node** are the cells of an arrangement again: of the n rows
:math:`(s_1 [D_{1 i_1}]_{tt} x_t, \dots, s_m [D_{1 i_m}]_{tt} x_t) \in \mathbb R^{md}`, which
`enumerate_arrangements` lists by exact arithmetic. Cells that miss the cone of the leaves give
units without interior; they are harmless. Five reductions keep the list short:

1. A sample that no positive child can activate is off; any other that no negative child can
   activate is on, since children are nonnegative. Only the rest have a row in the arrangement. So a
   sum with positive signs needs :math:`D_2 = I` only, and one with negative signs is zero.
2. Children of one sign may be permuted: multisets, not tuples.
3. Children without any active sample may be left out: with zero weights the same output belongs
   to every other choice of that child, as closed cells cover the space.
4. A negative child that shares no active sample with a positive one has no effect. Its weights are
   best zero, and that output is found where the child has the pattern of a positive one.
5. A unit whose output is zero on all samples only costs.

The signs need be only +1 and -1, as a ReLU passes positive factors through.

**Without a list** the program's blocks stand for sub-networks, whatever their patterns. A block
(2m, d) holds first the leaves that are added, then those that are subtracted; at most m of them are
not zero. So a tensor of weights says everything about a network, signs included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from math import comb, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrangements import Arrangements, enumerate_arrangements
from convexlib.arrangements.patterns import fingerprint
from convexlib.arrays import Bools
from convexlib.checks import (
    check_index,
    check_matrix,
    check_positive_int,
    check_seed,
    readable_count,
)
from convexlib.errors import InputError, TooManyArrangementsError

Signs = NDArray[np.int8]
MAX_DEPTH, MAX_LEAVES = 100, 10_000  # beyond, nothing is ever listed or drawn in time
MAX_ENTRIES = 2**33  # bytes of the linear maps that are drawn at once


@dataclass(frozen=True, eq=False)
class Units:
    r"""Linear pieces of the units of n samples, each with the walls of its cone.

    Attributes
    ----------
    leaves : bool ndarray (K, m, n)
        Patterns of the m leaves (first-layer neurons) of each unit.
    inner : tuple of int8 ndarray (K, parents, children)
        The signs of the weights above, level by level; their products of the last axis and the
        ones before are the leaves, in order.
    nodes : int8 ndarray (K, Q, n, m)
        Walls of the Q inner nodes: :math:`\sum_j \text{nodes}_{kqtj}\, x_t^\top u_j \ge 0`.
    outputs : int8 ndarray (K, n, m)
        The unit's output on sample t is :math:`\sum_j \text{outputs}_{ktj}\, x_t^\top u_j`.
    exhaustive : bool
        Whether every network of this shape has each of its units on one of these pieces, by proof.
    source : str
        `fingerprint` of the samples that were enumerated; empty for other lists.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> units = cl.enumerate_units(np.array([[-1.0, 1.0], [2.0, 1.0]]))
    >>> units.leaves.shape, units.exhaustive  # units, leaves, samples
    ((17, 2, 2), True)
    """

    leaves: Bools
    inner: tuple[Signs, ...]
    nodes: Signs
    outputs: Signs
    exhaustive: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        axes = {"leaves": 3, "nodes": 4, "outputs": 3}
        arrays = {name: getattr(self, name) for name in axes}
        levels = self.inner if isinstance(self.inner, tuple) else (None,)
        arrays |= {f"inner[{level}]": signs for level, signs in enumerate(levels)}
        for name, array in arrays.items():
            wanted, shape = axes.get(name, 3), tuple(getattr(array, "shape", ()))
            if not isinstance(array, np.ndarray) or len(shape) != wanted:
                raise InputError(
                    f"{name} is {type(array).__name__} of shape {shape}; expected an array "
                    f"of {wanted} axes, or for inner a tuple of such arrays."
                )
            if len(array) != len(self.leaves):
                raise InputError(
                    f"{name} holds {len(array)} units and leaves {len(self.leaves)}; expected "
                    "the same number."
                )

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def widths(self) -> tuple[int, ...]:
        """Children per inner node, from the leaves upwards."""
        return tuple(signs.shape[2] for signs in self.inner)

    @property
    def depth(self) -> int:
        """Layers of weights of the networks that these units belong to."""
        return len(self.inner) + 2

    def exhausts(self, X: Any) -> bool:
        """Return whether the list is proven to hold the units of this very matrix."""
        return self.exhaustive and self.source == fingerprint(check_matrix(X))

    def select(self, index: Any) -> Units:
        """Return the units that `index` (integers, booleans or a slice) picks."""
        index = check_index(index, len(self))
        picked = np.zeros(len(self), dtype=bool)
        picked[index] = True
        return Units(
            self.leaves[index],
            tuple(signs[index] for signs in self.inner),
            self.nodes[index],
            self.outputs[index],
            self.exhaustive and bool(picked.all()),
            self.source,
        )

    def __repr__(self) -> str:
        known = "exhaustive" if self.exhaustive else "not proven exhaustive"
        n, m = self.outputs.shape[1:]
        return f"Units({len(self)} units of {m} leaves, depth {self.depth}, {n} samples, {known})"


def check_widths(width: Any, depth: int) -> tuple[int, ...]:
    """Return the number of children on each of the depth - 2 inner levels."""
    if depth > MAX_DEPTH:
        raise InputError(f"depth is {readable_count(depth)}; expected at most {MAX_DEPTH}.")
    if not isinstance(width, Sequence) or isinstance(width, str):
        widths = (check_positive_int(width, "width"),) * (depth - 2)
    elif len(width) != depth - 2:
        raise InputError(
            f"width has {len(width)} entries; expected {depth - 2} for depth={depth}, the number "
            "of children on each inner level from the leaves upwards."
        )
    else:
        widths = tuple(check_positive_int(one, f"width[{i}]") for i, one in enumerate(width))
    if (leaves := prod(widths)) > MAX_LEAVES:
        raise InputError(
            f"width and depth={depth} make units of {readable_count(leaves)} leaves; expected at "
            f"most {MAX_LEAVES}. Lower one of them."
        )
    return widths


def sample_units(
    X: Any, n_units: int, width: int | Sequence[int] = 2, depth: int = 3, seed: int = 0
) -> Units:
    """Return the units of `n_units` random Gaussian sub-networks with random signs, each once.

    Silent ones are left out. Programs over them give upper bounds. Parameters as for
    `enumerate_units`.

    Raises
    ------
    InputError
        For unusable arguments, too many units for the memory, or if all units are silent.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-1.0, 1.0], [2.0, 1.0]])
    >>> units = cl.sample_units(X, 3, seed=0)
    >>> len(units) <= 3, units.exhaustive
    (True, False)
    """
    X = check_matrix(X)
    n_units = check_positive_int(n_units, "n_units")
    widths = check_widths(width, check_positive_int(depth, "depth", minimum=2))
    generator = torch.Generator().manual_seed(check_seed(seed))
    m = prod(widths)
    if n_units * m * m * len(X) > MAX_ENTRIES:
        raise InputError(
            f"n_units is {readable_count(n_units)}, with {m} leaves each and {len(X)} samples; "
            "expected units that fit the memory. Draw fewer."
        )
    U = torch.randn(n_units, m, X.shape[1], generator=generator, dtype=torch.float64)
    inner, nodes = [], m
    for children in widths:
        nodes //= children
        draws = torch.randint(0, 2, (n_units, nodes, children), generator=generator)
        inner.append((2 * draws - 1).double())
    return units_of(X, U, inner)


def units_of(X: Tensor, U: Tensor, inner: Sequence[Tensor]) -> Units:
    """Return the distinct units that contain given sub-networks; silent ones are left out.

    Parameters
    ----------
    X : Tensor (n, d)
    U : Tensor (K, m, d)
        Leaves.
    inner : sequence of Tensor (K, parents, children)
        Weights above the leaves, level by level, of which the signs matter.
    """
    data, leaves = X.double().cpu().numpy(), U.double().cpu().numpy()
    before = np.einsum("td,kjd->kjt", data, leaves)  # (K, m, n)
    K, m, n = before.shape
    masks = before >= 0
    # Every node of the present level: linear map of the leaves, value, and where it is active.
    coefficients = np.zeros((K, m, n, m), dtype=np.int8)
    coefficients[:, range(m), :, range(m)] = masks.transpose(1, 0, 2)
    values, on = np.maximum(before, 0.0), masks
    signs, walls = [], [np.zeros((K, 0, n, m), dtype=np.int8)]
    for weights in inner:
        weight = weights.double().cpu().numpy()
        sign = np.where(weight < 0, -1, 1).astype(np.int8)
        signs.append(sign)
        shape = sign.shape
        children = coefficients.reshape(*shape, n, m)
        coefficients = np.einsum("kpc,kpctj->kptj", sign, children)
        before = np.einsum("kpc,kpct->kpt", weight, values.reshape(*shape, n))
        on = on.reshape(*shape, n)
        positive = (on & (sign > 0)[..., None]).any(axis=2)  # (K, P, n)
        negative = (on & (sign < 0)[..., None]).any(axis=2)
        on = positive & (~negative | (before >= 0))
        walls.append(wall_rows(coefficients, on, positive & negative))
        coefficients = coefficients * on[..., None]
        values = np.maximum(before, 0.0)
    if coefficients.shape[1] != 1:
        raise InputError(f"the tree ends in {coefficients.shape[1]} nodes; expected one root.")
    found = Units(masks, tuple(signs), np.concatenate(walls, axis=1), coefficients[:, 0])
    return _distinct(found)


def _distinct(units: Units) -> Units:
    """Each unit once, without the silent ones."""
    K = len(units)
    parts = [units.leaves, *units.inner, units.nodes, units.outputs]
    flat = np.concatenate([part.reshape(K, -1).astype(np.int8) for part in parts], axis=1)
    _, first = np.unique(flat, axis=0, return_index=True)
    first = np.sort(first[units.outputs[first].any(axis=(1, 2))])
    if not len(first):
        raise InputError("none of the given units is active on a sample; expected at least one.")
    return units.select(first)


def wall_rows(coefficients: Signs, on: Bools, undecided: Bools) -> Signs:
    """The rows that keep a node's pattern, zero where it is decided anyway."""
    side = np.where(on, 1, -1).astype(np.int8)
    return np.where(undecided[..., None], side[..., None] * coefficients, 0).astype(np.int8)


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
        Layers of weights, at least 2. At depth 2 the units are the patterns of X but the silent
        one.
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
    first layer has its own pattern. Checked by ``tests/problems/parallel/test_units.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> units = cl.enumerate_units(np.array([[-1.0, 1.0], [2.0, 1.0]]), width=2)
    >>> len(units), units.exhaustive
    (17, True)
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


def no_units(n: int, widths: tuple[int, ...]) -> Units:
    """Return the empty list for n samples: a problem with it has its units generated."""
    m, parents, inner = prod(widths), prod(widths), []
    for children in widths:
        parents //= children
        inner.append(np.zeros((0, parents, children), dtype=np.int8))
    outputs = np.zeros((0, n, m), dtype=np.int8)
    return Units(np.zeros((0, m, n), dtype=bool), tuple(inner), outputs[:, None], outputs)


def leaves_of(blocks: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Leaves (B, m, d) and their signs [(B, 1, m)] of generated blocks (B, 2m, d)."""
    m = blocks.shape[1] // 2
    used = torch.linalg.vector_norm(blocks, dim=2) > 0
    order = (~used).to(torch.int8).argsort(dim=1, stable=True)[:, :m]  # (B, m)
    leaves = blocks.gather(1, order[:, :, None].expand(-1, -1, blocks.shape[2]))
    return leaves, [torch.where(order < m, 1.0, -1.0).to(blocks)[:, None]]


def blocks_from(leaves: Tensor, signs: Tensor) -> Tensor:
    """Generated blocks (B, 2m, d) of leaves (B, m, d) with the signs (B, m)."""
    added = (signs > 0)[:, :, None]
    return torch.cat([torch.where(added, leaves, 0.0), torch.where(added, 0.0, leaves)], dim=1)


def weights_from(leaves: Tensor, signs: Tensor, side: Tensor) -> Tensor:
    """Generated weights (2, B, 2m, d) of sub-networks with the output signs `side` (B,)."""
    blocks = blocks_from(leaves, signs)
    return torch.stack([torch.where((side == s)[:, None, None], blocks, 0.0) for s in (1.0, -1.0)])
