"""Attacks on the chapter on sparse recovery."""

from itertools import combinations, product
from math import comb, exp, factorial, sqrt

import cvxpy as cp
import numpy as np

import convexlib as cl
from experiments.recovery import spikes
from tests.adversary.cells import all_masks, best_neuron, bound_on_cells, depth_of_cone, relu, unit
from tests.adversary.programs import PRECISE, interior_point, relu_norm
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.references import least_norm

CLEAR = 0.1  # distance of a certificate's norm from 1 at which what follows is well above rounding


def teacher(draw: Draw) -> tuple[list[Floats], Floats]:
    """Blocks D_g X of random masks with entries of size one, weights for the first of them."""
    n, d, k = draw.size(1, 7), draw.size(1, 3), draw.size(1, 2)
    X = draw.matrix(n, d) * draw.scale(3.0)
    kind = draw.choice("patterns", "patterns", "masks")
    gates = draw.normal(k + draw.size(0, 6), d)
    masks = X @ gates.T >= 0 if kind == "patterns" else draw.rng.random((n, len(gates))) < 0.5
    if draw.rng.random() < 0.2:
        masks[:, 0] = True  # a skip connection
    weights = draw.normal(k, d) * 10.0 ** draw.rng.uniform(-1, 1, (k, 1))
    draw.note(f"{k} of {len(gates)} {kind}")
    blocks = masks.T[:, :, None] * X
    # What is attacked is homogeneous.
    return list(blocks / (np.abs(blocks).max() or 1.0)), weights


class Gates:
    """A weight for each block, for CVXPY: outputs, norms, and the norms beyond the first k."""

    def __init__(self, blocks: list[Floats]) -> None:
        self.u = [cp.Variable(block.shape[1]) for block in blocks]
        self.outputs = sum(block @ v for block, v in zip(blocks, self.u, strict=True))
        self.norm = sum(cp.norm(v) for v in self.u)

    def off(self, k: int) -> float:
        """The norms of a solution off the first k gates."""
        return sum(float(np.linalg.norm(v.value)) for v in self.u[k:])


def best_certificate(blocks: list[Floats], own: list[Floats]) -> float:
    """The least of the largest norms over the other blocks; inf without a certificate, clearly."""
    z, k = cp.Variable(len(blocks[0])), len(own)
    A, hats = np.hstack(blocks[:k]), np.hstack(own)
    shortest = np.linalg.lstsq(A.T, hats, rcond=1e-10)[0]
    left = np.abs(A.T @ shortest - hats).max()
    if left > 1e-9:  # what is gained is of the order of its square
        return np.inf if left > 1e-3 else 1.0
    if len(blocks) == k:
        return 0.0
    worst = cp.max(cp.hstack([cp.norm(block.T @ z) for block in blocks[k:]]))
    return interior_point(cp.Problem(cp.Minimize(worst), [A.T @ z == hats]))


@attack("recovery-certificate")
def certificate(draw: Draw) -> None:
    """The teacher has the least norm exactly if a certificate exists; strict ones leave no other.

    Two programs that share nothing: over the weights, and over the certificates.
    """
    blocks, weights = teacher(draw)
    k = len(weights)
    y = sum(block @ w for block, w in zip(blocks, weights, strict=False))
    norm = float(np.linalg.norm(weights, axis=1).sum())
    best = best_certificate(blocks, [unit(w) for w in weights])
    gates = Gates(blocks)
    least = interior_point(cp.Problem(cp.Minimize(gates.norm), [gates.outputs == y]))
    if best > 1.0 + CLEAR:  # what is gained is of the order of the square of the excess, or more
        draw.true(least <= norm * (1.0 - 1e-8))
    draw.assume(best <= 1.0 - 1e-7)  # else too close to call for the solver
    draw.below(norm, least, 1e-7 * norm)
    # Off the teacher's gates sum |u_g| (1 - best) is at most what the norms differ by.
    draw.below(gates.off(k) * (1.0 - best), 0.0, 1e-6 * norm)


def planted(draw: Draw, most: int) -> tuple[Floats, Floats, Floats]:
    """Samples, a unit neuron inside its cell, not on a wall, and its active rows."""
    d = draw.size(1, 3)
    X = draw.matrix(draw.size(1, most), d)
    w = unit(draw.normal(d))
    inner = X @ w
    draw.assume((np.abs(inner[np.abs(X).max(axis=1) > 0]) >= 1e-3).all())
    return X, w, (inner > 0)[:, None] * X


def gates_in_use(blocks: list[Floats], y: Floats, beta: float, k: int) -> tuple[float, Floats]:
    """The norms off the first k gates at an optimum, and (residual) / beta."""
    gates = Gates(blocks)
    # In units in which the penalty is of size one.
    goal = 0.5 / beta * cp.sum_squares(gates.outputs - y) + gates.norm
    interior_point(cp.Problem(cp.Minimize(goal)))
    return gates.off(k), (y - gates.outputs.value) / beta


@attack("recovery-small-beta")
def small_beta(draw: Draw) -> None:
    """For small beta the gates in use are the teacher's where the condition holds, and not else."""
    blocks, weights = teacher(draw)
    k = len(weights)
    A = np.hstack(blocks[:k])
    values = np.linalg.svd(A, compute_uv=False)
    # Else not injective, or "small" would be smaller than the solver's accuracy.
    draw.assume(len(A) >= A.shape[1] and values[-1] > 0.05 * values[0])
    limit = A @ np.linalg.solve(A.T @ A, np.hstack([unit(w) for w in weights]))
    worst = max((float(np.linalg.norm(block.T @ limit)) for block in blocks[k:]), default=0.0)
    draw.assume(abs(worst - 1.0) >= CLEAR)
    norms = np.linalg.norm(weights, axis=1)
    beta = 1e-3 * values[-1] ** 2 * float(norms.min())
    off, residual = gates_in_use(blocks, A @ np.hstack(list(weights)), beta, k)
    if worst > 1.0:
        draw.true(off >= 1e-9 * norms.sum())
        return
    # Strict by CLEAR / 2 at least for beta this small, so gates off the teacher's vanish.
    draw.below(off, 0.0, 1e-6 * norms.sum())
    draw.same(residual, limit, np.abs(limit).max())


def hidden(draw: Draw) -> tuple[list[Floats], Floats, float]:
    """Gates for a linear teacher that has a certificate, though the shortest one fails."""
    X = draw.normal(draw.size(3, 6), 2)
    w = unit(draw.normal(2))
    H = np.vstack([np.zeros(2), draw.normal(6, 2)])
    blocks = [(X @ h >= 0)[:, None] * X for h in H]
    shortest = X @ np.linalg.solve(X.T @ X, w)
    worst = max(float(np.linalg.norm(block.T @ shortest)) for block in blocks[1:])
    draw.assume(worst >= 1.0 + 1e-3 and best_certificate(blocks, [w]) <= 1.0 - 1e-6)
    return blocks, w, worst


@refute("recovery-certificate", "the isometry condition is necessary for the least norm")
def condition_is_not_necessary(draw: Draw) -> None:
    """It asks the shortest certificate, and another may do."""
    *_, worst = hidden(draw)
    draw.below(worst, 1.0, 1e-3)


@refute("recovery-small-beta", "a teacher of least norm has its gates alone in use at small beta")
def other_gates_at_small_beta(draw: Draw) -> None:
    """The weight on other gates, as a part of what the excess over the condition suggests."""
    blocks, w, _ = hidden(draw)
    beta = 1e-3 * np.linalg.svd(blocks[0], compute_uv=False)[-1] ** 2
    draw.below(gates_in_use(blocks, blocks[0] @ w, beta, 1)[0], 0.0, 1e-7)


def whitened(draw: Draw) -> tuple[Floats, Floats]:
    """Orthonormal columns and a direction to which no sample is orthogonal."""
    d = draw.size(1, 3)
    X = draw.matrix(draw.size(d, 6), d)
    U, values, _ = np.linalg.svd(X, full_matrices=False)
    w = unit(draw.normal(d))
    draw.assume(values[-1] > 1e-3 * values[0] and np.abs(U @ w).min() >= 1e-4)
    return U, w


@attack("recovery-whitened")
def whitened_gates(draw: Draw) -> None:
    """X w is a strict certificate over all gates but all ones, and Wendel counts the halfspaces."""
    X, w = whitened(draw)
    masks = all_masks(len(X))[:-1]  # all but all ones, patterns or not
    blocks = masks @ ((X @ w)[:, None] * X)[:, None, :].reshape(len(X), -1)
    # One entry of the unit vector X w is dropped at least.
    strict = sqrt(1.0 - np.abs(X @ w).min() ** 2)
    draw.below(np.linalg.norm(blocks, axis=1), strict, 1e-12)
    if draw.number % 4 == 0:
        n, d = draw.size(1, 5), draw.size(1, 3)
        Z = draw.normal(n, d)
        found = np.array([depth_of_cone((2.0 * mask - 1.0)[:, None] * Z) for mask in all_masks(n)])
        if not ((found > 1e-9) & (found < 1e-6)).any():
            draw.true((found > 1e-6).sum() == bound_on_cells(n, d))


@refute("recovery-whitened", "from n = 2d on the whitened linear teacher is the only minimiser")
def ambiguous(draw: Draw) -> None:
    """Half of the draws at n = 2d lie in a halfspace."""
    d = draw.size(2, 3)
    draw.below(depth_of_cone(draw.normal(2 * d, d)), 0.0, 1e-6)


@attack("recovery-cones")
def linear_with_cones(draw: Draw) -> None:
    """With cones the maximum over all neurons is below 1 unless the teacher is one-signed."""
    X, w = whitened(draw)
    outputs = X @ w
    largest = best_neuron(X, outputs)
    if (outputs > 0).all() or (outputs < 0).all():
        draw.same(largest, 1.0, 1e-9)  # and the neuron +-w has the teacher's outputs
    else:  # one sample at least is dropped, or u is not +-w: strict by what that loses
        draw.below(largest, np.sqrt(1.0 - np.abs(outputs).min() ** 2 * 1e-6), 1e-9)


@attack("recovery-active")
def active(draw: Draw) -> None:
    """Outside of the span of its active samples the teacher has a shorter double."""
    X, w, A = planted(draw, 6)
    X, A = X * (size := draw.scale()), A * size
    inside = np.linalg.pinv(A, rcond=1e-10) @ (A @ w)  # the projection onto the active rows' span
    draw.assume(np.linalg.norm(w - inside) >= 1e-3 and X.any())
    inner = X @ w
    room = np.abs(inner[np.abs(inner) > 0]).min(initial=1.0)
    t = min(1.0, 0.5 * room / (np.linalg.norm(X, axis=1).max() or 1.0))
    shorter = w - t * (w - inside)
    draw.same(relu(X @ shorter), relu(inner), 1e-9 * np.abs(X).max())
    draw.same(A @ shorter, A @ w, 1e-9 * np.abs(X).max())
    draw.true(np.linalg.norm(shorter) < 1.0)


def relu_certificate(X: Floats, A: Floats, w: Floats) -> tuple[float, Floats]:
    """The least of the largest |z^T (Xu)_+| over all certificates, by duality in every cone."""
    n = len(X)
    masks = all_masks(n).astype(float)
    z, slack, t = cp.Variable(n), cp.Variable((2 * len(masks), n), nonneg=True), cp.Variable()
    signed = np.concatenate([masks, -masks])
    signs = np.concatenate([2 * masks - 1, 2 * masks - 1])
    rows = (cp.multiply(signed, cp.reshape(z, (1, n), order="C")) + cp.multiply(signs, slack)) @ X
    goal = cp.Problem(cp.Minimize(t), [cp.norm(rows, 2, axis=1) <= t, A.T @ z == w])
    goal.solve(solver=cp.CLARABEL, **PRECISE)
    return (float(goal.value), z.value) if goal.status == "optimal" else (np.inf, np.zeros(n))


@attack("recovery-relu")
def among_all_neurons(draw: Draw) -> None:
    """A certificate decides whether the neuron has the least norm, the condition at small beta."""
    X, w, A = planted(draw, 4)
    least, _ = relu_norm(X, relu(X @ w))
    spans = np.linalg.norm(np.linalg.pinv(A, rcond=1e-8) @ (A @ w) - w) < 1e-8
    best, z = relu_certificate(X, A, w) if spans else (np.inf, np.zeros(len(X)))
    draw.below(least, 1.0, 1e-7)  # the teacher is feasible
    if best > 1.0 + CLEAR:
        draw.true(least <= 1.0 - 1e-9)
        return
    if best < 1.0 + 1e-8:
        draw.below([1.0, best_neuron(X, z)], [least, 1.0], 1e-6)
    values = np.linalg.svd(A, compute_uv=False)
    draw.assume(len(A) >= len(w) and values[-1] > 0.1 * values[0])
    worst = best_neuron(X, A @ np.linalg.solve(A.T @ A, w))
    beta = 1e-3 * values[-1] ** 2
    v = w
    for _ in range(100):  # the best network of the cell
        v = np.linalg.solve(A.T @ A + beta / np.linalg.norm(v) * np.eye(len(w)), A.T @ (A @ w))
    draw.assume(np.array_equal(X @ v > 0, X @ w > 0))
    alone = 0.5 * np.sum((A @ (v - w)) ** 2) + beta * np.linalg.norm(v)
    whole = cl.solve(cl.TwoLayer(X, relu(X @ w), beta=beta), tol=1e-8)
    if worst <= 1.0 + 1e-12:
        draw.below(alone, whole.value, 2e-8 * alone)
    elif worst > 1.0 + CLEAR:
        draw.true(whole.dual <= alone * (1.0 - 1e-12))


@refute("recovery-relu", "where the condition over all neurons fails the neuron is not recovered")
def recovered_without_condition(draw: Draw) -> None:
    """Another certificate does it: the least norm is the teacher's."""
    X = draw.normal(5, 2)
    w = unit(draw.normal(2))
    A = (X @ w > 0)[:, None] * X
    draw.assume(np.linalg.svd(A, compute_uv=False)[-1] >= 0.1)
    draw.assume(best_neuron(X, A @ np.linalg.solve(A.T @ A, w)) > 1.0 + 1e-3)
    draw.true(relu_norm(X, relu(X @ w))[0] < 1.0 - 1e-6)


def kinks(draw: Draw) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Samples, kinks between them (not beside the ends), amplitudes, directions, intervals."""
    n = draw.size(4, 10)
    x = np.cumsum(10.0 ** draw.rng.uniform(-1.5, 0.5, n))
    k = draw.size(1, 3)
    gaps = np.sort(draw.rng.integers(1, n - 2, k))
    places = np.sort(x[gaps] + draw.rng.uniform(0.1, 0.9, k) * (x[gaps + 1] - x[gaps]))
    amplitudes = draw.rng.uniform(0.2, 1.0, k) * draw.choice(draw.signs(k), np.ones(k))
    draw.note(f"{n} samples, {k} kinks")
    scale = draw.scale(3.0)
    return x * scale, places * scale, amplitudes, draw.signs(k), gaps


def least_ramps(x: Floats, y: Floats, more: Floats) -> float:
    """The least norm over ramps at the samples and some more places, with a free constant."""
    places = np.concatenate([x, more])
    ramps = np.hstack([relu(x[:, None] - places), relu(places - x[:, None])])
    return least_norm(ramps / np.ptp(x), y / np.ptp(x))


def spread(
    points: Floats, x: Floats, gap: int, place: float, direction: float
) -> tuple[Floats, Floats]:
    """Outputs of a kink, and of both ends of its interval in its place."""
    left, right = x[gap], x[gap + 1]
    share = (right - place) / (right - left)
    at_left, at_right, one = (relu(direction * (points - c)) for c in (left, right, place))
    return share * at_left + (1 - share) * at_right, one


@attack("recovery-kinks")
def separation(draw: Draw) -> None:
    """A linear program says which kinks have the least norm; no other reading has as few kinks."""
    x, places, amplitudes, directions, gaps = kinks(draw)
    y = relu(directions * (x[:, None] - places)) @ amplitudes
    norm = float(np.abs(amplitudes).sum())
    least = least_ramps(x, y, places)
    draw.below(least, norm, 1e-8 * norm)
    opposite = np.diff(np.sign(amplitudes)) != 0
    if not (opposite & (np.diff(gaps) < 2)).any():
        draw.below(norm, least, 1e-8 * norm)
    else:  # the polygon's norm is smaller by kappa at least
        hats = np.array([np.interp(places, x, np.eye(len(x))[m]) for m in range(len(x))])
        kappa = relu(amplitudes).sum() - relu(hats @ amplitudes).sum()
        draw.below(least, norm - kappa, 1e-8 * norm)
    draw.same(*spread(x, x, gaps[0], places[0], directions[0]), 1e-10 * np.ptp(x))  # part 3
    if (np.diff(gaps) >= 2).all():
        draw.true(count_readings(x, y, len(places)) == 1)


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
def spread_kink(draw: Draw) -> None:
    """A kink may be spread over the two ends of its interval: equal outputs, norm and samples."""
    x, places, _, directions, gaps = kinks(draw)
    draw.assume((np.diff(gaps) >= 2).all())
    points = np.concatenate([x, places[:1]])
    both, one = spread(points, x, gaps[0], places[0], directions[0])
    draw.assume(np.abs(both - one)[:-1].max() <= 1e-10 * np.ptp(x))
    draw.same(both[-1], one[-1], 1e-6 * (x[gaps[0] + 1] - x[gaps[0]]))


@attack("recovery-birthdays")
def birthdays(draw: Draw) -> None:
    """The probability of separation by counting, its approximation, and the library's test."""
    m, k = draw.size(1, 7), draw.size(1, 4)
    good = [
        all(abs(a - b) >= 2 for a, b in combinations(p, 2)) for p in product(range(m), repeat=k)
    ]
    draw.true(sum(good) == factorial(k) * (comb(m - k + 1, k) if m - k + 1 >= k else 0))
    drawn = np.sort(draw.rng.integers(0, m, k)) + draw.rng.uniform(0.1, 0.9, k)
    apart = all(abs(int(a) - int(b)) >= 2 for a, b in combinations(drawn, 2))
    draw.true(spikes.is_separated(np.sort(drawn)) == apart)
    m = draw.size(300, 3000)
    k = draw.size(1, int(1.2 * sqrt(m)))
    exact = np.prod((m - k + 1 - np.arange(k)) / m)
    # To leading order; the next terms are of the order k^3 / m^2, and the slope is at most 1.
    draw.same(exact, exp(-1.5 * k * (k - 1) / m), 10.0 * k**3 / m**2 + 3.0 / m)
