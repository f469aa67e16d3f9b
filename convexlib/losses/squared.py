"""The loss of real targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import cvxpy as cp
import torch
from torch import Tensor

from convexlib.losses.base import SmoothLoss, as_array, dot, square


@final
@dataclass(frozen=True)
class SquaredLoss(SmoothLoss):
    r""":math:`L(f) = \tfrac12 \|f - y\|^2`, with the dual :math:`y^\top z - \tfrac12\|z\|^2`."""

    name: str = "squared"
    gradient_lipschitz: ClassVar[float] = 1.0

    def check_targets(self, y: Tensor) -> None:
        """All targets will do."""

    def value(self, fitted: Tensor, y: Tensor) -> float:
        """L(f)."""
        return 0.5 * square(fitted - y)

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Halves of squares."""
        return 0.5 * (fitted - y) ** 2

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """The residual."""
        return y - fitted

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`y^\top z - \tfrac12 \|z\|^2`."""
        return dot(y, z) - 0.5 * square(z)

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """Z itself."""
        return z

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z."""
        size = square(z)
        if size == 0.0:
            return 0.0
        return min(max(dot(y, z) / size, 0.0), limit)

    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """The negative outputs z - y."""
        return z - y

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(z)

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """No limit."""
        return math.inf

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        """A weighted mean of point and targets."""
        return (point + step * y) / (1.0 + step)

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        """L(f) for CVXPY."""
        return 0.5 * cp.sum_squares(outputs - as_array(y))
