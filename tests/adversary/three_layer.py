"""Attacks on the chapter on three layers."""

import warnings
from itertools import product
from math import comb

import numpy as np
import torch
from scipy.optimize import linprog, minimize_scalar, nnls

import convexlib as cl
from tests.adversary.cells import hull_distance, places, relu, sided, unit
from tests.adversary.programs import solved
from tests.adversary.search import TINY, Draw, Floats, attack, refute
from tests.helpers.three_layer import program_value

Weights = tuple[Floats, Floats, Floats]  # W_1 (K, m, d), w_2 (K, m), w_3 (K,)


def subtraction(X: Floats) -> Floats:
    """A target that needs a subtraction in the second layer."""
    return relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))


def circle(draw: Draw, most: int = 6) -> tuple[Floats, Floats]:
    """Samples around a circle with such a target."""
    n = draw.size(4, most)
    angles = 2 * np.pi * (np.arange(n) + draw.rng.uniform(-0.3, 0.3, n)) / n
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return X, subtraction(X)


def instance(draw: Draw, most: int = 4, features: int = 2) -> tuple[Floats, Floats, float]:
    """Few samples, so that all units are soon listed; beta is a part of a bound on beta_max."""
    X = draw.samples(most, features)
    y = draw.targets(len(X))
    if draw.rng.random() < 0.4 and X.shape[1] == 2:
        y = subtraction(X)
        draw.note("planted")
    X, y = X * draw.scale(), y * draw.scale()
    share = draw.power(-3, 0.2)
    draw.note(f"beta {share:.1e} of a bound on beta_max")
    largest = np.linalg.norm(y) * np.linalg.norm(X, 2)
    return X, y, share * float(largest or 1.0)


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
    leaves = draw.normal(count, m, d)
    if d == 2 and draw.rng.random() < 0.5:  # at right angles to samples
        normals = X[draw.rng.integers(0, len(X), (count, m))][..., ::-1] * [1.0, -1.0]
        leaves[: count // 2] = normals[: count // 2]
    leaves[draw.rng.random((count, m)) < 0.1] = 0.0
    return leaves, draw.signs(count, m)


def compare(draw: Draw, X: Floats, y: Floats, beta: float, norm: str, found: float) -> None:
    """Now and then: the program without reductions, by another solver on data of size one."""
    if len(y) > 2 or not X.any() or not y.any() or draw.rng.random() >= 0.5:
        return
    a, b = np.abs(X).max(), np.abs(y).max()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # CVXPY warns where it is not accurate
        try:
            value = b**2 * program_value(X / a, y / b, beta / (a * b), norm, accuracy=1e-8)
        except (UserWarning, AssertionError):
            return
    draw.same(value, found, 1e-6 * value + 1e-7 * b**2)


@attack("three-layer-leaves")
def leaves(draw: Draw) -> None:
    """No weights with these leaves cost less than the sum of their norms, and some cost that."""
    m, d = draw.size(1, 4), draw.size(1, 3)
    W = in_ball(draw.weights(1, m, d))[0]
    w_2, w_3 = draw.weights(m) * draw.scale(), float(draw.weights(1)[0]) * draw.scale()
    U = np.abs(w_3 * w_2)[:, None] * W
    sizes = np.linalg.norm(U, axis=1)
    S = sizes.sum()
    roots = np.sqrt(np.where(sizes > 0, sizes, 1.0) * (S or 1.0))
    first, second, third = U / roots[:, None], np.sqrt(sizes), np.sqrt(S)
    draw.below(S, 0.5 * (w_2 @ w_2 + w_3**2), 1e-12 * S)
    draw.same(0.5 * (second @ second + third**2), S, 1e-12 * S)
    draw.same(third * second[:, None] * first, U, 1e-12 * S)
    draw.below(np.linalg.norm(first), 1.0, 1e-12)


@attack("three-layer-theorem")
def theorem(draw: Draw) -> None:
    """The program's value is a network's, no network is below, and n sub-networks are enough."""
    X, y, beta = instance(draw)
    problem = cl.ThreeLayer(X, y, beta=beta)
    result = solved(problem)
    weights = network_of(problem, result)
    draw.below(np.linalg.norm(weights[0], axis=(1, 2)), 1.0, 1e-12)
    draw.true(len(weights[2]) <= len(y))
    draw.same(objective(X, y, beta, weights), result.value, 1e-9 * result.value)
    # Networks near the optimal one and elsewhere, more of them than it has sub-networks.
    K = len(weights[2]) + 2
    for size in (1e-4, 1e-2, 1.0):
        shapes = (K, 2, X.shape[1]), (K, 2), (K,)
        noise = [size * draw.normal(*shape) for shape in shapes]
        for part, kept in zip(noise, weights, strict=True):
            part[: K - 2] *= np.abs(kept).max() if kept.size else 1.0
            part[: K - 2] += kept
        other = objective(X, y, beta, (in_ball(noise[0]), noise[1], noise[2]))
        draw.below(result.dual, other, 1e-9 * result.value)
    compare(draw, X, y, beta, "sum", result.value)


@attack("three-layer-reductions")
def reductions(draw: Draw) -> None:
    """No sub-network, whatever its unit, beats the best listed unit at any z."""
    n, d, m = draw.size(1, 5), draw.size(1, 2), draw.choice(1, 2, 2, 3)
    n = min(n, 3) if m == 3 else n
    X = draw.matrix(n, d)
    units = cl.enumerate_units(X, width=m)
    problem = cl.ThreeLayer(X, np.ones(n), beta=1.0, width=m, units=units)
    z = draw.normal(n) * (draw.rng.random(n) < 0.8)
    largest = problem.dual_norm(torch.from_numpy(z))
    U, s = sub_networks(draw, X, 4000, m)
    U /= np.linalg.norm(U, axis=2).sum(axis=1)[:, None, None] + TINY
    slack = 1e-10 * np.linalg.norm(z) * np.linalg.norm(X)
    draw.below(np.abs(z @ hidden(X, U, s)), largest, slack)


def walls_of(X: Floats, units: cl.Units, k: int) -> Floats:
    """Walls (R, m d) of a unit of depth three: N U >= 0."""
    m = units.leaves.shape[1]
    leaves = [np.kron(axis, sided(units.leaves[k, j], X)) for j, axis in enumerate(np.eye(m))]
    nodes = [np.kron(w, x) for w, x in zip(units.nodes[k, 0], X, strict=True)]
    walls = np.vstack([*leaves, nodes])
    return walls[np.linalg.norm(walls, axis=1) > 0]


@attack("three-layer-pricing")
def pricing(draw: Draw) -> None:
    """Bounds 1 and 2 enclose the maximum, and phi is concave with the stated slope and supremum."""
    X = draw.samples(5, 2)
    n, d = X.shape
    units = cl.enumerate_units(X)
    k = int(draw.rng.integers(len(units)))
    N = walls_of(X, units, k)
    draw.assume(len(N) > 0)
    c = np.einsum("tj,td,t->jd", units.outputs[k], X, draw.normal(n)).ravel()
    scale = np.linalg.norm(c)
    draw.assume(scale > 0.0)

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

    ends = 1e-9, 1.0 - 1e-9  # where one leaf is zero the supremum is at an end
    options = {"bounds": ends, "method": "bounded", "options": {"xatol": 1e-10}}
    best = minimize_scalar(lambda share: -at(share)[0], **options)
    M = np.sqrt(max(-best.fun, *(at(end)[0] for end in ends), 0.0))
    share = float(draw.rng.uniform(0.05, 0.95))
    phi, g, U, blocks = at(share)
    draw.below(phi, M**2, 1e-6 * scale**2)
    draw.same(blocks, g, 1e-6 * scale)
    draw.below(lower(U), M, 1e-5 * scale)
    draw.below(M, blocks.max(), 1e-5 * scale)
    # Bound 1 for other multipliers, against points of the cone.
    other = draw.rng.exponential(size=len(N)) * (draw.rng.random(len(N)) < 0.5)
    bound = np.linalg.norm((c + N.T @ other).reshape(2, d), axis=1).max()
    draw.below(lower(U), bound, 1e-9 * (scale + bound))
    # The slope in a direction, and concavity along it.
    step = 1e-4
    slope = (at(share + step)[0] - at(share - step)[0]) / (2 * step)
    draw.same(slope, g[0] ** 2 - g[1] ** 2, 1e-2 * scale**2)
    middle = [float(draw.rng.uniform(0.02, 0.98)) for _ in range(2)]
    draw.below(0.5 * sum(at(t)[0] for t in middle), at(0.5 * sum(middle))[0], 1e-9 * scale**2)


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
def landscape(draw: Draw) -> None:
    """Above the optimum some first layer of a silent sub-network gives a way down; paths exist."""
    X, y, beta = instance(draw, most=3)
    n, problem = len(y), cl.ThreeLayer(X, y, beta=beta)
    optimum = solved(problem)
    scale = 0.5 * y @ y
    # 1. A network that is best in its multiples: the optimum over some of the units.
    some = problem.units.select(slice(draw.size(1, len(problem.units))))
    rest = problem.with_units(some)
    result = solved(rest)
    weights = network_of(rest, result)
    if result.dual > optimum.value + 1e-4 * scale + TINY:  # certainly no global minimum
        start = objective(X, y, beta, weights)
        new = best_weights(problem, y - hidden(X, *weights[:2]) @ weights[2])
        reached = []
        for e in () if new is None else 10.0 ** -np.arange(1, 7):
            grown = new[0], e * new[1], e * new[2]
            more = [np.concatenate(pair) for pair in zip(weights, grown, strict=True)]
            reached.append(objective(X, y, beta, more))
        draw.true(min(reached, default=np.inf) < start)
    # 2. The path from any weights of K = 2 n sub-networks, in multiples and to the optimum.
    first = in_ball(draw.weights(2 * n, 2, X.shape[1]))
    second, third = draw.weights(2 * n, 2), draw.weights(2 * n)
    U = first * np.abs(second * third[:, None])[..., None]
    parts = hidden(X, U, np.where(second < 0, -1.0, 1.0)) * np.sign(third)
    S = np.linalg.norm(U, axis=2).sum(axis=1)
    tau = (S > 0).astype(float)
    fits, prices = [parts @ tau], [S @ tau]
    while len(active := np.flatnonzero(tau)) > n:
        # Columns and prices of size one: only the ratios matter for the null vector.
        lengths = np.linalg.norm(parts[:, active], axis=0)
        lengths[lengths == 0] = 1.0
        null = np.linalg.svd(parts[:, active] / lengths)[2][-1] / lengths
        null = -null if null @ S[active] > 0 else null
        draw.true((null < 0).any())
        ratios = np.where(null < 0, -tau[active] / np.where(null < 0, null, 1.0), np.inf)
        for t in (0.5, 1.0):
            now = tau.copy()
            now[active] = relu(tau[active] + t * ratios.min() * null)
            fits.append(parts @ now)
            prices.append(S @ now)
        now[active[ratios.argmin()]] = 0.0
        tau = now
    best = network_of(problem, optimum)
    goal, price = hidden(X, *best[:2]) @ best[2], 0.5 * ((best[1] ** 2).sum() + best[2] @ best[2])
    draw.true((tau > 0).sum() + len(best[2]) <= 2 * n)
    for t in np.linspace(0.1, 1, 7):
        fits.append((1 - t) * (parts @ tau) + t * goal)
        prices.append((1 - t) * (S @ tau) + t * price)
    heights = 0.5 * ((np.array(fits) - y) ** 2).sum(axis=1) + beta * np.array(prices)
    path = np.append(objective(X, y, beta, (first, second, third)), heights)
    # A solver's gap may leave the end above a start that is as good.
    gap = max(optimum.value - optimum.dual, 0.0)
    draw.below(path[1:], path[:-1] + gap, 1e-9 * (path[0] + scale))


def silent(draw: Draw, most: int) -> tuple[Floats, Floats, float, Floats, float]:
    """Data, and first layers of silent sub-networks for y of a size that the proposition allows."""
    X, y, beta = instance(draw, most=most)
    draw.assume(X.any() and y.any())
    K, m = draw.size(1, 5), draw.size(1, 2)
    W = draw.normal(K, m, X.shape[1])
    W /= np.linalg.norm(W, axis=(1, 2), keepdims=True)
    problem = cl.ThreeLayer(X, y, beta=beta, width=m)
    best = best_weights(problem, y)
    if best is not None and draw.rng.random() < 0.5:  # the one that gains most from growing
        W[0] = best[0][0]
    largest = problem.beta_max()
    limit = min(beta / largest, 1.0) if largest > 0 else 1.0
    return X, y, beta, W * limit, limit


@attack("three-layer-flat")
def flat(draw: Draw) -> None:
    """Nothing near small or dead silent sub-networks is lower, and descent shrinks them."""
    X, y, beta, W, _ = silent(draw, 4)
    plateau = 0.5 * float(y @ y)
    K, m, d = W.shape
    # 1 and 2, K' = 0: whatever the upper layers are, not only small ones.
    best = best_weights(cl.ThreeLayer(X, y, beta=beta, width=m), y)
    for size in (1e-6, 1e-2, 1.0):
        w_2, w_3 = (size * draw.normal(*shape) for shape in ((K, m), (K,)))
        if best is not None and draw.rng.random() < 0.5:
            w_2[0], w_3[0] = size * best[1][0], size * best[2][0]
            w_2[1:], w_3[1:] = 0.0, 0.0
        units = np.sqrt(np.linalg.norm(y))  # of w_2 and w_3
        value = objective(X, y, beta, (0.999999 * W, units * w_2, units * w_3))
        draw.below(plateau, value, 1e-10 * plateau)
    # 2: dead neurons, near which the output is zero where y is not.
    on = y != 0
    inner = linprog(np.zeros(d), A_ub=X[on], b_ub=-np.ones(on.sum()), bounds=[(None, None)] * d)
    if inner.status == 0:
        u = unit(inner.x)
        room = -(X[on] @ u).max() / np.linalg.norm(X[on], axis=1).max()
        near = u + 0.5 * room * draw.rng.uniform(-1, 1, (K, m, d)) / np.sqrt(d)
        w_2, w_3 = draw.normal(K, m), draw.normal(K)
        value = objective(X, y, beta, (in_ball(near / np.sqrt(m)), w_2, w_3))
        draw.below(plateau, value, 1e-10 * plateau)
    # 3: steps of descent, with every choice of slope at a kink a right one.
    b = beta / (np.linalg.norm(X, 2) * np.linalg.norm(y))
    W = in_ball(0.25 * b * W / np.linalg.norm(W, axis=(1, 2), keepdims=True))
    w_2, w_3 = draw.normal(K, m), draw.normal(K)
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
        draw.below(after, (1 - eta * beta / 4) * before, 1e-12 * before + 1e-290)
        draw.below(np.linalg.norm(W, axis=(1, 2)), b / 2, 1e-12 * b)
        if after.max() < 1e-150:
            break


@refute("three-layer-landscape", "a local minimum with a silent sub-network is a global minimum")
def silent_minima(draw: Draw) -> None:
    """Small silent first layers: no step near is lower, and the optimum is."""
    X, y, beta, W, limit = silent(draw, 3)
    plateau = 0.5 * float(y @ y)
    for _ in range(50):
        size = 0.5 * limit * draw.rng.random()
        shapes = W.shape, W.shape[:2], W.shape[:1]
        steps = [size * 1e-3 * draw.normal(*shape) for shape in shapes]
        near = objective(X, y, beta, (in_ball(0.5 * W + steps[0]), steps[1], steps[2]))
        draw.assume(near >= plateau * (1 - 1e-14))
    optimum = solved(cl.ThreeLayer(X, y, beta=beta, width=W.shape[1]))
    draw.below(plateau, optimum.value, 1e-3 * plateau)


def drawn_units(X: Floats, leaves: Floats, signs: Floats) -> int:
    """How many units random sub-networks fall into: a part of all with interior."""
    inputs = np.einsum("td,kjd->kjt", X, leaves)
    on = (inputs > 0).any(axis=1)
    gates = ((relu(inputs) * signs[:, None]).sum(axis=1) > 0) & on
    patterns = np.concatenate([(inputs > 0).reshape(len(leaves), -1), gates], axis=1)
    return len(np.unique(patterns, axis=0))


@attack("three-layer-count")
def count(draw: Draw) -> None:
    """No more units are found than cells, and those without interior are not needed."""
    n, d, m = draw.size(1, 6), draw.size(1, 3), draw.choice(1, 2, 2, 2, 3)
    X = draw.matrix(n, d)
    rank = np.linalg.matrix_rank(X)
    draw.assume(rank > 0)
    signs = draw.signs(m)
    found = drawn_units(X, draw.normal(5000, m, d), signs)
    N = (2**m - 1) * n
    draw.true(found <= 2 * sum(comb(N - 1, i) for i in range(m * rank)))
    if n <= 4 and d <= 2 and m == 2:
        y, units = draw.targets(n), cl.enumerate_units(X)
        if d == 2 and draw.rng.random() < 0.7:
            y = subtraction(X)
        full = np.array([interior(walls_of(X, units, k)) for k in range(len(units))])
        every, some = (
            solved(cl.ThreeLayer(X, y, beta=0.05, units=part))
            for part in (units, units.select(full))
        )
        draw.below([every.dual, some.dual], [some.value, every.value], 1e-9 * (y @ y))


@attack("three-layer-polynomial")
def in_the_row_space(draw: Draw) -> None:
    """In coordinates of the row space, over units with interior: same value, n sub-networks."""
    n, r, d = draw.size(1, 4), draw.size(1, 2), draw.size(2, 4)
    X = draw.matrix(n, r) @ np.linalg.qr(draw.normal(d, r))[0].T
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    draw.assume(0 < rank <= 2 and sizes[rank - 1] > 1e-3 * sizes[0])
    Q = right[:rank].T
    y = draw.targets(n)
    if rank == 2 and draw.rng.random() < 0.7:
        y = subtraction(X @ Q)
    units = cl.enumerate_units(X @ Q)
    full = np.array([interior(walls_of(X @ Q, units, k)) for k in range(len(units))])
    beta = 0.05 * float(np.linalg.norm(y)) * float(sizes[0]) or 1.0
    small = cl.ThreeLayer(X @ Q, y, beta=beta, units=units.select(full))
    few = solved(small)
    draw.true(small.to_network(few).n_subnetworks <= n)
    if d <= 3:
        whole = solved(cl.ThreeLayer(X, y, beta=beta))
        draw.below([whole.dual, few.dual], [few.value, whole.value], 1e-8 * (y @ y))


def interior(walls: Floats) -> bool:
    """Whether a cone has interior points: no convex combination of its walls is zero."""
    lengths = np.linalg.norm(walls, axis=1, keepdims=True)
    return not len(walls) or hull_distance(walls / lengths) > 1e-9


@refute("three-layer-count", "for given signs there are at most P^m units, one for each tuple")
def tuples(draw: Draw) -> None:
    """The second layer has patterns of its own on every tuple of leaf patterns."""
    n, d, m = draw.size(2, 8), draw.size(1, 3), draw.size(1, 3)
    X = draw.matrix(n, d)
    signs = draw.signs(m)
    found = drawn_units(X, draw.normal(20_000, m, d), signs)
    draw.true(found <= len(cl.enumerate_arrangements(X)) ** m)


def planar_maximum(X: Floats, v: Floats) -> float:
    """The largest v^T (X u)_+ over the unit disc or interval."""
    return float(max((v @ relu(X @ places(X, v).T)).max(), 0.0))


@attack("three-layer-positive-bound")
def positive_bound(draw: Draw) -> None:
    """Two-layer maxima at the positive and the negative part of z bound every unit."""
    n, d, m = draw.size(1, 8), draw.size(1, 2), draw.size(1, 4)
    X = draw.matrix(n, d) * draw.scale()
    z = draw.normal(n) * draw.scale() * (draw.rng.random(n) < 0.8)
    bound = max(planar_maximum(X, relu(z)), planar_maximum(X, relu(-z)))
    U, s = sub_networks(draw, X, 4000, m)
    # The all-plus unit of one leaf comes close: its best direction is among the starts.
    sizes = np.linalg.norm(U, axis=2).sum(axis=1)
    slack = 1e-12 * np.linalg.norm(z) * np.linalg.norm(X) * sizes
    draw.below(np.abs(z @ hidden(X, U, s)), bound * sizes, slack)


@refute("three-layer-theorem", "one shared pattern for all neurons of a unit is enough")
def shared_pattern(draw: Draw) -> None:
    """Units of one pattern are a restriction, which a planted subtraction shows."""
    X, y = circle(draw)
    every = cl.ThreeLayer(X, y, beta=0.02)
    same = np.array([(leaf == leaf[0]).all() for leaf in every.units.leaves])
    shared = every.with_units(every.units.select(same))
    draw.below(solved(shared, 1e-6).dual, solved(every, 1e-6).value, 1e-4 * (y @ y))


@refute("three-layer-theorem", "the second-layer weights may be taken positive")
def positive_signs(draw: Draw) -> None:
    """All-plus units are two layers."""
    X = draw.matrix(draw.size(3, 6), 2)
    y = subtraction(X)
    draw.assume(y.any())
    two, three = (solved(kind(X, y, beta=0.02), 1e-6) for kind in (cl.TwoLayer, cl.ThreeLayer))
    draw.below(two.dual, three.value, 1e-4 * (y @ y))


@refute("three-layer-leaves", "weight decay on all three layers is a norm of the leaves")
def decay_is_a_norm(draw: Draw) -> None:
    """Its least price is a power 2/3, so two halves of a sub-network cost more than one."""
    U = draw.weights(draw.size(1, 3), draw.size(1, 3))
    S = np.linalg.norm(U, axis=1).sum()

    def price(size: float) -> float:
        """The least (a^2 + b^2 + c^2) / 2 with a b c = size, by a grid over two of them."""
        grid = np.exp(np.linspace(-1.5, 1.5, 61)) * size ** (1 / 3)
        return min(0.5 * (a**2 + b**2 + (size / (a * b)) ** 2) for a, b in product(grid, grid))

    draw.assume(S > 0.0)
    draw.below(2 * price(0.5 * S), price(S), 1e-3 * price(S))
