r"""Linear programs of Lasso type, by the simplex method of HiGHS.

Both are scaled to unit costs and targets before the solver's absolute tolerances apply.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog

from convexlib.arrays import Floats
from convexlib.errors import SolverError

# Presolve finds nothing in these dense programs and takes most of the time. It is the second try,
# and a looser tolerance the last: whoever calls checks the gap.
TRIES: tuple[tuple[bool, float], ...] = ((False, 1e-10), (True, 1e-10), (True, 1e-7))


def pinball(columns: Floats, y: Floats, beta: float, tau: float) -> tuple[Floats, float, Floats]:
    r"""Minimise :math:`\sum \rho_\tau(y - Az - \xi) + \beta \|z\|_1`.

    Parameters
    ----------
    columns : ndarray (n, k)
        A.
    y : ndarray (n,)
        Targets.
    beta, tau : float
        Penalty and quantile.

    Returns
    -------
    z, bias, dual : ndarray (k,), float, ndarray (n,)
        The coefficients, the intercept xi, and the optimal dual point.

    Raises
    ------
    SolverError
        If HiGHS does not end at an optimum, or beta is too small beside the features.
    """
    # The dual has k inequalities beside the box, where the primal would have n equations.
    k = columns.shape[1]
    scale = float(np.abs(y).max()) or 1.0
    with np.errstate(over="ignore"):  # for which there is a message
        design = columns.T / beta  # a limit of 1, so that tolerances are relative to beta
    if not np.isfinite(design).all():
        raise SolverError(
            f"features of up to {np.abs(columns).max():.1e} over beta={beta:g} are beyond floats; "
            "expected a larger beta. For the limit of small beta take interpolate(problem)."
        )
    solution = simplex(
        -y / scale,
        A_ub=np.vstack([design, -design]),
        b_ub=np.ones(2 * k),
        A_eq=np.ones((1, len(y))),
        b_eq=np.zeros(1),
        bounds=(tau - 1.0, tau),
    )
    multipliers = -solution.ineqlin.marginals
    z = (multipliers[:k] - multipliers[k:]) * scale / beta
    return z, -float(solution.eqlin.marginals[0]) * scale, solution.x


def least_norm(columns: Floats, y: Floats) -> tuple[Floats, float, Floats]:
    r"""Minimise :math:`\|z\|_1` subject to :math:`Az + \xi \mathbf 1 = y`; as `pinball`."""
    n, k = columns.shape
    scale = float(np.abs(y).max()) or 1.0
    A = np.hstack([columns, -columns, np.ones((n, 1))])
    costs = np.concatenate([np.ones(2 * k), [0.0]])
    bounds = [(0, None)] * (2 * k) + [(None, None)]
    solution = simplex(costs, A_eq=A, b_eq=y / scale, bounds=bounds)
    z = (solution.x[:k] - solution.x[k : 2 * k]) * scale
    return z, float(solution.x[2 * k]) * scale, solution.eqlin.marginals


def simplex(costs: Floats, **program: Any) -> Any:
    """Minimise costs^T x subject to a program in scipy's terms, or raise."""
    for presolve, tolerance in TRIES:
        options = {
            "presolve": presolve,
            "primal_feasibility_tolerance": tolerance,
            "dual_feasibility_tolerance": tolerance,
        }
        solution = linprog(costs, method="highs", options=options, **program)
        if solution.status in (0, 2, 3):  # optimal, infeasible, unbounded
            break
    if solution.status != 0:
        raise SolverError(
            f"HiGHS ended with status {solution.status}: {solution.message.strip()} Expected an "
            "optimum. Rescale x and y, or raise beta."
        )
    return solution
