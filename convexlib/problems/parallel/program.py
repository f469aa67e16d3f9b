r"""What the programs over units have in common: one block of weights per unit and output sign."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.checks import check_beta, check_data, check_positive_int
from convexlib.cones.unit_cones import UnitCones
from convexlib.errors import InputError, ProblemError
from convexlib.networks import ParallelReLU
from convexlib.pricing import price
from convexlib.problems.base import CvxpyProgram, Problem, weights_of
from convexlib.problems.parallel.units import (
    Units,
    check_widths,
    enumerate_units,
    leaves_of,
    no_units,
)
from convexlib.result import Result


class UnitProgram(Problem):
    r"""The program :math:`\min L(\sum_k A_k (V_k - W_k)) + \beta \sum_k (\|V_k\| + \|W_k\|)`.

    :math:`V_k, W_k \in \mathbb R^{m \times d}` are the leaves of unit k with output weight +1 and
    -1, in the unit's cone. Subclasses choose the norm and how leaves become weights.
    ``weights`` has shape (2, K, m, d).

    With ``units="generate"`` the list is empty and a block stands for a whole sub-network, whatever
    its patterns: shape (2, K, 2m, d), first the leaves that are added, then those that are
    subtracted, at most m of them nonzero.
    """

    units: Units
    by_sum: ClassVar[bool]  # the norm: sum of the leaves' norms, or Frobenius

    def _setup(
        self,
        X: Any,
        y: Any,
        beta: float,
        width: int | Sequence[int],
        depth: int,
        units: Units | Literal["generate"] | None,
        max_units: int,
    ) -> None:
        """Check the arguments and find the units."""
        self.X, self.y = check_data(X, y)
        self.beta = check_beta(beta)
        self.depth = check_positive_int(depth, "depth", minimum=2)
        self.widths = check_widths(width, self.depth)
        check_positive_int(max_units, "max_units")
        if units is None:
            units = enumerate_units(self.X, self.widths, self.depth, max_units)
        elif isinstance(units, str) and units == "generate":
            units = no_units(len(self.X), self.widths)
        self.units = self._check_units(units)

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Problem`: column generation, and for a list of units an interior point."""
        return ("units",) if self.generates else ("units", "oracle")

    @property
    def generates(self) -> bool:
        """Whether the problem has no list of units, so that a solve generates them."""
        return len(self.units) == 0

    def with_units(self, units: Units) -> Self:
        """The same problem over other units of the same widths and samples."""
        return self._changed("cones", units=self._check_units(units))

    def _check_units(self, units: Any) -> Units:
        """Refuse units of other networks or samples, which would take a bound for these."""
        if not isinstance(units, Units):
            raise InputError(
                f"units is {type(units).__name__} {str(units)[:40]!r}; expected Units from "
                'enumerate_units or sample_units. A new problem takes None and "generate", too.'
            )
        if units.widths != self.widths or units.outputs.shape[1] != len(self.X):
            raise InputError(
                f"units have widths {units.widths} and {units.outputs.shape[1]} samples; expected "
                f"widths {self.widths} and {len(self.X)} samples. Make them from the same X, width "
                "and depth."
            )
        if not len(units) and self.depth != 3:
            raise ProblemError(
                f'units="generate" with depth={self.depth}: only sub-networks of depth 3 are '
                "generated. Use units=sample_units(X, n_units=..., depth=...) instead."
            )
        return units

    @abstractmethod
    def norms(self, blocks: Tensor) -> Tensor:
        """Norms of blocks (..., m, d)."""

    @property
    def scope(self) -> str:
        """What a bound is about: ``"network"`` if the units are all of X's, else ``"program"``."""
        return "network" if self.generates or self.units.exhausts(self.X) else "program"

    @cached_property
    def cones(self) -> UnitCones:
        """Support functions and projections of the units' cones."""
        units = self.units
        if self.generates:
            raise ProblemError(
                f"{self!r} has no units of its own, and so no cones and no program to write down. "
                "solve(problem) generates them; units=sample_units(X, n_units=...) fixes some."
            )
        data = self.X.double().cpu().numpy()
        return UnitCones(data, units.leaves, units.nodes, units.outputs)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights, (2, K, m, d); (2, 0, 2m, d) before units are generated."""
        K, m, _ = self.units.leaves.shape
        return (2, K, 2 * m if self.generates else m, self.X.shape[1])

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Outputs (n,): :math:`\sum_k A_k (V_k - W_k)`, or those of generated sub-networks."""
        if self.generates:
            hidden = torch.relu(torch.einsum("td,skjd->stkj", self.X, weights))
            m = hidden.shape[3] // 2
            inner = hidden[..., :m].sum(dim=3) - hidden[..., m:].sum(dim=3)  # (2, n, K)
            sides = torch.relu(inner).sum(dim=2)
            return sides[0] - sides[1]
        signed = weights[0] - weights[1]
        active = signed.abs().sum(dim=(1, 2)).nonzero().ravel()
        outputs = torch.from_numpy(self.units.outputs[active.cpu().numpy()]).to(signed)
        return torch.einsum("ktj,td,kjd->t", outputs, self.X, signed[active])

    def penalty(self, weights: Tensor) -> float:
        """Sum of the norms of the blocks."""
        return float(self.norms(weights).sum())

    def project(self, weights: Tensor) -> Tensor:
        """The nearest weights in the cones."""
        if self.generates:
            return weights
        result = self.zeros()
        side, index = active_blocks(weights)
        points = weights[side, index].flatten(1).double().cpu().numpy()
        inside = torch.from_numpy(self.cones.project(index.cpu().numpy(), points))
        result[side, index] = inside.to(result).reshape(-1, *self.shape[2:])
        return result

    def violation(self, weights: Tensor) -> float:
        """Largest violation of a wall of unit length, at least 0."""
        if self.generates:
            return 0.0
        side, place = active_blocks(weights)
        if not len(place):
            return 0.0
        directions = torch.from_numpy(self.cones.directions).to(self.X)
        index = place.cpu().numpy()
        products = torch.einsum("td,kjd->ktj", directions, weights[side, place])  # (B, n, m)
        leaves = torch.from_numpy(2.0 * self.units.leaves[index] - 1.0).to(products)
        worst = max(0.0, -float((leaves.transpose(1, 2) * products).min()))
        nodes = torch.from_numpy(self.units.nodes[index]).to(products)  # (B, Q, n, m)
        if nodes.numel():
            lengths = torch.linalg.vector_norm(nodes, dim=3).clamp(min=1.0)
            slacks = torch.einsum("kqtj,ktj->kqt", nodes, products) / lengths
            worst = max(worst, -float(slacks.min()))
        return worst

    def dual_norm(self, z: Tensor) -> float:
        r"""Largest :math:`\max\{\pm z^\top A_k U : U \in K_k, \|U\| \le 1\}` over the units.

        An upper bound that holds for any multipliers, with rounding included. Without a list of
        units it is a looser one, over all sub-networks: those of positive signs alone are larger,
        :math:`0 \le h(U, s) \le \sum_{s_j = 1} (X u_j)_+`, so that a two-layer maximum at
        :math:`z_+`, or at :math:`z_-`, bounds it.
        """
        if self.generates:
            parts = (z.clamp(min=0.0), (-z).clamp(min=0.0))
            two = max(price(self.X, part, rtol=1e-6, max_nodes=20_000).upper for part in parts)
            return two * (1.0 if self.by_sum else self.widths[0] ** 0.5)
        point = z.double().cpu().numpy()
        everything = np.arange(len(self.units))
        best = worst = 0.0
        for side in (1.0, -1.0):
            # The Frobenius ball is larger, and one projection bounds it: most units end here.
            lower, upper, U = self.cones.maxima(side * point, everything, False)
            if not self.by_sum:
                worst = max(worst, float(upper.max()))
                continue
            sums = np.linalg.norm(U.reshape(len(U), *self.shape[2:]), axis=2).sum(axis=1)
            best = max(best, float((lower / np.where(sums > 0, sums, 1.0)).max()))
            (left,) = np.nonzero(upper > best)
            while len(left):
                # In blocks, those with the best prospects first.
                left = left[np.argsort(-upper[left], kind="stable")]
                block, left = left[:64], left[64:]
                low, high, _ = self.cones.maxima(side * point, block, True, best, 1e-13)
                again = low > best
                if again.any():
                    low, high, _ = self.cones.maxima(side * point, block, True, 0.0, 1e-13)
                    best = max(best, float(low.max()))
                worst = max(worst, float(high.max()))
                left = left[upper[left] > best]
        return max(worst, best)

    def blocks_of(self, result: Result | Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Nonzero blocks (B, m, d), their signs level by level, and their output signs (B,)."""
        if self.generates:
            weights = weights_of(result, (2, "K", *self.shape[2:]))
            side, index = self.norms(weights).nonzero(as_tuple=True)
            return (*leaves_of(weights[side, index]), 1.0 - 2.0 * side.to(weights))
        weights = weights_of(result, self.shape)
        side, index = self.norms(weights).nonzero(as_tuple=True)
        chosen = index.cpu().numpy()
        inner = [torch.from_numpy(signs[chosen]).to(weights) for signs in self.units.inner]
        return weights[side, index], inner, 1.0 - 2.0 * side.to(weights)

    @abstractmethod
    def to_network(self, result: Result | Tensor) -> ParallelReLU:
        """The parallel network whose training objective equals the program's value."""

    def maps(self, index: NDArray[np.int64]) -> tuple[Floats, sp.csc_matrix]:
        """Outputs (n, B m d), dense, and walls (R, B m d), sparse, of the units `index`."""
        X, directions = self.cones.X, self.cones.directions
        B, n, m, d = len(index), len(X), *self.shape[2:]
        outputs = np.einsum("ktj,td->tkjd", self.units.outputs[index], X).reshape(n, B * m * d)
        signs = 2.0 * self.units.leaves[index] - 1.0  # (B, m, n)
        leaves = np.einsum("kjt,td,ji->kjtid", signs, directions, np.eye(m))
        nodes = np.einsum("kqtj,td->kqtjd", self.units.nodes[index], directions)
        rows = np.concatenate([part.reshape(B, -1, m * d) for part in (leaves, nodes)], axis=1)
        unit, wall = np.nonzero(rows.any(axis=2))
        row, column = np.nonzero(rows[unit, wall])
        values = rows[unit[row], wall[row], column]
        place = (row, unit[row] * m * d + column)
        return outputs, sp.csc_matrix((values, place), shape=(len(unit), B * m * d))

    def to_cvxpy(self) -> CvxpyProgram:
        """The program for CVXPY, one variable (K, m d) per output sign."""
        import cvxpy as cp

        _, K, m, d = self.shape
        A, walls = self.maps(np.arange(K))
        sides = [cp.Variable(K * m * d) for _ in range(2)]
        outputs = sp.csr_matrix(A) @ (sides[0] - sides[1])
        size = (K * m, d) if self.by_sum else (K, m * d)
        blocks = [cp.reshape(v, size, order="C") for v in sides]
        penalty = sum(cp.sum(cp.norm(v, 2, axis=1)) for v in blocks)
        return self._written(outputs, penalty, [walls @ v >= 0 for v in sides], sides)

    def __repr__(self) -> str:
        n, d = self.X.shape
        known = f"{'all' if self.scope == 'network' else 'some'} {len(self.units)} units"
        known = "units generated" if self.generates else known
        return (
            f"{type(self).__name__}(n={n}, d={d}, widths={self.widths}, {known}, "
            f"beta={self.beta:g})"
        )


def active_blocks(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The places (B,), (B,) of the blocks of weights (2, K, m, d) that are not zero."""
    side, index = weights.abs().sum(dim=(2, 3)).nonzero(as_tuple=True)
    return side, index
