r"""Minimum-norm interpolation: the limit of the programs as beta falls to 0.

`pursue` takes two layers and given patterns, `interpolate` one-dimensional networks of any depth.
The least :math:`\|z\|_1` of the latter has a closed form (`interpolation_norm`). With the slopes
:math:`\mu_i = (y_{i+1} - y_i) / (x_{i+1} - x_i)` between the sorted inputs and their jumps
:math:`c_i = \mu_i - \mu_{i-1}` at the inner ones, the limit of the programs as beta falls to 0
costs

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
import torch
from scipy.linalg import qr
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.checks import check_positive_int, check_real
from convexlib.errors import InputError, ProblemError, SolverError
from convexlib.problems.base import Problem
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.features import SWITCHING
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result, Status, relative_gap
from convexlib.runtime import clock
from convexlib.solvers.base import need
from convexlib.solvers.lasso import lasso
from convexlib.solvers.lasso.active_set import least_norm
from convexlib.solvers.lasso.dictionary import Ints, worst_columns

__all__ = ["interpolate", "interpolation_norm", "pursue"]


_CHECK = 20  # iterations between two looks at the bounds
_RANK = 1e-10  # relative eigenvalue of the Gram matrix below which targets may be out of reach
_RELAXED = 1.6  # over-relaxation of Douglas and Rachford's map; it converges below 2


def pursue(
    problem: Problem, *, tol: float = 1e-8, max_iter: int = 20_000, below: float | None = None
) -> Result:
    r"""Minimise the sum of norms over all weights that fit the targets exactly.

    .. math:: \min_{u_i} \sum_i \|u_i\| \quad\text{s.t.}\quad \sum_i D_i X u_i = y ,

    for a gated problem: basis pursuit over groups. Its dual is :math:`\max_z y^\top z` subject to
    :math:`\|X^\top D_i z\| \le 1`. Solved by Douglas and Rachford's splitting: one projection onto
    the interpolating weights and one soft-thresholding of the groups in turn. Every projection is
    feasible, so the value is an upper bound at every iteration, and the multiplier of the
    projection, scaled into the dual's feasible set, gives a lower one.

    Parameters
    ----------
    problem : TwoLayer
        Gated, with patterns. Its beta does not matter. The gate 0 is active on all samples:
        it is a linear skip connection.
    tol : float
        Relative duality gap for ``CONVERGED``.
    max_iter : int
        Iterations, each two products with the patterns.
    below : float, optional
        Stop as soon as an interpolant of norm less than this is found, whatever the gap; the status
        is then ``INTERRUPTED``.

    Returns
    -------
    Result
        The best feasible weights (1, P, d), their norm, the best dual point and its value.

    Raises
    ------
    SolverError
        If the problem is not a gated `TwoLayer` with the squared loss.
    ProblemError
        If no weights fit the targets.

    Notes
    -----
    Checked against CVXPY by ``tests/solvers/test_interpolation.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> from convexlib.solvers.interpolation import pursue
    >>> problem = cl.TwoLayer(np.eye(2), np.array([3.0, 4.0]), beta=1.0, gated=True)
    >>> round(pursue(problem).value, 6)  # one linear neuron
    5.0
    """
    if not isinstance(problem, GroupLasso) or "irls" not in problem.methods:
        raise SolverError(
            f"pursue needs a gated TwoLayer with the squared loss; got {problem!r}. For networks "
            "of one input use interpolate; with cones solve with a small beta."
        )
    tol = check_real(tol, "tol")
    below = None if below is None else check_real(below, "below")
    check_positive_int(max_iter, "max_iter")
    began = clock()
    y = problem.y
    inverse = _inverse(problem)
    point = problem.correlations(inverse @ y)  # the interpolant of least Euclidean norm
    blocks = torch.linalg.vector_norm(point, dim=2)
    # One threshold for all groups, of the size that a group of the solution may have.
    threshold = float(blocks.max()) or 1.0
    value, dual, n_iter = float("inf"), 0.0, 0
    weights, certificate = point, torch.zeros_like(y)
    while n_iter < max_iter:
        n_iter += 1
        residual = inverse @ (problem.fitted(point) - y)  # (n,)
        feasible = point - problem.correlations(residual)
        reflected = 2.0 * feasible - point
        norms = torch.linalg.vector_norm(reflected, dim=2, keepdim=True)
        shrunk = reflected * (1.0 - threshold / norms.clamp(min=threshold))
        if n_iter % _CHECK == 0 or n_iter == 1:
            found = problem.penalty(feasible)
            if found < value:
                value, weights = found, feasible
            z = -residual / threshold
            size = problem.dual_norm(z)
            if float(y @ z) > dual * size:
                dual, certificate = float(y @ z) / size, z / size
            if relative_gap(value, dual) <= tol or (below is not None and value < below):
                break
        point = point + _RELAXED * (shrunk - feasible)
    gap = relative_gap(value, dual)
    if gap <= tol:
        status = Status.CONVERGED
    else:
        status = Status.MAX_ITER if n_iter == max_iter else Status.INTERRUPTED
    return Result(
        weights=weights,
        value=value,
        dual=dual,
        gap=gap,
        z=certificate,
        status=status,
        method="pursue",
        n_iter=n_iter,
        seconds=clock() - began,
    )


def _inverse(problem: GroupLasso) -> Tensor:
    """Invert the Gram matrix of all groups, or say that it has no inverse."""
    gram = problem.gram()
    values, vectors = torch.linalg.eigh(gram)
    if values[0] <= _RANK * values[-1]:
        raise ProblemError(
            f"the patterns' outputs span fewer than {len(gram)} dimensions; expected all targets "
            "to be within reach. Add patterns, or drop samples that repeat."
        )
    return (vectors / values) @ vectors.T


SMALL = 500  # columns up to which the whole dictionary is used


def interpolate(problem: Problem, *, tol: float = 1e-8) -> Result:
    r"""Minimise :math:`\|z\|_1` subject to :math:`A z + \xi \mathbf 1 = y`.

    The dual is :math:`\max_u y^\top u` subject to :math:`|A_j^\top u| \le 1`,
    :math:`1^\top u = 0`. Solved by the simplex method on a growing set of columns that starts
    with a basis.

    Parameters
    ----------
    problem : Mirrors
        Its beta and loss do not matter.
    tol : float
        Relative duality gap for ``CONVERGED``.

    Returns
    -------
    Result
        ``value`` is the least :math:`\|z\|_1`, ``dual`` a lower bound from the dual point ``z``.

    Raises
    ------
    InputError
        If an input has two targets.
    SolverError
        If the problem is not a `Mirrors`.
    ProblemError
        If no network of this kind interpolates.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> from convexlib.solvers.interpolation import interpolate
    >>> problem = cl.Mirrors(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.0]), beta=1.0)
    >>> round(interpolate(problem).value, 6)
    2.0
    """
    tol = check_real(tol, "tol")
    problem = need(problem, Mirrors, "lasso", caller="interpolate").with_beta(1.0)
    began = clock()
    y = targets(problem)
    counts = np.bincount(problem.row, minlength=len(y))
    index = _first_columns(problem)
    rounds = 0
    while True:
        rounds += 1
        columns = problem.dictionary.columns(index)
        coefficients, bias, u = least_norm(columns, y)
        z = torch.from_numpy((u / counts)[problem.row])
        worst = worst_columns(problem, z, index, 1.0 + 1e-9)
        if not len(worst):
            break
        index = np.concatenate([index, worst])
    weights = problem.X.new_zeros(problem.n_features + 1)
    weights[torch.from_numpy(index)] = torch.from_numpy(coefficients).to(weights)
    weights[-1] = bias
    norm = problem.dual_norm(z)
    z = (z - z.mean()) / max(norm, 1.0)
    value, dual = float(np.abs(coefficients).sum()), float(problem.y.double().cpu() @ z)
    gap = relative_gap(value, dual)
    misfit = float((problem.fitted(weights).cpu() - problem.y.double().cpu()).abs().max())
    if misfit > 1e-6 * max(float(np.abs(y).max()), 1e-300):
        raise ProblemError(
            f"the best interpolant misses a target by {misfit:.1e}; expected none to. Are inputs "
            "almost equal? Round x, or solve with beta > 0."
        )
    return Result(
        weights=weights,
        value=value,
        dual=dual,
        gap=gap,
        z=z.to(problem.X.device),
        status=Status.CONVERGED if gap <= tol else Status.STALLED,
        method="interpolate",
        n_iter=rounds,
        seconds=clock() - began,
    )


def _first_columns(problem: Mirrors) -> Ints:
    """Return columns that span all functions of the distinct inputs, up to constants."""
    if problem.n_features <= SMALL:
        return np.arange(problem.n_features)
    # A solution for small beta almost interpolates: its support is close to the optimal basis.
    # Others, spread over the dictionary, complete it.
    small = lasso(problem.with_beta(1e-4 * (problem.beta_max() or 1.0)), tol=1e-3)
    support = small.weights[:-1].nonzero().ravel().cpu().numpy()
    spread = np.linspace(0, problem.n_features - 1, 20 * len(problem.x)).astype(np.intp)
    index = np.unique(np.concatenate([support, spread]))
    columns = problem.dictionary.columns(index)
    _, pivots = qr(columns - columns.mean(axis=0), mode="r", pivoting=True)
    return np.union1d(support, index[pivots[: len(problem.x)]])


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

    Examples
    --------
    >>> import convexlib as cl
    >>> from convexlib.solvers.interpolation import interpolation_norm
    >>> problem = cl.Mirrors([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 1.0], beta=1.0, depth=2)
    >>> round(interpolation_norm(problem), 6)
    4.0
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
