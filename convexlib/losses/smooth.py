"""The smooth losses: squares for real targets, logistic and squared hinge for labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from convexlib.losses.base import (
    SmoothLoss,
    as_array,
    dot,
    square,
    time_to_zero,
    within,
)

if TYPE_CHECKING:
    import cvxpy as cp


@final
@dataclass(frozen=True)
class SquaredLoss(SmoothLoss):
    r""":math:`L(f) = \tfrac12 \|f - y\|^2`, with the dual :math:`y^\top z - \tfrac12\|z\|^2`."""

    name: str = "squared"
    gradient_lipschitz: ClassVar[float] = 1.0

    def check_targets(self, y: Tensor) -> None:
        """All targets will do."""

    def value(self, fitted: Tensor, y: Tensor) -> float:
        return 0.5 * square(fitted - y)

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Half the squared residual of each entry."""
        return 0.5 * (fitted - y) ** 2

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """The residual."""
        return y - fitted

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`y^\top z - \tfrac12 \|z\|^2`."""
        return dot(y, z) - 0.5 * square(z)

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        return z

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
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
        return math.inf

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        """A weighted mean of point and targets."""
        return (point + step * y) / (1.0 + step)

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        import cvxpy as cp

        return 0.5 * cp.sum_squares(outputs - as_array(y))


@final
@dataclass(frozen=True)
class LogisticLoss(SmoothLoss):
    r""":math:`L(f) = \sum_i \log(1 + e^{-y_i f_i})` for labels :math:`y_i = \pm 1`.

    With :math:`a = y \odot z` its dual is the entropy :math:`-\sum_i a_i \log a_i +
    (1 - a_i) \log(1 - a_i)`, for :math:`0 \le a \le 1`.
    """

    name: str = "logistic"
    gradient_lipschitz: ClassVar[float] = 0.25

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Beyond 40 softplus is taken as its asymptote: they differ by less than rounding."""
        return torch.nn.functional.softplus(-y * fitted, threshold=40.0)

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r""":math:`y_i / (1 + e^{y_i f_i})`."""
        return y * torch.sigmoid(-y * fitted)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        """The entropy; -inf where an y_i z_i is not in [0, 1]."""
        a = (y * z).double()
        if not within(a, 1.0):
            return -math.inf
        return -float((torch.xlogy(a, a) + torch.xlogy(1.0 - a, 1.0 - a)).sum())

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """Every y_i z_i clipped to [0, 1]."""
        return y * (y * z).clamp(0.0, 1.0)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z, by Newton and bisection.

        The derivative in s decreases from +inf at 0 to -inf at the end of the domain.
        """
        a = (y * z).double()
        highest = float(a.max())
        if highest <= 0.0 or not within(a, math.inf):
            return 0.0
        a = a[a > 0.0]
        low, high = 0.0, min(limit, _last_scale(z * y, 1.0))
        s = high
        for _ in range(200):
            rest = 1.0 - s * a
            if float(rest.min()) > 0.0:
                slope = -float((a * (torch.log(s * a) - torch.log(rest))).sum())
                if slope >= 0.0 and s == high:
                    return s  # it rises up to the limit
                newton = s + slope * s / float((a / rest).sum())
            else:
                slope = newton = -math.inf
            if slope > 0.0:
                low = s
            else:
                high = s
            following = newton if low < newton < high else 0.5 * (low + high)
            if abs(following - s) <= 1e-15 * s:
                break
            s = following
        return s

    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """The negative outputs: y times the log-odds of a; infinite on the domain's boundary."""
        return y * torch.logit(y * z)

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """1 / (a (1 - a)), at least 4."""
        a = y * z
        return 1.0 / (a * (1.0 - a))

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """Where the first y_i z_i reaches 0 or 1."""
        a, rate = y * z, y * step
        return min(time_to_zero(a, rate), time_to_zero(1.0 - a, -rate))

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        r"""Newton's method for the margin m of every entry.

        The equation :math:`m - p = \text{step} / (1 + e^m)` has a root between p and p + step; its
        left side minus its right is convex for m < 0 and concave for m > 0. From 0, or the end of
        the interval on the same side, the iterates therefore approach the root from one side.
        """
        p = y * point
        m = torch.where(p + 0.5 * step >= 0.0, p.clamp(min=0.0), (p + step).clamp(max=0.0))
        for _ in range(100):
            s = torch.sigmoid(-m)
            move = (m - p - step * s) / (1.0 + step * s * (1.0 - s))
            m = m - move
            if bool((move.abs() <= 4 * torch.finfo(m.dtype).eps * (1.0 + m.abs())).all()):
                break
        return y * m

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        import cvxpy as cp

        return cp.sum(cp.logistic(-cp.multiply(as_array(y), outputs)))


def _last_scale(a: Tensor, top: float) -> float:
    """The largest s for which every rounded s a_i is at most `top`."""
    s = top / float(a.max())
    while bool((s * a > top).any()):
        s = math.nextafter(s, 0.0) * (1.0 - torch.finfo(a.dtype).eps)
    return s


@final
@dataclass(frozen=True)
class SquaredHingeLoss(SmoothLoss):
    r""":math:`L(f) = \tfrac12 \sum_i (1 - y_i f_i)_+^2` for labels :math:`y_i = \pm 1`.

    Its dual is that of the squared loss on :math:`y \odot z \ge 0`.
    """

    name: str = "squared_hinge"
    gradient_lipschitz: ClassVar[float] = 1.0

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Half the squared shortfall of each margin below 1."""
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
        import cvxpy as cp

        return 0.5 * cp.sum_squares(cp.pos(1.0 - cp.multiply(as_array(y), outputs)))
