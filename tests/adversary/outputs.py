"""Attacks on the chapter on several outputs."""

from itertools import combinations

import numpy as np
import torch

import convexlib as cl
from convexlib.losses import get_loss
from convexlib.pricing.joint_relaxation import jointly_relaxed
from tests.adversary.certify import z_matrix
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.outputs import program, wedges


def plane(draw: Draw) -> tuple[Floats, Floats, float]:
    """Samples in the plane with ties, opposite and repeated rows; targets; beta."""
    n, c = draw.size(2, 5), draw.size(2, 3)
    X = draw.choice(draw.normal(n, 2), draw.rng.integers(-2, 3, (n, 2)).astype(float))
    draw.assume(np.linalg.matrix_rank(X) == 2)
    Y = draw.normal(n, c)
    if draw.rng.random() < 0.3:
        Y[:, -1] = Y[:, 0]
    return X, Y, draw.power(-1.5, 0.5)


@attack("outputs-program")
def no_network_is_below(draw: Draw) -> None:
    """Random networks, and the matrices that their neurons make, are not below the program."""
    X, Y, beta = plane(draw)
    cones = wedges(X)
    value, _ = program(X, Y, beta, cones)
    for _ in range(20):
        m = draw.size(1, 5)
        U, A = draw.normal(m, 2) * draw.power(-1, 0), draw.normal(m, Y.shape[1]) * draw.power(-1, 0)
        if draw.rng.random() < 0.5:  # on a line of the arrangement
            U[0] = cones[draw.size(0, len(cones) - 1), :, 0] * draw.power(-1, 0)
        fit = np.maximum(X @ U.T, 0) @ A - Y
        objective = 0.5 * (fit**2).sum() + 0.5 * beta * ((U**2).sum() + (A**2).sum())
        draw.below(value, objective, 1e-6 * (Y**2).sum())


def least_on_simplex(Q: Floats) -> float:
    """The least of a quadratic form over the simplex, by the stationary points of all faces."""
    least = float(np.diag(Q).min())
    for size in range(2, len(Q) + 1):
        for face in combinations(range(len(Q)), size):
            part = Q[np.ix_(face, face)]
            system = np.block(
                [[2 * part, -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]]
            )
            if abs(np.linalg.det(system)) > 1e-9:
                t = np.linalg.solve(system, np.append(np.zeros(size), 1.0))[:size]
                if (t >= 0).all():
                    least = min(least, float(t @ part @ t))
    return least


@attack("outputs-four")
def copositive_up_to_four(draw: Draw) -> None:
    """A form that is nonnegative for t >= 0 is nonnegative at every M of the lemma."""
    k, c = draw.size(1, 4), draw.size(1, 3)
    Q = draw.normal(k, k) * (draw.rng.random((k, k)) < 0.7)
    Q = Q + Q.T
    Q = Q - least_on_simplex(Q)  # on the boundary of the copositive forms
    R, root = draw.normal(k, c), draw.normal(c, c + 1)
    T = root @ root.T + 1e-3 * np.eye(c)
    q = np.block([[Q + R @ np.linalg.solve(T, R.T), R], [R.T, T]])
    for _ in range(50):
        B = draw.normal(k + c, draw.size(1, k + c))
        W = B[:k] @ B[:k].T
        # The form where it is least, among the M with a nonnegative block: flip what is negative.
        B[:k] *= np.where(W[0] < 0, -1.0, 1.0)[:, None]
        W = B[:k] @ B[:k].T
        if (W >= 0).all():
            size = float(np.abs(q).sum() * np.abs(B @ B.T).max())
            draw.below(-(q * (B @ B.T)).sum(), 0.0, 1e-12 * size)


@attack("outputs-plane")
def in_the_plane(draw: Draw) -> None:
    """The blocks' networks have the value; the certificate of the library is not above it."""
    X, Y, beta = plane(draw)
    cones = wedges(X)
    value, blocks = program(X, Y, beta, cones)
    U, A = [], []
    for M, G in zip(blocks, cones, strict=True):
        sizes, vectors = np.linalg.eigh(M)
        B = vectors * np.sqrt(np.maximum(sizes, 0.0))
        first, _ = np.linalg.qr(B[:2].T)
        first = first * np.where((B[:2] @ first).sum(axis=0) < 0, -1.0, 1.0)
        for column in (B @ first).T:
            draw.below(-column[:2].min(), 0.0, 1e-4)
            U.append(G @ np.maximum(column[:2], 0.0))
            A.append(column[2:])
    weights, outer = np.array(U), np.array(A)
    fit = np.maximum(X @ weights.T, 0) @ outer - Y
    objective = 0.5 * (fit**2).sum() + 0.5 * beta * ((weights**2).sum() + (outer**2).sum())
    draw.below(abs(objective - value), 0.0, 1e-4 * (Y**2).sum())
    if draw.number % 10 == 0:
        network = torch.nn.Sequential(
            torch.nn.Linear(2, 1, bias=False),
            torch.nn.ReLU(),
            torch.nn.Linear(1, Y.shape[1], bias=False),
        ).double()
        certificate = cl.certify(network, X, Y, beta=beta)
        draw.below(certificate.dual, value, 1e-6 * (Y**2).sum())
        draw.below(value, certificate.dual, 1e-2 * (Y**2).sum())


@refute("outputs-four", "semidefinite and nonnegative is enough for five rays, too")
def five_rays(draw: Draw) -> None:
    """Horn's form is nonnegative for t >= 0, and negative at a matrix on a ring of five."""
    ring = np.roll(np.eye(5), 1, axis=0) + np.roll(np.eye(5), -1, axis=0)
    W, horn = np.eye(5) + draw.rng.uniform(0.55, 0.61) * ring, np.ones((5, 5)) - 2 * ring
    t = draw.rng.dirichlet(np.full(5, 0.3), 1000)
    assert np.linalg.eigvalsh(W).min() > 0
    assert np.einsum("ni,ij,nj->n", t, horn, t).min() >= -1e-12
    draw.below(-(horn * W).sum(), 0.0, 1e-3)


@attack("outputs-plane")
def one_of_three_rays(draw: Draw) -> None:
    """In space some ray comes first so that all coordinates of a block's columns are nonnegative.

    Blocks of any rank, with rays that are zero, orthogonal, equal, or nearly so.
    """
    k = draw.size(1, 5)
    B = draw.normal(3, k)
    if draw.rng.random() < 0.5:  # nonnegative from the start, so that zeros are exact
        B = np.abs(B) * (draw.rng.random(B.shape) < 0.6)
    B[draw.rng.random(3) < 0.1] = 0.0
    if draw.rng.random() < 0.3:
        B[1] = draw.power(-1, 1) * B[0] + draw.choice(0.0, 1e-6) * draw.rng.standard_normal(k)
    B *= np.array([draw.power(-3, 3) for _ in range(3)])[:, None]
    draw.assume(bool((B @ B.T >= 0.0).all()))
    sizes = np.linalg.norm(B, axis=1)
    unit = np.pad(B / np.where(sizes > 0.0, sizes, 1.0)[:, None], ((0, 0), (0, 3)))
    worst = []
    for order in ([0, 1, 2], [1, 0, 2], [2, 0, 1]):
        order.sort(key=lambda ray: sizes[ray] == 0.0)  # a ray that is zero gives no direction
        first, upper = np.linalg.qr(unit[order].T)
        worst.append((unit @ (first * np.where(np.diag(upper) < 0, -1, 1))).min())
    draw.below(-max(worst), 0.0, 1e-7)


def largest(draw: Draw, X: Floats, Z: Floats) -> float:
    """The highest of many directions: from arcs' ends and a grid in the plane, or drawn."""
    count = 2000
    U = draw.normal(X.shape[1], count)
    if X.shape[1] == 2:
        ends = np.arctan2(X[:, 0], -X[:, 1])
        angles = np.concatenate([np.linspace(0, 2 * np.pi, count), ends, ends + np.pi])
        U = np.stack([np.cos(angles), np.sin(angles)])
    U = U / np.linalg.norm(U, axis=0)
    return float(np.linalg.norm(Z.T @ np.maximum(X @ U, 0.0), axis=0).max())


def bound_of_all(draw: Draw) -> tuple[float, float]:
    """The bound of random multipliers, up to rounding, and what it bounds."""
    n, d, c = draw.size(2, 7), draw.size(1, 3), draw.size(1, 4)
    X, Z = draw.matrix(n, d), np.column_stack([draw.targets(n) for _ in range(c)])
    near, r, delta = z_matrix(draw, n)
    theta = np.triu(draw.choice(draw.signs(n, n), np.where(X @ X.T < 0, -1.0, 1.0)), 1)
    nu = np.triu(near, 1) * draw.choice(draw.signs(n, n), draw.rng.uniform(-1, 1, (n, n)))
    turned, mu = nu.T - theta * nu, near @ r / r + delta
    A = np.diag(mu) - near
    draw.assume(np.linalg.cond(A) < 1e10)
    N = np.concatenate([0.5 * Z, 2.0 * turned @ X], axis=1)
    H = 0.25 * N.T @ np.linalg.solve(A, N)
    H[:c, c:] += 0.25 * Z.T @ X
    H[c:, :c] += 0.25 * X.T @ Z
    H[c:, c:] += X.T @ (np.diag(mu) - (theta + theta.T) * near) @ X
    size = np.linalg.norm(H) + np.abs(X).sum() ** 2 * np.abs(mu).max()
    return 2.0 * np.linalg.eigvalsh(H)[-1] + 1e-9 * size, largest(draw, X, Z)


@attack("outputs-bound")
def all_outputs(draw: Draw) -> None:
    """Any multipliers, zero ones too, bound all neurons; so does what the library chooses."""
    bound, highest = bound_of_all(draw)
    draw.below(highest, bound, 0.0)
    if draw.rng.random() < 0.2:
        n, d, c = draw.size(2, 7), draw.size(1, 3), draw.size(1, 4)
        X, scale = draw.matrix(n, d), draw.scale()
        loss = draw.choice("squared", "logistic", "squared_hinge")
        targets = [draw.targets(n) if loss == "squared" else draw.labels(n) for _ in range(c)]
        Y = np.column_stack(targets)
        beta = scale * draw.power(-2, 1) * (largest(draw, X, Y) or 1.0)
        for point in jointly_relaxed(
            torch.from_numpy(scale * X), torch.from_numpy(Y), beta, get_loss(loss),
            torch.from_numpy(draw.choice(Y, 0.5 * Y)), torch.eye(d).double(),
            output_bias=draw.choice(True, False), max_seconds=draw.choice(1e-9, 0.3),
        ):  # fmt: skip
            found = scale * largest(draw, X, point.z.numpy())
            draw.below(found, point.reach, 1e-9 * point.reach)


@refute("outputs-bound", "nu may be larger than Lambda")
def beyond_lambda(draw: Draw) -> None:
    """Two equal samples with the wrong sign and no Lambda: one of the products has a minus."""
    height = np.abs(draw.normal(1))[0] + 0.1  # of both entries of Z; the best neuron has twice that
    mu = height / np.sqrt(32.0)
    turned, X, Z = (
        -mu * np.array([[0.0, 1.0], [1.0, 0.0]]),
        np.ones((2, 1)),
        np.full((2, 1), height),
    )
    N = np.concatenate([0.5 * Z, 2.0 * turned @ X], axis=1)
    H = 0.25 * N.T @ N / mu
    H += 0.25 * (Z.T @ X)[0, 0] * np.array([[0.0, 1.0], [1.0, 0.0]])
    H[1, 1] += 2.0 * mu
    draw.below(largest(draw, X, Z), 2.0 * np.linalg.eigvalsh(H)[-1], 1e-3)
