"""The programs written out for CVXPY (or SciPy): no code of the library."""

import cvxpy as cp
import numpy as np
from scipy.optimize import linprog

from tests.checks import as_numpy
from tests.reference_losses import cvxpy_loss


def program_value(X, Y, beta, masks, *, gated, loss="squared", penalty="one-output"):
    """Optimum of the two-layer program of targets (n,) or (n, c)."""
    X, Y, masks = as_numpy(X), as_numpy(Y), as_numpy(masks)
    columns = Y[:, None] if Y.ndim == 1 else Y
    shape = (X.shape[1], columns.shape[1])
    fitted, size, constraints = np.zeros(columns.shape), 0, []
    for mask in masks:
        for sign in (1,) if gated else (1, -1):
            block = cp.Variable(shape)
            fitted = fitted + sign * (np.diag(mask) @ X @ block)
            if penalty == "nuclear":
                size = size + cp.normNuc(block)
            else:
                size = size + sum(cp.norm(block[:, k]) for k in range(shape[1]))
            if not gated:
                constraints.append((2 * np.diag(mask) - np.eye(len(X))) @ X @ block >= 0)
    objective = cvxpy_loss(loss, fitted, columns) + beta * size
    problem = cp.Problem(cp.Minimize(objective), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == "optimal"
    return float(problem.value)


def least_norm(A, y):
    r"""Least :math:`\|z\|_1` with :math:`Az + \xi = y`, as a linear program of its own."""
    n, p = A.shape
    program = linprog(
        np.append(np.ones(2 * p), 0.0),
        A_eq=np.hstack([A, -A, np.ones((n, 1))]),
        b_eq=y,
        bounds=[(0, None)] * (2 * p) + [(None, None)],
    )
    assert program.status == 0
    return float(program.fun)
