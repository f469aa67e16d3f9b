r"""The convex program started from a given network: a good dual point, and a better network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from convexlib.arrangements.patterns import patterns_of
from convexlib.errors import unwarned
from convexlib.losses import ShiftedLoss, SmoothLoss, get_loss
from convexlib.networks import Neurons
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result
from convexlib.solvers.base import uninterrupted
from convexlib.solvers.generate import generate
from convexlib.solvers.ssnal import ssnal

_TOL = 1e-7
_LOOSE, _ROUNDS = 1e-3, 10  # where nothing can be proved
_BIAS_STEPS, _SEARCHES = 40, 15  # solves at most to find the output bias; and those that search


@dataclass(frozen=True, eq=False)
class Refined:
    r"""What the convex program makes of a network.

    Attributes
    ----------
    z : Tensor (n,)
        A dual point, to be bounded by the caller.
    value : float
        The objective of the network below.
    neurons : Neurons
        Its neurons.
    bias : float
        Its output bias; 0 without one.
    """

    z: Tensor
    value: float
    neurons: Neurons
    bias: float


class _Step(NamedTuple):
    """The value and the slope of the program at an output bias."""

    bias: float
    slope: float
    value: float


def refine(
    X: Tensor,
    y: Tensor,
    beta: float,
    U: Tensor,
    bias: float | None = None,
    *,
    loss: str | SmoothLoss = "squared",
    rounds: int | None = None,
    tol: float = _TOL,
    max_nodes: int | None = None,
) -> Refined:
    r"""Solve the two-layer program from the neurons of a network, with its output bias.

    An output bias b, decayed like every weight, is one more number to minimise over. The
    derivative of :math:`p^*(y - b) + \tfrac\beta2 b^2` is :math:`h = \beta b - 1^\top z_b`; it
    increases with slopes between :math:`\beta` and :math:`\beta + n` (times the Lipschitz constant
    of the loss's gradient), and :math:`h^2/(2\beta)` is what z_b loses as a dual point. Its root is
    found by a bracketed secant method whose slopes keep to that range. Where it is slow the next b
    is where the tangents of the function at both ends of the bracket meet, as h may jump between
    stretches where it hardly changes; and then its middle. Losses of classes take f + b in place of
    y - b.

    Parameters
    ----------
    X, y : Tensor (n, d), (n,)
        Data, float64.
    beta : float
        Regularisation.
    U : Tensor (m, d)
        The network's neurons.
    bias : float, optional
        The network's output bias; None if it has no such parameter.
    loss : {"squared", "logistic", "squared_hinge"}
        See `TwoLayer`.
    rounds : int, optional
        Of column generation, which adds patterns that the network lacks; 0 stays with its own. By
        default the dual point becomes as good as it can be proved to be, whatever `tol` is.
    tol : float
        Relative gap at which to stop.
    max_nodes : int, optional
        Cones in the search for violated neurons (see `generate`), which goes on until none is left;
        0 leaves it to local search, and is less exact.

    Notes
    -----
    Checked by ``tests/certify/test_two_layer.py`` and ``tests/certify/test_polish.py``.
    """
    if rounds is None:  # where nothing can be proved the bound is too loose for more to matter
        rounds, tol = (_ROUNDS, _LOOSE) if max_nodes == 0 else (40, _TOL)
    kind = get_loss(loss)
    start = U[torch.linalg.vector_norm(U, dim=1) > 0]
    shift, low, high = bias or 0.0, -math.inf, math.inf
    steepest = beta + kind.gradient_lipschitz * len(y)
    steps: list[_Step] = []
    best: Refined | None = None
    z, bound = y, -math.inf
    searching = bias is None  # for what local search misses: only at the bias that is found
    while True:
        problem = _at_bias(X, y, beta, kind, shift)
        result = _solve(problem, start, rounds, tol, max_nodes if searching else 0)
        neurons, _ = Neurons.of_blocks(result.weights)
        slope = beta * shift - float(result.z.sum())
        decay, lost = 0.5 * beta * shift * shift, 0.5 * slope * (slope / beta)
        if best is None or result.value + decay <= best.value:
            best = Refined(result.z, result.value + decay, neurons, shift)
        if result.dual + decay - lost > bound or math.isinf(bound):
            z, bound = result.z, result.dual + decay - lost
        steps.append(_Step(shift, slope, result.value + decay))
        slow = len(steps) > 2 and abs(slope) > 0.5 * abs(steps[-3].slope)
        # What a solve leaves open bounds the error of z's sum, by the strong convexity of the dual.
        left = min(max(result.value - result.dual, 0.0), tol * result.value)
        unsure = abs(slope) <= math.sqrt(2.0 * kind.gradient_lipschitz * len(y) * left)
        # With other patterns allowed, the old ones need not be carried along.
        if rounds and len(neurons):
            start = neurons.vectors
        found = lost <= 3.0 * _TOL * result.value or (slow and unsure) or high <= low
        if bias is None or found or len(steps) == (_SEARCHES if searching else _BIAS_STEPS):
            if searching or not rounds or max_nodes == 0:
                break
            # Start again, as the slopes without it may have been of the wrong sign.
            searching, shift, steps = True, best.bias, []
            low, high, bound = -math.inf, math.inf, -math.inf
            continue
        largest = math.sqrt(2.0 * best.value) / math.sqrt(beta)  # more would cost more than it all
        near, far = shift - slope / steepest, shift - slope / beta
        low = max(low, min(near, far), -largest)
        high = min(high, max(near, far), largest)
        guess = _next(steps, slow, low, high, max(bound, 0.0), beta, steepest)
        shift = min(max(guess, low), high)
    return Refined(z, best.value, best.neurons, best.bias)


def _next(
    steps: list[_Step],
    slow: bool,
    low: float,
    high: float,
    bound: float,
    flattest: float,
    steepest: float,
) -> float:
    """The bias to try next, between low and high; no value is below `bound`."""
    last = steps[-1]
    guess = _secant(steps, flattest, steepest)
    below = [step for step in steps if step.slope < 0.0]
    above = [step for step in steps if step.slope >= 0.0]
    if not below or not above:
        # Where its tangent meets the bound the function has another slope.
        reach = 2.0 * (last.value - bound) / abs(last.slope)
        low, high = max(low, last.bias - reach), min(high, last.bias + reach)
        return (low if last.slope > 0.0 else high) if slow else min(max(guess, low), high)
    if low < guess < high and not slow:
        return guess
    left, right = max(below), min(above)
    height = left.value - right.value + right.slope * (right.bias - left.bias)
    meeting = left.bias + height / (right.slope - left.slope)
    return meeting if len(steps) % 3 and low < meeting < high else 0.5 * (low + high)


def _secant(steps: list[_Step], flattest: float, steepest: float) -> float:
    """The root of the line through the last two of some slopes."""
    last = steps[-1]
    rate = steepest
    if len(steps) > 1 and last.bias != steps[-2].bias:
        rate = (last.slope - steps[-2].slope) / (last.bias - steps[-2].bias)
    # Between biases that hardly differ the quotient is rounding, which may say anything.
    return last.bias - last.slope / min(max(rate, flattest), steepest)


def _at_bias(X: Tensor, y: Tensor, beta: float, loss: SmoothLoss, bias: float) -> TwoLayer:
    """The program without the bias, held fixed."""
    if loss.name == "squared":
        return TwoLayer.generating(X, y - bias, beta, loss)
    shifted = ShiftedLoss(loss, bias) if bias else loss
    return TwoLayer.generating(X, y, beta, shifted)


def _solve(
    problem: TwoLayer, start: Tensor, rounds: int, tol: float, max_nodes: int | None
) -> Result:
    """By column generation, or over the patterns of the neurons at hand; the caller bounds z."""
    with unwarned():  # nothing here needs to have converged
        if rounds:
            return uninterrupted(
                generate(problem, tol=tol, max_iter=rounds, directions=start, max_nodes=max_nodes)
            )
        if not len(start):
            start = problem.X.new_ones(1, problem.X.shape[1])  # any direction will do
        return ssnal(problem.with_arrangements(patterns_of(problem.X, start)), tol=tol)
