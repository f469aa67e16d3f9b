"""Attacks on the chapter on algorithms, in numpy; the library only gives points to start from."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, count, islice, product

import numpy as np
import torch
from scipy.optimize import linprog

import convexlib as cl
from tests.adversary.cells import places, projected, relu, sided
from tests.adversary.programs import dual
from tests.adversary.search import TINY, Draw, Floats, attack, refute


def length(values: Floats) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(values))


def shrunk(p: Floats, t: float) -> Floats:
    """p, shorter by t."""
    size = length(p)
    return p * (max(1.0 - t / size, 0.0) if size > 0 else 0.0)


def prox(N: Floats, x: Floats, t: float) -> Floats:
    """The proximal map of the lemma."""
    return shrunk(projected(N, x), t)


@dataclass(frozen=True, eq=False)
class Program:
    """min 1/2 |A w - y|^2 + beta sum |w_b| over blocks w_b with N_b w_b >= 0 (N_b may be empty)."""

    A: Floats  # (B, n, d)
    cones: list[Floats]
    y: Floats
    beta: float

    def fitted(self, w: Floats) -> Floats:
        """A w (n,) of blocks (B, d)."""
        return np.einsum("bnd,bd->n", self.A, w)

    def correlations(self, z: Floats) -> Floats:
        """A^T z (B, d)."""
        return np.einsum("bnd,n->bd", self.A, z)

    def value(self, w: Floats) -> float:
        """F(w) of blocks that lie in their cones."""
        price = np.linalg.norm(w, axis=1).sum()
        return float(0.5 * length(self.fitted(w) - self.y) ** 2 + self.beta * price)

    def prox(self, w: Floats, t: float) -> Floats:
        """The proximal map of t times the norms, block by block."""
        return np.array([prox(N, x, t) for N, x in zip(self.cones, w, strict=True)])

    def step(self, w: Floats, ell: float) -> Floats:
        """A proximal gradient step."""
        slope = self.correlations(self.fitted(w) - self.y)
        return self.prox(w - slope / ell, self.beta / ell)

    def whole(self) -> Floats:
        """A as a matrix."""
        return self.A.transpose(1, 0, 2).reshape(len(self.y), -1)

    def lipschitz(self) -> float:
        """The largest eigenvalue of A A^T."""
        return length(np.linalg.svd(self.whole(), compute_uv=False)[:1]) ** 2

    def reach(self, z: Floats) -> float:
        """The largest projection of a correlation: z is feasible where it is at most beta."""
        pairs = zip(self.cones, self.correlations(z), strict=True)
        return max(length(projected(N, c)) for N, c in pairs)

    def feasible(self, z: Floats) -> Floats:
        """z, or a part of it."""
        return z / max(1.0, self.reach(z) / self.beta)

    def random(self, draw: Draw, size: float = 1.0) -> Floats:
        """Blocks in their cones, some of them zero."""
        w = size * draw.normal(len(self.A), self.A.shape[2])
        w[draw.rng.random(len(w)) < 0.3] = 0.0
        return self.prox(w, 0.0)


def program(draw: Draw, cones: bool | None = None) -> Program:
    """Some patterns of some gates, repeated and empty ones among them, with cones or without."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d) * draw.scale(), draw.targets(n) * draw.scale()
    gates = draw.normal(draw.size(1, 4), d)
    if draw.rng.random() < 0.2:
        gates[0] = gates[-1]
    cones = draw.rng.random() < 0.6 if cones is None else cones
    draw.note("cones" if cones else "gated")
    A, normals = [], []
    for mask in (X @ gates.T >= 0).T:
        for sign in (1.0, -1.0) if cones else (1.0,):
            A.append(sign * X * mask[:, None])
            normals.append(sided(mask, X) if cones else X[:0])
    made = Program(np.array(A), normals, y, 1.0)
    return Program(made.A, normals, y, draw.power(-4, 0.2) * (made.reach(y) or 1.0))


def curved(draw: Draw, cones: bool | None = None) -> tuple[Program, float]:
    """A program whose outputs are not all zero, and its ell."""
    problem = program(draw, cones)
    ell = problem.lipschitz()
    draw.assume(ell > 0.0)
    return problem, ell


def descent(problem: Program, w: Floats) -> Iterator[Floats]:
    """The iterates of proximal gradient."""
    ell = problem.lipschitz()
    while True:
        w = problem.step(w, ell)
        yield w


def accelerated(problem: Program, w: Floats, restart: bool = False) -> Iterator[Floats]:
    """Those of FISTA."""
    ell, v, t = problem.lipschitz(), w, 1.0
    while True:
        new = problem.step(v, ell)
        if restart and ((v - new) * (new - w)).sum() > 0:
            t = 1.0
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        v, w, t = new + (t - 1) / t_next * (new - w), new, t_next
        yield w


def good_point(problem: Program, steps: int = 200) -> Floats:
    """A point near the optimum."""
    zero = np.zeros_like(problem.A[:, 0])
    if problem.lipschitz() == 0.0:
        return zero
    *_, w = islice(accelerated(problem, zero, restart=True), steps)
    return w


def rival(draw: Draw, problem: Program) -> Floats:
    """A point to compare with: nearly optimal, zero, or any of the cones."""
    if draw.rng.random() < 0.5:
        return good_point(problem)
    ell = problem.lipschitz()
    size = length(problem.y) / np.sqrt(ell) if ell > 0 else 1.0
    return problem.random(draw, draw.choice(0.0, 0.1, 1.0, 10.0) * size)


# --- the gap ------------------------------------------------------------------------------------


@attack("algorithms-gap")
def gap(draw: Draw) -> None:
    """F(w) - d(z) is the sum of terms that the proposition names, none of them negative."""
    problem = program(draw)
    y, w = problem.y, rival(draw, problem)
    noise = draw.normal(len(y))
    z = problem.feasible(draw.choice(y - problem.fitted(w), y, noise))
    slack = problem.beta * np.linalg.norm(w, axis=1) - (w * problem.correlations(z)).sum(axis=1)
    terms = 0.5 * length(y - problem.fitted(w) - z) ** 2 + slack.sum()
    sizes = np.abs(problem.A).sum() * np.abs(w).max(initial=0.0) * (np.abs(z).max() + TINY)
    scale = 1e-11 * (problem.value(w) + length(y) ** 2 + length(z) ** 2 + sizes)
    draw.same(problem.value(w) - dual(z, y), terms, scale)
    draw.below(-slack, 0.0, scale)
    draw.below(problem.reach(z) / problem.beta, 1.0, 1e-9)


@refute("algorithms-gap", "dividing an infeasible residual by 1 + eps costs eps y^T z")
def cost_of_scaling(draw: Draw) -> None:
    """It costs eps z^T A w: nothing where the network is zero, however long y is."""
    problem = program(draw)
    y = problem.y
    z = y - problem.fitted(draw.choice(0.1, 1.0) * rival(draw, problem))
    eps = 1e-6
    claimed = eps * y @ z
    slack = 0.1 * abs(claimed) + 10 * eps**2 * length(z) ** 2
    draw.same(dual(z, y) - dual(z / (1 + eps), y), claimed, slack)


# --- proximal gradient --------------------------------------------------------------------------


def cone(draw: Draw) -> Floats:
    """The normals of a cone, or none for the whole space."""
    d = draw.size(1, 3)
    if draw.rng.random() < 0.15:
        draw.note(f"no cone, d = {d}")
        return np.zeros((0, d))
    X = draw.matrix(draw.size(1, 6), d)
    return sided(X @ draw.normal(d) >= 0, X)


@attack("algorithms-prox")
def project_then_shrink(draw: Draw) -> None:
    """No point of the cone is better than the projection, shrunk."""
    N, scale = cone(draw), draw.scale()
    x = draw.weights(N.shape[1]) * scale
    size = length(x)
    t = draw.choice(0.0, 0.5, 1.0, 2.0) * size * draw.rng.random()
    best = prox(N, x, t)

    def value(v: Floats) -> float:
        return 0.5 * length(v - x) ** 2 + t * length(v)

    others = [np.zeros_like(x), 0.5 * best, 2.0 * best, projected(N, x)]
    for part in (1e-4, 1e-2, 1.0):
        noise = part * size * draw.normal(10, len(x))
        others += [projected(N, best + e) for e in noise]
    draw.below(value(best), min(map(value, others)), 1e-12 * size**2)
    draw.below(-N @ best, 0.0, 1e-9 * size * np.abs(N).max(initial=1))


@refute("algorithms-prox", "shrinking first and projecting then is the same map")
def shrink_then_project(draw: Draw) -> None:
    """Outside of the cone the projection is shorter than x, and its share of t larger."""
    N = cone(draw)
    x = draw.weights(N.shape[1])
    t = 0.5 * length(x) * draw.rng.random()
    draw.below(length(projected(N, shrunk(x, t)) - prox(N, x, t)), 0.0, 1e-9 * length(x))


@attack("algorithms-step")
def one_step(draw: Draw) -> None:
    """F(w+) <= F(u) + ell/2 |u - v|^2 - ell/2 |u - w+|^2 for every u of the cones and every v."""
    problem, ell = curved(draw)
    ell *= draw.choice(1.0, 1.0, 1.7)
    u, v = rival(draw, problem), rival(draw, problem)
    v = v + draw.choice(0.0, 1.0) * (length(v) + 1.0) * draw.normal(*v.shape)
    new = problem.step(v, ell)
    right = problem.value(u) + 0.5 * ell * (length(u - v) ** 2 - length(u - new) ** 2)
    scale = problem.value(u) + problem.value(new) + ell * (length(u - v) ** 2 + length(new) ** 2)
    draw.below(problem.value(new), right, 1e-11 * (scale + length(problem.y) ** 2))


def attack_rate(
    draw: Draw,
    method: Callable[[Program, Floats], Iterator[Floats]],
    rate: Callable[[int], float],
    falls: bool,
) -> None:
    """The values of 30 steps, with any u in the place of a minimiser, as in the proofs."""
    problem, ell = curved(draw)
    start, u = rival(draw, problem), rival(draw, problem)
    if draw.rng.random() < 0.3:  # outside of the cones
        start = start + length(u) * draw.normal(*u.shape)
    base, radius = problem.value(u), length(start - u) ** 2
    scale = 1e-10 * (base + ell * radius + length(problem.y) ** 2)
    values = [problem.value(w) for w in islice(method(problem, start), 30)]
    rates = [rate(k) * ell * radius for k in range(1, 31)]
    draw.below(np.array(values) - base, rates, scale)
    if falls:
        draw.below(values[1:], values[:-1], scale)


@attack("algorithms-pg")
def proximal_gradient(draw: Draw) -> None:
    """The value never rises and is at most ell |w0 - w*|^2 / (2 k) above the optimum."""
    attack_rate(draw, descent, lambda k: 1 / (2 * k), falls=True)


@attack("algorithms-fista")
def fista(draw: Draw) -> None:
    """The error is at most 2 ell |w0 - w*|^2 / (k + 1)^2."""
    attack_rate(draw, accelerated, lambda k: 2 / (k + 1) ** 2, falls=False)


@refute("algorithms-fista", "the values of FISTA never rise")
def fista_ripples(draw: Draw) -> None:
    """The potential of the proof falls; the values need not."""
    problem, _ = curved(draw, cones=False)
    steps = islice(accelerated(problem, rival(draw, problem)), 120)
    values = np.array([problem.value(w) for w in steps])
    draw.below(values[1:], values[:-1], 1e-9 * values[:-1])


@refute("algorithms-pg", "with every pattern listed m times, m times as many steps are needed")
def copies_are_slow(draw: Draw) -> None:
    """From zero the sum of the copies is the original iterate, step by step."""
    problem, m = program(draw), draw.size(2, 4)
    tiled = Program(np.concatenate([problem.A] * m), problem.cones * m, problem.y, problem.beta)
    ell, zero = problem.lipschitz(), np.zeros_like(problem.A[:, 0])
    draw.assume(ell > 0.0)
    copies = np.zeros_like(tiled.A[:, 0])
    for _ in range(10):
        copies = tiled.step(copies, m * ell)
    start, *values = [problem.value(w) for w in (zero, *islice(descent(problem, zero), 10))]
    # The claim: after 10 steps the copies are where the original is after 10 / m.
    early = values[10 // m - 1]
    draw.below(early, tiled.value(copies), 1e-3 * (start - values[-1]) + 1e-9 * start)


# --- ADMM ---------------------------------------------------------------------------------------


def attack_admm(draw: Draw, first: int) -> None:
    """V falls in each step from the `first` on."""
    problem = program(draw)
    n, (blocks, d) = len(problem.y), problem.A[:, 0].shape
    w = good_point(problem, 400)
    z = problem.feasible(problem.y - problem.fitted(w))
    gap_ = max(problem.value(w) - dual(z, problem.y), 0.0)
    rho = draw.power(-1, 1)
    B = np.vstack([problem.whole(), np.eye(blocks * d)])
    star_h = np.concatenate([problem.fitted(w), w.ravel()])
    star_s = np.concatenate([-z, problem.correlations(z).ravel()]) / rho
    size = length(star_h) + length(star_s) + length(problem.y)
    h, s = (draw.choice(0.0, 1.0, 3.0) * size * draw.normal(len(B)) for _ in range(2))
    basis, _ = np.linalg.qr(B)
    for k in range(30):
        x = basis @ (basis.T @ (h - s))
        inner = (x + s)[n:].reshape(blocks, d)
        outputs = (rho * (x + s)[:n] + problem.y) / (rho + 1)
        new_h = np.concatenate([outputs, problem.prox(inner, problem.beta / rho).ravel()])
        new_s = s + x - new_h
        before = length(s - star_s) ** 2 + length(h - star_h) ** 2
        after = length(new_s - star_s) ** 2 + length(new_h - star_h) ** 2
        moved = length(new_s - s) ** 2 + length(new_h - h) ** 2
        h, s = new_h, new_s
        if k >= first:
            # The point is optimal to its gap: its s is a gap / rho subgradient.
            allowed = 2 * gap_ / rho + 1e-11 * (before + after + size**2)
            draw.below(after - before + moved, 0.0, allowed)


@attack("algorithms-admm")
def admm(draw: Draw) -> None:
    """From the first step on V falls by at least the squares of what has moved."""
    attack_admm(draw, first=1)


@refute("algorithms-admm", "V falls from any start at once, in the first step too")
def admm_start(draw: Draw) -> None:
    """A start whose s is no subgradient at h has no monotonicity to offer."""
    attack_admm(draw, first=0)


# --- cones and Newton ---------------------------------------------------------------------------


def by_faces(N: Floats, c: Floats) -> Floats:
    """The projection onto {N u >= 0}, as the nearest of the projections onto all faces' planes."""
    best, near = np.zeros_like(c), length(c)
    rows = N[np.linalg.norm(N, axis=1) > 0]
    for size in range(min(len(rows), len(c)) + 1):
        for chosen in combinations(range(len(rows)), size):
            face = rows[list(chosen)]
            p = c - np.linalg.pinv(face) @ (face @ c) if size else c
            inside = (rows @ p >= -1e-10 * np.linalg.norm(rows, axis=1) * length(c)).all()
            if inside and length(c - p) < near:
                best, near = p, length(c - p)
    return best


@attack("algorithms-multipliers")
def multipliers(draw: Draw) -> None:
    """Any nonnegative multipliers bound the projection's length, and the best ones attain it."""
    X = draw.samples(6)
    N = sided(X @ draw.normal(X.shape[1]) >= 0, X)
    c = draw.normal(X.shape[1]) * draw.scale()
    exact = length(by_faces(N, c))
    size = length(c) * draw.choice(0.0, 0.1, 1.0)
    some = [size * np.abs(draw.normal(len(N))) for _ in range(20)]
    draw.below(exact, [length(c + N.T @ values) for values in some], 1e-8 * length(c))
    draw.same(length(projected(N, c)), exact, 1e-8 * length(c))


@attack("algorithms-envelope")
def envelope(draw: Draw) -> None:
    """x - prox(x) is the projection onto sigma C, and half the square of prox has slope prox."""
    N, beta, sigma = cone(draw), draw.rng.random() + 1e-3, draw.power(-2, 2)
    d = N.shape[1]
    x = draw.weights(d) * draw.scale()
    t = sigma * beta * draw.choice(1.0, length(x))
    p = prox(N, x, t)
    c, size = x - p, length(x) + t
    draw.below(length(projected(N, c)), t, 1e-10 * size)
    for other in size * draw.normal(20, d) * draw.choice(0.1, 1.0, 10.0):
        inside = other * min(1.0, t / (length(projected(N, other)) + TINY))
        draw.below(p @ (inside - c), 0.0, 1e-10 * size**2)
    h = 1e-4 * size
    for e in np.eye(d):
        # Convex, with a slope that is 1-Lipschitz: between its tangent and a parabola above it.
        beyond = 0.5 * length(prox(N, x + h * e, t)) ** 2 - 0.5 * p @ p - h * p @ e
        draw.below([-beyond, beyond - 0.5 * h**2], 0.0, 1e-10 * size**2)


@attack("algorithms-outer")
def proximal_points(draw: Draw) -> None:
    """The proximal point's residual minimises psi, and the error falls with the sum of sigmas."""
    problem, ell = curved(draw)
    start, u = rival(draw, problem), rival(draw, problem)
    old, total = start, 0.0
    base, radius = problem.value(u), length(start - u) ** 2
    scale = base + ell * radius + length(problem.y) ** 2 + problem.value(start)
    for sigma in draw.rng.uniform(0.3, 3.0, 3) / ell:
        total += sigma
        new, rate = old, ell + 1.0 / sigma
        for _ in range(150):  # each shrinks the error by 1 - 1 / (1 + sigma ell) <= 3/4
            slope = problem.correlations(problem.fitted(new) - problem.y) + (new - old) / sigma
            new = problem.prox(new - slope / rate, problem.beta / rate)
        z = problem.y - problem.fitted(new)
        again = problem.prox(old + sigma * problem.correlations(z), sigma * problem.beta)
        slope_of_psi = z - problem.y + problem.fitted(again)
        errors = [length(again - new) * np.sqrt(ell), length(slope_of_psi)]
        draw.below(errors, 0.0, 1e-8 * np.sqrt(scale))
        draw.below(problem.value(new) - base, radius / (2 * total), 1e-9 * scale)
        old = new


def clear_multipliers(active: Floats, c: Floats) -> bool:
    """Whether c is a combination of the rows in which all are well above zero."""
    k = len(active)
    found = linprog(
        np.append(np.zeros(k), -1.0),  # the least multiplier
        A_ub=np.hstack([-np.eye(k), np.ones((k, 1))]),
        b_ub=np.zeros(k),
        A_eq=np.hstack([active.T, np.zeros((len(c), 1))]),
        b_eq=c,
        bounds=[(0, None)] * k + [(None, 1.0)],
    )
    return bool(found.success and -found.fun >= 1e-3)


@attack("algorithms-jacobian")
def jacobian(draw: Draw) -> None:
    """Where multipliers can be positive on what is active, differences of prox agree with J."""
    N = cone(draw)
    d = N.shape[1]
    x = draw.normal(d)
    t = draw.choice(0.0, 0.3, 1.0) * draw.rng.random()
    p = projected(N, x)
    rows = N / np.maximum(np.linalg.norm(N, axis=1, keepdims=True), TINY)
    slack = rows @ p
    draw.assume(not ((slack >= 1e-9) & (slack < 1e-3)).any())  # too near to another face
    active, V = rows[slack < 1e-9], np.eye(d)
    if len(active):
        draw.assume(clear_multipliers(active, p - x))
        _, sizes, right = np.linalg.svd(active)
        V = right[int((sizes > 1e-9).sum()) :].T
    size = length(p)
    draw.assume(abs(size - t) >= 1e-3)
    J = np.zeros((d, d))
    if size > t:
        omega, c = p / size, t / size
        J = (1 - c) * V @ V.T + c * np.outer(omega, omega)
        L = np.sqrt(1 - c) * V + (1 - np.sqrt(1 - c)) * np.outer(omega, omega) @ V
        draw.true(np.abs(L @ L.T - J).max() <= 1e-12)
    h = 1e-5  # within the margins of 1e-3; the third derivative is at most of the order 1e6
    columns = [(prox(N, x + h * e, t) - prox(N, x - h * e, t)) / (2 * h) for e in np.eye(d)]
    draw.same(np.array(columns).T, J, 1e-8 + h**2 / max(size, 1e-3) ** 2)


@refute("algorithms-jacobian", "prox is differentiable wherever |p| differs from t")
def kinks_of_faces(draw: Draw) -> None:
    """Not on a facet, where a constraint is active and its multiplier zero."""
    N = cone(draw)
    x = projected(N, draw.normal(N.shape[1]))  # a point of the cone: all are zero
    h = 1e-6 * (length(x) + 1.0)
    for e in np.eye(len(x)):
        ahead, behind = prox(N, x + h * e, 0.0) - x, x - prox(N, x - h * e, 0.0)
        draw.below(length(ahead - behind), 0.0, 0.01 * h)


# --- column generation and pricing ----------------------------------------------------------------


def best_neuron(X: Floats, z: Floats) -> tuple[float, Floats]:
    """max |z^T (X u)_+| over the unit ball at rank one or two, and where."""
    candidates = places(X, z)
    heights = np.abs(relu(candidates @ X.T) @ z)
    return float(heights.max()), candidates[int(heights.argmax())]


@attack("algorithms-columns-theorem")
def columns(draw: Draw) -> None:
    """Scaled by a bound on the best neuron, z bounds all networks; the method ends at p*."""
    n, d = draw.size(1, 5), draw.size(1, 2)
    X, y = draw.matrix(n, d), draw.targets(n)
    beta = draw.power(-3, 0.1) * (best_neuron(X, y)[0] or 1.0)
    everything = cl.TwoLayer(X, y, beta=beta)
    best = cl.solve(everything, tol=1e-9)
    z = draw.choice(1.0, 0.1, 10.0) * draw.normal(n)
    z = draw.choice(z, y, best.z.numpy())
    height = best_neuron(X, z)[0] * draw.choice(1.0, 1.0, 1.5)
    scale = 0.5 * float(y @ y) or 1.0
    draw.below(dual(z * min(1.0, beta / (height or beta)), y), best.value, 1e-8 * scale)
    gates = draw.normal(1, d)
    for number in range(len(everything.masks) + 2):
        masks = torch.from_numpy(X @ gates.T >= 0).T.contiguous()
        listed = cl.Arrangements(masks, torch.from_numpy(gates))
        some = cl.solve(everything.with_arrangements(listed), tol=1e-9)
        z = some.z.numpy()
        height, u = best_neuron(X, z)
        eps = max(height / beta - 1.0, 0.0)
        gap_ = max(some.value - some.dual, 0.0)
        inexact = gap_ + eps * (np.sqrt(2 * gap_) * length(z) + gap_) + 1e-9 * scale
        draw.below(some.value - best.dual, 2 * eps * some.value, 10 * inexact)
        draw.below(best.dual, some.value, 1e-8 * scale)
        if eps < 1e-7 or (draw.rng.random() < 0.5 and not number):
            return  # half of the time after the first round
        gates = np.vstack([gates, u])
    draw.true(False)  # more rounds than patterns


def cone_bound(R: Floats, X: Floats, z: Floats, tau: Floats, w: Floats, e: Floats) -> float:
    """The bound of the lemma for generators R (r, d)."""
    S = X @ R.T
    q = np.where((S >= 0).all(axis=1)[:, None], S * z[:, None], 0.0)
    undecided = ~(S >= 0).all(axis=1) & ~(S <= 0).all(axis=1)
    chords, tangents = relu(S) * z[:, None], tau[:, None] * S * z[:, None]
    q = np.where(undecided[:, None], np.where(z[:, None] >= 0, chords, tangents), q)
    return length(w) + max(0.0, float(((q.sum(axis=0) - R @ w) / (R @ e)).max()))


@attack("algorithms-cone-bound")
def bound_on_a_cone(draw: Draw) -> None:
    """No unit vector of a cone has a g above the bound, whatever w, e and tau are."""
    n, d = draw.size(1, 7), draw.size(1, 4)
    X = draw.matrix(n, d) * draw.scale()
    z, width = draw.targets(n), draw.power(-2, 0.5)
    R = draw.normal(d) + width * draw.normal(draw.size(1, d + 1), d)
    R = R * np.exp(draw.normal(len(R), 1))  # of any length
    tau, size = draw.rng.random(n), np.abs(z) @ np.linalg.norm(X, axis=1)
    tau = draw.choice(tau, np.zeros(n), np.ones(n))
    w = draw.choice(0.0, 0.3, 1.0) * size * draw.normal(d)
    e = projected(R, draw.normal(d)) + 0.1 * R.mean(axis=0)
    draw.assume(length(e) > 0.0 and bool((R @ e > 1e-9 * length(e)).all()))
    bound = cone_bound(R, X, z, tau, w, e / length(e))
    shares = draw.rng.exponential(1.0, (300, len(R))) * (draw.rng.random((300, len(R))) < 0.7)
    u = np.vstack([R, shares @ R])
    sizes = np.linalg.norm(u, axis=1, keepdims=True)
    u = u[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]
    draw.below(np.append(relu(u @ X.T) @ z, 0.0), bound, 1e-10 * (size + bound))


def search_cones(X: Floats, z: Floats, eps: float, splits: int) -> tuple[list[float], float, bool]:
    """Best-first splitting with w = 0: bounds, best g at a generator, and whether it came near."""
    d = X.shape[1]
    tau, zero, bounds, heap, number = np.full(len(X), 0.5), np.zeros(d), [], [], count()

    def put(R: Floats) -> None:
        centre = R.sum(axis=0) / length(R.sum(axis=0))
        heapq.heappush(heap, (-cone_bound(R, X, z, tau, zero, centre), next(number), R))

    for signs in product((1.0, -1.0), repeat=d):
        put(np.diag(signs))
    axes = np.concatenate([np.eye(d), -np.eye(d)])
    found = float((relu(axes @ X.T) @ z).max())
    for _ in range(splits):
        bounds.append(-heap[0][0])
        near = bounds[-1] <= max(found, 0.0) + eps
        if near or d == 1:
            return bounds, found, near
        R = heapq.heappop(heap)[-1]
        a, b = max(combinations(range(d), 2), key=lambda pair: length(R[pair[0]] - R[pair[1]]))
        middle = (R[a] + R[b]) / length(R[a] + R[b])
        found = max(found, float(relu(X @ middle) @ z))
        for replaced in (a, b):
            child = R.copy()
            child[replaced] = middle
            put(child)
    return [*bounds, -heap[0][0]], found, False


@attack("algorithms-pricing")
def branch_and_bound(draw: Draw) -> None:
    """The bound is valid at any moment and comes near the best value found, zero included."""
    X = draw.samples(6) * draw.scale()
    z, d = draw.targets(len(X)), X.shape[1]
    z = draw.choice(z, z, -np.abs(z))
    size = np.abs(z) @ np.linalg.norm(X, axis=1)
    u = draw.normal(500, d)
    if d == 2:
        u = np.vstack([u, best_neuron(X, relu(z))[1], best_neuron(X, z)[1], -best_neuron(X, z)[1]])
    heights = relu((u / np.linalg.norm(u, axis=1, keepdims=True)) @ X.T) @ z
    bounds, _, near = search_cones(X, z, 0.05 * size + TINY, 2000)
    draw.below(np.append(heights, 0.0), min(bounds), 1e-10 * size)
    draw.true(near)


@refute("algorithms-pricing", "the bound comes near the largest g at a generator")
def nothing_found(draw: Draw) -> None:
    """Where every direction has a negative g, the maximum over the ball is g(0) = 0."""
    X = draw.samples(6, 2)
    z = -np.abs(draw.targets(len(X)))
    size = np.abs(z) @ np.linalg.norm(X, axis=1)
    bounds, found, _ = search_cones(X, z, 1e-3 * size + TINY, 500)
    draw.below(bounds[-1], found, 0.01 * size)
