"""Attacks on the chapter on algorithms, in numpy; the library only gives points to start from."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from scipy.optimize import linprog, nnls

import convexlib as cl
from tests.adversary.search import Draw, Floats, attack, refute

TINY = 1e-300  # keeps a quotient finite where both sides vanish


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def length(values: Floats) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(values))


def projected(N: Floats | None, c: Floats) -> Floats:
    """The projection of c onto {u : N u >= 0}, or c itself without a cone."""
    size = length(c)
    if N is None or size == 0.0:
        return c
    lengths = np.linalg.norm(N, axis=1)
    rows = N[lengths > 0] / lengths[lengths > 0, None]
    if not len(rows):
        return c
    multipliers, _ = nnls(rows.T, -c / size)
    return size * (c / size + rows.T @ multipliers)


def shrunk(p: Floats, t: float) -> Floats:
    """p, shorter by t."""
    size = length(p)
    return p * (max(1.0 - t / size, 0.0) if size > 0 else 0.0)


def prox(N: Floats | None, x: Floats, t: float) -> Floats:
    """The proximal map of the lemma."""
    return shrunk(projected(N, x), t)


@dataclass(frozen=True, eq=False)
class Program:
    """min 1/2 |A w - y|^2 + beta sum |w_b| over blocks w_b with N_b w_b >= 0 (None: all)."""

    A: Floats  # (B, n, d)
    cones: list[Floats | None]
    y: Floats
    beta: float

    def fitted(self, w: Floats) -> Floats:
        """A w (n,) of blocks (B, d)."""
        return np.einsum("bnd,bd->n", self.A, w)

    def correlations(self, z: Floats) -> Floats:
        """A^T z (B, d)."""
        return np.einsum("bnd,n->bd", self.A, z)

    def penalty(self, w: Floats) -> float:
        """The sum of the blocks' norms."""
        return float(np.linalg.norm(w, axis=1).sum())

    def value(self, w: Floats) -> float:
        """F(w) of blocks that lie in their cones."""
        return 0.5 * length(self.fitted(w) - self.y) ** 2 + self.beta * self.penalty(w)

    def dual(self, z: Floats) -> float:
        """d(z)."""
        return float(self.y @ z - 0.5 * z @ z)

    def prox(self, w: Floats, t: float) -> Floats:
        """The proximal map of t times the norms, block by block."""
        return np.array([prox(N, x, t) for N, x in zip(self.cones, w, strict=True)])

    def step(self, w: Floats, ell: float) -> Floats:
        """A proximal gradient step."""
        slope = self.correlations(self.fitted(w) - self.y)
        return self.prox(w - slope / ell, self.beta / ell)

    def lipschitz(self) -> float:
        """The largest eigenvalue of A A^T."""
        whole = self.A.transpose(1, 0, 2).reshape(len(self.y), -1)
        return length(np.linalg.svd(whole, compute_uv=False)[:1]) ** 2

    def reach(self, z: Floats) -> float:
        """The largest projection of a correlation: z is feasible where it is at most beta."""
        pairs = zip(self.cones, self.correlations(z), strict=True)
        return max(length(projected(N, c)) for N, c in pairs)

    def random(self, draw: Draw, size: float = 1.0) -> Floats:
        """Blocks in their cones, some of them zero."""
        w = size * draw.rng.standard_normal((len(self.A), self.A.shape[2]))
        w[draw.rng.random(len(w)) < 0.3] = 0.0
        return self.prox(w, 0.0)


def program(draw: Draw, cones: bool | None = None) -> Program:
    """Some patterns of some gates, repeated and empty ones among them, with cones or without."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d) * draw.scale(), draw.targets(n) * draw.scale()
    gates = draw.rng.standard_normal((draw.size(1, 4), d))
    if draw.rng.random() < 0.2:
        gates[0] = gates[-1]
    masks = X @ gates.T >= 0  # (n, P)
    cones = draw.rng.random() < 0.6 if cones is None else cones
    draw.note("cones" if cones else "gated")
    A, normals = [], []
    for mask in masks.T:
        for sign in (1.0, -1.0) if cones else (1.0,):
            A.append(sign * X * mask[:, None])
            normals.append(np.where(mask, 1.0, -1.0)[:, None] * X if cones else None)
    made = Program(np.array(A), normals, y, 1.0)
    share = float(10.0 ** draw.rng.uniform(-4, 0.2))
    return Program(made.A, normals, y, share * (made.reach(y) or 1.0))


def good_point(problem: Program, steps: int = 200) -> Floats:
    """A point near the optimum, by FISTA."""
    ell = problem.lipschitz()
    w = v = np.zeros((len(problem.A), problem.A.shape[2]))
    if ell == 0.0:
        return w
    t = 1.0
    for _ in range(steps):
        new = problem.step(v, ell)
        if ((v - new) * (new - w)).sum() > 0:
            t = 1.0
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        v, w, t = new + (t - 1) / t_next * (new - w), new, t_next
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
def gap(draw: Draw) -> float:
    """F(w) - d(z) is the sum of terms that the proposition names, none of them negative."""
    problem = program(draw)
    w = rival(draw, problem)
    noise = draw.rng.standard_normal(len(problem.y))
    z = draw.choice(problem.y - problem.fitted(w), problem.y, noise)
    z = z / max(1.0, problem.reach(z) / problem.beta)
    feasible = problem.reach(z) / problem.beta - 1.0
    slack = problem.beta * np.linalg.norm(w, axis=1) - (w * problem.correlations(z)).sum(axis=1)
    terms = 0.5 * length(problem.y - problem.fitted(w) - z) ** 2 + slack.sum()
    error = abs(problem.value(w) - problem.dual(z) - terms)
    sizes = np.abs(problem.A).sum() * np.abs(w).max(initial=0.0) * (np.abs(z).max() + TINY)
    scale = problem.value(w) + length(problem.y) ** 2 + length(z) ** 2 + sizes + TINY
    return float(max(error, -slack.min()) / (1e-11 * scale) + max(feasible, 0.0) / 1e-9)


@refute("algorithms-gap", "dividing an infeasible residual by 1 + eps costs eps y^T z")
def cost_of_scaling(draw: Draw) -> float:
    """It costs eps z^T A w: nothing where the network is zero, however long y is."""
    problem = program(draw)
    z = problem.y - problem.fitted(draw.choice(0.1, 1.0) * rival(draw, problem))
    eps = 1e-6
    loss = problem.dual(z) - problem.dual(z / (1 + eps))
    claimed = eps * problem.y @ z
    return float(abs(loss - claimed) / (0.1 * abs(claimed) + 10 * eps**2 * length(z) ** 2 + TINY))


# --- proximal gradient --------------------------------------------------------------------------


def cone(draw: Draw) -> Floats | None:
    """The normals of a cone, or None for the whole space."""
    d = draw.size(1, 3)
    if draw.rng.random() < 0.15:
        draw.note(f"no cone, d = {d}")
        return None
    X = draw.matrix(draw.size(1, 6), d)
    gate = draw.rng.standard_normal(d)
    return np.where(X @ gate >= 0, 1.0, -1.0)[:, None] * X


def dimension(draw: Draw, N: Floats | None) -> int:
    """Of the space of a cone."""
    return draw.size(1, 3) if N is None else N.shape[1]


@attack("algorithms-prox")
def project_then_shrink(draw: Draw) -> float:
    """No point of the cone is better than the projection, shrunk."""
    N, scale = cone(draw), draw.scale()
    x = draw.weights(dimension(draw, N)) * scale
    t = draw.choice(0.0, 0.5, 1.0, 2.0) * length(x) * draw.rng.random()
    best = prox(N, x, t)

    def value(v: Floats) -> float:
        return 0.5 * length(v - x) ** 2 + t * length(v)

    outside = 0.0 if N is None else float(np.max(-N @ best, initial=0.0)) / np.abs(N).max(initial=1)
    others = [np.zeros_like(x), 0.5 * best, 2.0 * best, projected(N, x)]
    for size in (1e-4, 1e-2, 1.0):
        noise = size * length(x) * draw.rng.standard_normal((10, len(x)))
        others += [projected(N, best + e) for e in noise]
    lower = max(value(best) - value(other) for other in others)
    size = length(x)
    return float(max(lower / (1e-12 * size**2 + TINY), outside / (1e-9 * size + TINY)))


@refute("algorithms-prox", "shrinking first and projecting then is the same map")
def shrink_then_project(draw: Draw) -> float:
    """Outside of the cone the projection is shorter than x, and its share of t larger."""
    N = cone(draw)
    x = draw.weights(dimension(draw, N))
    t = 0.5 * length(x) * draw.rng.random()
    return length(projected(N, shrunk(x, t)) - prox(N, x, t)) / (1e-9 * length(x) + TINY)


@attack("algorithms-step")
def one_step(draw: Draw) -> float:
    """F(w+) <= F(u) + ell/2 |u - v|^2 - ell/2 |u - w+|^2 for every u of the cones and every v."""
    problem = program(draw)
    ell = problem.lipschitz() * draw.choice(1.0, 1.0, 1.7)
    if ell == 0.0:
        return 0.0
    u, v = rival(draw, problem), rival(draw, problem)
    v = v + draw.choice(0.0, 1.0) * (length(v) + 1.0) * draw.rng.standard_normal(v.shape)
    new = problem.step(v, ell)
    right = problem.value(u) + 0.5 * ell * (length(u - v) ** 2 - length(u - new) ** 2)
    scale = problem.value(u) + problem.value(new) + ell * (length(u - v) ** 2 + length(new) ** 2)
    return float((problem.value(new) - right) / (1e-11 * (scale + length(problem.y) ** 2) + TINY))


def descends(draw: Draw, accelerated: bool) -> float:
    """The largest excess over a rate, with any u in the place of a minimiser, as in the proofs."""
    problem = program(draw)
    ell = problem.lipschitz()
    if ell == 0.0:
        return 0.0
    start, u = rival(draw, problem), rival(draw, problem)
    if draw.rng.random() < 0.3:  # outside of the cones
        start = start + length(u) * draw.rng.standard_normal(u.shape)
    base, radius = problem.value(u), length(start - u) ** 2
    scale = 1e-10 * (base + ell * radius + length(problem.y) ** 2) + TINY
    w = v = start
    t, before, worst = 1.0, np.inf, -np.inf
    for k in range(1, 31):
        new = problem.step(v, ell)
        value = problem.value(new)
        rate = 2 * ell * radius / (k + 1) ** 2 if accelerated else ell * radius / (2 * k)
        worst = max(worst, (value - base - rate) / scale)
        if accelerated:
            t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
            v, t = new + (t - 1) / t_next * (new - w), t_next
        else:
            worst = max(worst, (value - before) / scale)
            v, before = new, value
        w = new
    return float(worst)


@attack("algorithms-pg")
def proximal_gradient(draw: Draw) -> float:
    """The value never rises and is at most ell |w0 - w*|^2 / (2 k) above the optimum."""
    return descends(draw, accelerated=False)


@attack("algorithms-fista")
def fista(draw: Draw) -> float:
    """The error is at most 2 ell |w0 - w*|^2 / (k + 1)^2."""
    return descends(draw, accelerated=True)


@refute("algorithms-fista", "the values of FISTA never rise")
def fista_ripples(draw: Draw) -> float:
    """The potential of the proof falls; the values need not."""
    problem = program(draw, cones=False)
    ell = problem.lipschitz()
    if ell == 0.0:
        return 0.0
    w = v = rival(draw, problem)
    t, before, worst = 1.0, np.inf, 0.0
    for _ in range(120):
        new = problem.step(v, ell)
        value = problem.value(new)
        worst = max(worst, (value - before) / (1e-9 * problem.value(w) + TINY))
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        v, w, t, before = new + (t - 1) / t_next * (new - w), new, t_next, value
    return float(worst)


@refute("algorithms-pg", "with every pattern listed m times, m times as many steps are needed")
def copies_are_slow(draw: Draw) -> float:
    """From zero the sum of the copies is the original iterate, step by step."""
    problem, m = program(draw), draw.size(2, 4)
    tiled = Program(np.concatenate([problem.A] * m), problem.cones * m, problem.y, problem.beta)
    ell = problem.lipschitz()
    w, copies = np.zeros_like(problem.A[:, 0]), np.zeros_like(tiled.A[:, 0])
    if ell == 0.0:
        return 0.0
    start = problem.value(w)
    for _ in range(10):
        w, copies = problem.step(w, ell), tiled.step(copies, m * ell)
    gained = start - problem.value(w)
    # The claim: after 10 steps the copies are where the original is after 10 / m.
    early = np.zeros_like(w)
    for _ in range(10 // m):
        early = problem.step(early, ell)
    lead = problem.value(early) - tiled.value(copies)
    return float(lead / (1e-3 * gained + 1e-9 * start + TINY))


# --- ADMM ---------------------------------------------------------------------------------------


def admm_excess(draw: Draw, first: int) -> float:
    """By how much V fails to fall in some step from the `first` on."""
    problem = program(draw)
    n, (blocks, d) = len(problem.y), problem.A[:, 0].shape
    w = good_point(problem, 400)
    z = problem.y - problem.fitted(w)
    z = z / max(1.0, problem.reach(z) / problem.beta)
    gap_ = max(problem.value(w) - problem.dual(z), 0.0)
    rho = float(10.0 ** draw.rng.uniform(-1, 1))
    whole = problem.A.transpose(1, 0, 2).reshape(n, -1)
    B = np.vstack([whole, np.eye(blocks * d)])
    star_h = np.concatenate([problem.fitted(w), w.ravel()])
    star_s = np.concatenate([-z, problem.correlations(z).ravel()]) / rho
    size = length(star_h) + length(star_s) + length(problem.y)
    h, s = (draw.choice(0.0, 1.0, 3.0) * size * draw.rng.standard_normal(len(B)) for _ in range(2))
    basis, _ = np.linalg.qr(B)
    worst = -np.inf
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
            allowed = 2 * gap_ / rho + 1e-11 * (before + after + size**2) + TINY
            worst = max(worst, (after - before + moved) / allowed)
    return float(worst)


@attack("algorithms-admm")
def admm(draw: Draw) -> float:
    """From the first step on V falls by at least the squares of what has moved."""
    return admm_excess(draw, first=1)


@refute("algorithms-admm", "V falls from any start at once, in the first step too")
def admm_start(draw: Draw) -> float:
    """A start whose s is no subgradient at h has no monotonicity to offer."""
    return admm_excess(draw, first=0)


# --- cones and Newton ---------------------------------------------------------------------------


def by_faces(N: Floats, c: Floats) -> Floats:
    """The projection onto {N u >= 0}, as the nearest of the projections onto all faces' planes."""
    best, near = np.zeros_like(c), length(c)
    rows = N[np.linalg.norm(N, axis=1) > 0]
    for count in range(min(len(rows), len(c)) + 1):
        for chosen in combinations(range(len(rows)), count):
            face = rows[list(chosen)]
            p = c - np.linalg.pinv(face) @ (face @ c) if count else c
            inside = (rows @ p >= -1e-10 * np.linalg.norm(rows, axis=1) * length(c)).all()
            if inside and length(c - p) < near:
                best, near = p, length(c - p)
    return best


@attack("algorithms-multipliers")
def multipliers(draw: Draw) -> float:
    """Any nonnegative multipliers bound the projection's length, and the best ones attain it."""
    X = draw.matrix(draw.size(1, 6), draw.size(1, 3))
    N = np.where(X @ draw.rng.standard_normal(X.shape[1]) >= 0, 1.0, -1.0)[:, None] * X
    c = draw.rng.standard_normal(X.shape[1]) * draw.scale()
    exact = length(by_faces(N, c))
    size = length(c) * draw.choice(0.0, 0.1, 1.0)
    some = [size * np.abs(draw.rng.standard_normal(len(N))) for _ in range(20)]
    bounds = [length(c + N.T @ values) for values in some]
    attained = length(projected(N, c))
    tolerance = 1e-8 * length(c) + TINY
    return float(max(exact - min(bounds), abs(attained - exact)) / tolerance)


@attack("algorithms-envelope")
def envelope(draw: Draw) -> float:
    """x - prox(x) is the projection onto sigma C, and half the square of prox has slope prox."""
    N, beta, sigma = cone(draw), draw.rng.random() + 1e-3, float(10.0 ** draw.rng.uniform(-2, 2))
    d = dimension(draw, N)
    x = draw.weights(d) * draw.scale()
    t = sigma * beta * draw.choice(1.0, length(x))
    p = prox(N, x, t)
    c, size = x - p, length(x) + t
    worst = length(projected(N, c)) - t
    for other in size * draw.rng.standard_normal((20, d)) * draw.choice(0.1, 1.0, 10.0):
        inside = other * min(1.0, t / (length(projected(N, other)) + TINY))
        worst = max(worst, (p @ (inside - c)) / (size + TINY))
    h = 1e-4 * size
    for e in np.eye(d):
        # Convex, with a slope that is 1-Lipschitz: between its tangent and a parabola above it.
        beyond = 0.5 * length(prox(N, x + h * e, t)) ** 2 - 0.5 * p @ p - h * p @ e
        worst = max(worst, max(-beyond, beyond - 0.5 * h**2) / (size + TINY))
    return float(worst / (1e-10 * size + TINY))


@attack("algorithms-outer")
def proximal_points(draw: Draw) -> float:
    """The proximal point's residual minimises psi, and the error falls with the sum of sigmas."""
    problem = program(draw)
    ell = problem.lipschitz()
    if ell == 0.0:
        return 0.0
    start, u = rival(draw, problem), rival(draw, problem)
    old, total, worst = start, 0.0, -np.inf
    base, radius = problem.value(u), length(start - u) ** 2
    scale = base + ell * radius + length(problem.y) ** 2 + problem.value(start) + TINY
    for sigma in draw.rng.uniform(0.3, 3.0, 3) / ell:
        total += sigma
        new, rate = old, ell + 1.0 / sigma
        for _ in range(150):  # each shrinks the error by 1 - 1 / (1 + sigma ell) <= 3/4
            slope = problem.correlations(problem.fitted(new) - problem.y) + (new - old) / sigma
            new = problem.prox(new - slope / rate, problem.beta / rate)
        z = problem.y - problem.fitted(new)
        again = problem.prox(old + sigma * problem.correlations(z), sigma * problem.beta)
        worst = max(worst, length(again - new) * np.sqrt(ell) / (1e-8 * np.sqrt(scale)))
        slope_of_psi = z - problem.y + problem.fitted(again)
        worst = max(worst, length(slope_of_psi) / (1e-8 * np.sqrt(scale)))
        worst = max(worst, (problem.value(new) - base - radius / (2 * total)) / (1e-9 * scale))
        old = new
    return float(worst)


@attack("algorithms-jacobian")
def jacobian(draw: Draw) -> float:
    """Where multipliers can be positive on what is active, differences of prox agree with J."""
    N = cone(draw)
    d = dimension(draw, N)
    x = draw.rng.standard_normal(d)
    t = draw.choice(0.0, 0.3, 1.0) * draw.rng.random()
    p = projected(N, x)
    V = np.eye(d)
    if N is not None:
        rows = N / np.maximum(np.linalg.norm(N, axis=1, keepdims=True), TINY)
        slack = rows @ p
        active = rows[slack < 1e-9]
        if ((slack >= 1e-9) & (slack < 1e-3)).any():
            return 0.0  # too near to another face for a difference
        if len(active):
            # The largest least multiplier: it decides whether the hypothesis can be met.
            count = len(active)
            found = linprog(
                np.append(np.zeros(count), -1.0),
                A_ub=np.hstack([-np.eye(count), np.ones((count, 1))]),
                b_ub=np.zeros(count),
                A_eq=np.hstack([active.T, np.zeros((d, 1))]),
                b_eq=p - x,
                bounds=[(0, None)] * count + [(None, 1.0)],
            )
            if not found.success or -found.fun < 1e-3:
                return 0.0
            _, sizes, right = np.linalg.svd(active)
            V = right[int((sizes > 1e-9).sum()) :].T
    size = length(p)
    if abs(size - t) < 1e-3:
        return 0.0
    J = np.zeros((d, d))
    if size > t:
        omega, c = p / size, t / size
        J = (1 - c) * V @ V.T + c * np.outer(omega, omega)
        L = np.sqrt(1 - c) * V + (1 - np.sqrt(1 - c)) * np.outer(omega, omega) @ V
        if np.abs(L @ L.T - J).max() > 1e-12:
            return np.inf
    h = 1e-5  # within the margins of 1e-3; the third derivative is at most of the order 1e6
    columns = [(prox(N, x + h * e, t) - prox(N, x - h * e, t)) / (2 * h) for e in np.eye(d)]
    third = 1.0 / max(size, 1e-3) ** 2
    return float(np.abs(np.array(columns).T - J).max() / (1e-8 + h**2 * third))


@refute("algorithms-jacobian", "prox is differentiable wherever |p| differs from t")
def kinks_of_faces(draw: Draw) -> float:
    """Not on a facet, where a constraint is active and its multiplier zero."""
    N = cone(draw)
    if N is None:
        return 0.0
    x = projected(N, draw.rng.standard_normal(N.shape[1]))  # a point of the cone: all are zero
    h = 1e-6 * (length(x) + 1.0)
    worst = 0.0
    for e in np.eye(len(x)):
        ahead, behind = prox(N, x + h * e, 0.0) - x, x - prox(N, x - h * e, 0.0)
        worst = max(worst, length(ahead - behind) / (0.01 * h))
    return worst


# --- column generation and pricing ----------------------------------------------------------------


def best_neuron(X: Floats, z: Floats) -> tuple[float, Floats]:
    """max |z^T (X u)_+| over the unit ball at rank one or two, over all arcs, and where."""
    d = X.shape[1]
    if d == 1:
        candidates = np.array([[1.0], [-1.0]])
    else:
        angles = np.arctan2(X[:, 0], -X[:, 1])
        cuts = np.sort(np.concatenate([angles, angles + np.pi]) % (2 * np.pi))
        middle = 0.5 * (cuts + np.append(cuts[1:], cuts[0] + 2 * np.pi))
        ends = np.stack([np.cos(cuts), np.sin(cuts)], axis=1)
        inside = np.stack([np.cos(middle), np.sin(middle)], axis=1)
        slopes = ((inside @ X.T > 0) * z) @ X
        candidates = np.concatenate([ends, inside, slopes, -slopes])
        sizes = np.linalg.norm(candidates, axis=1, keepdims=True)
        candidates = candidates[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]
    heights = np.abs(relu(candidates @ X.T) @ z)
    return float(heights.max()), candidates[int(heights.argmax())]


@attack("algorithms-columns-theorem")
def columns(draw: Draw) -> float:
    """Scaled by a bound on the best neuron, z bounds all networks; the method ends at p*."""
    n, d = draw.size(1, 5), draw.size(1, 2)
    X, y = draw.matrix(n, d), draw.targets(n)
    largest = best_neuron(X, y)[0]
    beta = float(10.0 ** draw.rng.uniform(-3, 0.1)) * (largest or 1.0)
    everything = cl.TwoLayer(X, y, beta=beta)
    best = cl.solve(everything, tol=1e-9)
    z = draw.choice(1.0, 0.1, 10.0) * draw.rng.standard_normal(n)
    z = draw.choice(z, y, best.z.numpy())
    height = best_neuron(X, z)[0] * draw.choice(1.0, 1.0, 1.5)
    s = min(1.0, beta / height) if height > 0 else 1.0
    scale = 0.5 * float(y @ y) or 1.0
    worst = (s * y @ z - 0.5 * s**2 * z @ z - best.value) / (1e-8 * scale)
    gates = draw.rng.standard_normal((1, d))
    for count in range(len(everything.masks) + 2):
        masks = torch.from_numpy(X @ gates.T >= 0).T.contiguous()
        listed = cl.Arrangements(masks, torch.from_numpy(gates))
        some = cl.solve(everything.with_arrangements(listed), tol=1e-9)
        z = some.z.numpy()
        height, u = best_neuron(X, z)
        eps = max(height / beta - 1.0, 0.0)
        s = min(1.0, beta / height) if height > 0 else 1.0
        gap_ = max(some.value - some.dual, 0.0)
        inexact = gap_ + eps * (np.sqrt(2 * gap_) * length(z) + gap_) + 1e-9 * scale
        excess = some.value - best.dual - 2 * eps * some.value
        worst = max(worst, excess / (10 * inexact), (best.dual - some.value) / (1e-8 * scale))
        if eps < 1e-7:
            return float(worst)
        if draw.rng.random() < 0.5 and not count:
            return float(worst)  # the first round alone, half of the time
        gates = np.vstack([gates, u])
    return np.inf  # more rounds than patterns


def cone_bound(R: Floats, X: Floats, z: Floats, tau: Floats, w: Floats, e: Floats) -> float:
    """The bound of the lemma for generators R (r, d)."""
    S = X @ R.T
    q = np.where((S >= 0).all(axis=1)[:, None], S * z[:, None], 0.0)
    undecided = ~(S >= 0).all(axis=1) & ~(S <= 0).all(axis=1)
    chords, tangents = relu(S) * z[:, None], tau[:, None] * S * z[:, None]
    q = np.where(undecided[:, None], np.where(z[:, None] >= 0, chords, tangents), q)
    return length(w) + max(0.0, float(((q.sum(axis=0) - R @ w) / (R @ e)).max()))


@attack("algorithms-cone-bound")
def bound_on_a_cone(draw: Draw) -> float:
    """No unit vector of a cone has a g above the bound, whatever w, e and tau are."""
    n, d = draw.size(1, 7), draw.size(1, 4)
    X = draw.matrix(n, d) * draw.scale()
    z = draw.targets(n)
    width = float(10.0 ** draw.rng.uniform(-2, 0.5))
    R = draw.rng.standard_normal(d) + width * draw.rng.standard_normal((draw.size(1, d + 1), d))
    R = R * np.exp(draw.rng.standard_normal((len(R), 1)))  # of any length
    tau, size = draw.rng.random(n), np.abs(z) @ np.linalg.norm(X, axis=1)
    tau = draw.choice(tau, np.zeros(n), np.ones(n))
    w = draw.choice(0.0, 0.3, 1.0) * size * draw.rng.standard_normal(d)
    e = projected(R, draw.rng.standard_normal(d))
    e = e + 0.1 * R.mean(axis=0)
    if length(e) == 0.0 or (R @ e <= 1e-9 * length(e)).any():
        return 0.0  # no such e was found
    bound = cone_bound(R, X, z, tau, w, e / length(e))
    shares = draw.rng.exponential(1.0, (300, len(R))) * (draw.rng.random((300, len(R))) < 0.7)
    u = np.vstack([R, shares @ R])
    sizes = np.linalg.norm(u, axis=1, keepdims=True)
    u = u[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]
    heights = np.append(relu(u @ X.T) @ z, 0.0)
    return float((heights.max() - bound) / (1e-10 * (size + bound) + TINY))


def search_cones(
    X: Floats, z: Floats, eps: float, splits: int, watch: Callable[[float], None]
) -> tuple[float, float, bool]:
    """Best-first splitting with w = 0: bound, best g at a generator, and whether it came near."""
    d = X.shape[1]
    tau = np.full(len(X), 0.5)
    zero, found, heap = np.zeros(d), -np.inf, []

    def put(R: Floats) -> None:
        centre = R.sum(axis=0) / length(R.sum(axis=0))
        heapq.heappush(heap, (-cone_bound(R, X, z, tau, zero, centre), len(heap), next(count), R))

    count = iter(range(10**9))
    for signs in product((1.0, -1.0), repeat=d):
        put(np.diag(signs))
        found = max(found, float((relu(np.diag(signs) @ X.T) @ z).max()))
    for _ in range(splits):
        bound = -heap[0][0]
        watch(bound)
        if bound <= max(found, 0.0) + eps:
            return bound, found, True
        R = heapq.heappop(heap)[-1]
        if d == 1:
            return bound, found, bound <= max(found, 0.0) + eps
        a, b = max(combinations(range(d), 2), key=lambda pair: length(R[pair[0]] - R[pair[1]]))
        middle = (R[a] + R[b]) / length(R[a] + R[b])
        found = max(found, float(relu(X @ middle) @ z))
        for replaced in (a, b):
            child = R.copy()
            child[replaced] = middle
            put(child)
    return -heap[0][0], found, False


@attack("algorithms-pricing")
def branch_and_bound(draw: Draw) -> float:
    """The bound is valid at any moment and comes near the best value found, zero included."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, z = draw.matrix(n, d) * draw.scale(), draw.targets(n)
    z = draw.choice(z, z, -np.abs(z))
    size = np.abs(z) @ np.linalg.norm(X, axis=1)
    u = draw.rng.standard_normal((500, d))
    if d == 2:
        u = np.vstack([u, best_neuron(X, relu(z))[1], best_neuron(X, z)[1], -best_neuron(X, z)[1]])
    heights = relu((u / np.linalg.norm(u, axis=1, keepdims=True)) @ X.T) @ z
    top, bounds = max(0.0, float(heights.max())), [np.inf]
    *_, near = search_cones(X, z, 0.05 * size + TINY, 2000, bounds.append)
    return float((top - min(bounds)) / (1e-10 * size + TINY)) if near else np.inf


@refute("algorithms-pricing", "the bound comes near the largest g at a generator")
def nothing_found(draw: Draw) -> float:
    """Where every direction has a negative g, the maximum over the ball is g(0) = 0."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X, z = draw.matrix(n, d), -np.abs(draw.targets(n))
    size = np.abs(z) @ np.linalg.norm(X, axis=1)
    bound, found, _ = search_cones(X, z, 1e-3 * size + TINY, 500, lambda bound: None)
    return float((bound - found) / (0.01 * size + TINY))
