r"""Losses, each with the pieces of its dual.

A program :math:`\min_w L(Aw) + \beta \Omega(w)` has the dual
:math:`\max_z -L^*(-z)` subject to :math:`\Omega^\circ(A^\top z) \le \beta`, and at the optimum
:math:`z = -\nabla L(Aw)`. There is no 1/n in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from convexlib.validation import check_choice


@dataclass(frozen=True)
class SquaredLoss:
    r""":math:`L(f) = \tfrac12 \|f - y\|^2`."""

    name: str = "squared"

    def value(self, fitted: Tensor, y: Tensor) -> float:
        """L(f)."""
        residual = fitted - y
        return 0.5 * float(residual @ residual)

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r"""The dual point :math:`-\nabla L(f)`, here the residual."""
        return y - fitted

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`-L^*(-z) = y^\top z - \tfrac12 \|z\|^2`."""
        return float(y @ z) - 0.5 * float(z @ z)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z."""
        square = float(z @ z)
        if square == 0.0:
            return 0.0
        return min(max(float(y @ z) / square, 0.0), limit)


LOSSES = {"squared": SquaredLoss()}


def get_loss(name: str) -> SquaredLoss:
    """Return the loss called `name`, or refuse with the list of those there are."""
    return LOSSES[check_choice(name, tuple(LOSSES), "loss")]
