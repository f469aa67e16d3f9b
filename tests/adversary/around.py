"""Attacks on the four neighbours: quadratic units, products, proximal steps, linear layers."""

from math import sqrt

import cvxpy as cp
import numpy as np
from scipy.optimize import minimize

from tests.adversary.cells import relu
from tests.adversary.programs import interior_point
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.references import as_numpy


def isotropic(Z: Floats) -> list[Floats]:
    """Vectors with sum p p^T = Z and |p[:-1]| = |p[-1]|, pair by pair, from a square root."""
    G = np.diag(np.append(np.ones(len(Z) - 1), -1.0))
    sizes, Q = np.linalg.eigh(Z)
    kept = sizes > 1e-10 * max(sizes[-1], 1e-300)
    rest = [sqrt(s) * q for s, q in zip(sizes[kept], Q.T[kept], strict=True)]
    found = []
    while len(rest) > 1:
        signs = np.array([q @ G @ q for q in rest])
        i, j = int(signs.argmax()), int(signs.argmin())
        if signs[i] <= 0 or signs[j] >= 0:
            break
        one, other = rest[i], rest[j]
        g = one @ G @ other
        t = (-g - np.sqrt(g * g - signs[i] * signs[j])) / signs[j]
        rest = [q for k, q in enumerate(rest) if k not in (i, j)]
        found.append((one + t * other) / np.sqrt(1 + t * t))
        rest.append((other - t * one) / np.sqrt(1 + t * t))
    return found + rest


@attack("around-split")
def splitting(draw: Draw) -> None:
    """A semidefinite matrix with the right trace splits into as many vectors as its rank."""
    d, rank = draw.size(1, 5), draw.size(1, 6)
    rank = min(rank, d + 1)
    B = draw.normal(d + 1, rank) * draw.power(-2, 2)
    if draw.rng.random() < 0.2:
        B = np.round(B)
    upper, corner = float((B[:-1] ** 2).sum()), float((B[-1] ** 2).sum())
    draw.assume(min(upper, corner) > 1e-3 * max(upper, corner))
    B[-1] *= sqrt(upper / corner)  # now the trace is right
    Z = B @ B.T
    parts = isotropic(Z)
    size = float(np.trace(Z))
    draw.same(sum(np.outer(p, p) for p in parts), Z, 1e-8 * size)
    for p in parts:
        draw.same(p[:-1] @ p[:-1], p[-1] ** 2, 1e-7 * size)
    draw.true(len(parts) <= np.linalg.matrix_rank(B))


@attack("around-quadratic")
def quadratic(draw: Draw) -> None:
    """The semidefinite program is attained by its split, and no network is below."""
    n, d = draw.size(1, 5), draw.size(1, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    a, b, c = draw.choice((1.0, 0.0, 0.0), (0.5, 1.0, 0.25), tuple(draw.normal(3)))
    beta = draw.power(-2, 1)
    halves = [cp.Variable((d + 1, d + 1), PSD=True) for _ in range(2)]
    lifts = [
        np.block([[a * np.outer(x, x), b * x[:, None] / 2], [b * x / 2, np.full((1, 1), c)]])
        for x in X
    ]
    f = cp.hstack([cp.sum(cp.multiply(lift, halves[0] - halves[1])) for lift in lifts])
    corner = halves[0][d, d] + halves[1][d, d]
    traces = [cp.trace(half[:d, :d]) == half[d, d] for half in halves]
    goal = cp.Minimize(0.5 * cp.sum_squares(f - y) + beta * corner)
    value, slack = interior_point(cp.Problem(goal, traces)), 1e-5 * (1.0 + y @ y)

    def reached(U: Floats, alpha: Floats) -> float:
        H = X @ U.T
        misfit = (a * H**2 + b * H + c) @ alpha - y
        return float(0.5 * misfit @ misfit + beta * np.abs(alpha).sum())

    parts = [
        (sign, p)
        for sign, half in zip((1.0, -1.0), halves, strict=True)
        for p in isotropic(as_numpy(half.value))
        if p[-1] ** 2 > 1e-9
    ]
    draw.true(len(parts) <= 2 * (d + 1))
    U = np.array([p[:-1] / np.linalg.norm(p[:-1]) * np.sign(p[-1]) for _, p in parts])
    alpha = np.array([sign * p[-1] ** 2 for sign, p in parts])
    draw.same(reached(U.reshape(-1, d), alpha), value, slack)
    for _ in range(20):
        V = draw.normal(draw.size(1, 6), d)
        V /= np.linalg.norm(V, axis=1, keepdims=True)
        draw.below(value, reached(V, draw.weights(len(V))), slack)
    if len(parts):  # near the optimum too
        V = U + 0.01 * draw.normal(*U.shape)
        V /= np.linalg.norm(V, axis=1, keepdims=True)
        draw.below(value, reached(V, alpha * (1 + 0.01 * draw.normal(len(alpha)))), slack)
    if b == c == 0.0:
        S = cp.Variable((d, d), symmetric=True)
        f = cp.hstack([a * cp.sum(cp.multiply(np.outer(x, x), S)) for x in X])
        goal = cp.Minimize(0.5 * cp.sum_squares(f - y) + beta * cp.normNuc(S))
        draw.same(interior_point(cp.Problem(goal)), value, slack)


@attack("around-hadamard")
def hadamard(draw: Draw) -> None:
    """Descent on products ends at the group Lasso; L factors cost a power of the product."""
    n, groups, size = draw.size(1, 5), draw.size(1, 4), draw.size(1, 3)
    X, y = draw.matrix(n, groups * size), draw.targets(n)
    beta = draw.power(-1, 1)
    w = cp.Variable((groups, size))
    price = cp.sum(cp.norm(w, 2, axis=1))
    program = 0.5 * cp.sum_squares(X @ cp.vec(w, order="C") - y) + beta * price
    least = interior_point(cp.Problem(cp.Minimize(program)))

    def value(t: Floats) -> tuple[float, Floats]:
        u, v = t[:-groups].reshape(groups, size), t[-groups:]
        r = X @ (v[:, None] * u).ravel() - y
        h = (X.T @ r).reshape(groups, size)
        slope = np.concatenate([(v[:, None] * h).ravel(), (u * h).sum(axis=1)])
        return float(0.5 * r @ r + 0.5 * beta * t @ t), slope + beta * t

    start = draw.normal(groups * size + groups)
    how = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 1e-16, "gtol": 1e-10}
    end = minimize(value, start, jac=True, method="L-BFGS-B", options=how)
    slack = 1e-5 * (1.0 + y @ y)
    draw.below(least, end.fun, slack)
    # Convergence is slow where a group is about to vanish, so an end must be flat to count.
    if np.abs(end.jac).max() < 1e-7:
        draw.below(end.fun, least, slack)
    # L factors: the means, and zero as a local minimum.
    L, k = draw.size(2, 5), draw.size(1, 4)
    u = draw.weights(L, k)
    product = np.abs(u.prod(axis=0))
    draw.below((product ** (2 / L)).sum(), (u**2).sum() / L, 1e-12 * ((u**2).sum() + 1))
    even = np.tile(product ** (1 / L), (L, 1))
    draw.same((even**2).sum() / L, (product ** (2 / L)).sum(), 1e-9 * (1 + (u**2).sum()))
    if L >= 3:
        A = draw.normal(n, k)
        near = 1e-4 * min(beta, 1.0) * draw.normal(L, k)
        misfit = A @ near.prod(axis=0) - y
        moved = 0.5 * misfit @ misfit + beta / L * (near**2).sum()
        draw.below(0.5 * y @ y, moved, 1e-15 * (1 + y @ y))


@refute("around-hadamard", "descent on products of three factors ends at a global minimum")
def three_factors(draw: Draw) -> None:
    """From a small start it ends at zero."""
    beta = 0.1

    def value(u: Floats) -> tuple[float, Floats]:
        r = u.prod() - 1
        others = np.array([np.delete(u, i).prod() for i in range(3)])
        return float(0.5 * r**2 + beta / 3 * u @ u), r * others + 2 * beta / 3 * u

    end = minimize(value, 0.05 * draw.normal(3), jac=True, method="L-BFGS-B")
    s = np.linspace(0, 1.2, 10_001)
    draw.below(end.fun, np.min(0.5 * (s**3 - 1) ** 2 + beta * s**2), 1e-3)


@attack("around-decay")
def proximal(draw: Draw) -> None:
    """Both proximal steps are right, and nothing else is lower."""
    # 1. A soft threshold, and no rise for small steps.
    n, m = draw.size(1, 6), draw.size(1, 5)
    A, y, alpha = relu(draw.matrix(n, m)), draw.targets(n), draw.weights(m)
    beta, norm = draw.power(-2, 1), float(np.linalg.norm(A, 2))
    eta = draw.rng.uniform(0.1, 1.0) / (norm**2 or 1.0)
    moved = alpha - eta * A.T @ (A @ alpha - y)
    after = np.sign(moved) * relu(np.abs(moved) - eta * beta)

    def objective(a: Floats) -> float:
        return float(0.5 * np.sum((A @ a - y) ** 2) + beta * np.abs(a).sum())

    scale = 1.0 + objective(alpha)
    draw.below(objective(after), objective(alpha), 1e-12 * scale)
    for _ in range(20):
        other = after + draw.power(-6, 1) * draw.normal(m)
        draw.below(
            np.sum((after - moved) ** 2) / (2 * eta) + beta * np.abs(after).sum(),
            np.sum((other - moved) ** 2) / (2 * eta) + beta * np.abs(other).sum(),
            1e-9 * (scale + np.sum(moved**2) / eta),
        )
    # 2. The map of the product, against a search.
    d, tau = draw.size(1, 3), draw.rng.uniform(0.01, 0.99)
    p, q = draw.normal(d) * draw.power(-2, 1), draw.normal() * draw.power(-2, 1)
    if draw.rng.random() < 0.3:
        q = np.sign(q) * np.linalg.norm(p)
    s, t = float(np.linalg.norm(p)), abs(q)
    if s <= tau * t:
        u, a = 0 * p, q
    elif t <= tau * s:
        u, a = p, 0.0
    else:
        u, a = (s - tau * t) / (1 - tau**2) * p / s, (t - tau * s) / (1 - tau**2) * np.sign(q)

    def price(v: Floats, b: float) -> float:
        return float(
            0.5 * np.sum((v - p) ** 2) + 0.5 * (b - q) ** 2 + tau * np.linalg.norm(v) * abs(b)
        )

    for _ in range(60):
        spread = draw.power(-6, 1)
        draw.below(
            price(u, a), price(u + spread * draw.normal(d), a + spread * draw.normal()), 1e-12
        )
    if abs(s - t) < 1e-12:
        draw.same(u, p / (1 + tau), 1e-9 * s)


@refute("around-decay", "the proximal step on a balanced neuron sets it to zero if it is small")
def balanced(draw: Draw) -> None:
    """The formula shrinks it by a factor."""
    s, tau = draw.power(-6, -1), 0.5
    draw.below((s - tau * s) / (1 - tau**2), 0.0, 1e-3 * s)


@attack("around-linear")
def linear_layer(draw: Draw) -> None:
    """Factors cost a nuclear norm; over rescalings a network costs between two powers."""
    m, d = draw.size(1, 5), draw.size(1, 4)
    U = draw.matrix(m, d)
    Q, S, R = np.linalg.svd(U, full_matrices=False)
    nuclear = float(S.sum())
    W2, W1 = Q * np.sqrt(S), np.sqrt(S)[:, None] * R
    draw.same(W2 @ W1, U, 1e-10 * (1 + nuclear))
    draw.same(0.5 * ((W1**2).sum() + (W2**2).sum()), nuclear, 1e-10 * (1 + nuclear))
    k = draw.size(1, 5)
    other2, other1 = draw.weights(m, k), draw.weights(k, d)
    squares = 0.5 * ((other1**2).sum() + (other2**2).sum())
    draw.below(np.linalg.norm(other2 @ other1, "nuc"), squares, 1e-12 * (1 + squares))
    T = draw.normal(len(S), len(S)) + 3 * np.eye(len(S))  # other factors of the same U
    draw.assume(np.linalg.cond(T) < 1e6)
    squares = 0.5 * (((W2 @ T) ** 2).sum() + (np.linalg.solve(T, W1) ** 2).sum())
    draw.below(nuclear, squares, 1e-9 * (1 + squares))
    # Rescalings.
    sizes = np.linalg.norm(U, axis=1)
    draw.assume(sizes.min() > 1e-3)
    a = draw.normal(m)
    P, r = float(sizes @ np.abs(a)), int(np.linalg.matrix_rank(U, tol=1e-9 * S[0]))

    def cost(logs: Floats) -> float:
        t = np.exp(logs)
        return float(0.5 * np.sum((a / t) ** 2) + np.linalg.norm(t[:, None] * U, "nuc"))

    low, high = 1.5 * P ** (2 / 3), 1.5 * r ** (1 / 3) * P ** (2 / 3)
    draw.below(low, cost(draw.normal(m)), 1e-9 * low)
    p = sizes * np.abs(a)
    A = (sqrt(r) * P) ** (1 / 3)
    even = np.log(np.abs(a) / (A * np.sqrt(p / P)))
    draw.below(cost(even), high, 1e-9 * high)
    if r == 1:
        draw.same(cost(even), low, 1e-9 * low)


@refute("around-linear", "a linear layer changes the price of a network by a power only")
def power_only(draw: Draw) -> None:
    """Two directions cost more than one, with the same path norm."""
    U = np.eye(2) if draw.number % 2 else np.linalg.qr(draw.normal(2, 2))[0]
    scales = np.exp(np.linspace(-3, 3, 121))
    least = min(0.5 * (x**-2 + z**-2) + x + z for x in scales for z in scales)  # rows orthogonal
    draw.same(least, 1.5 * (2 * np.linalg.norm(U[0])) ** (2 / 3), 1e-2)
