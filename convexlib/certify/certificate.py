r"""The proof that a certificate is: one dual point, scaled until no neuron or unit exceeds beta.

A training problem :math:`\min L(f) + \beta\,\Omega` whose penalty adds up over units h (neurons,
or whole sub-networks) of any number has, for **every** z with :math:`|z^\top h| \le \beta` for all
units of unit price, the lower bound

.. math:: d(z) = -L^*(-z) = \min_f L(f) + z^\top f , \quad\text{for the squared loss}\quad
          d(z) = y^\top z - \tfrac12 \|z\|^2 .

(Each unit adds at most its price to :math:`z^\top f`; sum over units: :math:`L(f) + \beta\,\Omega
\ge L(f) + z^\top f \ge d(z)`.) So all that has to be known is an upper bound on the
best unit for z.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.arrays import EPS
from convexlib.checks import (
    as_tensor,
    check_data,
    check_matrix,
    check_scale,
    check_seconds,
    check_vector,
)
from convexlib.errors import InputError
from convexlib.losses import SmoothLoss, get_loss
from convexlib.losses.base import best_of_scales, dot, square
from convexlib.pricing.relaxed_program import Relaxed
from convexlib.result import Result, relative_gap
from convexlib.runtime import waiting

# A gap that a given dual point proves is not improved any more: the default of `solve`, and the
# rounding of a network to float32.
CLOSED = 1.2e-6
_OPEN = 1e-4  # relative gap to the best network known that is worth the time for better points
SECONDS = 12.0  # for better dual points, unless a call says otherwise

# For a dual point: an upper bound on its best unit, which need not be tight below the second
# argument, whether that is proven, and how it was found.
UnitBound = Callable[[Tensor, float], tuple[float, bool, str]]


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""A bracket of the optimum: ``dual <= p* <= primal``.

    Attributes
    ----------
    primal : float
        Training objective of the network, in float64.
    dual : float
        Lower bound on the training objective of every network with this architecture and any
        number of neurons or sub-networks.
    gap, relative_gap : float
        ``primal - dual`` and the same divided by primal.
    rigorous : bool
        Whether `dual` is proven, floating-point error included. False only for given units, for
        given patterns that are not proven exhaustive, and for batch normalisation on data whose
        rank is not clear.
    z : Tensor (n,)
        The feasible dual point behind `dual`; (n, c) for c outputs.
    max_neuron : float
        The bound on :math:`\max |z^\top h|` over neurons or units h of price 1 that was used, at
        most beta.
    method : str
        How that maximum was bounded: ``"branch and bound"``, ``"enumeration"``, ``"quadratic"``,
        ``"spectral"``, ``"moments"``, ``"pairs"``, ``"joint"``, ``"positive leaves"``, ``"given
        patterns"`` or ``"given units"``.
    regularizer : str
        The penalty of the objective: ``"weight decay"``, ``"three layers"`` or ``"path"``.
    loss : str
        The loss of the objective: ``"squared"``, ``"logistic"`` or ``"squared_hinge"``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import convexlib as cl
    >>> X, y = np.array([[-1.0, 1.0], [1.0, 1.0]]), np.array([0.0, 1.0])
    >>> network = cl.TwoLayerReLU(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([1.0]).double())
    >>> certificate = cl.certify(network, X, y, beta=0.1)
    >>> round(certificate.primal, 4), certificate.dual < certificate.primal  # it is not optimal
    (0.075, True)
    """

    primal: float
    dual: float
    rigorous: bool
    z: Tensor
    max_neuron: float
    method: str
    regularizer: str = "weight decay"
    loss: str = "squared"

    @property
    def gap(self) -> float:
        """Primal minus dual, at least 0."""
        return max(self.primal - self.dual, 0.0)

    @property
    def relative_gap(self) -> float:
        """The gap as a part of primal."""
        return relative_gap(self.primal, self.dual)

    def __repr__(self) -> str:
        kind = "rigorous" if self.rigorous else "not proven"
        return (
            f"Certificate(primal={self.primal:.9g}, dual={self.dual:.9g}, "
            f"relative_gap={self.relative_gap:.1e}, {kind}, method={self.method!r}, "
            f"regularizer={self.regularizer!r})"
        )


Report = Callable[[Certificate], object]  # is told of the best certificate so far


def unheard(best: Certificate) -> None:
    """Report to nobody."""


@contextmanager
def reporting(progress: bool) -> Iterator[Report]:
    """A line on a terminal, with the seconds that have passed and the best bound so far."""
    with waiting("certify", progress) as tell:
        yield lambda best: tell(f"lower bound {best.dual:.6g}, gap {best.relative_gap:.1e}")


def check_dual_point(z: Any, X: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a dual point (n,) in float64, as finite and of a size that can be squared.

    `shape` is that of the targets, where it is another one.
    """
    if isinstance(z, Result):
        raise InputError("z is a Result; expected its dual point, result.z.")
    if shape is None or len(shape) == 1:
        point = check_vector(z, len(X), "z").double()
    else:
        point = check_matrix(as_tensor(z, "z"), "z").double()
        if tuple(point.shape) != tuple(shape):
            raise InputError(f"z has shape {tuple(point.shape)}; expected {tuple(shape)}, as y.")
    if point.device != X.device:
        raise InputError(
            f"X is on device {X.device} but z is on device {point.device}; expected the same. "
            "Move one of them with .to(device)."
        )
    check_scale(point, "z")
    return point


def check_one_output(X: Any, y: Any, caller: str) -> tuple[Tensor, Tensor]:
    """Return data (n, d) and targets (n,); targets of several outputs are those of `certify`."""
    y = as_tensor(y, "y")
    if y.ndim == 2 and y.shape[1] > 1:
        raise InputError(
            f"y has shape {tuple(y.shape)}; expected (n,), as {caller} takes networks of one "
            "output. Use certify to bound networks of several."
        )
    return check_data(X, y)


def seconds_for(max_seconds: Any, refine: bool) -> float:
    """The time for better dual points: what is given, or what suits `refine`."""
    if max_seconds is None:
        return SECONDS if refine else 0.0
    return check_seconds(max_seconds)


def best_certificate(
    primal: float,
    points: Iterable[Tensor],
    y: Tensor,
    beta: float,
    bound: UnitBound,
    *,
    regularizer: str,
    output_bias: bool = False,
    loss: str | SmoothLoss = "squared",
) -> Certificate:
    r"""The certificate of the best of some dual points, each scaled to be feasible.

    An output bias, which is decayed, adds :math:`-\tfrac1{2\beta} (1^\top z)^2` to d(z) and nothing
    else: :math:`-\tfrac1{2\beta} \|1^\top Z\|^2` for several outputs.
    """
    kind = get_loss(loss)
    root = math.sqrt(beta) if output_bias else math.inf
    candidates = []
    for point in points:
        inside = kind.restrict(point, y)
        reach, rigorous, method = bound(inside, _level(inside, y, beta, root, kind))
        z = _scaled(inside, y, beta, reach, root, kind)
        dual = max(_dual_value(z, y, root, kind), 0.0)
        size = float(torch.linalg.vector_norm(inside))
        shrunk = reach * float(torch.linalg.vector_norm(z)) / size if size > 0 else 0.0
        candidates.append(
            Certificate(primal, dual, rigorous, z, shrunk, method, regularizer, kind.name)
        )
    return max(candidates, key=lambda candidate: candidate.dual)


class Candidates:
    """Certificates of one network from different dual points, of which the best one counts."""

    def __init__(
        self, primal: float, y: Tensor, beta: float, *, report: Report = unheard, **settings: Any
    ) -> None:
        """For a network of value `primal`; the settings are those of `best_certificate`."""
        self.primal, self.y, self.beta = primal, y, beta
        self.report, self.settings = report, settings
        self.all: list[Certificate] = []

    @property
    def best(self) -> Certificate:
        """The certificate with the highest bound."""
        return max(self.all, key=lambda certificate: certificate.dual)

    def add(self, point: Tensor, bound: UnitBound) -> float:
        """Certify by a point; returns the seconds of this thread that it took."""
        start = time.thread_time()
        self.all.append(
            best_certificate(self.primal, [point], self.y, self.beta, bound, **self.settings)
        )
        self.report(self.best)
        return time.thread_time() - start

    def is_open(self, optimum: float) -> bool:
        """Whether better points are worth the time, where the optimum is at most this."""
        return self.best.dual < (1.0 - _OPEN) * optimum

    def add_while_open(self, points: Iterable[Relaxed], optimum: float) -> None:
        """Certify by points that come with their bounds, until the gap is closed."""
        for point in points:
            self.add(point.z, point.bound)
            if not self.is_open(optimum):
                return


def _level(z: Tensor, y: Tensor, beta: float, root: float, loss: SmoothLoss) -> float:
    """The best unit up to which the best multiple of z is feasible: to know more is no use."""
    free = _scaled(z, y, beta, 0.0, root, loss)
    size, longest = float(torch.linalg.vector_norm(z)), float(torch.linalg.vector_norm(free))
    level = beta * (size / longest) if longest > 0.0 else beta
    return level if 0.0 < level < np.inf else beta


def _scaled(
    z: Tensor, y: Tensor, beta: float, bound: float, root: float, loss: SmoothLoss
) -> Tensor:
    """The multiple of z with the largest dual value among the feasible ones.

    `root` is that of beta with an output bias, and infinite without. The sum is divided by it, and
    not its square multiplied by 1/beta, as that is infinite for the smallest beta.
    """
    # A few eps smaller, so that rounding cannot make it infeasible.
    limit = beta / bound * (1.0 - 8.0 * EPS) if bound > 0 else np.inf
    if not bool(z.any()):
        return z
    if root == math.inf:
        return loss.best_scale(z, y, limit) * z
    total = _total(z) / root
    if loss.name == "squared":
        curvature = square(z) + total * total  # ** would raise where this is infinite
        return min(max(dot(y, z) / curvature, 0.0), limit) * z

    def value(s: float) -> float:
        return loss.dual_value(s * z, y) - 0.5 * (s * total) * (s * total)

    return best_of_scales(value, limit) * z


def _dual_value(z: Tensor, y: Tensor, root: float, loss: SmoothLoss) -> float:
    """d(z), lowered by the rounding error of its own evaluation; `root` as in `_scaled`."""
    slack = 2.0 * (z.numel() + 8) * EPS
    # The slack is four times the error of the sum, so that it covers that of its square, too.
    total = _total(z) / root + slack * (float(z.abs().sum()) / root)
    return loss.dual_value(z, y) - 0.5 * total * total - slack * loss.dual_size(z, y)


def _total(z: Tensor) -> float:
    """The length of the sums of the columns."""
    return float(torch.linalg.vector_norm(z.sum(dim=0)))
