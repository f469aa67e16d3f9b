"""What a loss must know about itself and its dual; and any of them with a fixed output bias."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from torch import Tensor

from convexlib.errors import InputError

if TYPE_CHECKING:
    import cvxpy as cp


class Loss(ABC):
    """A convex loss with the dual that goes with it."""

    name: str

    @abstractmethod
    def value(self, fitted: Tensor, y: Tensor) -> float:
        """L(f)."""

    @abstractmethod
    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        r"""The dual point :math:`-\nabla L(f)`, or the negative of a subgradient."""

    @abstractmethod
    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r""":math:`-L^*(-z)`, which is -inf outside of the domain."""

    @abstractmethod
    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """The nearest z in the closure of the dual's domain."""

    @abstractmethod
    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        """The s in [0, limit] which maximises the dual value of s z."""

    @abstractmethod
    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        """L(f) for CVXPY."""


class SmoothLoss(Loss):
    r"""A differentiable loss whose gradient is Lipschitz, so that :math:`L^*` is strongly convex.

    Attributes
    ----------
    gradient_lipschitz : float
        Lipschitz constant of the gradient of L.
    """

    gradient_lipschitz: ClassVar[float]

    @abstractmethod
    def check_targets(self, y: Tensor) -> None:
        """Refuse targets that the loss is not made for."""

    def value(self, fitted: Tensor, y: Tensor) -> float:
        return float(self.terms(fitted.double(), y.double()).sum())

    @abstractmethod
    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """The loss of every entry; the arguments broadcast."""

    @abstractmethod
    def dual_size(self, z: Tensor, y: Tensor) -> float:
        """What the terms of `dual_value` add up to without their signs: its rounding's measure."""

    @abstractmethod
    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        r"""Gradient of :math:`z \mapsto L^*(-z)`: the negative outputs that z is the dual of."""

    @abstractmethod
    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        r"""Diagonal of the Hessian of :math:`z \mapsto L^*(-z)`, which has no other entries."""

    @abstractmethod
    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """The largest t >= 0 with z + t step in the closure of the domain."""

    @abstractmethod
    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        r""":math:`\arg\min_f L(f) + \tfrac1{2\,\text{step}} \|f - \text{point}\|^2`."""


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product in float64."""
    return float(a.double().ravel() @ b.double().ravel())


def square(a: Tensor) -> float:
    """Squared norm in float64."""
    return dot(a, a)


def as_array(y: Tensor) -> Any:
    """Targets as CVXPY wants them."""
    return y.double().cpu().numpy()


def time_to_zero(a: Tensor, rate: Tensor) -> float:
    """The first t >= 0 at which an entry of a + t rate becomes negative."""
    falling = rate < 0.0
    if not bool(falling.any()):
        return math.inf
    return max(float((a[falling] / -rate[falling]).min()), 0.0)


def check_labels(y: Tensor, name: str) -> None:
    """Refuse targets other than -1 and 1."""
    wrong = (y.abs() != 1.0).ravel()
    if not bool(wrong.any()):
        return
    found = y.unique()
    shown = ", ".join(f"{value:g}" for value in found[:4].tolist())
    advice = (
        "Use 2 * y - 1 for classes 0 and 1."
        if set(found.tolist()) <= {0.0, 1.0}
        else "Code one class as 1 and the other as -1, or use loss='squared' for real targets."
    )
    raise InputError(
        f"{int(wrong.sum())} of the {y.numel()} entries of y are not labels (its values are "
        f"{shown}{', ...' if len(found) > 4 else ''}); expected -1 and 1 for loss={name!r}. "
        f"{advice}"
    )


_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_STEPS = 60  # the interval shrinks by 1e-12


@final
@dataclass(frozen=True)
class ShiftedLoss(SmoothLoss):
    r""":math:`L_b(f) = L(f + b 1)`, whose dual is that of L less :math:`b\, 1^\top z`.

    (:math:`\min_f L(f + b1) + z^\top f = \min_g L(g) + z^\top g - b\, 1^\top z`.) For the squared
    loss it is the same as targets :math:`y - b`. Checked by ``tests/losses/test_base.py``.
    """

    inner: SmoothLoss
    bias: float

    @property
    def name(self) -> str:  # type: ignore[override]  # the others are constants of their class
        """The loss and its shift; no loss of this name can be asked for."""
        return f"{self.inner.name} of outputs {self.bias:+g}"

    @property
    def gradient_lipschitz(self) -> float:  # type: ignore[override]  # as above
        return self.inner.gradient_lipschitz

    def check_targets(self, y: Tensor) -> None:
        self.inner.check_targets(y)

    def value(self, fitted: Tensor, y: Tensor) -> float:
        return self.inner.value(fitted + self.bias, y)

    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        return self.inner.terms(fitted + self.bias, y)

    def dual_point(self, fitted: Tensor, y: Tensor) -> Tensor:
        """The negative gradient of L at f + b."""
        return self.inner.dual_point(fitted + self.bias, y)

    def dual_value(self, z: Tensor, y: Tensor) -> float:
        r"""The dual value of L less :math:`b\, 1^\top z`."""
        return self.inner.dual_value(z, y) - self.bias * float(z.double().sum())

    def dual_size(self, z: Tensor, y: Tensor) -> float:
        """That of L, and the term of b."""
        return self.inner.dual_size(z, y) + abs(self.bias) * float(z.double().abs().sum())

    def restrict(self, z: Tensor, y: Tensor) -> Tensor:
        """The domain is that of L."""
        return self.inner.restrict(z, y)

    def best_scale(self, z: Tensor, y: Tensor, limit: float) -> float:
        return best_of_scales(lambda s: self.dual_value(s * z, y), limit)

    def conjugate_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """The negative outputs, without b."""
        return self.inner.conjugate_gradient(z, y) + self.bias

    def conjugate_curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """The same as for L: the duals differ by a linear term."""
        return self.inner.conjugate_curvature(z, y)

    def max_step(self, z: Tensor, step: Tensor, y: Tensor) -> float:
        """The domain is that of L."""
        return self.inner.max_step(z, step, y)

    def prox(self, point: Tensor, y: Tensor, step: float) -> Tensor:
        """The map of L in the outputs f + b."""
        return self.inner.prox(point + self.bias, y, step) - self.bias

    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        return self.inner.expression(outputs + self.bias, y)


def best_of_scales(value: Callable[[float], float], limit: float) -> float:
    """Maximise a concave function on [0, limit], finite at 0, by golden section.

    It may be -inf beyond some point; it must fall in the end where the limit is infinite.
    """
    high = min(limit, 1.0)
    while high < limit and value(min(2.0 * high, limit)) > value(high):
        high = min(2.0 * high, limit)
    high = min(2.0 * high, limit)
    low, top = 0.0, high
    inner = [top - _GOLDEN * (top - low), low + _GOLDEN * (top - low)]
    values = [value(s) for s in inner]
    for _ in range(_STEPS):
        if values[0] >= values[1]:  # also where both are -inf, which is to the right
            top, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = top - _GOLDEN * (top - low)
            values[0] = value(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + _GOLDEN * (top - low)
            values[1] = value(inner[1])
    return max((0.0, high, *inner), key=value)
