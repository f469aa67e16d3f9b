"""The three-layer programs written once more, in numpy and CVXPY, without any reduction.

The programs share nothing with the library: patterns of planar data come from angles, all 2^n
second-layer patterns are taken, and there is one list of variables per norm.
"""

from itertools import product

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

import convexlib as cl


def circle():
    """The instance on which three layers differ from two: (X, y, beta)."""
    t = 2 * np.pi * np.arange(9) / 9 + 0.13
    X = np.stack([np.cos(t), np.sin(t)], axis=1)
    y = np.maximum(np.maximum(2 * X[:, 0], 0) - np.maximum(1.5 * X[:, 0] + 2 * X[:, 1], 0), 0)
    return X, y, 0.02


PROVEN = {"sum": 0.07265342213, "group": 0.05285385743}  # the optima there, with all units
KINDS = {"sum": cl.ThreeLayer, "group": cl.PathRegularized}


def searched(norm):
    """That instance's problem in a norm, without a list of units."""
    X, y, beta = circle()
    return KINDS[norm](X, y, beta=beta, units="generate")


def value_of(problem, network):
    """The training objective of a network, by loops."""
    leaves = network.U * network.inner[0][:, 0, :, None].abs() * network.alpha.abs()[:, None, None]
    sizes = np.linalg.norm(leaves.detach().numpy(), axis=2)
    by_sum = isinstance(problem, cl.ThreeLayer)
    prices = sizes.sum(axis=1) if by_sum else np.sqrt((sizes**2).sum(axis=1))
    residual = forward(network, problem.X.numpy()) - problem.y.numpy()
    return 0.5 * residual @ residual + problem.beta * prices.sum()


def seed_one():
    """The instance drawn with seed 1: (X, y, beta)."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((4, 2))
    return X, rng.standard_normal(4), 0.1


def degenerate(kind, seed, n):
    """Gaussian samples (n, 2) and targets, degenerate as `kind` says."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, 2)), rng.standard_normal(n)
    if kind == "negative sign":  # a target that needs a subtraction in the second layer
        plus, minus = np.maximum(X @ [2.0, 0.0], 0), np.maximum(X @ [1.5, 2.0], 0)
        y = np.maximum(plus - minus, 0) + 0.1 * y
    elif kind == "zero row":
        X[1] = 0.0
    elif kind == "twice the same row":
        X[-1] = X[0]
    elif kind == "opposite rows":
        X[-1] = -2.0 * X[0]
    elif kind == "rank one":
        X = np.outer(X[:, 0].round(1), [1.0, -2.0])
    elif kind == "grid":
        X = np.array([[i, j] for i in (-1.0, 0.0, 1.0) for j in (0.0, 1.0)])[:n]
    elif kind == "bias":
        X[:, 1] = 1.0
    elif kind == "one column":
        X = X[:, :1]
    return X, y


def planar_patterns(X):
    """Activation patterns of the cells of samples in the plane or on the line."""
    if X.shape[1] == 1:
        return np.unique(X * np.array([[1.0, -1.0]]) >= 0, axis=1).T
    angles = np.arctan2(X[:, 1], X[:, 0])[:, None] + np.array([0.5, -0.5]) * np.pi
    angles = np.unique(np.mod(angles, 2 * np.pi))
    middle = 0.5 * (angles + np.append(angles[1:], angles[0] + 2 * np.pi))
    return X @ np.stack([np.cos(middle), np.sin(middle)]) >= 0


def program_value(X, y, beta, norm, accuracy=1e-10):
    """Optimal value for two leaves; `norm` is "sum" or "group"."""
    n, d = X.shape
    patterns = planar_patterns(X).T if X.shape[1] == 2 else planar_patterns(X)
    columns, walls = [], []
    for first, second in product(patterns, repeat=2):
        for sign in (1.0, -1.0):
            both = np.hstack([first[:, None] * X, sign * second[:, None] * X])  # (n, 2 d)
            for gate in product((0.0, 1.0), repeat=n):
                gate = np.array(gate)[:, None]
                zero = np.zeros((n, d))
                columns.append(gate * both)
                walls.append(
                    np.vstack(
                        [
                            np.hstack([(2.0 * first - 1.0)[:, None] * X, zero]),
                            np.hstack([zero, (2.0 * second - 1.0)[:, None] * X]),
                            (2.0 * gate - 1.0) * both,
                        ]
                    )
                )
    units = len(columns)
    A = sp.csc_matrix(np.hstack(columns))
    W = sp.block_diag([sp.coo_matrix(wall) for wall in walls], format="csc")
    v, w = (cp.Variable(units * 2 * d) for _ in range(2))
    shape = (units * 2, d) if norm == "sum" else (units, 2 * d)
    penalty = sum(cp.sum(cp.norm(cp.reshape(x, shape, order="C"), 2, axis=1)) for x in (v, w))
    loss = 0.5 * cp.sum_squares(A @ (v - w) - y)
    problem = cp.Problem(cp.Minimize(loss + beta * penalty), [W @ v >= 0, W @ w >= 0])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=accuracy, tol_gap_rel=accuracy, tol_feas=accuracy)
    assert problem.status == cp.OPTIMAL
    return problem.value


def forward(network, X):
    """Outputs of a parallel three-layer network, by loops."""
    U = network.U.detach().numpy()
    inner, alpha = network.inner[0].detach().numpy(), network.alpha.detach().numpy()
    result = np.zeros(len(X))
    for leaves, weights, output in zip(U, inner, alpha, strict=True):
        hidden = sum(w * np.maximum(X @ u, 0) for w, u in zip(weights[0], leaves, strict=True))
        result += output * np.maximum(hidden, 0)
    return result
