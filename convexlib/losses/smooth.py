"""The smooth losses: squares for real targets, logistic and squared hinge for labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from convexlib.errors import InputError
from convexlib.losses.base import SmoothLoss, as_array, check_labels, dot, square, time_to_zero

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

    def dual_size(self, z: Tensor, y: Tensor) -> float:
        return dot(y.abs(), z.abs()) + square(z)

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


def check_targets(y: Tensor, name: str, heaviest: float | None) -> None:
    """Refuse what are no labels, or with weights no labels times weights."""
    if heaviest is None:
        check_labels(y, name)
        return
    inside = (y != 0.0) & (y.abs() <= heaviest)
    if not bool(inside.all()):
        raise InputError(
            f"{int((~inside).sum())} of the {y.numel()} entries of y are no labels times weights; "
            f"expected -s or s with 0 < s <= {heaviest:g} for the weighted loss {name!r}."
        )


@final
@dataclass(frozen=True)
class LogisticLoss(SmoothLoss):
    r""":math:`L(f) = \sum_i s_i \log(1 + e^{-f_i \operatorname{sign} y_i})`, :math:`s_i = |y_i|`.

    Targets are labels :math:`\pm 1`, or labels times weights up to `heaviest` where that is given.
    With :math:`a_i = z_i / y_i` the dual is the entropy :math:`-\sum_i s_i (a_i \log a_i +
    (1 - a_i) \log(1 - a_i))`, for :math:`0 \le a \le 1`, since :math:`(s \ell)^*(z) = s\,
    \ell^*(z / s)`.
    """

    name: str = "logistic"
    heaviest: float | None = None

    @property
    def gradient_lipschitz(self) -> float:  # type: ignore[override]  # that of others is constant
        return 0.25 * (self.heaviest or 1.0)

    def check_targets(self, y: Tensor) -> None:
        check_targets(y, self.name, self.heaviest)

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Beyond 40 softplus is taken as its asymptote: they differ by less than rounding."""
        return y.abs() * torch.nn.functional.softplus(-y.sign() * fitted, threshold=40.0)

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r""":math:`y_i / (1 + e^{f_i \operatorname{sign} y_i})`."""
        return y * torch.sigmoid(-y.sign() * fitted)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        """The entropy; -inf where a z_i / y_i is not in [0, 1], before it is rounded."""
        z, y = z.double(), y.double()
        if not (_has_signs(z, y) and bool((z.abs() <= y.abs()).all())):
            return -math.inf
        a = z / y
        return -float((y.abs() * (torch.xlogy(a, a) + torch.xlogy(1.0 - a, 1.0 - a))).sum())

    def dual_size(self, z: Tensor, y: Tensor) -> float:
        """Terms of an entropy are at most log 2, and each is off by a few roundings."""
        return 2.0 * float(y.double().abs().sum())

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """Every z_i / y_i clipped to [0, 1]."""
        return y * (z / y).clamp(0.0, 1.0)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z, by Newton and bisection.

        The derivative in s decreases from +inf at 0 to -inf at the end of the domain.
        """
        z, y = z.double(), y.double()
        a = z / y
        if not bool((a > 0.0).any()) or not _has_signs(z, y):
            return 0.0
        low, high = 0.0, min(limit, _last_scale(z, y))
        a, weights = a[a > 0.0], y.abs()[a > 0.0]
        s = high
        for _ in range(200):
            rest = 1.0 - s * a
            if float(rest.min()) > 0.0:
                slope = -float((weights * a * (torch.log(s * a) - torch.log(rest))).sum())
                if slope >= 0.0 and s == high:
                    return s  # it rises up to the limit
                newton = s + slope * s / float((weights * a / rest).sum())
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
        """The negative outputs: the log-odds of a, signed; infinite on the domain's boundary."""
        return y.sign() * torch.logit(z / y)

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """1 / (s a (1 - a)), at least 4 / s."""
        a = z / y
        return 1.0 / (y.abs() * a * (1.0 - a))

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """Where the first z_i / y_i reaches 0 or 1."""
        a, rate = z / y, step / y
        return min(time_to_zero(a, rate), time_to_zero(1.0 - a, -rate))

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        r"""Newton's method for the margin m of every entry.

        With the step times its weight, :math:`m - p = \text{step} / (1 + e^m)` has a root between
        p and p + step; its left side minus its right is convex for m < 0 and concave for m > 0.
        From 0, or the end of the interval on the same side, the iterates therefore approach the
        root from one side.
        """
        p, moves = y.sign() * point, step * y.abs()
        m = torch.where(p + 0.5 * moves >= 0.0, p.clamp(min=0.0), (p + moves).clamp(max=0.0))
        for _ in range(100):
            s = torch.sigmoid(-m)
            move = (m - p - moves * s) / (1.0 + moves * s * (1.0 - s))
            m = m - move
            if bool((move.abs() <= 4 * torch.finfo(m.dtype).eps * (1.0 + m.abs())).all()):
                break
        return y.sign() * m

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        import cvxpy as cp

        margins = cp.multiply(as_array(y.sign()), outputs)
        return cp.sum(cp.multiply(as_array(y.abs()), cp.logistic(-margins)))


def _has_signs(z: Tensor, y: Tensor) -> bool:
    """Whether no entry has the sign of the other label."""
    return bool((z * y.sign() >= 0.0).all())


def _last_scale(z: Tensor, y: Tensor) -> float:
    """The largest s for which every rounded s z_i is at most as large as y_i."""
    s = 1.0 / float((z / y).max())
    while bool(((s * z).abs() > y.abs()).any()):
        s = math.nextafter(s, 0.0) * (1.0 - torch.finfo(z.dtype).eps)
    return s


@final
@dataclass(frozen=True)
class SquaredHingeLoss(SmoothLoss):
    r""":math:`L(f) = \tfrac12 \sum_i s_i (1 - f_i \operatorname{sign} y_i)_+^2`, s as above.

    Its dual is that of the squared loss with the same weights, :math:`\sum_i z_i
    \operatorname{sign} y_i - \tfrac12 z_i^2 / s_i`, on :math:`y \odot z \ge 0`.
    """

    name: str = "squared_hinge"
    heaviest: float | None = None

    @property
    def gradient_lipschitz(self) -> float:  # type: ignore[override]  # that of others is constant
        return self.heaviest or 1.0

    def check_targets(self, y: Tensor) -> None:
        check_targets(y, self.name, self.heaviest)

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """Half the squared shortfall of each margin below 1."""
        return 0.5 * y.abs() * torch.relu(1.0 - y.sign() * fitted) ** 2

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r""":math:`y_i (1 - f_i \operatorname{sign} y_i)_+`."""
        return y * torch.relu(1.0 - y.sign() * fitted)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        """The sum above, -inf where a z_i / y_i is negative."""
        if not _has_signs(z, y):
            return -math.inf
        return dot(y.sign(), z) - 0.5 * square(z / y.abs().sqrt())

    def dual_size(self, z: Tensor, y: Tensor) -> float:
        return float(z.double().abs().sum()) + square(z / y.abs().sqrt())

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """Entries of the wrong sign become 0."""
        return y * torch.relu(z / y)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        size = square(z / y.abs().sqrt())
        if size == 0.0 or not _has_signs(z, y):
            return 0.0
        return min(dot(y.sign(), z) / size, limit)

    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """The negative outputs z / s - sign(y)."""
        return z / y.abs() - y.sign()

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """1 / s."""
        return (1.0 / y.abs()).expand_as(z)

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """Where the first z_i / y_i reaches 0."""
        return time_to_zero(z / y, step / y)

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        """A weighted mean of point and label where the margin is below 1, else the point."""
        moves = step * y.abs()
        short = y.sign() * point < 1.0
        return torch.where(short, (point + moves * y.sign()) / (1.0 + moves), point)

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        import cvxpy as cp

        shortfalls = cp.pos(1.0 - cp.multiply(as_array(y.sign()), outputs))
        return 0.5 * cp.sum_squares(cp.multiply(as_array(y.abs().sqrt()), shortfalls))
