r"""Linear programs of Lasso type, by the simplex method of HiGHS.

Both are scaled to unit costs and targets before the solver's absolute tolerances apply.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, identity

from convexlib.errors import SolverError

Floats = NDArray[np.float64]
TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


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
        If HiGHS does not end at an optimum.
    """
    n, k = columns.shape
    scale = float(np.abs(y).max()) or 1.0
    design = columns / beta  # unit costs: the dual is feasible to a tolerance relative to beta
    A = hstack(
        [
            csr_array(design),
            csr_array(-design),
            csr_array(np.ones((n, 1))),
            identity(n),
            -identity(n),
        ]
    )
    costs = np.concatenate([np.ones(2 * k), [0.0], np.full(n, tau), np.full(n, 1.0 - tau)])
    bounds = [(0, None)] * (2 * k) + [(None, None)] + [(0, None)] * (2 * n)
    solution = simplex(costs, A, y / scale, bounds)
    z = (solution.x[:k] - solution.x[k : 2 * k]) * scale / beta
    return z, float(solution.x[2 * k]) * scale, solution.eqlin.marginals


def least_norm(columns: Floats, y: Floats) -> tuple[Floats, float, Floats]:
    r"""Minimise :math:`\|z\|_1` subject to :math:`Az + \xi \mathbf 1 = y`; as `pinball`."""
    n, k = columns.shape
    scale = float(np.abs(y).max()) or 1.0
    A = np.hstack([columns, -columns, np.ones((n, 1))])
    costs = np.concatenate([np.ones(2 * k), [0.0]])
    bounds = [(0, None)] * (2 * k) + [(None, None)]
    solution = simplex(costs, A, y / scale, bounds)
    z = (solution.x[:k] - solution.x[k : 2 * k]) * scale
    return z, float(solution.x[2 * k]) * scale, solution.eqlin.marginals


def simplex(costs: Floats, A: Any, b: Floats, bounds: Any) -> Any:
    """Minimise costs^T x subject to A x = b and bounds, or raise."""
    solution = linprog(costs, A_eq=A, b_eq=b, bounds=bounds, method="highs-ds", options=TOLERANCES)
    if solution.status != 0:
        raise SolverError(
            f"HiGHS ended with status {solution.status}: {solution.message.strip()} Expected an "
            "optimum. Rescale x and y, or raise beta."
        )
    return solution
