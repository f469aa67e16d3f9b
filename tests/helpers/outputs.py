"""Networks with several outputs as a semidefinite program, for data in the plane."""

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def wedges(X: Floats) -> Floats:
    """Rays (P, 2, 2) of the wedges between neighbouring lines of samples in the plane."""
    X = X[X.any(axis=1)]
    angles = np.arctan2(X[:, 0], -X[:, 1])
    angles = np.unique(np.round(np.concatenate([angles, angles + np.pi]) % (2 * np.pi), 9))
    if len(angles) == 2:
        angles = np.sort(np.concatenate([angles, (angles + np.pi / 2) % (2 * np.pi)]))
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.stack([rays, np.roll(rays, -1, axis=0)], axis=2)


def program(X: Floats, Y: Floats, beta: float, cones: Floats) -> tuple[float, list[Floats]]:
    """The semidefinite program over some simplices: its value and its blocks."""
    k, c = cones.shape[2], Y.shape[1]
    outputs, price, constraints, blocks = np.zeros(Y.shape), 0.0, [], []
    for G in cones:
        on = X @ G.sum(axis=1) > 0
        M = cp.Variable((k + c, k + c), PSD=True)
        outputs = outputs + (on[:, None] * (X @ G)) @ M[:k, k:]
        price = price + cp.trace(G @ M[:k, :k] @ G.T) + cp.trace(M[k:, k:])
        constraints.append(M[:k, :k] >= 0)
        blocks.append(M)
    goal = cp.Minimize(0.5 * cp.sum_squares(outputs - Y) + 0.5 * beta * price)
    value = cp.Problem(goal, constraints).solve(solver=cp.CLARABEL)
    return float(value), [block.value for block in blocks]
