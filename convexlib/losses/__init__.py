r"""Losses, each with the pieces of its dual.

A program :math:`\min_w L(Aw) + \beta \Omega(w)` has the dual
:math:`\max_z -L^*(-z)` subject to :math:`\Omega^\circ(A^\top z) \le \beta`, and at the optimum
:math:`z = -\nabla L(Aw)`. There is no 1/n in any of them. Outputs, targets and z have one shape,
(n,) or (n, c); a loss sums over all entries. Sums are taken in float64.
"""

from convexlib.checks import check_choice
from convexlib.losses.base import Loss, ShiftedLoss, SmoothLoss
from convexlib.losses.smooth import LogisticLoss, SquaredHingeLoss, SquaredLoss

__all__ = [
    "LOSSES",
    "LogisticLoss",
    "Loss",
    "ShiftedLoss",
    "SmoothLoss",
    "SquaredHingeLoss",
    "SquaredLoss",
    "get_loss",
]

LOSSES: dict[str, SmoothLoss] = {
    loss.name: loss for loss in (SquaredLoss(), LogisticLoss(), SquaredHingeLoss())
}


def get_loss(name: str | SmoothLoss) -> SmoothLoss:
    """Return the loss called `name`, or refuse with the list of those there are."""
    if isinstance(name, SmoothLoss):
        return name
    return LOSSES[check_choice(name, tuple(LOSSES), "loss")]
