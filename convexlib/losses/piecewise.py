r"""Piecewise linear losses with Lipschitz constants, which the low-rank theorem needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convexlib.checks import check_choice
from convexlib.errors import InputError
from convexlib.losses import Loss, get_loss
from convexlib.losses.base import as_array

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True)
class PiecewiseLoss(Loss):
    r""":math:`L(f) = \sum_i \max_p (a_{pi} f_i + b_{pi})`, nonnegative and Lipschitz."""

    def pieces(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return slopes and offsets (n,) of the pieces."""
        raise NotImplementedError

    def interval(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds (n,), (n,) between which every dual z_i lies."""
        slopes = torch.stack([slope for slope, _ in self.pieces(y)])
        return -slopes.amax(dim=0), -slopes.amin(dim=0)

    def lipschitz(self, n: int) -> float:
        r"""Return R with :math:`|L(f) - L(g)| \le R \|f - g\|`."""
        return sqrt(n)

    def value(self, fitted: Tensor, y: Tensor) -> float:
        fitted, y = fitted.double(), y.double()
        values = torch.stack([slope * fitted + offset for slope, offset in self.pieces(y)])
        return float(values.amax(dim=0).sum())

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        low, high = self.interval(y)
        return torch.maximum(torch.minimum(z, high), low)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        if not torch.allclose(z, self.restrict(z, y), rtol=0.0, atol=1e-12):
            return -float("inf")
        return float(y.double() @ z.double())

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        if float(y @ z) <= 0.0:
            return 0.0
        low, high = self.interval(y)
        room = torch.where(z > 0, high / z, low / z)[z != 0]
        return min(limit, max(float(room.min()), 0.0))

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        """L(f) for CVXPY."""
        import cvxpy as cp

        parts = [
            cp.multiply(as_array(slope), outputs) + as_array(offset)
            for slope, offset in self.pieces(y)
        ]
        return cp.sum(cp.maximum(*parts))


@dataclass(frozen=True)
class AbsoluteLoss(PiecewiseLoss):
    r""":math:`L(f) = \|f - y\|_1`, with dual points in :math:`[-1, 1]^n`."""

    name: str = "absolute"

    def pieces(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slopes 1 and -1."""
        one = torch.ones_like(y)
        return [(one, -y), (-one, y)]

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Return the signs of the residual, 0 where it is 0."""
        return torch.sign(y - fitted)


@dataclass(frozen=True)
class HingeLoss(PiecewiseLoss):
    r""":math:`L(f) = \sum_i (1 - y_i f_i)_+`, :math:`y_i = \pm 1`; :math:`y_i z_i \in [0, 1]`."""

    name: str = "hinge"

    def pieces(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slopes -y and 0."""
        return [(-y, torch.ones_like(y)), (torch.zeros_like(y), torch.zeros_like(y))]

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Return y where the margin is below 1, else 0."""
        return torch.where(y * fitted < 1.0, y, torch.zeros_like(y))


@dataclass(frozen=True)
class QuantileLoss(PiecewiseLoss):
    r""":math:`L(f) = \sum_i \rho_\tau(y_i - f_i)`, :math:`\rho_\tau(r) = \max(\tau r, (\tau-1) r)`.

    Its best constant is a tau-quantile of y; tau = 1/2 is half the absolute deviation. The dual
    point is a subgradient with entries in :math:`[\tau - 1, \tau]`.
    """

    name: str = "quantile"
    tau: float = 0.5

    def pieces(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slopes -tau and 1 - tau."""
        return [(torch.full_like(y, -tau), tau * y) for tau in (self.tau, self.tau - 1.0)]

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Return tau where f is too low, tau - 1 where it is too high, 0 where f_i = y_i."""
        residual = y - fitted
        return self.tau * (residual > 0).to(y) + (self.tau - 1.0) * (residual < 0).to(y)


LOSSES: dict[str, Loss] = {
    "squared": get_loss("squared"),
    "absolute": AbsoluteLoss(),
    "hinge": HingeLoss(),
}


def get_path_loss(name: str, y: Tensor) -> Loss:
    """Return the loss called `name`, or refuse it, or labels that do not suit it."""
    loss = LOSSES[check_choice(name, tuple(LOSSES), "loss")]
    if isinstance(loss, HingeLoss) and not bool((y.abs() == 1.0).all()):
        raise InputError(
            f"y has values from {float(y.min()):g} to {float(y.max()):g}; expected labels -1 and "
            '1 for loss="hinge".'
        )
    return loss
