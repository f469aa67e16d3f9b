"""What a loss must know about itself and its dual."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import cvxpy as cp
from torch import Tensor

from convexlib.errors import InputError


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

    @abstractmethod
    def terms(self, fitted: Tensor, y: Tensor) -> Tensor:
        """The loss of every entry; the arguments broadcast."""

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

    @abstractmethod
    def expression(self, outputs: cp.Expression, y: Tensor) -> cp.Expression:
        """L(f) for CVXPY."""


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


def within(a: Tensor, top: float) -> bool:
    """Whether all entries are in [0, top]."""
    return bool((a >= 0.0).all()) and bool((a <= top).all())


def check_labels(y: Tensor, name: str) -> None:
    """Refuse what is not -1 or 1."""
    wrong = (y.abs() != 1.0).ravel()
    if not bool(wrong.any()):
        return
    found = y.unique()
    shown = ", ".join(f"{value:g}" for value in found[:4].tolist())
    advice = (
        "Use 2 * y - 1."
        if set(found.tolist()) <= {0.0, 1.0}
        else "Code one class as 1 and the other as -1, or use loss='squared' for real targets."
    )
    raise InputError(
        f"{int(wrong.sum())} of the {y.numel()} entries of y are not labels (its values are "
        f"{shown}{', ...' if len(found) > 4 else ''}); expected -1 and 1 for loss={name!r}. "
        f"{advice}"
    )
