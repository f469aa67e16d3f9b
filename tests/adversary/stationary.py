"""Attacks on stationary points: the subdifferential, the program over faces, and the converse."""

from math import sqrt

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import lsq_linear

import convexlib as cl
from tests.adversary.cells import Masks, best_neuron, projected, relu, sided
from tests.adversary.drawn import off, some_of
from tests.adversary.programs import dual, interior_point, objective, solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.two_layer import instance


def tied_neurons(draw: Draw, X: Floats, m: int) -> Floats:
    """Neurons, some of them orthogonal to a sample or two, some zero."""
    U = draw.normal(m, X.shape[1])
    for u in U:
        for row in X[draw.rng.permutation(len(X))[: draw.size(0, X.shape[1] - 1)]]:
            if row @ row > 0:
                u -= row * (row @ u) / (row @ row)
    return U


@attack("stationary-subdifferential")
def subdifferential(draw: Draw) -> None:
    """Beside a kink the gradient is that of an adjacent pattern, for every neuron alone."""
    X = draw.samples(5)
    y, beta, m = draw.targets(len(X)), draw.power(-2, 1), draw.size(1, 3)
    U, alpha = tied_neurons(draw, X, m), draw.normal(m)
    if draw.rng.random() < 0.2:
        U[0] = 0.0
    lengths = np.linalg.norm(X, axis=1)
    ties = np.abs(X @ U.T) <= 1e-9 * np.maximum(lengths, 1e-300)[:, None]
    gap = np.where(ties, np.inf, np.abs(X @ U.T)).min(initial=np.inf)
    draw.assume(gap > 1e-3)
    near = U + 1e-5 * draw.normal(*U.shape)
    apart = np.where(ties & (lengths > 0)[:, None], np.abs(X @ near.T), np.inf).min(initial=np.inf)
    draw.assume(apart > 1e-7)
    masks = X @ near.T > 0
    # The pattern is adjacent: it agrees with the neuron's wherever that is decided.
    draw.true(bool((masks == (X @ U.T > 0))[~ties].all()))
    z = y - relu(X @ U.T) @ alpha
    claimed = beta * U - alpha[:, None] * ((masks * z[:, None]).T @ X)
    in_alpha = beta * alpha - relu(U @ X.T) @ z
    h = 1e-8
    for j in range(m):
        for k in range(X.shape[1]):
            step = np.zeros_like(U)
            step[j, k] = h
            rise = objective(X, y, beta, near + step, alpha) - objective(
                X, y, beta, near - step, alpha
            )
            draw.same(rise / (2 * h), claimed[j, k], 1e-2)
        step = h * (np.arange(m) == j)
        rise = objective(X, y, beta, U, alpha + step) - objective(X, y, beta, U, alpha - step)
        draw.same(rise / (2 * h), in_alpha[j], 1e-2)


def to_stationary(
    X: Floats, z: Floats, beta: float, u: Floats, sign: float
) -> tuple[float, Masks, bool]:
    """How far 0 is from the subdifferential at a neuron; its ties; whether these are free."""
    rows, live = X @ u / np.linalg.norm(u), np.linalg.norm(X, axis=1) > 0
    ties = live & (np.abs(rows) < 1e-7 * np.maximum(np.linalg.norm(X, axis=1), 1e-300))
    left = beta * u / np.linalg.norm(u) - sign * X.T @ (((rows > 0) & ~ties) * z)
    free = np.linalg.matrix_rank(X[ties]) == ties.sum() if ties.any() else True
    if not ties.any():
        return float(np.linalg.norm(left)), ties, True
    A = sign * (X[ties] * z[ties, None]).T
    fit = lsq_linear(A, left, bounds=(0.0, 1.0), tol=1e-14)
    return float(np.linalg.norm(A @ fit.x - left)), ties, bool(free)


def over_faces(X: Floats, y: Floats, beta: float, U: Floats, ties: Masks) -> float:
    """The program over the faces of neurons."""
    size, height = np.abs(X).max(), np.abs(y).max() or 1.0
    data = X / size
    V, W, f = cp.Variable(U.shape), cp.Variable(U.shape), cp.Variable(len(X))
    on = ((U @ X.T > 0) & ~ties).astype(float)
    link = f == cp.sum(cp.multiply(on.T, data @ (V - W).T), axis=1)
    sides = np.where(on > 0, 1.0, -1.0) * ~ties
    faces = [cp.multiply(sides, Z @ data.T) >= 0 for Z in (V, W)]
    faces += [cp.multiply(ties * 1.0, Z @ data.T) == 0 for Z in (V, W)]
    price = sum(cp.sum(cp.norm(Z, 2, axis=1)) for Z in (V, W))
    cost = 0.5 * cp.sum_squares(f - y / height) + beta / (size * height) * price
    return interior_point(cp.Problem(cp.Minimize(cost), [link, *faces])) * height**2


def from_list(draw: Draw) -> tuple[Floats, Floats, float, Floats, Floats, cl.Result, bool]:
    """The optimum over a list as a network, with its data; whether the list is complete."""
    X, y, beta = instance(draw, most=6, least_share=-2.0, extreme=False)
    every = cl.enumerate_arrangements(X)
    listed = every if draw.rng.random() < 0.3 else some_of(draw, every)
    program = cl.TwoLayer(X, y, beta=beta, arrangements=listed)
    result = solved(program, tol=1e-12)
    U, alpha = weights_of(program.to_network(result))
    kept = np.abs(alpha) > 1e-3 * np.abs(alpha).max(initial=0.0)
    draw.assume(bool(kept.all()))  # directions of tiny neurons are not accurate
    return X, y, beta, U, alpha, result, len(listed) == len(every)


@attack("stationary-program")
def program(draw: Draw) -> None:
    """A stationary network is balanced, and the optimum over the faces of its neurons."""
    X, y, beta, U, alpha, result, _ = from_list(draw)
    draw.assume(len(U) > 0)
    z = y - relu(X @ U.T) @ alpha
    found = [to_stationary(X, z, beta, u, a) for u, a in zip(U, np.sign(alpha), strict=True)]
    size = np.linalg.norm(X, 2)
    room = 1e-5 * (beta + size * np.linalg.norm(z)) + size * off(result)
    draw.assume(max(far for far, *_ in found) < room and all(free for *_, free in found))
    F, slack = objective(X, y, beta, U, alpha), 1e-6 * (y @ y)
    # 1. It is d(z), and the ratio is bounded.
    draw.same(F, dual(z, y), slack + np.linalg.norm(y) * off(result))
    least = solved(cl.TwoLayer(X, y, beta=beta), tol=1e-9)
    ratio = max(1.0, (best_neuron(X, z) + size * off(result)) / beta)
    draw.below(F, ratio * least.value, slack)
    draw.below(least.dual, F, slack)
    # 2. Over its faces.
    ties = np.array([tie for _, tie, _ in found])
    reached = over_faces(X, y, beta, U, ties)
    draw.same(F, reached, slack + room * np.linalg.norm(U, axis=1) @ np.abs(alpha))
    # 3. Neurons with one face are parallel.
    faces = np.where(ties, 0, np.where(U @ X.T > 0, 1, -1))
    for j in range(len(U)):
        for k in range(j):
            if (faces[j] == faces[k]).all():
                cosine = U[j] @ U[k] / np.linalg.norm(U[j]) / np.linalg.norm(U[k])
                draw.same(cosine * np.sign(alpha[j] * alpha[k]), 1.0, 1e-4)
    # 4. Without ties, gated too.
    if not (ties & (np.linalg.norm(X, axis=1) > 0)).any():
        own = cl.arrangements.patterns_of(torch.from_numpy(X), torch.from_numpy(U))
        free = solved(cl.TwoLayer(X, y, beta=beta, arrangements=own, gated=True), tol=1e-9)
        draw.same(free.value, F, slack + room * np.linalg.norm(U, axis=1) @ np.abs(alpha))


@refute("stationary-program", "a network at which no small change helps is globally optimal")
def local(draw: Draw) -> None:
    """All neurons on one of two opposite samples: a local minimum of every width."""
    beta, y, m = draw.power(-2, -0.5), 1 + draw.rng.random(), draw.size(1, 5)
    X = np.array([[1.0], [-1.0]])
    share = draw.rng.random(m) + 0.1
    roots = np.sqrt((y - beta) * share / share.sum())
    reached = objective(X, np.array([y, y]), beta, roots[:, None], roots)
    for _ in range(20):
        near = draw.near([roots[:, None], roots], 1e-3)
        draw.assume(objective(X, np.array([y, y]), beta, *near) >= reached)
    draw.below(reached, solved(cl.TwoLayer(X, np.array([y, y]), beta=beta)).value, 1e-6)


@attack("stationary-converse")
def converse(draw: Draw) -> None:
    """An optimum over a list with all adjacent cells is stationary."""
    X, y, beta, U, alpha, result, complete = from_list(draw)
    z = y - relu(X @ U.T) @ alpha
    size = np.linalg.norm(X, 2)
    smallest = np.abs(alpha).min(initial=1.0) ** 2
    # A gap leaves a neuron's bracket some slack, and the angle to the best one its root.
    room = 1e-4 * beta + size * off(result)
    room += (size * np.linalg.norm(z) + beta) * sqrt(2 * off(result) ** 2 / (beta * smallest))
    for u, a in zip(U, np.sign(alpha), strict=True):
        far, ties, free = to_stationary(X, z, beta, u, a)
        if free and (complete or not ties.any()):
            draw.below(far, room, 1e-6 * (beta + size * np.linalg.norm(z)))
    # The optima of the faces' sides: on the list, no neuron exceeds beta.
    for mask in result.arrangements.masks.numpy():
        draw.below(cone_norm(X, z, mask), beta + size * off(result), 1e-7 * beta)


def cone_norm(X: Floats, z: Floats, mask: Masks) -> float:
    """The largest |z^T D X u| over unit u of a cone."""
    c = X.T @ (mask * z)
    return max(float(np.linalg.norm(projected(sided(mask, X), sign * c))) for sign in (1.0, -1.0))


@refute("stationary-converse", "an optimum of the program over any list is stationary")
def pressed(draw: Draw) -> None:
    """Over one cell the best neuron may press against its wall."""
    X, y, beta, U, alpha, _, complete = from_list(draw)
    draw.assume(len(U) > 0 and not complete)
    z = y - relu(X @ U.T) @ alpha
    for u, a in zip(U, np.sign(alpha), strict=True):
        far, _, free = to_stationary(X, z, beta, u, a)
        if free:
            draw.below(far, 1e-3 * beta, 1e-3 * beta)
