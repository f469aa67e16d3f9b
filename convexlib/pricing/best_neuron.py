r"""The best neuron for a dual point: :math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` with a proof.

This one number decides everything: at :math:`z = y` it is ``beta_max``, at any z it says whether z
is dual feasible, and its maximiser is the neuron that column generation adds. The problem is
nonconvex, hard in general but not for data of low rank: `branch_and_bound` finds the maximum and
proves it, started from a local one (`ascent`). Where it would take too long, `quadratic_bound` has
a bound at any rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convexlib.arrays import EPS, Floats
from convexlib.pricing.ascent import ascend, climb
from convexlib.pricing.branch_and_bound import rounding, search
from convexlib.pricing.condense import Condensed, condense, row_space
from convexlib.pricing.quadratic_bound import quadratic_bound

__all__ = ["Pricing", "ascend", "price", "row_space", "spectral_bound"]


_SUBNORMAL = float(np.finfo(np.float64).tiny)
LARGEST_RANK = 8  # of a search: above this the orthants to start from are too many
_EASY = 20_000  # cones after which the cheaper bounds are worth computing
_STARTS = 64  # random directions for the local ascent
_FINER = 5.0  # the excess asked for is divided by this until the budget is spent
_SPARE = 12  # times the cones of the last search that are left, to ask for everything


@dataclass(frozen=True)
class Pricing:
    """What is known about the best neuron for a dual point.

    Attributes
    ----------
    lower, upper : float
        The maximum lies in [lower, upper]; `lower` is the value at `direction`.
    direction : Tensor (d,)
        A unit vector.
    sign : int
        +1 or -1: the best neuron has an output weight of this sign.
    complete : bool
        Whether upper <= max(target, lower) * (1 + rtol), up to rounding; otherwise the budget ran
        out first and `upper` is valid but loose.
    nodes : int
        Cones examined.
    method : str
        What `upper` comes from: ``"branch and bound"``, ``"quadratic"`` or ``"spectral"``.
    """

    lower: float
    upper: float
    direction: Tensor
    sign: int
    complete: bool
    nodes: int
    method: str


def spectral_bound(X: Tensor, z: Tensor) -> float:
    r"""A bound on :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` at any rank, usually loose.

    With :math:`(a)_+ = (a + |a|)/2` and Cauchy-Schwarz on the weights :math:`z_+`,

    .. math:: z^\top (Xu)_+ \le \tfrac12 \|X^\top z\|
              + \tfrac12 \sqrt{1^\top z_+ \; \lambda_{\max}(X^\top \mathrm{diag}(z_+) X)}.
    """
    X, z = X.double(), z.double()
    n, d = X.shape
    margin = 1.0 + 8.0 * (n + d) * EPS
    absolute = float(z.abs() @ torch.linalg.vector_norm(X, dim=1))
    linear = float(torch.linalg.vector_norm(X.T @ z)) + 4.0 * (n + d) * EPS * absolute
    worst = 0.0
    for part in (z.clamp(min=0), (-z).clamp(min=0)):
        gram = X.T @ (part[:, None] * X)
        # The largest eigenvalue plus the error of computing it (backward stable).
        size = float(torch.linalg.matrix_norm(gram))
        largest = float(torch.linalg.eigvalsh(gram)[-1]) + 8.0 * (n + d) * EPS * size
        worst = max(worst, math.sqrt(max(float(part.sum()) * largest, 0.0)))
    return (0.5 * linear + 0.5 * worst) * margin


def price(
    X: Tensor, z: Tensor, target: float = 0.0, rtol: float = 1e-9, max_nodes: int = 2_000_000
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` from both sides.

    Parameters
    ----------
    X : Tensor (n, d)
        Data, float64. The work grows with the rank of X, not with d, and with n; ranks up to
        about 5 finish for some hundred rows.
    z : Tensor (n,)
        The dual point.
    target : float
        Values up to ``target * (1 + rtol)`` need not be told apart: 0 computes the maximum to
        relative accuracy `rtol`, ``target=beta`` only decides whether z is feasible for beta.
    rtol : float
        Relative accuracy; rounding may allow less.
    max_nodes : int
        Cones to examine per sign before giving up with a valid but loose upper bound.

    Returns
    -------
    Pricing
        `upper` is rigorous: floating-point error is included. `lower` is the best of many local
        maxima.

    Notes
    -----
    At most 8 coordinates are searched; data of higher rank get the quadratic bound at once.
    Checked by ``tests/pricing/``.
    """
    data = condense(X.detach().double().cpu(), z.detach().double().cpu())
    noise = rounding(data.rows, data.weights, data.tilt)[1]
    # Less than rounding need not be told apart, nor than what either side attains already: a side
    # whose own maximum is 0 would otherwise be searched for ever.
    goal = max(scaled(target, -data.exponent), 2.0 * noise, 1e-280)
    sides = _local_maxima(data)
    goal = max(goal, *(side.lower for side in sides))
    rtol = max(rtol, 4.0 * noise / goal)  # bounds of the smallest cones are no closer
    for side in sides:
        _bound(data, side, goal, rtol, max_nodes)
        goal = max(goal, side.lower)
    best = max(sides, key=lambda side: side.lower)
    worst = max(sides, key=lambda side: side.upper)
    upper = scaled(worst.upper + data.hidden, data.exponent)
    if worst.upper > 0.0 and upper < _SUBNORMAL:
        upper = math.nextafter(upper, math.inf)  # rounded, perhaps down
    return Pricing(
        lower=scaled(best.lower, data.exponent),
        upper=upper,
        direction=data.basis @ torch.from_numpy(best.direction),
        sign=best.sign,
        complete=worst.upper <= goal * (1.0 + rtol),
        nodes=sum(side.nodes for side in sides),
        method=worst.method,
    )


@dataclass
class _Side:
    """What is known about max g for the dual point times `sign`."""

    sign: int
    lower: float
    direction: Floats
    upper: float = math.inf
    method: str = ""
    nodes: int = 0


def _local_maxima(data: Condensed) -> list[_Side]:
    """The best direction of a short local ascent for z and for -z."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(_STARTS, data.rank, generator=generator, dtype=torch.float64)
    sides = []
    for sign in (1, -1):
        heights, directions = climb(data.rows, data.weights, data.tilt, starts.numpy(), sign)
        index = int((sign * heights).argmax())
        sides.append(_Side(sign, sign * float(heights[index]), directions[index]))
    return sides


def _bound(data: Condensed, side: _Side, goal: float, rtol: float, max_nodes: int) -> None:
    """Lower the side's bound to ``goal * (1 + rtol)``, or as far as the budget goes."""
    rows, z, tilt = data.rows, side.sign * data.weights, side.sign * data.tilt

    def branch(accuracy: float, budget: int) -> bool:
        if budget <= 0 or data.rank > LARGEST_RANK:
            return False
        low, high, found, count, stopped = search(
            rows, z, tilt, goal, accuracy, budget, side.direction
        )
        side.nodes += count
        if high < side.upper:
            side.upper, side.method = high, "branch and bound"
        if low > side.lower:
            side.lower, side.direction = low, found
        return not stopped

    if branch(rtol, min(_EASY, max_nodes // 4)):
        return
    for name, bound in (("spectral", _spectral), ("quadratic", quadratic_bound)):
        high = bound(rows, z, tilt, goal)
        if high < side.upper:
            side.upper, side.method = high, name
    # A depth-first search that is cut short leaves large cones behind. One that asks for less and
    # ends has the tighter bound, and costs a fraction of the next one, which asks for more.
    accuracy, factor, count = side.upper / goal - 1.0, _FINER, math.inf
    while accuracy > rtol and factor > 1.3:
        finer = accuracy / factor
        left = max_nodes - side.nodes
        # Below some accuracy the count grows slowly: go to the end at once where that can be paid.
        leap = _SPARE * count < left
        if finer < _FINER * rtol or leap:
            finer = rtol
        before = side.nodes
        if branch(finer, left // 2 if leap else 2 * left // 3):
            accuracy, count = finer, side.nodes - before
        elif leap:
            count = math.inf  # and never again
        else:
            factor = factor**0.5


def _spectral(rows: Floats, z: Floats, tilt: Floats, goal: float) -> float:
    return float(np.linalg.norm(tilt)) * (1.0 + 1e-12) + spectral_bound(
        torch.from_numpy(rows), torch.from_numpy(z)
    )


def scaled(value: float, exponent: int) -> float:
    """Value times a power of two; inf where that overflows."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
