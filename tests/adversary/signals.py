"""Attacks on the chapter on signals: networks behind a linear measurement."""

import cvxpy as cp
import numpy as np
import torch

import convexlib as cl
from tests.adversary.mirrors import chains, clips, inputs, ramps
from tests.adversary.search import TINY, Draw, Floats, attack, refute


def measurement(draw: Draw, n: int) -> Floats:
    """A matrix (q, n): random, an average, some rows of the identity, or nearly singular."""
    q = draw.size(1, n + 1)
    kind = draw.choice("random", "average", "rows", "differences", "rank one")
    draw.note(f"{q} measurements, {kind}")
    if kind == "random":
        return draw.normal(q, n)
    if kind == "average":
        H = draw.rng.random((q, n)) + 1e-3
        return H / H.sum(axis=1, keepdims=True)
    if kind == "rows":
        return np.eye(n)[draw.rng.integers(0, n, q)]
    if kind == "differences":  # the output bias is in the kernel
        return np.diff(np.eye(n), axis=0) if n > 1 else np.zeros((1, 1))
    return np.outer(draw.normal(q), draw.normal(n))


def bound(A: Floats, H: Floats, y: Floats, z: Floats, beta: float) -> float:
    """The dual value of the best multiple of z that is feasible; z is made orthogonal to H 1."""
    ones = H.sum(axis=1)
    z = z - ones * (ones @ z) / max(ones @ ones, TINY)
    if np.linalg.norm(z) <= 1e-9 * np.linalg.norm(y):  # rounding, in no direction
        return 0.0
    norm = float(np.abs(A.T @ (H.T @ z)).max())
    scale = min(float(y @ z) / max(float(z @ z), TINY), beta / max(norm, TINY))
    return scale * float(y @ z) - 0.5 * scale**2 * float(z @ z)


@attack("signals-measured")
def measured(draw: Draw) -> None:
    """The bound is below random networks behind H, and meets the Lasso at its optimum."""
    x = inputs(draw, 6, decades=0)
    n, depth = len(x), draw.size(2, 3)
    H = measurement(draw, n)
    y = draw.targets(len(H))
    height = float(np.abs(y).max())
    draw.assume(1e-3 < height < 1e3)
    A = ramps(x, "relu") if depth == 2 else np.hstack([clips(x), ramps(x, "relu")])
    beta = draw.power(-2, 0) * height
    theta, xi = cp.Variable(A.shape[1]), cp.Variable()
    misfit = cp.Variable(len(y))
    link = misfit == H @ (A @ theta + xi) - y
    goal = 0.5 * cp.sum_squares(misfit) + beta * cp.norm1(theta)
    value = cp.Problem(cp.Minimize(goal), [link]).solve(solver=cp.CLARABEL)
    tolerance = 1e-5 * (float(y @ y) + 1e-300)
    draw.same(bound(A, H, y, -misfit.value, beta), value, tolerance)
    # Networks of narrow units, of up to three of them, with the constant that fits best.
    for _ in range(10):
        k = draw.size(1, 3)
        signs = draw.signs(k, depth - 1)
        biases = -signs * draw.rng.choice(x, (k, depth - 1)) + draw.choice(0.0, draw.normal())
        coefficients = draw.weights(k) * draw.power(-2, 0)
        seen = H @ (coefficients @ chains(x, signs, biases, "relu")) - y
        ones = H.sum(axis=1)
        seen = seen - ones * (ones @ seen) / max(ones @ ones, TINY)
        objective = 0.5 * float(seen @ seen) + beta * float(np.abs(coefficients).sum())
        draw.below(value, objective, tolerance)


@refute("signals-measured", "blurred data are fitted by the blurred optimum of the sharp data")
def in_two_steps(draw: Draw) -> None:
    """Training on the data that the blur would undo is another program, with a larger value."""
    x = np.sort(draw.rng.choice(20, 6, replace=False)).astype(float)
    H = 0.5 * (np.eye(6) + np.roll(np.eye(6), 1, axis=1))
    H[-1] = 0.0
    H[-1, -1] = 1.0
    sharp = draw.normal(6)
    y, beta = H @ sharp, 0.1
    A = ramps(x, "relu")
    theta, xi = cp.Variable(A.shape[1]), cp.Variable()
    goal = 0.5 * cp.sum_squares(H @ (A @ theta + xi) - y) + beta * cp.norm1(theta)
    value = cp.Problem(cp.Minimize(goal)).solve(solver=cp.CLARABEL)
    problem = cl.Mirrors(x, sharp, beta=beta)
    result = cl.solve(problem, tol=1e-9)
    seen = H @ problem.fitted(result.weights).numpy() - y
    penalty = float(torch.abs(result.weights[:-1]).sum())
    draw.below(0.5 * float(seen @ seen) + beta * penalty, value, 1e-4 * value)
