"""Attacks on the chapter on reflection hyperplanes."""

import numpy as np
import torch
from scipy.optimize import linprog

import convexlib as cl
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.reflections import KINDS, best_unit, steepest


def outputs(X: Floats, u: Floats, biases: Floats) -> Floats:
    """A unit: |x.u + b_1|, then |h + b| layer by layer."""
    h = X @ u
    for b in biases:
        h = np.abs(h + b)
    return h


def climbed(draw: Draw, X: Floats, z: Floats, depth: int) -> float:
    """The largest |z.h(X)| that random steps from random units reach, many at once."""
    (n, d), k, rng = X.shape, 60, draw.rng
    span = float(np.abs(X).max()) or 1.0

    def heights(U: Floats, B: Floats) -> Floats:
        sizes = np.abs(U).sum(axis=1, keepdims=True)
        U, B = U / np.maximum(sizes, 1e-300), B / np.maximum(sizes, 1e-300)
        h = U @ X.T
        for b in B.T:
            h = np.abs(h + b[:, None])
        return np.abs(h @ z)

    U = rng.standard_normal((k, d)) * (rng.random((k, d)) < 0.7)
    U[:, 0] += 1e-3 * (np.abs(U).sum(axis=1) == 0)
    B = -np.take_along_axis(U @ X.T, rng.integers(0, n, (k, 1)), axis=1)
    B = np.hstack([B, -span * rng.random((k, depth - 2))])
    best = heights(U, B)
    for _ in range(30):
        step = 10.0 ** rng.uniform(-3, 0, (k, 1))
        moved = U + step * rng.standard_normal(U.shape) * (rng.random(U.shape) < 0.5)
        shifted = B + step * span * rng.standard_normal(B.shape) * (rng.random(B.shape) < 0.5)
        found = heights(moved, shifted)
        # Sizes are divided out: only the direction of (U, B) counts.
        better = (found > best) & (np.abs(moved).sum(axis=1) > 1e-3)
        U[better], B[better] = moved[better], shifted[better]
        best = np.maximum(best, np.where(better, found, best))
    return float(best.max())


@attack("looking-glass-vertices")
def vertices(draw: Draw) -> None:
    """On the piece of a random unit the best is finite, at a vertex, and a unit of that value."""
    depth, d, n = draw.size(2, 5), draw.size(1, 3), draw.size(1, 5)
    X, z = draw.matrix(n, d), draw.centred(n)
    u, biases = draw.normal(d), draw.normal(depth - 1)
    biases[1:] = -np.abs(biases[1:])
    if draw.rng.random() < 0.3:
        u[draw.size(0, d - 1)] = 0.0
    draw.assume(np.abs(u).sum() > 0)
    biases, u = biases / np.abs(u).sum(), u / np.abs(u).sum()
    own = float(z @ outputs(X, u, biases))
    sigma = np.where(u >= 0, 1.0, -1.0)
    h, value, kinks = np.hstack([X, np.zeros((n, depth - 1))]), X @ u, []
    for layer, b in enumerate(biases):
        s = np.where(value + b >= 0, 1.0, -1.0)
        h = s[:, None] * (h + np.eye(d + depth - 1)[d + layer])
        value = s * (value + b)
        kinks.append(h)
    rows = np.vstack([*[-part for part in kinks], np.append(sigma, np.zeros(depth - 1))])
    limits = np.append(np.zeros(len(rows) - 1), 1.0)
    bounds = [(0, None) if s > 0 else (None, 0) for s in sigma] + [(None, None)] * (depth - 1)
    way = draw.choice(1.0, -1.0)
    found = linprog(-way * z @ h, rows, limits, bounds=bounds)
    draw.true(found.status == 0)  # bounded
    # Of the best points one that hits as much as it can: a vertex, almost surely.
    tight = np.vstack([*kinks, np.diag(np.append(sigma, np.zeros(depth - 1)))[:d]])
    cost, goal = draw.rng.uniform(0.5, 1.5, len(tight)) @ tight, (-way * z @ h)[None]
    corner = linprog(
        cost, np.vstack([rows, goal]), np.append(limits, found.fun + 1e-12), bounds=bounds
    )
    size = float(np.abs(z).sum() * (np.abs(X).max() + 1.0)) or 1.0
    draw.below(way * own, -found.fun, 1e-7 * size)
    v = corner.x if corner.status == 0 else found.x
    draw.same(z @ outputs(X, v[:d], v[d:]), -way * found.fun, 1e-6 * size)
    on = tight[np.abs(tight @ v) <= 1e-7 * (1.0 + np.abs(v).max())]
    if -found.fun > 1e-6 * size:  # not the vertex 0: a line of solutions is left
        draw.same(np.abs(v[:d]).sum(), 1.0, 1e-7)
        draw.below(d + depth - 2, np.linalg.matrix_rank(on, tol=1e-6), 0.5)
        last = kinks[-1] @ v
        draw.below(np.abs(last).min(), 0.0, 1e-7 * (1.0 + np.abs(v).max()))


def enough(draw: Draw, depth: int, most: int) -> None:
    """The library's dual norm is that of null vectors, and no climb or program exceeds it."""
    d = draw.size(1, 3)
    n = draw.size(1, 4 if d == 3 else most)
    X, z = draw.matrix(n, d), draw.centred(n)
    own = best_unit(X, z, depth)
    slack = 1e-9 * (float(np.abs(z) @ np.abs(X).max(axis=1)) or 1.0)
    draw.below(climbed(draw, X, z, depth), own, slack)
    size, shift = draw.scale(3.0), draw.choice(0.0, 0.0, 10.0)
    problem = cl.ReflectionLasso(size * (X + shift), z, beta=1.0, depth=depth)
    draw.same(problem.dual_norm(torch.from_numpy(z)) / size, own, 100 * slack)
    if (depth - 1) * n + d <= 6:
        draw.same(steepest(X, z, depth), own, 1e-8 * (np.abs(z).sum() + 1.0))


@attack("looking-glass-two")
def two_layers(draw: Draw) -> None:
    """Mirrors through samples are enough for two layers."""
    enough(draw, 2, 6)


@attack("looking-glass-three")
def three_layers(draw: Draw) -> None:
    """The table's units are enough, and they are distances from a hyperplane and its image."""
    enough(draw, 3, 5)
    d = draw.size(1, 4)
    u, x, p = draw.normal(d), draw.normal(d), draw.normal(d)
    u /= np.abs(u).sum()
    c = float(draw.normal())
    s, t = x @ u + c, p @ u + c
    # The images of d points of P, which span P'; distances by the linear program of the max norm.
    mirrored = p - 2 * t * u / (u @ u)
    draw.same(mirrored @ u + c, -t, 1e-9)
    ways = np.array([x - (s - side) * np.sign(u) for side in (t, -t)])
    draw.same(ways @ u + c, [t, -t], 1e-9)
    reach = np.abs(x - ways).max(axis=1)
    draw.same(abs(abs(s) - abs(t)), reach.min(), 1e-9)
    for _ in range(20):  # nothing nearer on either
        near = x + reach.min() * (1 - 1e-6) * draw.rng.uniform(-1, 1, d)
        draw.true((near @ u + c - t) * (s - t) >= 0 and (near @ u + c + t) * (s + t) >= 0)


CASES = {
    "midpoints": ([[-3, 0], [-1, 0], [0, 0], [2, 0]], [-1, 2, -2, 1]),
    "samples": ([[-2, 0], [-1, 0], [2, 0], [3, 0]], [1, -2, 3, -2]),
    "differences": (
        [[-1, 2], [-2, 1], [-1, -2], [1, 1], [0, -1], [2, -2]],
        [-2, 1, 2, 2, -1, -2],
    ),
}


def without(draw: Draw, kind: str) -> None:
    """What is reached without a kind of equations, beside a small example of the chapter."""
    points, z = (np.array(part, dtype=float) for part in CASES[kind])
    X = points + 0.01 * draw.rng.integers(0, 2) * draw.normal(*points.shape)
    kept = tuple(other for other in KINDS if other != kind)
    draw.below(best_unit(X, z, 3), best_unit(X, z, 3, kept), 1e-6)


@refute("looking-glass-three", "mirrors through samples are enough, without midpoints")
def without_midpoints(draw: Draw) -> None:
    """A quarter of the dual constraint is missed by four samples on a line."""
    without(draw, "midpoints")


@refute("looking-glass-three", "mirrors need not pass through samples")
def without_samples(draw: Draw) -> None:
    """A third is missed by four samples on a line."""
    without(draw, "samples")


@refute("looking-glass-three", "no mirror need be parallel to a line through two samples")
def without_differences(draw: Draw) -> None:
    """A fourteenth is missed by six samples in the plane."""
    without(draw, "differences")


@refute("looking-glass-three", "training data alone span all mirrors")
def without_coordinates(draw: Draw) -> None:
    """Two samples span a line that holds both, so that every unit is zero on them."""
    d = draw.size(2, 3)
    X, z = draw.normal(2, d), np.array([-1.0, 1.0])
    kept = tuple(kind for kind in KINDS if kind != "coordinates")
    draw.below(best_unit(X, z, 3), best_unit(X, z, 3, kept), 1e-6)


@attack("looking-glass-symmetry")
def symmetry(draw: Draw) -> None:
    """Reflections by their formula; bends from the zeros of all layers; both networks' slopes."""
    L, d = draw.size(2, 6), draw.size(1, 4)
    u = draw.normal(d)
    u /= np.abs(u).sum()
    c, biases = float(draw.normal()), -np.abs(draw.normal(L - 2)) * draw.choice(1.0, 1.0, 0.0)
    halving = -(2.0 ** np.arange(L - 3, -1, -1))
    if draw.rng.random() < 0.5:
        biases = halving
    x = 3.0 * draw.normal(8, d)
    side = x @ u + c
    seen = x - 2 * side[:, None] * u / (u @ u)
    every = np.append(c, biases)
    draw.same(outputs(seen, u, every), outputs(x, u, every), 1e-9)

    def along(s: Floats) -> Floats:
        """The unit as a function of s."""
        return outputs(s[:, None], np.ones(1), np.append(0.0, biases))

    # Where the layers bend, as numbers s: zeros of a layer from those of lower ones.
    zeros = [np.zeros(1)]
    for top in range(L - 2):
        level = np.array([-biases[top]])
        for b in biases[:top][::-1]:
            level = np.concatenate([-b - level, -b + level])
            level = level[level >= 0]
        zeros.append(np.unique(np.concatenate([-level, level])))
    draw.true(all(len(part) <= 2**layer for layer, part in enumerate(zeros)))
    draw.same(along(zeros[-1]), 0.0, 1e-9)
    for layer in range(1, L - 1):  # a zero mirrors what is nearer than the bends of lower layers
        lower = np.concatenate(zeros[:layer])
        for place in zeros[layer]:
            away = np.append(draw.rng.uniform(0, 1, 5), 1.0) * np.abs(lower - place).min()
            draw.same(along(place - away), along(place + away), 1e-9)
    if L > 2 and np.array_equal(biases, halving):
        odd = np.arange(1, 2 ** (L - 2), 2)
        draw.same(zeros[-1], np.concatenate([-odd[::-1], odd]), 1e-12)
        places = np.arange(1 - 2 ** (L - 2), 2 ** (L - 2))
        draw.true(len(places) == 2 ** (L - 1) - 1)
        s = 0.5 * np.arange(-99, 100)
        flat = ((-1.0) ** (places + 1) * np.abs(s[:, None] - places)).sum(axis=1)
        draw.same(np.ptp(flat - along(s)), 0.0, 1e-9)
        draw.same(np.abs(np.diff(along(s), 2)).sum() / 0.5, 2 * len(places), 1e-9)

    # A narrow unit of ReLUs that bends is not symmetric, but along its hyperplanes.
    v, w, shifts = draw.normal(d), draw.signs(L - 1), draw.normal(L - 1)
    points = 5.0 * draw.normal(2000, d)
    seen = points - 2 * ((points @ v + draw.normal()) / (v @ v))[:, None] * v
    one, other = (np.maximum(part @ u + shifts[0], 0.0) for part in (points, seen))
    for sign, shift in zip(w[1:], shifts[1:], strict=True):
        one, other = (np.maximum(sign * part + shift, 0.0) for part in (one, other))
    if np.ptp(one) > 0.1 and abs(u @ v) > 0.1 * np.abs(v).max():
        draw.true(np.abs(one - other).max() > 1e-6)


@refute("looking-glass-symmetry", "zeros of a deep unit mirror the whole of it")
def everywhere(draw: Draw) -> None:
    """Beyond the next bend they do not."""
    t, away = draw.power(-1, 1), draw.power(-1, 1)
    one, two = (abs(abs(t + sign * away) - t) for sign in (1, -1))
    draw.same(one, two, 1e-9)


@refute("looking-glass-symmetry", "an optimal network is symmetric about the mirrors of its units")
def fitted(draw: Draw) -> None:
    """A sum of units with different mirrors is symmetric about none."""
    X, y = draw.normal(7, 2), draw.normal(7)
    problem = cl.ReflectionLasso(X, y, beta=1.0)
    problem = problem.with_beta(0.1 * problem.beta_max())
    result = cl.solve(problem)
    network, points = problem.to_network(result), torch.from_numpy(draw.normal(20, 2))
    for unit in problem.active_units(result):
        u = unit.normal
        seen = points - 2 * (points @ u + unit.offset)[:, None] * u / (u @ u)
        draw.same(network(seen).detach().numpy(), network(points).detach().numpy(), 1e-6)


@attack("looking-glass-euclidean")
def euclidean(draw: Draw) -> None:
    """The round dual constraint of three samples, and the two values on both sides of a descent."""
    d, depth = draw.size(2, 4), draw.size(2, 3)
    X = np.vstack([np.zeros(d), np.eye(d)[:2]])
    a, c = np.abs(draw.normal(2)) + 1e-3
    z = np.array([-a - c, a, c])
    u = np.append([a, c], np.zeros(d - 2)) / np.hypot(a, c)
    best = np.hypot(a, c)
    draw.same(z @ outputs(X, u, np.zeros(depth - 1)), best, 1e-9)
    U = draw.normal(200, d)
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    for v in U:
        biases = draw.normal(depth - 1) * draw.choice(0.0, 0.1, 1.0)
        draw.below(abs(z @ outputs(X, v, biases)), best, 1e-9)
    # Any unit of l2 norm 1 has at most sqrt(d) times the l1 dual constraint, at least as much.
    n = draw.size(2, 5)
    Y, w = draw.matrix(n, d), draw.centred(n)
    own = best_unit(Y, w, 2)
    for v in U[:50]:
        height = abs(w @ outputs(Y, v, -(Y[:1] @ v)))
        draw.below(height, np.sqrt(d) * own, 1e-9 * (own + 1.0))
