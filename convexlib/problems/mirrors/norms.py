r"""Least :math:`\|z\|_1` of an interpolating network, in closed form.

With the slopes :math:`\mu_i = (y_{i+1} - y_i) / (x_{i+1} - x_i)` between the sorted inputs and
their jumps :math:`c_i = \mu_i - \mu_{i-1}` at the inner ones, the limit of the programs as beta
falls to 0 costs

* relu, two layers: :math:`\sum |c_i| + \mathrm{dist}(\mu_1, [-C^+, C^-])`,
  :math:`C^\pm = \sum (c_i)_\pm`;
* relu, any greater depth: :math:`\tfrac12 (|\mu_1| + \sum |c_i| + |\mu_{N-1}|)`;
* abs, two layers: :math:`\tfrac12 (\sum |c_i| + |\mu_1 + \mu_{N-1}|)`;
* leaky of slope k, two layers: :math:`\frac{1}{1-k} \sum |c_i| + \mathrm{dist}(\mu_1, I)` with
  :math:`I = \frac1{1-k} [-C^+ - k C^-, C^- + k C^+]`;
* sign units with K switches: :math:`\tfrac12 \sum |y_{i+1} - y_i|` for K = 1, half the larger of
  the total rise and the total fall for K = 2, :math:`\tfrac12 (\max y - \min y)` for
  :math:`K \ge N - 1`; thresholds cost twice that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convexlib.arrays import Floats
from convexlib.errors import InputError, ProblemError
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.features import SWITCHING


def interpolation_norm(problem: Mirrors) -> float:
    r"""Return the least :math:`\|z\|_1` of a network with :math:`f(x_i) = y_i` for all i.

    Parameters
    ----------
    problem : Mirrors
        Its beta and loss do not matter.

    Raises
    ------
    InputError
        If an input has two targets, or the problem is another one.
    ProblemError
        If no closed form is known (abs or leaky with three or more layers, sign or threshold units
        with 2 < K < N - 1): solve the linear program, `solvers.interpolation.interpolate`.
    """
    if not isinstance(problem, Mirrors):
        raise InputError(f"problem is {type(problem).__name__}; expected a Mirrors.")
    y = targets(problem)
    if len(y) == 1:
        return 0.0
    if problem.activation in SWITCHING:
        return _switching(y, problem.switches, problem.activation)
    slopes = np.diff(y) / np.diff(problem.x)
    jumps = np.diff(slopes)
    if problem.activation == "relu" and problem.depth > 2:
        return 0.5 * float(abs(slopes[0]) + np.abs(jumps).sum() + abs(slopes[-1]))
    if problem.depth > 2:
        raise ProblemError(
            f"no closed form is known for activation={problem.activation!r} and "
            f"depth={problem.depth}; expected depth=2. Use solvers.interpolation.interpolate."
        )
    if problem.activation == "abs":
        return 0.5 * float(np.abs(jumps).sum() + abs(slopes[0] + slopes[-1]))
    rising, falling = float(jumps.clip(0).sum()), float((-jumps).clip(0).sum())
    k = problem.slope
    low, high = -(rising + k * falling) / (1 - k), (falling + k * rising) / (1 - k)
    distance = max(low - float(slopes[0]), float(slopes[0]) - high, 0.0)
    return float(np.abs(jumps).sum()) / (1 - k) + distance


def targets(problem: Mirrors) -> Floats:
    """Return the target of each distinct input, (N,), or refuse if one has two."""
    y = problem.y.double().cpu().numpy()
    first: Any = np.full(len(problem.x), np.nan)
    first[problem.row] = y
    wrong = np.flatnonzero(first[problem.row] != y)
    if len(wrong):
        raise InputError(
            f"{len(wrong)} sample{'s have' if len(wrong) > 1 else ' has'} another target than a "
            f"sample with the same x (first at row {wrong[0]}); expected one target per input. "
            "Average them, or solve with beta > 0."
        )
    values: Floats = first
    return values


def _switching(y: Floats, switches: int, activation: str) -> float:
    steps = np.diff(y)
    factor = 1.0 if activation == "threshold" else 0.5
    if switches == 1:
        return factor * float(np.abs(steps).sum())
    if switches >= len(steps):
        return factor * float(np.ptp(y))
    if switches == 2:
        return factor * max(float(steps.clip(0).sum()), float((-steps).clip(0).sum()))
    raise ProblemError(
        f"no closed form is known for {switches} switches and {len(y)} distinct inputs; expected "
        f"1, 2 or at least {len(steps)} switches. Use solvers.interpolation.interpolate."
    )
