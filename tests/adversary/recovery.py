"""Attacks on the chapter on sparse recovery."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, exp, factorial, sqrt

import cvxpy as cp
import numpy as np
from scipy.optimize import linprog

import convexlib as cl
from experiments.recovery import spikes
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.two_layer import all_masks, best_neuron, relu

PRECISE = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
CLEAR = 0.1  # distance of a certificate's norm from 1 at which what follows is well above rounding


def unit(v: Floats) -> Floats:
    """The vector divided by its length."""
    return v / np.linalg.norm(v)


def teacher(draw: Draw) -> tuple[list[Floats], Floats, list[int]]:
    """Blocks D_g X of random masks, weights for the first of them, and who they are."""
    n, d, k = draw.size(1, 7), draw.size(1, 3), draw.size(1, 2)
    X = draw.matrix(n, d) * draw.scale(3.0)
    kind = draw.choice("patterns", "patterns", "masks")
    gates = draw.rng.standard_normal((k + draw.size(0, 6), d))
    masks = X @ gates.T >= 0 if kind == "patterns" else draw.rng.random((n, len(gates))) < 0.5
    if draw.rng.random() < 0.2:
        masks[:, 0] = True  # a skip connection
    weights = draw.rng.standard_normal((k, d)) * 10.0 ** draw.rng.uniform(-1, 1, (k, 1))
    draw.note(f"{k} of {len(gates)} {kind}")
    return [masks[:, [g]] * X for g in range(len(gates))], weights, list(range(k))


def least_norm(blocks: list[Floats], y: Floats) -> tuple[float, list[Floats]]:
    """The least sum of norms of weights with outputs y, by an interior-point solver."""
    u = [cp.Variable(block.shape[1]) for block in blocks]
    fitted = sum(block @ v for block, v in zip(blocks, u, strict=True))
    program = cp.Problem(cp.Minimize(sum(cp.norm(v) for v in u)), [fitted == y])
    program.solve(**PRECISE)
    return float(program.value), [v.value for v in u]


def best_certificate(blocks: list[Floats], own: list[Floats]) -> float:
    """The least of the largest norms over the other blocks; inf without a certificate."""
    z, k = cp.Variable(len(blocks[0])), len(own)
    A, hats = np.hstack(blocks[:k]), np.hstack(own)
    shortest = np.linalg.lstsq(A.T, hats, rcond=1e-10)[0]
    if np.abs(A.T @ shortest - hats).max() > 1e-9:
        return np.inf
    if len(blocks) == k:
        return 0.0
    worst = cp.max(cp.hstack([cp.norm(block.T @ z) for block in blocks[k:]]))
    program = cp.Problem(cp.Minimize(worst), [A.T @ z == hats])
    program.solve(**PRECISE)
    return float(program.value)


@attack("recovery-certificate")
def certificate(draw: Draw) -> float:
    """The teacher has the least norm exactly if a certificate exists; strict ones leave no other.

    Two programs that share nothing: over the weights, and over the certificates.
    """
    blocks, weights, own = teacher(draw)
    size = max(np.abs(block).max() for block in blocks) or 1.0
    blocks = [block / size for block in blocks]  # both sides of the statement are homogeneous
    y = sum(blocks[g] @ weights[g] for g in own)
    norm = float(np.linalg.norm(weights, axis=1).sum())
    best = best_certificate(blocks, [unit(w) for w in weights])
    least, found = least_norm(blocks, y)
    if best > 1.0 + CLEAR:  # what is gained is of the order of the square of the excess, or more
        return float(2.0 * (least > norm * (1.0 - 1e-8)))
    if best > 1.0 - 1e-7:
        return 0.0  # too close to call for the solver
    excess = (norm - least) / (1e-7 * norm)
    # Off the teacher's gates sum |u_g| (1 - best) is at most what the norms differ by.
    off = sum(float(np.linalg.norm(u)) for u in found[len(own) :])
    return max(excess, off * (1.0 - best) / (1e-6 * norm))


def planted(draw: Draw, most: int) -> tuple[Floats, Floats, Floats] | None:
    """Samples, a unit neuron inside its cell and its active rows; None where it is on a wall."""
    d = draw.size(1, 3)
    X = draw.matrix(draw.size(1, most), d)
    w = unit(draw.rng.standard_normal(d))
    inner = X @ w
    live = np.abs(X).max(axis=1) > 0
    if (np.abs(inner[live]) < 1e-3).any():
        return None
    return X, w, (inner > 0)[:, None] * X


def gates_in_use(blocks: list[Floats], y: Floats, beta: float, k: int) -> tuple[float, Floats]:
    """The norms off the first k gates at an optimum, and (residual) / beta."""
    u = [cp.Variable(block.shape[1]) for block in blocks]
    fitted = sum(block @ v for block, v in zip(blocks, u, strict=True))
    # In units in which the penalty is of size one.
    goal = 0.5 / beta * cp.sum_squares(fitted - y) + sum(cp.norm(v) for v in u)
    cp.Problem(cp.Minimize(goal)).solve(**PRECISE)
    residual = (y - sum(b @ v.value for b, v in zip(blocks, u, strict=True))) / beta
    return sum(float(np.linalg.norm(v.value)) for v in u[k:]), residual


@attack("recovery-small-beta")
def small_beta(draw: Draw) -> float:
    """For small beta the gates in use are the teacher's where the condition holds, and not else."""
    blocks, weights, own = teacher(draw)
    size = max(np.abs(block).max() for block in blocks) or 1.0
    blocks = [block / size for block in blocks]
    A = np.hstack([blocks[g] for g in own])
    values = np.linalg.svd(A, compute_uv=False)
    if len(A) < A.shape[1] or values[-1] <= 0.05 * values[0]:
        return 0.0  # not injective, or "small" would be smaller than the solver's accuracy
    hats = np.hstack([unit(w) for w in weights])
    limit = A @ np.linalg.solve(A.T @ A, hats)
    norms = [float(np.linalg.norm(block.T @ limit)) for block in blocks[len(own) :]]
    worst = max(norms, default=0.0)
    if abs(worst - 1.0) < CLEAR:
        return 0.0
    y = sum(blocks[g] @ weights[g] for g in own)
    beta = 1e-3 * values[-1] ** 2 * float(np.linalg.norm(weights, axis=1).min())
    total = float(np.linalg.norm(weights, axis=1).sum())
    off, residual = gates_in_use(blocks, y, beta, len(own))
    if worst > 1.0:
        return float(2.0 * (off < 1e-9 * total))
    # Strict by CLEAR / 2 at least for beta this small, so gates off the teacher's vanish.
    return max(off / (1e-6 * total), float(np.abs(residual - limit).max() / np.abs(limit).max()))


def hidden(draw: Draw) -> tuple[list[Floats], Floats, float] | None:
    """Gates for a linear teacher that has a certificate, though the shortest one fails."""
    X = draw.rng.standard_normal((draw.size(3, 6), 2))
    w = unit(draw.rng.standard_normal(2))
    H = np.vstack([np.zeros(2), draw.rng.standard_normal((6, 2))])
    blocks = [(X @ h >= 0)[:, None] * X for h in H]
    shortest = X @ np.linalg.solve(X.T @ X, w)
    worst = max(float(np.linalg.norm(block.T @ shortest)) for block in blocks[1:])
    if worst < 1.0 + 1e-3 or best_certificate(blocks, [w]) > 1.0 - 1e-6:
        return None
    return blocks, w, worst


@refute("recovery-certificate", "the isometry condition is necessary for the least norm")
def condition_is_not_necessary(draw: Draw) -> float:
    """It asks the shortest certificate, and another may do."""
    found = hidden(draw)
    return 0.0 if found is None else (found[2] - 1.0) / 1e-3


@refute("recovery-small-beta", "a teacher of least norm has its gates alone in use at small beta")
def other_gates_at_small_beta(draw: Draw) -> float:
    """The weight on other gates, as a part of what the excess over the condition suggests."""
    found = hidden(draw)
    if found is None:
        return 0.0
    blocks, w, _ = found
    beta = 1e-3 * np.linalg.svd(blocks[0], compute_uv=False)[-1] ** 2
    off = gates_in_use(blocks, blocks[0] @ w, beta, 1)[0]
    return off / 1e-7


def whitened(draw: Draw) -> tuple[Floats, Floats] | None:
    """Orthonormal columns and a direction to which no sample is orthogonal."""
    d = draw.size(1, 3)
    X = draw.matrix(draw.size(d, 6), d)
    U, values, _ = np.linalg.svd(X, full_matrices=False)
    w = unit(draw.rng.standard_normal(d))
    if values[-1] <= 1e-3 * values[0] or np.abs(U @ w).min() < 1e-4:
        return None
    return U, w


def in_halfspace(X: Floats) -> float:
    """The largest t with X u >= t over the box: positive where all samples are on one side."""
    n, d = X.shape
    program = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack([-X, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        bounds=[(-1, 1)] * d + [(None, 1)],
    )
    return float(-program.fun)


@attack("recovery-whitened")
def whitened_gates(draw: Draw) -> float:
    """X w is a strict certificate over all gates but all ones, and Wendel counts the halfspaces."""
    drawn = whitened(draw)
    if drawn is None:
        return 0.0
    X, w = drawn
    masks = all_masks(len(X))[:-1]  # all but all ones, patterns or not
    blocks = masks @ ((X @ w)[:, None] * X)[:, None, :].reshape(len(X), -1)
    # One entry of the unit vector X w is dropped at least.
    strict = sqrt(1.0 - np.abs(X @ w).min() ** 2)
    excess = (np.linalg.norm(blocks, axis=1).max() - strict) / 1e-12
    if draw.number % 4 == 0:
        n, d = draw.size(1, 5), draw.size(1, 3)
        Z = draw.rng.standard_normal((n, d))
        flips = 2.0 * all_masks(n) - 1.0
        found = np.array([in_halfspace(flip[:, None] * Z) for flip in flips])
        if not ((found > 1e-9) & (found < 1e-6)).any():
            expected = 2 * sum(comb(n - 1, k) for k in range(d))
            excess = max(excess, 2.0 * abs(int((found > 1e-6).sum()) - expected))
    return float(excess)


@refute("recovery-whitened", "from n = 2d on the whitened linear teacher is the only minimiser")
def ambiguous(draw: Draw) -> float:
    """Half of the draws at n = 2d lie in a halfspace."""
    d = draw.size(2, 3)
    X = draw.rng.standard_normal((2 * d, d))
    return in_halfspace(X) / 1e-6


@attack("recovery-cones")
def linear_with_cones(draw: Draw) -> float:
    """With cones the maximum over all neurons is below 1 unless the teacher is one-signed."""
    drawn = whitened(draw)
    if drawn is None:
        return 0.0
    X, w = drawn
    outputs = X @ w
    largest = best_neuron(X, outputs)
    if (outputs > 0).all() or (outputs < 0).all():
        return abs(largest - 1.0) / 1e-9  # and the neuron +-w has the teacher's outputs
    # One sample at least is dropped, or u is not +-w: strict by what that loses.
    return (largest - np.sqrt(1.0 - np.abs(outputs).min() ** 2 * 1e-6)) / 1e-9


@attack("recovery-active")
def active(draw: Draw) -> float:
    """Outside of the span of its active samples the teacher has a shorter double."""
    drawn = planted(draw, 6)
    if drawn is None:
        return 0.0
    X, w, A = drawn
    X, A = X * (size := draw.scale()), A * size
    inside = np.linalg.pinv(A, rcond=1e-10) @ (A @ w)  # the projection onto the active rows' span
    if np.linalg.norm(w - inside) < 1e-3 or not X.any():
        return 0.0
    inner = X @ w
    room = np.abs(inner[np.abs(inner) > 0]).min(initial=1.0)
    t = min(1.0, 0.5 * room / (np.linalg.norm(X, axis=1).max() or 1.0))
    shorter = w - t * (w - inside)
    same = np.abs(relu(X @ shorter) - relu(inner)).max() / (1e-9 * np.abs(X).max())
    gates = np.abs(A @ shorter - A @ w).max() / (1e-9 * np.abs(X).max())
    return float(max(same, gates, 2.0 * (np.linalg.norm(shorter) >= 1.0)))


def relu_norm(X: Floats, y: Floats) -> float:
    """The least sum of norms of ReLU networks with outputs y."""
    masks = all_masks(len(X)).astype(float)
    V, W = cp.Variable((len(masks), X.shape[1])), cp.Variable((len(masks), X.shape[1]))
    fitted = cp.sum(cp.multiply(X @ (V - W).T, masks.T), axis=1)
    cones = [cp.multiply(2 * masks - 1, block @ X.T) >= 0 for block in (V, W)]
    norm = cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.norm(W, 2, axis=1))
    program = cp.Problem(cp.Minimize(norm), [fitted == y, *cones])
    program.solve(**PRECISE)
    return float(program.value)


def relu_certificate(X: Floats, A: Floats, w: Floats) -> tuple[float, Floats]:
    """The least of the largest |z^T (Xu)_+| over all certificates, by duality in every cone."""
    n = len(X)
    masks = all_masks(n).astype(float)
    z, slack, t = cp.Variable(n), cp.Variable((2 * len(masks), n), nonneg=True), cp.Variable()
    signed = np.concatenate([masks, -masks])
    signs = np.concatenate([2 * masks - 1, 2 * masks - 1])
    rows = (cp.multiply(signed, cp.reshape(z, (1, n), order="C")) + cp.multiply(signs, slack)) @ X
    goal = cp.Problem(cp.Minimize(t), [cp.norm(rows, 2, axis=1) <= t, A.T @ z == w])
    goal.solve(**PRECISE)
    return (float(goal.value), z.value) if goal.status == "optimal" else (np.inf, np.zeros(n))


@attack("recovery-relu")
def among_all_neurons(draw: Draw) -> float:
    """A certificate decides whether the neuron has the least norm, the condition at small beta."""
    drawn = planted(draw, 4)
    if drawn is None:
        return 0.0
    X, w, A = drawn
    least = relu_norm(X, relu(X @ w))
    spans = np.linalg.norm(np.linalg.pinv(A, rcond=1e-8) @ (A @ w) - w) < 1e-8
    best, z = relu_certificate(X, A, w) if spans else (np.inf, np.zeros(len(X)))
    excess = (least - 1.0) / 1e-7  # the teacher is feasible
    if best > 1.0 + CLEAR:
        return max(excess, 2.0 * (least > 1.0 - 1e-9))
    if best < 1.0 + 1e-8:
        excess = max(excess, (1.0 - least) / 1e-6, (best_neuron(X, z) - 1.0) / 1e-6)
    values = np.linalg.svd(A, compute_uv=False)
    if len(A) < len(w) or values[-1] <= 0.1 * values[0]:
        return excess
    limit = A @ np.linalg.solve(A.T @ A, w)
    worst = best_neuron(X, limit)
    beta = 1e-3 * values[-1] ** 2
    v = w
    for _ in range(100):  # the best network of the cell
        v = np.linalg.solve(A.T @ A + beta / np.linalg.norm(v) * np.eye(len(w)), A.T @ (A @ w))
    if not np.array_equal(X @ v > 0, X @ w > 0):
        return excess
    alone = 0.5 * np.sum((A @ (v - w)) ** 2) + beta * np.linalg.norm(v)
    whole = cl.solve(cl.TwoLayer(X, relu(X @ w), beta=beta), tol=1e-8)
    if worst <= 1.0 + 1e-12:
        return max(excess, (alone - whole.value) / (2e-8 * alone))
    if worst > 1.0 + CLEAR:
        return max(excess, 2.0 * (whole.dual > alone * (1.0 - 1e-12)))
    return excess


@refute("recovery-relu", "where the condition over all neurons fails the neuron is not recovered")
def recovered_without_condition(draw: Draw) -> float:
    """Another certificate does it: the least norm is the teacher's."""
    X = draw.rng.standard_normal((5, 2))
    w = unit(draw.rng.standard_normal(2))
    A = (X @ w > 0)[:, None] * X
    if np.linalg.svd(A, compute_uv=False)[-1] < 0.1:
        return 0.0
    fails = best_neuron(X, A @ np.linalg.solve(A.T @ A, w)) - 1.0
    if fails < 1e-3 or relu_norm(X, relu(X @ w)) < 1.0 - 1e-6:
        return 0.0
    return fails / 1e-3


def kinks(draw: Draw) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Samples, kinks between them (not beside the ends), amplitudes, directions, intervals."""
    n = draw.size(4, 10)
    x = np.cumsum(10.0 ** draw.rng.uniform(-1.5, 0.5, n))
    k = draw.size(1, 3)
    gaps = np.sort(draw.rng.integers(1, n - 2, k))
    places = np.sort(x[gaps] + draw.rng.uniform(0.1, 0.9, k) * (x[gaps + 1] - x[gaps]))
    amplitudes = draw.rng.uniform(0.2, 1.0, k) * draw.choice(
        draw.rng.choice([-1.0, 1.0], k), np.ones(k)
    )
    draw.note(f"{n} samples, {k} kinks")
    scale = draw.scale(3.0)
    return x * scale, places * scale, amplitudes, draw.rng.choice([-1.0, 1.0], k), gaps


def least_ramps(x: Floats, y: Floats, more: Floats) -> float:
    """The least norm over ramps at the samples and some more places, with a free constant."""
    places = np.concatenate([x, more])
    ramps = np.hstack([relu(x[:, None] - places), relu(places - x[:, None])])
    columns = np.hstack([ramps, -ramps, np.ones((len(x), 1)), -np.ones((len(x), 1))])
    cost = np.append(np.ones(2 * ramps.shape[1]), [0.0, 0.0])
    size = np.ptp(x)
    return float(linprog(cost, A_eq=columns / size, b_eq=y / size, bounds=(0, None)).fun)


@attack("recovery-kinks")
def separation(draw: Draw) -> float:
    """A linear program says which kinks have the least norm; no other reading has as few kinks."""
    x, places, amplitudes, directions, gaps = kinks(draw)
    y = relu(directions * (x[:, None] - places)) @ amplitudes
    norm = float(np.abs(amplitudes).sum())
    least = least_ramps(x, y, places)
    opposite = np.diff(np.sign(amplitudes)) != 0
    excess = (least - norm) / (1e-8 * norm)
    if not (opposite & (np.diff(gaps) < 2)).any():
        excess = max(excess, (norm - least) / (1e-8 * norm))
    else:  # the polygon's norm is smaller by kappa at least
        hats = np.array([np.interp(places, x, np.eye(len(x))[m]) for m in range(len(x))])
        kappa = relu(amplitudes).sum() - relu(hats @ amplitudes).sum()
        excess = max(excess, (least - (norm - kappa)) / (1e-8 * norm))
    # Part 3: with both ends of an interval in the place of a kink.
    left, right = x[gaps[0]], x[gaps[0] + 1]
    share = (right - places[0]) / (right - left)
    both = share * relu(directions[0] * (x - left))
    both += (1 - share) * relu(directions[0] * (x - right))
    one = relu(directions[0] * (x - places[0]))
    excess = max(excess, np.abs(both - one).max() / (1e-10 * np.ptp(x)))
    if not (np.diff(gaps) >= 2).all():
        return excess
    return max(excess, 2.0 * (count_readings(x, y, len(places)) != 1))


def count_readings(x: Floats, y: Floats, k: int) -> int:
    """In how many ways k + 1 lines, each through two samples or more, meet between samples."""
    found = 0
    tolerance = 1e-9 * (np.ptp(y) + np.ptp(x))
    for cuts in combinations(range(2, len(x) - 1), k):
        parts = np.split(np.arange(len(x)), cuts)
        if min(map(len, parts)) < 2:
            continue
        lines = [np.polyfit(x[part], y[part], 1) for part in parts]
        off = [np.abs(np.polyval(f, x[p]) - y[p]).max() for f, p in zip(lines, parts, strict=True)]
        if max(off) > tolerance:
            continue
        meets = True
        for (a, b), (c, d), cut in zip(lines, lines[1:], cuts, strict=False):
            meets &= abs(a - c) > 1e-7 and x[cut - 1] < (d - b) / (a - c) < x[cut]
        found += meets
    return found


@refute("recovery-kinks", "kinks with two samples between them are the only ones of least norm")
def spread_kink(draw: Draw) -> float:
    """A kink may be spread over the two ends of its interval: equal outputs, norm and samples."""
    x, places, amplitudes, directions, gaps = kinks(draw)
    if not (np.diff(gaps) >= 2).all():
        return 0.0
    left, right = x[gaps[0]], x[gaps[0] + 1]
    share = (right - places[0]) / (right - left)
    points = np.concatenate([x, places[:1]])
    both = share * relu(directions[0] * (points - left))
    both += (1 - share) * relu(directions[0] * (points - right))
    one = relu(directions[0] * (points - places[0]))
    same = np.abs(both - one)[:-1].max() <= 1e-10 * np.ptp(x)
    return float(same * np.abs(both - one)[-1] / (1e-6 * (right - left)))


@attack("recovery-birthdays")
def birthdays(draw: Draw) -> float:
    """The probability of separation by counting, its approximation, and the library's test."""
    m, k = draw.size(1, 7), draw.size(1, 4)
    places = list(product(range(m), repeat=k))
    good = sum(all(abs(a - b) >= 2 for a, b in combinations(p, 2)) for p in places)
    ways = comb(m - k + 1, k) if m - k + 1 >= k else 0
    excess = 2.0 * (good != factorial(k) * ways)
    drawn = np.sort(draw.rng.integers(0, m, k)) + draw.rng.uniform(0.1, 0.9, k)
    apart = all(abs(int(a) - int(b)) >= 2 for a, b in combinations(drawn, 2))
    excess = max(excess, 2.0 * (spikes.is_separated(np.sort(drawn)) != apart))
    m, k = draw.size(300, 3000), 0
    k = draw.size(1, int(1.2 * sqrt(m)))
    exact = 1.0
    for j in range(k):
        exact *= (m - k + 1 - j) / m
    # To leading order; the next terms are of the order k^3 / m^2, and the slope is at most 1.
    return max(excess, abs(exact - exp(-1.5 * k * (k - 1) / m)) / (10.0 * k**3 / m**2 + 3.0 / m))
