"""Attacks on the chapter on geometric algebra."""

from fractions import Fraction
from itertools import combinations, product
from math import comb, log, pi

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

import convexlib as cl
from tests.adversary.cells import hull_distance, relu, sided
from tests.adversary.programs import solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute


def exact_determinant(rows: list[list[int]]) -> int:
    """By permutations' own recursion, in integers."""
    if not rows:
        return 1
    return sum(
        (-1) ** k * entry * exact_determinant([row[:k] + row[k + 1 :] for row in rows[1:]])
        for k, entry in enumerate(rows[0])
        if entry
    )


@attack("geometry-cross")
def cross(draw: Draw) -> None:
    """Products with the vector of cofactors are determinants, and its length is a volume."""
    d = draw.size(1, 4)
    U, x = draw.rng.integers(-3, 4, (d - 1, d)), draw.rng.integers(-3, 4, d)
    if d > 2 and draw.rng.random() < 0.3:
        U[0] = draw.choice(0, 1, 2) * U[-1]  # dependent rows
    rows = U.tolist()
    minors = [[row[:i] + row[i + 1 :] for row in rows] for i in range(d)]
    cofactors = [(-1) ** i * exact_determinant(minor) for i, minor in enumerate(minors)]
    volume = exact_determinant([x.tolist(), *rows])
    draw.true(sum(a * b for a, b in zip(x.tolist(), cofactors, strict=True)) == volume)
    draw.true(sum(a * a for a in cofactors) == exact_determinant((U @ U.T).tolist()))
    # The library's product of the same rows at another scale, which is exact in powers of two.
    power = draw.size(-20, 20)
    found = cl.cross_product(np.ldexp(U.astype(float), power)).numpy()
    size = np.prod(np.linalg.norm(U, axis=1)) or 1.0
    draw.same(np.ldexp(found, -power * (d - 1)), cofactors, 1e-13 * d * size)


@attack("geometry-volume")
def volume(draw: Draw) -> None:
    """The volume of the hull of all sums of samples is the sum of determinants."""
    X = draw.samples(6)
    n, d = X.shape
    total = sum(abs(np.linalg.det(X[list(rows)])) for rows in combinations(range(n), d))
    sums = np.array(list(product([0.0, 1.0], repeat=n))) @ X
    try:
        hull = float(ConvexHull(sums).volume) if d > 1 else float(np.ptp(sums))
    except QhullError:  # flat
        hull = 0.0
    size = draw.scale()
    library = cl.zonotope_volume(X * size) / size**d
    draw.same([hull, library], total, 1e-11 * (np.abs(X).sum() ** d or 1.0))


def wedges(rows: Floats, d: int, norm: int) -> Floats:
    """Normalised normals of all independent (width - 1)-subsets, by singular vectors."""
    width, found = rows.shape[1], [np.zeros((0, rows.shape[1]))]
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows[lengths > 0] / lengths[lengths > 0, None]
    for chosen in combinations(range(len(unit)), width - 1):
        _, values, right = np.linalg.svd(unit[list(chosen)].reshape(width - 1, width))
        u = right[-1]
        size = np.linalg.norm(u[:d], norm)
        if values.min(initial=1.0) > 1e-9 and size > 1e-9:  # a free bias alone is a constant
            found.append(np.array([u / size, -u / size]))
    return np.concatenate(found)


def best_of_ball(A: Floats, z: Floats, d: int) -> float:
    """max |z^T (A u)_+| over |u_1| + .. + |u_d| <= 1: a linear program for every sign vector.

    The regions cover the space whether they have an interior or not.
    """
    n, width = A.shape
    best = 0.0
    for signs in product([1.0, -1.0], repeat=n + d):
        s, sigma = np.array(signs[:n]), np.array(signs[n:])
        c = (A * (s > 0)[:, None]).T @ z
        inside = np.vstack([-s[:, None] * A, np.append(sigma, np.zeros(width - d))])
        limits = np.append(np.zeros(n), 1.0)
        bounds = [(0, None) if k < d and sigma[k] > 0 else (None, 0) for k in range(d)]
        for side in (1.0, -1.0):
            found = linprog(-side * c, inside, limits, bounds=bounds + [(None, None)] * (width - d))
            assert found.status == 0
            best = max(best, -found.fun)
    return best


@attack("geometry-exact")
def exact(draw: Draw) -> None:
    """The dual constraint of all neurons is that of the dictionary, and no network is below."""
    n, d = draw.size(1, 3), draw.size(1, 2)
    X, z = draw.matrix(n, d), draw.targets(n)
    atoms = wedges(np.vstack([X, np.eye(d)]), d, 1)
    own = float(np.abs(z @ relu(X @ atoms.T)).max(initial=0.0))
    slack = 1e-9 * (float(np.abs(z) @ np.abs(X).max(axis=1)) or 1.0)
    draw.same(best_of_ball(X, z, d), own, slack)
    size, height = draw.scale(3.0), draw.scale(3.0)
    problem = cl.WedgeLasso(X * size, z * height, beta=1.0)
    draw.same(problem.beta_max() / (size * height), own, slack)
    draw.true(len(atoms) <= 2 * comb(n + d, d - 1))
    draw.assume(own > 0.0)
    # A network that explains the data, with the balanced penalty of the l1 norm.
    beta = draw.power(-3, 0) * own
    lasso = solved(cl.WedgeLasso(X, z, beta=beta), 1e-9)
    plain = cl.TwoLayer(X, z, beta=beta)
    U, alpha = weights_of(plain.to_network(solved(plain, 1e-6)))
    fit = relu(X @ U.T) @ alpha
    objective = 0.5 * np.sum((fit - z) ** 2) + beta * np.abs(U).sum(axis=1) @ np.abs(alpha)
    draw.below(lasso.dual, objective, 1e-9 * (objective + z @ z))


@attack("geometry-samples")
def flat_samples(draw: Draw) -> None:
    """The wedges of the flat samples reach eps, where a neuron has d; (d - 1) eps and d - 1."""
    d, norm, eps = draw.size(2, 5), draw.size(1, 2), draw.power(-4, 0)
    X = eps * np.eye(d)
    X[:, 0] = 1.0
    X[0] = np.eye(d)[0]
    draw.below(np.abs(np.ones(d) @ relu(X @ wedges(X, d, norm).T)), eps, 1e-9)
    draw.same(np.ones(d) @ relu(X @ np.eye(d)[0]), d, 1e-12)
    # With free biases: 0, e_1 and 2 e_1 + eps e_j.
    Y = np.vstack([np.zeros(d), eps * np.eye(d)])
    Y[2:, 0], Y[1] = 2.0, np.eye(d)[0]
    z = np.concatenate([[d - 1.0, -2.0 * (d - 1)], np.ones(d - 1)])
    B = np.column_stack([Y, np.ones(d + 1)])
    draw.below(np.abs(z @ relu(B @ wedges(B, d, norm).T)), (d - 1) * eps, 1e-9 * d)
    draw.same(z @ relu(Y[:, 0] - 1.0), d - 1, 1e-12)


@refute("geometry-samples", "with an l1 penalty wedge products of the samples alone are exact")
def samples_alone(draw: Draw) -> None:
    """They may miss a part of the dual constraint, so that another value is optimal."""
    n, d = draw.size(2, 4), draw.size(2, 3)
    X, z = draw.matrix(max(n, d), d), draw.normal(max(n, d))
    draw.assume(np.linalg.matrix_rank(X) == d)
    data, whole = (
        float(np.abs(z @ relu(X @ wedges(rows, d, 1).T)).max())
        for rows in (X, np.vstack([X, np.eye(d)]))
    )
    draw.below(whole, data, 1e-6 * whole)


@refute("geometry-euclidean", "for the Euclidean penalty no finite dictionary is ever exact")
def exact_on_a_line(draw: Draw) -> None:
    """In one dimension +-1 is: the two programs have one value."""
    n, d = draw.size(2, 6), draw.size(1, 2)
    X, y = draw.normal(n, d), draw.normal(n)
    beta = 0.1 * cl.TwoLayer(X, y, beta=1.0).beta_max()
    lasso = solved(cl.WedgeLasso(X, y, beta=beta, norm=2), 1e-10)
    optimum = solved(cl.TwoLayer(X, y, beta=beta), 1e-10)
    draw.true(abs(lasso.value - optimum.value) >= 1e-8 * optimum.value)


def cells_of(X: Floats) -> list[Floats]:
    """The rays of every cell: those that a random direction's cell has, for many directions."""
    rows = X[np.linalg.norm(X, axis=1) > 0]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rays = wedges(rows, X.shape[1], 2)
    sides = rows @ rays.T
    sides[np.abs(sides) < 1e-9] = 0.0
    masks = cl.enumerate_arrangements(X).masks.numpy()[:, np.linalg.norm(X, axis=1) > 0]
    return [rays[(sided(mask, sides) >= 0).all(axis=0)] for mask in masks]


@attack("geometry-euclidean")
def euclidean(draw: Draw) -> None:
    """p* <= p_hat <= p*(beta / rho) <= p* / rho, with the bounds on rho."""
    n, d = draw.size(1, 5), draw.size(1, 3)
    X, y = draw.matrix(max(n, d), d), draw.targets(max(n, d))
    values = np.linalg.svd(X, compute_uv=False)
    draw.assume(values[-1] >= 1e-2 * values[0] and y.any())
    cells = cells_of(X)
    rho = min(hull_distance(rays) for rays in cells)
    draw.assume(rho >= 1e-3)
    draw.below(rho, 1.0, 1e-9)
    widest = min(float((rays @ rays.T).min()) for rays in cells)
    draw.below(max(widest, 0.0) ** 0.5, rho, 1e-9)
    if d == 2:
        angles = np.sort(np.arctan2(X[:, 1], X[:, 0])[np.abs(X).max(axis=1) > 0] % pi)
        gap = np.diff(np.append(angles, angles[0] + pi)).max()
        draw.same(np.cos(gap / 2), rho, 1e-6)
    size, height = draw.scale(2.0), draw.scale(2.0)
    X, y = X * size, y * height
    largest = cl.TwoLayer(X, y, beta=1.0).beta_max()
    beta = draw.power(-2, 0.1) * (largest or 1.0)
    lasso = solved(cl.WedgeLasso(X, y, beta=beta, norm=2), 1e-8)
    best, looser = (solved(cl.TwoLayer(X, y, beta=b), 1e-8) for b in (beta, beta / rho))
    duals = [best.dual, lasso.dual, looser.dual]
    draw.below(duals, [lasso.value, looser.value, best.value / rho], 1e-7 * best.value)


@attack("geometry-narrow")
def narrow(draw: Draw) -> None:
    """No cell is as wide as has the probability 1e-6; in the plane that is known exactly."""
    d = draw.size(1, 3)
    n = draw.size(max(2 * d, 10), 40)
    # The angle at which 4 C(n, d-1)^2 (1 - theta / pi)^(n - 2(d-1)) is 1e-6.
    share = 1.0 - np.exp((log(1e-6) - log(4 * comb(n, d - 1) ** 2)) / (n - 2 * (d - 1)))
    widest = np.arccos(np.clip(least_product(draw.normal(n, d)), -1, 1))
    draw.true(widest <= pi * share)
    theta = Fraction(draw.size(1, 99), 100)  # in units of pi
    n = draw.size(2, 30)
    exact = sum(
        (-1) ** (k + 1) * comb(n, k) * max(1 - k * theta, Fraction(0)) ** (n - 1)
        for k in range(1, n + 1)
    )  # of the largest of n gaps between uniform points on a circle
    draw.true(exact <= 4 * n**2 * (1 - theta) ** (n - 2))


def least_product(X: Floats) -> float:
    """The least product of two rays that no sample separates."""
    rays = wedges(X, X.shape[1], 2)
    sides = X @ rays.T
    sides = np.where(np.abs(sides) < 1e-9, 0.0, np.sign(sides))
    together = np.abs(sides).T @ np.abs(sides) == sides.T @ sides
    return float((rays @ rays.T)[together].min())


@refute("geometry-narrow", "with 12 samples for every dimension some cell still has a right angle")
def still_wide(draw: Draw) -> None:
    """The widest angle of three-dimensional cells for 36 Gaussian samples is far below."""
    draw.below(least_product(draw.normal(36, 3)), 0.0, 1e-9)


@attack("geometry-bias")
def free_biases(draw: Draw) -> None:
    """For dual vectors of sum zero the anchored wedges reach the best of all biased neurons."""
    n, d = draw.size(1, 3), draw.size(1, 2)
    X, z = draw.matrix(n, d), draw.centred(n)
    own = 0.0
    for anchor in range(n):
        rows = np.vstack([np.delete(X, anchor, axis=0) - X[anchor], np.eye(d)])
        heights = np.abs(z @ relu((X - X[anchor]) @ wedges(rows, d, 1).T))
        own = heights.max(initial=own)
    slack = 1e-8 * (float(np.abs(z) @ (np.abs(X).max(axis=1) + 1.0)) or 1.0)
    draw.same(best_of_ball(np.column_stack([X, np.ones(n)]), z, d), own, slack)
    size = draw.scale(3.0)
    library = cl.WedgeLasso(X * size, z, beta=1.0, bias=True).dual_norm(torch.from_numpy(z))
    draw.same(library / size, own, slack)
