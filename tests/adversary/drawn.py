"""Attacks on drawn patterns: what a list loses, how often cells are hit, what cones cost."""

from math import exp, pi, sqrt

import cvxpy as cp
import numpy as np
import torch
from scipy.stats import binom

import convexlib as cl
from tests.adversary.cells import best_neuron, hull_distance, projected, relu, sided, unit
from tests.adversary.programs import interior_point, solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.two_layer import instance
from tests.helpers.checks import best_in_cone


def some_of(draw: Draw, listed: cl.Arrangements) -> cl.Arrangements:
    """A part of a list of patterns, one at least."""
    count = draw.size(1, len(listed))
    return listed.select(np.sort(draw.rng.permutation(len(listed))[:count]).tolist())


def off(result: cl.Result) -> float:
    """How far the outputs of a solution are from the optimal ones, with the rounding of values."""
    return sqrt(2.0 * max(result.value - result.dual, 1e-14 * result.value))


@attack("drawn-residual")
def residual(draw: Draw) -> None:
    """The optimum over a list is at most g(z) / beta times that over all networks."""
    X, y, beta = instance(draw, most=6, least_share=-3.0)
    whole = cl.TwoLayer(X, y, beta=beta)
    listed = some_of(draw, whole.arrangements)
    program = cl.TwoLayer(X, y, beta=beta, arrangements=listed)
    least, over = solved(whole, tol=1e-10), solved(program, tol=1e-10)
    draw.below(least.dual, over.value, 1e-9 * (y @ y))
    z = y - program.fitted(over.weights).numpy()
    # z is off by sqrt(2 gap), and g by the norm of X times that.
    ratio = max(1.0, (best_neuron(X, z) + np.linalg.norm(X, 2) * off(over)) / beta)
    draw.below(over.dual, ratio * least.value, 1e-9 * (y @ y))


@attack("drawn-angle")
def angle(draw: Draw) -> None:
    """Optimal neurons turned into drawn cones bound what a list loses, by both formulas."""
    X, y, beta = instance(draw, most=6, least_share=-3.0, extreme=False)
    whole = cl.TwoLayer(X, y, beta=beta)
    listed = some_of(draw, whole.arrangements)
    least = solved(whole, tol=1e-11)
    U, alpha = weights_of(whole.to_network(least))
    sizes = np.linalg.norm(U, axis=1)
    U, alpha = U[sizes > 0] / sizes[sizes > 0, None], alpha[sizes > 0] * sizes[sizes > 0]
    cones = [sided(mask, X) for mask in listed.masks.numpy()]
    turned = np.array(
        [max((projected(N, u) for N in cones), key=lambda v: float(np.linalg.norm(v))) for u in U]
    ).reshape(U.shape)
    cosines = np.linalg.norm(turned, axis=1)
    f, moved = relu(X @ U.T) @ alpha, relu(X @ turned.T) @ alpha
    z, e, prices = y - f, moved - f, np.abs(alpha)
    first = least.value + 0.5 * e @ e
    first += prices @ (beta * cosines - np.sign(alpha) * (z @ relu(X @ turned.T)))
    size, turn = np.linalg.norm(X, 2), prices @ np.linalg.norm(U - turned, axis=1)
    second = least.value + size * np.linalg.norm(z) * turn + 0.5 * (size * turn) ** 2
    # The formulas use the exact optimum: z and the network are off by the gap of the solution.
    slack = (np.linalg.norm(y) + size * prices.sum()) * off(least) + 1e-7 * (y @ y + beta)
    over = solved(cl.TwoLayer(X, y, beta=beta, arrangements=listed), tol=1e-10)
    draw.below(over.dual, first, slack)
    draw.below(first, second, slack)
    draw.same(np.linalg.norm(U - turned, axis=1) ** 2 + cosines**2, 1.0, 1e-7)


def shares(X: Floats) -> list[tuple[np.ndarray, float]]:
    """The patterns in the plane and their shares of the circle, from sorted walls."""
    walls = np.arctan2(X[:, 0], -X[:, 1])
    walls = np.sort(np.concatenate([walls, walls + pi]) % (2 * pi))
    walls = walls[np.append(np.diff(walls), walls[0] + 2 * pi - walls[-1]) > 1e-9]  # once each
    ends = np.append(walls[1:], walls[0] + 2 * pi)
    middles = 0.5 * (walls + ends)
    masks = X @ np.stack([np.cos(middles), np.sin(middles)]) >= 0
    return list(zip(masks.T, (ends - walls) / (2 * pi), strict=True))


def between(a: Floats, b: Floats) -> float:
    """The angle between two vectors."""
    return float(np.arccos(np.clip(unit(a) @ unit(b), -1.0, 1.0)))


@attack("drawn-count")
def count(draw: Draw) -> None:
    """Cells are hit in proportion to their angle; separated samples make them thin."""
    X = draw.matrix(draw.size(1, 5), 2)
    X = X[np.linalg.norm(X, axis=1) > 0]
    draw.assume(len(X) > 0)
    cells = shares(X)
    draw.same(sum(share for _, share in cells), 1.0, 1e-12)
    draws = draw.normal(2000, 2) @ X.T >= 0
    for mask, share in cells:
        hit = float((draws == mask).all(axis=1).mean())
        draw.same(hit, share, 7 * sqrt(share * (1 - share) / 2000) + 1e-2)
        for j in range(len(X)):
            for k in range(len(X)):
                if mask[j] and not mask[k]:
                    draw.below(share, between(X[j], X[k]) / (2 * pi), 1e-7)
    # Pairs in orthogonal planes: the shares of their cells multiply.
    other = draw.normal(2, 2)
    thin = [
        (share, between(*pair) / (2 * pi))
        for pair in (draw.normal(2, 2), other)
        for mask, share in shares(pair)
        if mask[0] and not mask[1]
    ]
    draw.below(np.prod([share for share, _ in thin]), np.prod([bound for _, bound in thin]), 1e-12)
    turned = np.linalg.qr(draw.normal(4, 4))[0]  # the planes need not be those of coordinates
    planes = np.zeros((4, 4))
    planes[:2, :2], planes[2:, 2:] = draw.normal(2, 2), other
    gates = draw.normal(4000, 4)
    hit = np.mean(np.all((gates @ (planes @ turned.T).T >= 0) == [1, 0, 1, 0], axis=1))
    bound = between(planes[0], planes[1]) * between(planes[2], planes[3]) / (2 * pi) ** 2
    draw.below(hit, bound, 7 * sqrt(bound / 4000) + 2e-3)
    # Numbers of draws.
    mu, m, eta = draw.power(-4, -0.01), draw.size(1, 50), draw.power(-6, -0.01)
    least = np.ceil(np.log(m / eta) / mu)
    draw.below(m * (1 - mu) ** max(least, 0.0), eta, 1e-12)
    draw.below(1 - least * mu, (1 - mu) ** least, 1e-12)


@attack("drawn-independent")
def independent(draw: Draw) -> None:
    """A pattern and its opposite are within a factor; small active sets are not within less."""
    n = draw.size(1, 5)
    X = draw.normal(n, n + draw.size(0, 3)) * 10.0 ** draw.rng.uniform(-1, 1, (n, 1))
    sigma = np.linalg.svd(X, compute_uv=False)
    draw.assume(sigma[-1] > 1e-3 * sigma[0])
    y, mask = draw.targets(n), draw.rng.random(n) < 0.5
    beta = draw.power(-4, 0.3) * (np.abs(y) @ np.linalg.norm(X, axis=1) or 1.0)
    gate = torch.from_numpy(np.linalg.pinv(X) @ np.where(mask, 1.0, -1.0))
    masks = torch.from_numpy(np.stack([mask, ~mask]))
    pair = cl.Arrangements(masks, torch.stack([gate, -gate]) / gate.norm())
    over = solved(cl.TwoLayer(X, y, beta=beta, arrangements=pair), tol=1e-9)
    every = solved(cl.TwoLayer(X, y, beta=beta, arrangements="generate"), tol=1e-9)
    draw.below(every.dual, over.value, 1e-8 * (y @ y))
    draw.below(over.dual, sqrt(2) * sigma[0] / sigma[-1] * every.value, 1e-8 * (y @ y))
    # Orthonormal samples with equal targets.
    listed = np.unique(draw.rng.random((draw.size(1, 6), n)) < draw.rng.random(), axis=0)
    m = int(listed.sum(axis=1).max())
    draw.assume(m > 0)
    beta = draw.power(-4, 0) * sqrt(m)
    gates = np.where(listed, 1.0, -1.0) / sqrt(n)
    few = cl.Arrangements(torch.from_numpy(listed), torch.from_numpy(gates))
    over = solved(cl.TwoLayer(np.eye(n), np.ones(n), beta=beta, arrangements=few), tol=1e-9)
    draw.below(n / sqrt(m) * beta - n / (2 * m) * beta**2, over.value, 1e-8 * n)
    least = solved(cl.TwoLayer(np.eye(n), np.ones(n), beta=beta), tol=1e-9).value
    draw.same(least, sqrt(n) * beta - 0.5 * beta**2, 1e-8 * n)
    # Of coins: one set of (1/2 + t) N samples or more.
    coins, t = draw.size(1, 400), 0.5 * draw.rng.random()
    tail = binom.sf(np.ceil((0.5 + t) * coins - 1e-9) - 1, coins, 0.5)
    draw.below(tail, exp(-2 * t**2 * coins), 1e-12)


def split_price(N: Floats, u: Floats) -> float:
    """The least |v| + |w| over v - w = u with both in {v : N v >= 0}."""
    v, w = cp.Variable(len(u)), cp.Variable(len(u))
    goal = cp.Minimize(cp.norm(v) + cp.norm(w))
    return interior_point(cp.Problem(goal, [v - w == u, N @ v >= 0, N @ w >= 0]))


@attack("drawn-gated")
def gated(draw: Draw) -> None:
    """A vector splits within a cone at a price between its width's and its inradius'."""
    X, y, beta = instance(draw, most=5, least_share=-3.0, extreme=False)
    X = X[np.linalg.norm(X, axis=1) > 0]
    draw.assume(len(X) > 0)
    y = y[: len(X)]
    listed = some_of(draw, cl.enumerate_arrangements(X))
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    factors = []
    for mask in listed.masks.numpy():
        N = sided(mask, rows)
        inradius = hull_distance(N)
        draw.assume(inradius > 1e-3)  # a solver cannot see thinner cones
        factors.append(sqrt(1 + 1 / inradius**2))
    # One of the cones in detail: hull_distance is the inradius by duality.
    mask = listed.masks.numpy()[-1]
    N = sided(mask, rows)
    top = factors[-1]
    draw.below(split_price(N, unit(draw.normal(X.shape[1]))), top, 1e-6 * top)
    widths = [best_in_cone(n, X, mask) for n in N]
    narrow = int(np.argmin(widths))
    draw.below(1 / widths[narrow], split_price(N, -N[narrow]), 1e-6 * top)
    kappa = max(factors)
    cones = solved(cl.TwoLayer(X, y, beta=beta, arrangements=listed), tol=1e-9)
    free = [
        solved(cl.TwoLayer(X, y, beta=b, arrangements=listed, gated=True), tol=1e-9)
        for b in (beta, kappa * beta)
    ]
    slack = 1e-8 * (y @ y)
    draw.below(free[0].dual, cones.value, slack)
    draw.below(cones.dual, free[1].value, slack)
    draw.below(free[1].dual, kappa * free[0].value, slack)
    # Two samples at an angle.
    theta, part = draw.rng.uniform(0.05, pi / 2), draw.power(-4, 0)
    pair = np.array([[1.0, 0.0], [np.cos(theta), np.sin(theta)]])
    b, target = part, np.array([1.0, 0.0])
    small = part * np.sin(theta)
    least = solved(cl.TwoLayer(pair, target, beta=small), tol=1e-10)
    draw.below(b - 0.5 * b**2 * (1 + np.cos(theta) ** 2), least.value, 1e-9)
    draw.below(least.dual, b - 0.5 * b**2, 1e-9)
    every = cl.enumerate_arrangements(pair)
    open_gates = solved(
        cl.TwoLayer(pair, target, beta=small, arrangements=every, gated=True), tol=1e-10
    )
    draw.same(open_gates.value, small - 0.5 * small**2, 1e-9)


@refute("drawn-gated", "with cones the optimum over all patterns is at most twice the gated one")
def no_factor(draw: Draw) -> None:
    """Two samples at a small angle need neurons in a thin cone."""
    theta = draw.power(-2, 0)
    X = np.array([[1.0, 0.0], [np.cos(theta), np.sin(theta)]])
    y, beta = np.array([1.0, 0.0]), 1e-3 * theta
    every = cl.enumerate_arrangements(X)
    cones, free = (
        solved(cl.TwoLayer(X, y, beta=beta, arrangements=every, gated=gated), tol=1e-9)
        for gated in (False, True)
    )
    draw.below(cones.dual, 2 * free.value, 1e-9)
