"""Losses, conjugates and programs once more, in numpy, CVXPY and SciPy: no code of the library."""

import math

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import linprog

NAMES = ("squared", "logistic", "squared_hinge")


def as_numpy(values):
    """Tensors and arrays as float64 arrays."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def loss_value(name, fitted, y):
    """The sum of the losses of all entries."""
    assert name in NAMES
    pairs = list(zip(np.ravel(fitted), np.ravel(y), strict=True))
    if name == "squared":
        return math.fsum(0.5 * (f - t) ** 2 for f, t in pairs)
    if name == "logistic":
        return math.fsum(float(np.logaddexp(0.0, -t * f)) for f, t in pairs)
    return math.fsum(0.5 * max(1.0 - t * f, 0.0) ** 2 for f, t in pairs)


def dual_value(name, z, y):
    """min over f of L(f) + z^T f, by the stationary point of each entry."""
    assert name in NAMES
    z, y = np.ravel(z), np.ravel(y)
    if name == "squared":
        return float(np.sum(y * z - 0.5 * z**2))
    a = y * z
    if a.min() < -1e-15 or (name == "logistic" and a.max() > 1 + 1e-15):
        return -math.inf
    if name == "squared_hinge":
        return float(np.sum(a - 0.5 * a**2))
    terms = [-(t * math.log(t) if t > 0 else 0.0) for b in a for t in (b, 1.0 - b)]
    return math.fsum(terms)


def cvxpy_loss(name, fitted, y):
    """The loss of a CVXPY expression, as a sum over entries."""
    if name == "squared":
        return cp.sum_squares(fitted - y) / 2
    margins = cp.multiply(y, fitted)
    if name == "logistic":
        return cp.sum(cp.logistic(-margins))
    return cp.sum(cp.square(cp.maximum(1 - margins, 0))) / 2


def targets_for(name, values):
    """Real targets as they are, or their signs as labels."""
    return values if name == "squared" else np.where(values >= 0, 1.0, -1.0)


def program_value(
    X, Y, beta, masks, *, gated=False, loss="squared", penalty="one-output", output_bias=False
):
    """Optimum of the two-layer program of targets (n,) or (n, c); an output bias is decayed."""
    X, Y, D = as_numpy(X), as_numpy(Y), as_numpy(masks)
    Y = Y.reshape(len(X), -1)
    fitted, size, cones = 0, 0, []
    for sign in (1,) if gated else (1, -1):
        blocks = [cp.Variable((len(D), X.shape[1])) for _ in Y.T]  # one for every output
        outputs = [cp.sum(cp.multiply(D, V @ X.T), axis=0) for V in blocks]
        fitted = fitted + sign * cp.vstack(outputs).T
        if penalty == "nuclear":
            rows = range(len(D))
            size = size + sum(cp.normNuc(cp.vstack([V[i] for V in blocks])) for i in rows)
        else:
            size = size + sum(cp.sum(cp.norm(V, axis=1)) for V in blocks)
        if not gated:
            cones += [cp.multiply(2 * D - 1, V @ X.T) >= 0 for V in blocks]
    if output_bias:
        constant = cp.Variable()
        fitted, size = fitted + constant, size + constant**2 / 2
    objective = cvxpy_loss(loss, fitted, Y) + beta * size
    problem = cp.Problem(cp.Minimize(objective), cones)
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
