r"""Minimum-norm interpolation: the limit of the Lasso as beta falls to 0, as a linear program."""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.linalg import qr

from convexlib.errors import ProblemError
from convexlib.problems.base import Problem
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.norms import targets
from convexlib.result import Result, Status, relative_gap
from convexlib.solvers.lasso import lasso
from convexlib.solvers.lasso.linear_programs import least_norm
from convexlib.solvers.lasso.mirrors import Ints, need_mirrors, worst_columns
from convexlib.validation import check_real

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
    """
    tol = check_real(tol, "tol")
    problem = need_mirrors(problem, "interpolate").with_beta(1.0)
    began = time.perf_counter()
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
        seconds=time.perf_counter() - began,
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
