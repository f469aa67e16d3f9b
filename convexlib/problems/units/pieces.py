r"""Linear pieces of whole sub-networks: leaves, signs and the patterns of inner nodes.

A unit of depth 3 is :math:`(\sum_j s_j (X u_j)_+)_+`. Where every :math:`u_j` keeps its pattern
:math:`D_{1 i_j}`, and the sum its pattern :math:`D_2`, the unit is the linear map
:math:`D_2 \sum_j s_j D_{1 i_j} X u_j`; a deeper unit is a tree of such sums. `Units` holds these
linear maps and the walls of the cones on which they hold; `enumeration` lists all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrangements.patterns import fingerprint
from convexlib.arrays import Bools
from convexlib.errors import InputError
from convexlib.validation import (
    check_index,
    check_matrix,
    check_positive_int,
    check_seed,
    readable_count,
)

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
    """

    leaves: Bools
    inner: tuple[Signs, ...]
    nodes: Signs
    outputs: Signs
    exhaustive: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
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
        """Return the number of units."""
        return len(self.leaves)

    @property
    def widths(self) -> tuple[int, ...]:
        """Children per inner node, from the leaves upwards."""
        return tuple(signs.shape[2] for signs in self.inner)

    @property
    def depth(self) -> int:
        """Layers of weights of the networks that these units belong to."""
        return len(self.inner) + 2

    def exhausts(self, X: Tensor) -> bool:
        """Return whether the list is proven to hold the units of this very matrix."""
        return self.exhaustive and self.source == fingerprint(X)

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
        """Say how many units there are and what is proven about them."""
        known = "exhaustive" if self.exhaustive else "not proven exhaustive"
        n, m = self.outputs.shape[1:]
        return f"Units({len(self)} units of {m} leaves, depth {self.depth}, {n} samples, {known})"


def check_widths(width: Any, depth: int) -> tuple[int, ...]:
    """Return the number of children on each of the depth - 2 inner levels."""
    if depth > MAX_DEPTH:
        raise InputError(f"depth is {readable_count(depth)}; expected at most {MAX_DEPTH}.")
    widths = _widths(width, depth)
    if (leaves := prod(widths)) > MAX_LEAVES:
        raise InputError(
            f"width and depth={depth} make units of {readable_count(leaves)} leaves; expected at "
            f"most {MAX_LEAVES}. Lower one of them."
        )
    return widths


def _widths(width: Any, depth: int) -> tuple[int, ...]:
    """The numbers of children, of any size."""
    if not isinstance(width, Sequence) or isinstance(width, str):
        return (check_positive_int(width, "width"),) * (depth - 2)
    if len(width) != depth - 2:
        raise InputError(
            f"width has {len(width)} entries; expected {depth - 2} for depth={depth}, the number "
            "of children on each inner level from the leaves upwards."
        )
    return tuple(check_positive_int(entry, f"width[{i}]") for i, entry in enumerate(width))


def sample_units(
    X: Any, n_units: int, width: int | Sequence[int] = 2, depth: int = 3, seed: int = 0
) -> Units:
    """Return the units of `n_units` random Gaussian sub-networks with random signs, each once.

    Programs over them give upper bounds. Parameters as for `enumerate_units`.
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
