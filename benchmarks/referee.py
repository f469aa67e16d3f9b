r"""The one referee: scores whatever a method returned, in float64, from the weights alone.

* The **value** is that of a feasible point: blocks are projected onto their cones first (gated
  programs have none). The violation before the projection is reported beside it.
* The **lower bound** comes from dual points, the residual of the weights and the method's own z if
  it has one, each scaled by the referee itself until it is feasible: with :math:`N(z) = \max_i
  \|\mathrm{Proj}_{K_i}(\pm X^\top D_i z)\|`, any :math:`s z` with :math:`s N(z) \le \beta` bounds
  the optimum by :math:`s\, y^\top z - \tfrac12 s^2 \|z\|^2`.

Projections are those of `convexlib.cones`, whose support bounds hold for any multipliers; a test
compares both with non-negative least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.instances import Bools, Floats
from convexlib.cones import ConeProjector


@dataclass(frozen=True)
class Score:
    r"""What weights are worth.

    Attributes
    ----------
    value : float
        Objective of the program at the feasible point.
    lower : float
        Proven lower bound on the optimum of the program.
    violation : float
        Largest :math:`-s\,x^\top v / \|x\|` of the weights as they were returned.
    """

    value: float
    lower: float
    violation: float

    @property
    def gap(self) -> float:
        """(value - lower) / value."""
        return excess(self.value, self.lower)


def excess(value: float, lower: float) -> float:
    """How far a value is above a lower bound, relative to the value; at least 0."""
    return max(value - lower, 0.0) / value if value > 0 else 0.0


class Referee:
    """Scores weights (S, P, d) of one program; S is 1 for gated ones and 2 with cones."""

    def __init__(self, X: Floats, y: Floats, masks: Bools, beta: float, gated: bool) -> None:
        self.X, self.y, self.masks, self.beta, self.gated = X, y, masks, beta, gated
        data, patterns = torch.from_numpy(X), torch.from_numpy(masks)
        # One for primal and one for dual points: each is warm-started by its own last call.
        self._cones = None if gated else [ConeProjector(data, patterns, copies=2) for _ in "pd"]

    def score(self, weights: Floats, z: Floats | None = None) -> Score:
        """Value, violation, and the best bound from the residual and from z."""
        weights = np.asarray(weights, dtype=np.float64)
        feasible = self.repaired(weights)
        points = [self.y - self.fitted(feasible)] + ([] if z is None else [z])
        lower = max(self.bound(point) for point in points)
        return Score(self.objective(feasible), lower, self.violation(weights))

    def value(self, weights: Floats) -> float:
        """Objective at the feasible point next to the weights."""
        return self.objective(self.repaired(np.asarray(weights, dtype=np.float64)))

    def fitted(self, weights: Floats) -> Floats:
        """Outputs (n,)."""
        signed = weights[0] if self.gated else weights[0] - weights[1]  # (P, d)
        used = signed.any(axis=1)
        return np.asarray(((self.X @ signed[used].T) * self.masks[used].T).sum(axis=1))

    def objective(self, weights: Floats) -> float:
        """1/2 ||f - y||^2 + beta sum of norms; no 1/n."""
        residual = self.fitted(weights) - self.y
        norms = np.linalg.norm(weights, axis=2)
        return 0.5 * float(residual @ residual) + self.beta * float(norms.sum())

    def violation(self, weights: Floats) -> float:
        """Largest distance of the weights from a half-space of their cones."""
        if self.gated:
            return 0.0
        lengths = np.linalg.norm(self.X, axis=1)
        unit = self.X / np.where(lengths > 0, lengths, 1.0)[:, None]
        used = weights.any(axis=(0, 2))
        slacks = (weights[:, used] @ unit.T) * np.where(self.masks[used], 1.0, -1.0)  # (2, P', n)
        return max(-float(slacks.min(initial=0.0)), 0.0)

    def repaired(self, weights: Floats) -> Floats:
        """The projection of every block onto its cone."""
        if self._cones is None:
            return weights
        flat = torch.from_numpy(weights.reshape(-1, weights.shape[2]))
        return self._cones[0](flat).numpy().reshape(weights.shape)

    def bound(self, z: Floats) -> float:
        """Lower bound on the optimum from any z, by its best feasible multiple."""
        z = np.asarray(z, dtype=np.float64)
        size = float(z @ z)
        if size == 0.0:
            return 0.0
        blocks = (self.masks * z) @ self.X  # (P, d)
        if self._cones is None:
            norm = float(np.linalg.norm(blocks, axis=1).max())
        else:
            both = torch.from_numpy(np.concatenate([blocks, -blocks]))
            self._cones[1](both)
            norm = float(self._cones[1].support_bounds(both).max())
        scale = float(self.y @ z) / size
        if norm > 0:
            scale = min(scale, self.beta / norm)
        return max(scale * float(self.y @ z) - 0.5 * scale**2 * size, 0.0)


def network_objective(
    X: Floats, y: Floats, U: Floats, alpha: Floats, beta: float, free: Floats | float = 0.0
) -> float:
    """Training objective of a two-layer network, 1/2 ||f - y||^2 + beta/2 sum of squares.

    `free` holds biases (m + 1,) of both layers which cost nothing, where there are such.
    """
    free = np.broadcast_to(free, len(U) + 1)
    residual = np.maximum(X @ U.T + free[:-1], 0.0) @ alpha + free[-1] - y
    decay = float((U**2).sum()) + float((alpha**2).sum())
    return 0.5 * float(residual @ residual) + 0.5 * beta * decay
