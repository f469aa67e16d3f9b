"""Attacks on the chapter on three layers."""

from __future__ import annotations

import warnings
from itertools import product
from math import comb

import numpy as np
import torch
from scipy.optimize import linprog, minimize_scalar, nnls

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.three_layer import program_value

Weights = tuple[Floats, Floats, Floats]  # W_1 (K, m, d), w_2 (K, m), w_3 (K,)


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def instance(draw: Draw, most: int = 4, features: int = 2) -> tuple[Floats, Floats, float]:
    """Few samples, so that all units are soon listed; beta is a part of a bound on beta_max."""
    n, d = draw.size(1, most), draw.size(1, features)
    X, y = draw.matrix(n, d), draw.targets(n)
    if draw.rng.random() < 0.4 and d == 2:  # a target that needs a subtraction
        y = relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))
        draw.note("planted")
    X, y = X * draw.scale(), y * draw.scale()
    share = float(10.0 ** draw.rng.uniform(-3, 0.2))
    draw.note(f"beta {share:.1e} of a bound on beta_max")
    largest = np.linalg.norm(y) * np.linalg.norm(X, 2)
    return X, y, share * float(largest or 1.0)


def solved(problem, tol: float = 1e-8) -> cl.Result:
    """A solve that may stop early; its bounds say how well it did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(problem, tol=tol)


def hidden(X: Floats, leaves: Floats, signs: Floats) -> Floats:
    """Outputs h(U, s) (n, K) of sub-networks with leaves (K, m, d) and signs (K, m)."""
    return relu((relu(np.einsum("td,kjd->tkj", X, leaves)) * signs).sum(axis=2))


def objective(X: Floats, y: Floats, beta: float, weights: Weights) -> float:
    """Training objective of a network, layer by layer."""
    W, w_2, w_3 = weights
    fitted = hidden(X, W, w_2) @ w_3
    return float(0.5 * ((fitted - y) ** 2).sum() + 0.5 * beta * ((w_2**2).sum() + (w_3**2).sum()))


def in_ball(W: Floats) -> Floats:
    """First layers (K, m, d), scaled down to Frobenius norm one where they are longer."""
    return W / np.maximum(np.linalg.norm(W, axis=(1, 2), keepdims=True), 1.0)


def network_of(problem, result: cl.Result) -> Weights:
    """The optimal network's weights as arrays."""
    network = problem.to_network(result)
    parts = network.U, network.inner[0][:, 0], network.alpha
    return tuple(part.detach().numpy() for part in parts)


def sub_networks(draw: Draw, X: Floats, count: int, m: int) -> tuple[Floats, Floats]:
    """Leaves and signs: Gaussian ones, zeros, and some on the walls of many samples."""
    d = X.shape[1]
    leaves = draw.rng.standard_normal((count, m, d))
    if d == 2 and draw.rng.random() < 0.5:  # at right angles to samples
        normals = X[draw.rng.integers(0, len(X), (count, m))][..., ::-1] * [1.0, -1.0]
        leaves[: count // 2] = normals[: count // 2]
    leaves[draw.rng.random((count, m)) < 0.1] = 0.0
    return leaves, draw.rng.choice([-1.0, 1.0], (count, m))


def reference(X: Floats, y: Floats, beta: float, norm: str) -> tuple[float, float]:
    """The program without reductions, by another solver on data of size one; and its accuracy."""
    a, b = np.abs(X).max(), np.abs(y).max()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # CVXPY warns where it is not accurate
        try:
            value = b**2 * program_value(X / a, y / b, beta / (a * b), norm, accuracy=1e-8)
        except (UserWarning, AssertionError):
            return 0.0, np.inf
    return value, 1e-6 * value + 1e-7 * b**2


@attack("three-layer-leaves")
def leaves(draw: Draw) -> float:
    """No weights with these leaves cost less than the sum of their norms, and some cost that."""
    m, d = draw.size(1, 4), draw.size(1, 3)
    W = in_ball(draw.weights(1, m, d))[0]
    w_2, w_3 = draw.weights(m) * draw.scale(), float(draw.weights(1)[0]) * draw.scale()
    U = np.abs(w_3 * w_2)[:, None] * W
    sizes = np.linalg.norm(U, axis=1)
    S = sizes.sum()
    penalty = 0.5 * (w_2 @ w_2 + w_3**2)
    used = sizes > 0
    first = np.where(
        used[:, None], U / np.sqrt(np.where(used, sizes, 1.0) * (S or 1.0))[:, None], 0
    )
    second, third = np.sqrt(sizes), np.sqrt(S)
    attained = 0.5 * (second @ second + third**2)
    again = np.abs(third * second[:, None] * first - U).max()
    tolerance = 1e-12 * S + 1e-290
    return float(
        max(S - penalty, abs(attained - S), again, (np.linalg.norm(first) - 1.0) * S) / tolerance
    )


@attack("three-layer-theorem")
def theorem(draw: Draw) -> float:
    """The program's value is a network's, no network is below, and n sub-networks are enough."""
    X, y, beta = instance(draw)
    problem = cl.ThreeLayer(X, y, beta=beta)
    result = solved(problem)
    weights = network_of(problem, result)
    scale = result.value + 1e-300
    if (np.linalg.norm(weights[0], axis=(1, 2)) > 1.0 + 1e-12).any() or len(weights[2]) > len(y):
        return np.inf
    excess = abs(objective(X, y, beta, weights) - result.value) / (1e-9 * scale)
    # Networks near the optimal one and elsewhere, more of them than it has sub-networks.
    K = len(weights[2]) + 2
    for size in (1e-4, 1e-2, 1.0):
        shapes = (K, 2, X.shape[1]), (K, 2), (K,)
        noise = [size * draw.rng.standard_normal(shape) for shape in shapes]
        for part, kept in zip(noise, weights, strict=True):
            part[: K - 2] *= np.abs(kept).max() if kept.size else 1.0
            part[: K - 2] += kept
        other = objective(X, y, beta, (in_ball(noise[0]), noise[1], noise[2]))
        excess = max(excess, (result.dual - other) / (1e-9 * scale))
    if len(y) <= 2 and X.any() and y.any() and draw.rng.random() < 0.5:
        value, room = reference(X, y, beta, "sum")
        excess = max(excess, abs(value - result.value) / room)
    return float(excess)


@attack("three-layer-reductions")
def reductions(draw: Draw) -> float:
    """No sub-network, whatever its unit, beats the best listed unit at any z."""
    n, d, m = draw.size(1, 5), draw.size(1, 2), draw.choice(1, 2, 2, 3)
    n = min(n, 3) if m == 3 else n
    X = draw.matrix(n, d)
    units = cl.enumerate_units(X, width=m)
    problem = cl.ThreeLayer(X, np.ones(n), beta=1.0, width=m, units=units)
    z = draw.rng.standard_normal(n) * (draw.rng.random(n) < 0.8)
    largest = problem.dual_norm(torch.from_numpy(z))
    U, s = sub_networks(draw, X, 4000, m)
    U /= np.linalg.norm(U, axis=2).sum(axis=1)[:, None, None] + 1e-300
    heights = np.abs(z @ hidden(X, U, s)).max()
    scale = np.linalg.norm(z) * np.linalg.norm(X) + 1e-300
    return float((heights - largest) / (1e-10 * scale))


def walls_of(X: Floats, units: cl.Units, k: int) -> Floats:
    """Walls (R, m d) of a unit of depth three: N U >= 0."""
    m = units.leaves.shape[1]
    sides = 2.0 * units.leaves[k] - 1.0
    rows = [
        np.kron(np.eye(m)[j], s * x) for j in range(m) for s, x in zip(sides[j], X, strict=True)
    ]
    rows += [np.kron(w, x) for w, x in zip(units.nodes[k, 0], X, strict=True)]
    walls = np.array(rows)
    return walls[np.linalg.norm(walls, axis=1) > 0]


@attack("three-layer-pricing")
def pricing(draw: Draw) -> float:
    """Bounds 1 and 2 enclose the maximum, and phi is concave with the stated slope and supremum."""
    n, d = draw.size(1, 5), draw.size(1, 2)
    X = draw.matrix(n, d)
    units = cl.enumerate_units(X)
    k = int(draw.rng.integers(len(units)))
    N = walls_of(X, units, k)
    if not len(N):
        return 0.0
    c = np.einsum("tj,td,t->jd", units.outputs[k], X, draw.rng.standard_normal(n)).ravel()
    scale = np.linalg.norm(c)
    if scale == 0.0:
        return 0.0

    def at(share: float) -> tuple[float, Floats, Floats, Floats]:
        """phi, the slopes g, U and the bound-1 blocks at eta = (share, 1 - share)."""
        roots = np.repeat(np.sqrt([share, 1.0 - share]), d)
        scaled = N * roots
        lengths = np.linalg.norm(scaled, axis=1)  # rows of length one suit the solver
        multipliers = nnls((scaled / lengths[:, None]).T, -c * roots)[0] / lengths
        p = c * roots + scaled.T @ multipliers
        U = p * roots
        g = np.linalg.norm(U.reshape(2, d), axis=1) / [share, 1.0 - share]
        blocks = np.linalg.norm((c + N.T @ multipliers).reshape(2, d), axis=1)
        return float(2 * c @ U - p @ p), g, U, blocks

    def lower(U: Floats) -> float:
        spent = np.linalg.norm(U.reshape(2, d), axis=1).sum()
        return float(c @ U / spent) if spent > 1e-9 * scale else 0.0

    def price(share: float) -> float:
        return -at(share)[0]

    ends = 1e-9, 1.0 - 1e-9  # where one leaf is zero the supremum is at an end
    best = minimize_scalar(price, bounds=ends, method="bounded", options={"xatol": 1e-10})
    M = np.sqrt(max(-best.fun, *(at(end)[0] for end in ends), 0.0))
    share = float(draw.rng.uniform(0.05, 0.95))
    phi, g, U, blocks = at(share)
    excess = max(phi - M**2, abs(blocks - g).max() * scale) / (1e-6 * scale**2)
    excess = max(excess, (lower(U) - M) / (1e-5 * scale), (M - blocks.max()) / (1e-5 * scale))
    # Bound 1 for other multipliers, against points of the cone.
    other = draw.rng.exponential(size=len(N)) * (draw.rng.random(len(N)) < 0.5)
    bound = np.linalg.norm((c + N.T @ other).reshape(2, d), axis=1).max()
    excess = max(excess, (lower(U) - bound) / (1e-9 * (scale + bound)))
    # The slope in a direction, and concavity along it.
    step = 1e-4
    left, right = at(share - step)[0], at(share + step)[0]
    slope = (right - left) / (2 * step) - (g[0] ** 2 - g[1] ** 2)
    middle = [float(draw.rng.uniform(0.02, 0.98)) for _ in range(2)]
    bow = 0.5 * sum(at(t)[0] for t in middle) - at(0.5 * sum(middle))[0]
    excess = max(excess, abs(slope) / (1e-2 * scale**2), bow / (1e-9 * scale**2))
    return float(excess)


def best_weights(problem: cl.ThreeLayer, z: Floats) -> Weights | None:
    """Cheapest weights of price one of the unit with the largest |z^T h|."""
    best, index = 0.0, np.arange(len(problem.units))
    found = None
    for side in (1.0, -1.0):
        heights, _, leaves = problem.cones.maxima(side * z, index, True)
        k = int(heights.argmax())
        if heights[k] > best:
            U = leaves[k].reshape(problem.widths[0], -1)
            sizes = np.linalg.norm(U, axis=1)
            first = U / np.sqrt(np.where(sizes > 0, sizes, 1.0))[:, None]
            second = problem.units.inner[0][k, 0] * np.sqrt(sizes)
            best, found = heights[k], (first[None], second[None], np.array([side]))
    return found


@attack("three-layer-landscape")
def landscape(draw: Draw) -> float:
    """Above the optimum some first layer of a silent sub-network gives a way down; paths exist."""
    X, y, beta = instance(draw, most=3)
    n, problem = len(y), cl.ThreeLayer(X, y, beta=beta)
    optimum = solved(problem)
    scale = 0.5 * y @ y + 1e-300
    # 1. A network that is best in its multiples: the optimum over some of the units.
    some = problem.units.select(slice(draw.size(1, len(problem.units))))
    rest = problem.with_units(some)
    result = solved(rest)
    W, w_2, w_3 = network_of(rest, result)
    excess = 0.0
    if result.dual > optimum.value + 1e-4 * scale:  # certainly no global minimum
        z = y - hidden(X, W, w_2) @ w_3
        new = best_weights(problem, z)
        steps = [] if new is None else [10.0**-e for e in range(1, 7)]
        reached = [
            objective(X, y, beta, tuple(np.concatenate([a, f * b]) for a, b, f in (
                (W, new[0], 1.0), (w_2, new[1], e), (w_3, new[2], e))))
            for e in steps
        ]  # fmt: skip
        start = objective(X, y, beta, (W, w_2, w_3))
        excess = 0.0 if reached and min(reached) < start else np.inf
    # 2. The path from any weights of K = 2 n sub-networks, in multiples and to the optimum.
    first = in_ball(draw.weights(2 * n, 2, X.shape[1]))
    second, third = draw.weights(2 * n, 2), draw.weights(2 * n)
    path = [objective(X, y, beta, (first, second, third))]
    U = first * np.abs(second * third[:, None])[..., None]
    parts = hidden(X, U, np.where(second < 0, -1.0, 1.0)) * np.sign(third)
    S = np.linalg.norm(U, axis=2).sum(axis=1)

    def height(fitted: Floats, price: float) -> float:
        return float(0.5 * ((fitted - y) ** 2).sum() + beta * price)

    tau = (S > 0).astype(float)
    path.append(height(parts @ tau, S @ tau))
    while len(active := np.flatnonzero(tau)) > n:
        # Columns and prices of size one: only the ratios matter for the null vector.
        lengths = np.linalg.norm(parts[:, active], axis=0)
        lengths[lengths == 0] = 1.0
        null = np.linalg.svd(parts[:, active] / lengths)[2][-1] / lengths
        null = -null if null @ S[active] > 0 else null
        if not (null < 0).any():
            return np.inf
        ratios = np.where(null < 0, -tau[active] / np.where(null < 0, null, 1.0), np.inf)
        for t in (0.5, 1.0):
            now = tau.copy()
            now[active] = relu(tau[active] + t * ratios.min() * null)
            path.append(height(parts @ now, S @ now))
        now[active[ratios.argmin()]] = 0.0
        tau = now
    best = network_of(problem, optimum)
    goal, price = hidden(X, *best[:2]) @ best[2], 0.5 * ((best[1] ** 2).sum() + best[2] @ best[2])
    if (tau > 0).sum() + len(best[2]) > 2 * n:
        return np.inf
    for t in np.linspace(0.1, 1, 7):
        path.append(height((1 - t) * (parts @ tau) + t * goal, (1 - t) * (S @ tau) + t * price))
    # A solver's gap may leave the end above a start that is as good.
    rises = np.diff(path) - max(optimum.value - optimum.dual, 0.0)
    return float(max(excess, rises.max() / (1e-9 * (path[0] + scale))))


def silent(draw: Draw, X: Floats, y: Floats, beta: float) -> tuple[Floats, Floats, float]:
    """First layers of silent sub-networks for z: a part of what the proposition allows."""
    K, m = draw.size(1, 5), draw.size(1, 2)
    W = draw.rng.standard_normal((K, m, X.shape[1]))
    W /= np.linalg.norm(W, axis=(1, 2), keepdims=True)
    problem = cl.ThreeLayer(X, y, beta=beta, width=m)
    best = best_weights(problem, y)
    if best is not None and draw.rng.random() < 0.5:  # the one that gains most from growing
        W[0] = best[0][0]
    largest = problem.beta_max()
    limit = min(beta / largest, 1.0) if largest > 0 else 1.0
    return W * limit, np.full(K, limit), largest


@attack("three-layer-flat")
def flat(draw: Draw) -> float:
    """Nothing near small or dead silent sub-networks is lower, and descent shrinks them."""
    X, y, beta = instance(draw, most=4)
    if not X.any() or not y.any():
        return 0.0
    plateau = 0.5 * float(y @ y)
    W, _, _ = silent(draw, X, y, beta)
    K, m, d = W.shape
    excess = 0.0
    # 1 and 2, K' = 0: whatever the upper layers are, not only small ones.
    best = best_weights(cl.ThreeLayer(X, y, beta=beta, width=m), y)
    for size in (1e-6, 1e-2, 1.0):
        w_2, w_3 = (size * draw.rng.standard_normal(shape) for shape in ((K, m), (K,)))
        if best is not None and draw.rng.random() < 0.5:
            w_2[0], w_3[0] = size * best[1][0], size * best[2][0]
            w_2[1:], w_3[1:] = 0.0, 0.0
        units = np.sqrt(np.linalg.norm(y))  # of w_2 and w_3
        value = objective(X, y, beta, (0.999999 * W, units * w_2, units * w_3))
        excess = max(excess, (plateau - value) / (1e-10 * plateau))
    # 2: dead neurons, near which the output is zero where y is not.
    on = y != 0
    inner = linprog(np.zeros(d), A_ub=X[on], b_ub=-np.ones(on.sum()), bounds=[(None, None)] * d)
    if inner.status == 0:
        u = inner.x / np.linalg.norm(inner.x)
        room = -(X[on] @ u).max() / np.linalg.norm(X[on], axis=1).max()
        near = u + 0.5 * room * draw.rng.uniform(-1, 1, (K, m, d)) / np.sqrt(d)
        w_2, w_3 = draw.rng.standard_normal((K, m)), draw.rng.standard_normal(K)
        value = objective(X, y, beta, (in_ball(near / np.sqrt(m)), w_2, w_3))
        excess = max(excess, (plateau - value) / (1e-10 * plateau))
    # 3: steps of descent, with every choice of slope at a kink a right one.
    b = beta / (np.linalg.norm(X, 2) * np.linalg.norm(y))
    W = in_ball(0.25 * b * W / np.linalg.norm(W, axis=(1, 2), keepdims=True))
    w_2, w_3 = draw.rng.standard_normal((K, m)), draw.rng.standard_normal(K)
    c = np.linalg.norm(w_2, axis=1) + np.abs(w_3)
    size = min(b / 3, np.sqrt(4 * plateau * 2 / beta / K)) / c
    w_2, w_3 = w_2 * size[:, None], w_3 * size
    eta = float(draw.rng.choice([1.0, 0.5, 0.01])) / beta
    for _ in range(20):
        before = np.linalg.norm(w_2, axis=1) + np.abs(w_3)
        inputs = np.einsum("td,kjd->tkj", X, W)
        upper = (relu(inputs) * w_2).sum(axis=2)
        z = y - relu(upper) @ w_3
        back = z[:, None] * (upper > 0)  # (n, K)
        slope_3 = z @ relu(upper)
        slope_2 = np.einsum("tk,tkj->kj", back, relu(inputs)) * w_3[:, None]
        at_W = np.einsum("tk,tkj,td->kjd", back, inputs > 0, X) * (w_3[:, None] * w_2)[..., None]
        W = in_ball(W + eta * at_W)
        w_2, w_3 = w_2 - eta * (beta * w_2 - slope_2), w_3 - eta * (beta * w_3 - slope_3)
        after = np.linalg.norm(w_2, axis=1) + np.abs(w_3)
        excess = max(
            excess, ((after - (1 - eta * beta / 4) * before) / (1e-12 * before + 1e-290)).max()
        )
        excess = max(excess, (np.linalg.norm(W, axis=(1, 2)).max() - b / 2) / (1e-12 * b))
        if after.max() < 1e-150:
            break
    return float(excess)


@refute("three-layer-landscape", "a local minimum with a silent sub-network is a global minimum")
def silent_minima(draw: Draw) -> float:
    """Small silent first layers: no step near is lower, and the optimum is."""
    X, y, beta = instance(draw, most=3)
    if not X.any() or not y.any():
        return 0.0
    plateau = 0.5 * float(y @ y)
    W, limit, _ = silent(draw, X, y, beta)
    near = []
    for _ in range(50):
        size = 0.5 * limit[0] * draw.rng.random()
        shapes = W.shape, W.shape[:2], W.shape[:1]
        steps = [size * 1e-3 * draw.rng.standard_normal(shape) for shape in shapes]
        near.append(objective(X, y, beta, (in_ball(0.5 * W + steps[0]), steps[1], steps[2])))
    if min(near) < plateau * (1 - 1e-14):
        return 0.0
    optimum = solved(cl.ThreeLayer(X, y, beta=beta, width=W.shape[1]))
    return (plateau - optimum.value) / (1e-3 * plateau)


def drawn_units(X: Floats, leaves: Floats, signs: Floats) -> int:
    """How many units random sub-networks fall into: a part of all with interior."""
    inputs = np.einsum("td,kjd->kjt", X, leaves)
    on = (inputs > 0).any(axis=1)
    gates = ((relu(inputs) * signs[:, None]).sum(axis=1) > 0) & on
    patterns = np.concatenate([(inputs > 0).reshape(len(leaves), -1), gates], axis=1)
    return len(np.unique(patterns, axis=0))


@attack("three-layer-count")
def count(draw: Draw) -> float:
    """No more units are found than cells, and those without interior are not needed."""
    n, d, m = draw.size(1, 6), draw.size(1, 3), draw.choice(1, 2, 2, 2, 3)
    X = draw.matrix(n, d)
    rank = np.linalg.matrix_rank(X)
    if rank == 0:
        return 0.0
    signs = draw.rng.choice([-1.0, 1.0], m)
    found = drawn_units(X, draw.rng.standard_normal((5000, m, d)), signs)
    N = (2**m - 1) * n
    excess = found / (2 * sum(comb(N - 1, i) for i in range(m * rank)))
    if n <= 4 and d <= 2 and m == 2:
        y, units = draw.targets(n), cl.enumerate_units(X)
        if d == 2 and draw.rng.random() < 0.7:
            y = relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))
        full = np.array([interior(walls_of(X, units, k)) for k in range(len(units))])
        every, some = (
            solved(cl.ThreeLayer(X, y, beta=0.05, units=part))
            for part in (units, units.select(full))
        )
        gap = every.dual - some.value, some.dual - every.value
        excess = max(excess, max(gap) / (1e-9 * (y @ y) + 1e-300))
    return float(excess)


def interior(walls: Floats) -> bool:
    """Whether a cone has interior points: no convex combination of its walls is zero."""
    if not len(walls):
        return True
    rows = walls / np.linalg.norm(walls, axis=1, keepdims=True)
    equations = np.vstack([rows.T, np.ones(len(rows))])
    return bool(nnls(equations, np.append(np.zeros(rows.shape[1]), 1.0))[1] > 1e-9)


@refute("three-layer-count", "for given signs there are at most P^m units, one for each tuple")
def tuples(draw: Draw) -> float:
    """The second layer has patterns of its own on every tuple of leaf patterns."""
    n, d, m = draw.size(2, 8), draw.size(1, 3), draw.size(1, 3)
    X = draw.matrix(n, d)
    patterns = len(cl.enumerate_arrangements(X))
    signs = draw.rng.choice([-1.0, 1.0], m)
    return drawn_units(X, draw.rng.standard_normal((20_000, m, d)), signs) / patterns**m


def planar_maximum(X: Floats, v: Floats) -> float:
    """The largest v^T (X u)_+ over the unit disc or interval, from all places where it can be."""
    if X.shape[1] == 1:
        return float(max(v @ relu(X[:, 0]), v @ relu(-X[:, 0]), 0.0))
    normals = X[:, ::-1] * [1.0, -1.0]
    normals = normals[np.linalg.norm(normals, axis=1) > 0]
    if not len(normals):
        return 0.0
    walls = np.arctan2(*np.concatenate([normals, -normals])[:, ::-1].T)
    walls = np.sort(walls)
    middles = 0.5 * (walls + np.append(walls[1:], walls[0] + 2 * np.pi))
    at = np.stack([np.cos(middles), np.sin(middles)])
    peaks = (((X @ at) > 0) * v[:, None]).T @ X  # where the linear piece is largest
    peaks /= np.linalg.norm(peaks, axis=1, keepdims=True) + 1e-300
    places = np.concatenate([np.stack([np.cos(walls), np.sin(walls)], axis=1), peaks])
    return float(max((v @ relu(X @ places.T)).max(), 0.0))


@attack("three-layer-positive-bound")
def positive_bound(draw: Draw) -> float:
    """Two-layer maxima at the positive and the negative part of z bound every unit."""
    n, d, m = draw.size(1, 8), draw.size(1, 2), draw.size(1, 4)
    X = draw.matrix(n, d) * draw.scale()
    z = draw.rng.standard_normal(n) * draw.scale() * (draw.rng.random(n) < 0.8)
    bound = max(planar_maximum(X, relu(z)), planar_maximum(X, relu(-z)))
    U, s = sub_networks(draw, X, 4000, m)
    # The all-plus unit of one leaf comes close: its best direction is among the starts.
    sizes = np.linalg.norm(U, axis=2).sum(axis=1)
    heights = np.abs(z @ hidden(X, U, s))
    scale = np.linalg.norm(z) * np.linalg.norm(X) + 1e-300
    return float(((heights - bound * sizes) / (1e-12 * scale * sizes + 1e-290)).max())


@refute("three-layer-theorem", "one shared pattern for all neurons of a unit is enough")
def shared_pattern(draw: Draw) -> float:
    """Units of one pattern are a restriction, which a planted subtraction shows."""
    n = draw.size(4, 6)
    angles = 2 * np.pi * (np.arange(n) + draw.rng.uniform(-0.3, 0.3, n)) / n
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))
    every = cl.ThreeLayer(X, y, beta=0.02)
    same = np.array([(leaf == leaf[0]).all() for leaf in every.units.leaves])
    shared = every.with_units(every.units.select(same))
    return (solved(shared, 1e-6).dual - solved(every, 1e-6).value) / (1e-4 * (y @ y) + 1e-300)


@refute("three-layer-theorem", "the second-layer weights may be taken positive")
def positive_signs(draw: Draw) -> float:
    """All-plus units are two layers."""
    n = draw.size(3, 6)
    X = draw.matrix(n, 2)
    y = relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))
    if not y.any():
        return 0.0
    every = cl.ThreeLayer(X, y, beta=0.02)
    two = solved(cl.TwoLayer(X, y, beta=0.02), 1e-6)
    return (two.dual - solved(every, 1e-6).value) / (1e-4 * (y @ y))


@refute("three-layer-leaves", "weight decay on all three layers is a norm of the leaves")
def decay_is_a_norm(draw: Draw) -> float:
    """Its least price is a power 2/3, so two halves of a sub-network cost more than one."""
    U = draw.weights(draw.size(1, 3), draw.size(1, 3))
    S = np.linalg.norm(U, axis=1).sum()

    def price(size: float) -> float:
        """The least (a^2 + b^2 + c^2) / 2 with a b c = size, by a grid over two of them."""
        grid = np.exp(np.linspace(-1.5, 1.5, 61)) * size ** (1 / 3)
        return min(0.5 * (a**2 + b**2 + (size / (a * b)) ** 2) for a, b in product(grid, grid))

    if S == 0.0:
        return 0.0
    return float((2 * price(0.5 * S) - price(S)) / (1e-3 * price(S)))
