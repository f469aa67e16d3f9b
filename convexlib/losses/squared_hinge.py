"""The squared hinge loss: margins of labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import cvxpy as cp
import torch
from torch import Tensor

from convexlib.losses.base import (
    SmoothLoss,
    as_array,
    check_labels,
    dot,
    square,
    time_to_zero,
    within,
)


@final
@dataclass(frozen=True)
class SquaredHingeLoss(SmoothLoss):
    r""":math:`L(f) = \tfrac12 \sum_i (1 - y_i f_i)_+^2` for labels :math:`y_i = \pm 1`.

    Its dual is that of the squared loss on :math:`y \odot z \ge 0`.
    """

    name: str = "squared_hinge"
    gradient_lipschitz: ClassVar[float] = 1.0

    def check_targets(self, y: Tensor) -> None:
        """Refuse what is not a label."""
        check_labels(y, self.name)

    def value(self, fitted: Tensor, y: Tensor) -> float:
        """L(f)."""
        return float(self.terms(fitted.double(), y.double()).sum())

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Halves of squares of what the margins lack of 1."""
        return 0.5 * torch.relu(1.0 - y * fitted) ** 2

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r""":math:`y_i (1 - y_i f_i)_+`."""
        return y * torch.relu(1.0 - y * fitted)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`y^\top z - \tfrac12 \|z\|^2`, -inf where an y_i z_i is negative."""
        if not within(y * z, math.inf):
            return -math.inf
        return dot(y, z) - 0.5 * square(z)

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """Entries of the wrong sign become 0."""
        return y * torch.relu(y * z)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z."""
        size = square(z)
        if size == 0.0 or not within(y * z, math.inf):
            return 0.0
        return min(dot(y, z) / size, limit)

    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """The negative outputs z - y."""
        return z - y

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(z)

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """Where the first y_i z_i reaches 0."""
        return time_to_zero(y * z, y * step)

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        """A weighted mean of point and label where the margin is below 1, else the point."""
        return torch.where(y * point < 1.0, (point + step * y) / (1.0 + step), point)

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        """L(f) for CVXPY."""
        return 0.5 * cp.sum_squares(cp.pos(1.0 - cp.multiply(as_array(y), outputs)))
