"""Attacks on the chapter on two layers."""

from __future__ import annotations

import itertools
import warnings
from math import comb, sqrt

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.problems.base import Problem
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.checks import best_in_cone

Masks = NDArray[np.bool_]
PRECISE = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def times(missed: float, tolerance: float) -> float:
    """How many tolerances something is missed by; 0 if it is not missed at all."""
    return float(missed) / max(float(tolerance), 1e-250) if missed > 0 else 0.0


def instance(
    draw: Draw, most: int = 8, least_share: float = -5.0, scaled: bool = True
) -> tuple[Floats, Floats, float]:
    """Samples, targets and a beta that is a part of beta_max, or above it, or tiny."""
    n, d = draw.size(1, most), draw.size(1, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    if scaled:
        X, y = X * draw.scale(), y * draw.scale()
    share = float(10.0 ** draw.rng.uniform(least_share, 0.3))
    largest = np.abs(y) @ np.linalg.norm(X, axis=1)  # at least beta_max
    draw.note(f"beta {share:.1e} of a bound on beta_max")
    return X, y, share * (largest or 1.0)


def solved(problem: Problem, tol: float = 1e-8) -> cl.Result:
    """What the library finds; an attack reckons with the gap that it leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(problem, tol=tol)


def interior_point(program: cp.Problem) -> float:
    """The optimum by Clarabel, which may end a little short of such tolerances, and says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        value = float(program.solve(solver=cp.CLARABEL, **PRECISE))
    assert program.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)
    return value


def all_masks(n: int) -> Masks:
    """All 0-1 vectors (2^n, n): with cones every one of them is harmless."""
    return np.array(list(itertools.product([False, True], repeat=n)))


def best_neuron(X: Floats, z: Floats) -> float:
    """max |z^T (Xu)_+| over the ball: the cones of all masks cover it, whatever the cells are."""
    masks = all_masks(len(X))
    signed = [(sign, mask) for mask in masks for sign in (1.0, -1.0)]
    return max(best_in_cone(sign * X.T @ (mask * z), X, mask) for sign, mask in signed)


def open_cells(X: Floats) -> Masks | None:
    """The patterns of open cells, one linear program for each mask; None where it is too close."""
    lengths = np.linalg.norm(X, axis=1)
    live = lengths > 0
    rows = X[live] / lengths[live, None]
    found = []
    for mask in all_masks(int(live.sum())):
        # The largest t with s_i x_i^T u >= t and |u| <= 1.
        signs = np.where(mask, 1.0, -1.0)[:, None]
        d = X.shape[1]
        program = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.hstack([-signs * rows, np.ones((len(rows), 1))]),
            b_ub=np.zeros(len(rows)),
            bounds=[(-1, 1)] * d + [(0, 1)],
        )
        assert program.status == 0
        if 1e-8 < -program.fun < 1e-5:
            return None  # the solver's tolerance cannot tell whether this cell is empty
        if -program.fun >= 1e-5:
            whole = np.ones(len(X), dtype=bool)  # a zero sample counts as active
            whole[live] = mask
            found.append(whole)
    return np.array(found)


def bound_on_cells(n: int, r: int) -> int:
    """Cover's B(n, r)."""
    return 2 * sum(comb(n - 1, k) for k in range(r))


class Program:
    """The convex program by CVXPY, in units in which samples and targets are of size one."""

    def __init__(
        self,
        X: Floats,
        y: Floats,
        beta: float,
        masks: Masks,
        loss: str = "squared",
        w_sign: int = 1,
    ) -> None:
        size = np.abs(X).max() or 1.0
        height = (np.abs(y).max() or 1.0) if loss == "squared" else 1.0
        X, y, beta = X / size, y / height, beta / (size * height)
        D, (n, d) = masks.astype(float), X.shape
        V, W, outputs = cp.Variable((len(D), d)), cp.Variable((len(D), d)), cp.Variable(n)
        link = outputs == cp.sum(cp.multiply(D.T, X @ (V - W).T), axis=1)
        price = cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.norm(W, 2, axis=1))
        cones = [
            cp.multiply(2 * D - 1, V @ X.T) >= 0,
            w_sign * cp.multiply(2 * D - 1, W @ X.T) >= 0,
        ]
        goal = cp.Minimize(convex_loss(loss, outputs, y) + beta * price)
        self.value = interior_point(cp.Problem(goal, [link, *cones])) * height**2
        self.z = np.asarray(link.dual_value) * height
        self.V, self.W = V.value * height / size, W.value * height / size

    def network(self) -> tuple[Floats, Floats]:
        """One balanced neuron for each block."""
        blocks = np.concatenate([self.V, self.W])
        roots = np.sqrt(np.linalg.norm(blocks, axis=1))
        signs = np.repeat([1.0, -1.0], len(self.V))
        return blocks / np.where(roots > 0, roots, 1.0)[:, None], signs * roots


def convex_loss(name: str, outputs: cp.Expression, y: Floats) -> cp.Expression:
    """A loss for CVXPY; "mixed" is strongly convex with the constant 1 and has kinks."""
    if name == "squared":
        return cp.sum_squares(outputs - y) / 2
    if name == "absolute":
        return cp.norm(outputs - y, 1)
    if name == "hinge":
        return cp.sum(cp.pos(1 - cp.multiply(y, outputs)))
    if name == "squared hinge":
        return cp.sum(cp.square(cp.pos(1 - cp.multiply(y, outputs)))) / 2
    assert name == "mixed"
    return cp.sum_squares(outputs - y) / 2 + cp.norm(outputs - y, 1)


def loss_at(name: str, f: Floats, y: Floats) -> float:
    """The same of numbers."""
    e, m = f - y, relu(1 - y * f)
    values = {
        "squared": 0.5 * e @ e,
        "absolute": np.abs(e).sum(),
        "hinge": m.sum(),
        "squared hinge": 0.5 * m @ m,
        "mixed": 0.5 * e @ e + np.abs(e).sum(),
    }
    return float(values[name])


def objective(
    X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats, loss: str = "squared"
) -> float:
    """The training objective of a network."""
    decay = 0.5 * beta * ((U**2).sum() + (alpha**2).sum())
    return loss_at(loss, relu(X @ U.T) @ alpha, y) + float(decay)


# --- the bound, and that it is attained --------------------------------------------------------


@attack("two-layer-rescaling")
def rescaling(draw: Draw) -> float:
    """No rescaling of the neurons costs less than the path norm, which the balanced one costs."""
    m, d = draw.size(1, 5), draw.size(1, 3)
    U, alpha = draw.weights(m, d), draw.weights(m)
    sizes, outputs = np.linalg.norm(U, axis=1), np.abs(alpha)
    path = sizes @ outputs
    factors = 10.0 ** draw.rng.uniform(-3, 3, m)
    decay = 0.5 * (((factors * sizes) ** 2).sum() + ((outputs / factors) ** 2).sum())
    live = (sizes > 0) & (outputs > 0)
    roots = np.sqrt(outputs[live] / sizes[live])
    balanced = 0.5 * (((roots * sizes[live]) ** 2).sum() + ((outputs[live] / roots) ** 2).sum())
    # Of a neuron with one zero layer the decay comes as close to 0 as one likes.
    far = np.where(sizes > 0, 1e-9, 1e9)[~live]
    rest = 0.5 * (((far * sizes[~live]) ** 2).sum() + ((outputs[~live] / far) ** 2).sum())
    slack = times(max(path - decay, abs(path - balanced)), 1e-12 * path)
    return max(slack, times(rest, 1e-12))


@refute("two-layer-rescaling", "some rescaling of every network costs its path norm")
def a_dead_half(draw: Draw) -> float:
    """Of a neuron with one zero layer every rescaling costs more than its path norm 0."""
    m, d = draw.size(1, 3), draw.size(1, 3)
    U, alpha = draw.weights(m, d), draw.weights(m)
    sizes, outputs = np.linalg.norm(U, axis=1), np.abs(alpha)
    half = (sizes > 0) != (outputs > 0)
    t = 10.0 ** draw.rng.uniform(-3, 3, m)
    decay = 0.5 * ((t * sizes) ** 2 + (outputs / t) ** 2)
    return float(decay[half].sum() > 0) * 2.0


@attack("two-layer-weak-duality")
def weak_duality(draw: Draw) -> float:
    """Scaled to be feasible, no z has a d(z) above the objective of any network."""
    X, y, beta = instance(draw, most=6)
    m = draw.size(1, 6)
    U, alpha = draw.weights(m, X.shape[1]), draw.weights(m)
    if draw.rng.random() < 0.5:  # a network that explains the data
        optimum = cl.TwoLayer(X, y, beta=beta)
        network = optimum.to_network(solved(optimum))
        U, alpha = network.U.detach().numpy(), network.alpha.detach().numpy()
    fitted = relu(X @ U.T) @ alpha
    reached = objective(X, y, beta, U, alpha)
    z = draw.choice(y, y - fitted, draw.rng.standard_normal(len(y)))
    largest = best_neuron(X, z)
    z = z * min(1.0, beta / largest) if largest > 0 else z
    dual = y @ z - 0.5 * z @ z
    return times(dual - reached, 1e-9 * (reached + y @ y))


@attack("two-layer-gauge")
def gauge(draw: Draw) -> float:
    """gamma is the least path norm: below every network's, above z^T f / g(z), and attained."""
    n, d, m = draw.size(1, 5), draw.size(1, 3), draw.size(1, 5)
    X = draw.matrix(n, d)
    U, alpha = draw.rng.standard_normal((m, d)), draw.rng.standard_normal(m)
    f = relu(X @ U.T) @ alpha
    masks = all_masks(n).astype(float)
    V, W = cp.Variable((len(masks), d)), cp.Variable((len(masks), d))
    price = cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.norm(W, 2, axis=1))
    made = cp.sum(cp.multiply(masks.T, X @ (V - W).T), axis=1)
    cones = [cp.multiply(2 * masks - 1, block @ X.T) >= 0 for block in (V, W)]
    gamma = interior_point(cp.Problem(cp.Minimize(price), [made == f, *cones]))
    path = float(np.linalg.norm(U, axis=1) @ np.abs(alpha))
    z = draw.choice(f, draw.rng.standard_normal(n))
    reach = best_neuron(X, z)
    below = z @ f / reach if reach > 0 else 0.0
    blocks = np.concatenate([V.value, W.value])
    signs = np.repeat([1.0, -1.0], len(masks))
    again = relu(X @ blocks.T) @ signs  # with the price sum ||block||
    missed = np.abs(again - f).max()
    # The interior-point solver is right to about 1e-8 of the sizes involved.
    slack = 1e-6 * (1.0 + path)
    norms = np.linalg.norm(blocks, axis=1).sum()
    return float(max(gamma - path, below - gamma, abs(norms - gamma), missed) / slack)


@attack("two-layer-strong-duality")
def strong_duality(draw: Draw) -> float:
    """The residual is feasible and its d is the optimum; dim S neurons suffice."""
    X, y, beta = instance(draw, most=6)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = solved(problem, tol=1e-10)
    z = y - problem.fitted(result.weights).numpy()
    value, half = result.value, 0.5 * y @ y
    gap = max(value - result.dual, 0.0) + 1e-14 * half
    # Outputs are off by sqrt(2 gap), g by the norm of X times that, and d by the derivative.
    off = sqrt(2.0 * gap)
    spread = np.linalg.norm(X, 2)
    infeasible = times(best_neuron(X, z) - beta - spread * off, 1e-9 * (beta + spread * off))
    explained = np.linalg.norm(y) * off + 2.0 * gap + 1e-9 * half
    missed = times(abs(y @ z - 0.5 * z @ z - value), explained)
    network = cl.prune_neurons(problem.to_network(result), X)
    U, alpha = network.U.detach().numpy(), network.alpha.detach().numpy()
    raised = times(objective(X, y, beta, U, alpha) - value, 1e-9 * half)
    directions = draw.rng.standard_normal((500, X.shape[1]))
    size = np.abs(X).max() or 1.0
    span = np.linalg.matrix_rank(relu(X / size @ directions.T)) if X.any() else 0
    return float(max(infeasible, missed, raised, 2.0 * (len(alpha) > span)))


# --- the program -------------------------------------------------------------------------------


@attack("two-layer-cells")
def cells(draw: Draw) -> float:
    """Every neuron, on walls too, is in the cone of an open cell, where (Xu)_+ = DXu."""
    n, d = draw.size(1, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    masks = open_cells(X)
    if masks is None:
        return 0.0
    U = draw.rng.standard_normal((20, d))
    for u in U[:10]:  # onto the walls of some samples
        walls = X[draw.rng.random(n) < 0.5]
        if len(walls):
            u -= np.linalg.pinv(walls) @ (walls @ u)
    inner = U @ X.T  # (20, n)
    slack = 1e-10 * (1 + np.abs(X).max())
    inside = ((2.0 * masks - 1.0) * inner[:, None] >= -slack).all(axis=2)  # (20, P)
    outside = ~inside.any(axis=1)
    wrong = np.abs(relu(inner) - masks[inside.argmax(axis=1)] * inner).max(axis=1)
    return float(max(2.0 * outside.any(), wrong[~outside].max(initial=0.0) / slack))


@attack("two-layer-convex-program")
def convex_program(draw: Draw) -> float:
    """Over the open cells the program has the optimum of networks: a dual point meets it."""
    X, y, beta = instance(draw, most=5, least_share=-3)
    masks = open_cells(X)
    if masks is None:
        return 0.0
    program = Program(X, y, beta, masks)
    half = 0.5 * y @ y
    slack = 1e-6 * program.value + 1e-7 * (half or 1.0)
    U, alpha = program.network()
    back = abs(objective(X, y, beta, U, alpha) - program.value)
    z = y - relu(X @ U.T) @ alpha
    reach = best_neuron(X, z)
    z = z * min(1.0, beta / reach) if reach > 0 else z
    unmet = program.value - (y @ z - 0.5 * z @ z)
    # And from any network to the program: merged neurons cost no more, with the same outputs.
    m = draw.size(1, 6)
    weights, outputs = draw.weights(m, X.shape[1]), draw.weights(m)
    inside = ((2.0 * masks - 1.0) * (weights @ X.T)[:, None] >= 0).all(axis=2)
    if not inside.any(axis=1).all():
        return float(max(back, unmet) / slack)  # on a wall, up to rounding
    price, made = 0.0, np.zeros(len(y))
    for cone, sign in itertools.product(set(inside.argmax(axis=1)), (1.0, -1.0)):
        chosen = (inside.argmax(axis=1) == cone) & (np.sign(outputs) == sign)
        block = np.abs(outputs[chosen]) @ weights[chosen]
        price += float(np.linalg.norm(block))
        made += sign * masks[cone] * (X @ block)
    own = objective(X, y, beta, weights, outputs)
    merged = 0.5 * ((made - y) ** 2).sum() + beta * price
    return max(times(max(back, unmet), slack), times(merged - own, 1e-9 * own))


@refute("two-layer-convex-program", "with (2D - I)Xw <= 0 the program has the same optimum")
def misprint(draw: Draw) -> float:
    """The cone of w with the wrong sign removes the neurons with negative output weights."""
    X, y, beta = instance(draw, most=4, least_share=-2, scaled=False)
    wrong = Program(X, y, beta, all_masks(len(y)), w_sign=-1).value
    right = solved(cl.TwoLayer(X, y, beta=beta)).value
    return float((wrong - right) / (1e-4 * (1 + right)))


@attack("two-layer-moreau")
def moreau(draw: Draw) -> float:
    """The projection's norm is the largest c^T u in a cone, and over all cells g(z)."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, c = draw.matrix(n, d), draw.rng.standard_normal(d)
    mask = draw.rng.random(n) < 0.5
    length = best_in_cone(c, X, mask)
    # Neurons in the cone: those of random ones that are there, and of the polar projection itself.
    normals = np.where(mask, 1.0, -1.0)[:, None] * X
    points = np.concatenate([draw.rng.standard_normal((2000, d)), normals, [c]])
    points = points[(points @ normals.T >= 0).all(axis=1)]
    lengths = np.linalg.norm(points, axis=1)
    reached = (points[lengths > 0] / lengths[lengths > 0, None] @ c).max(initial=0.0)
    z = draw.rng.standard_normal(n)
    U = draw.rng.standard_normal((2000, d))
    heights = np.abs(relu(X @ U.T).T @ z) / np.linalg.norm(U, axis=1)
    above = best_neuron(X, z)
    angles = heights.max() - above
    if d == 1:  # two directions are all there are
        angles = abs(angles)
    return float(max(reached - length, angles) / (1e-9 * (1 + np.abs(X).sum())))


# --- patterns ----------------------------------------------------------------------------------


@attack("two-layer-cover")
def cover(draw: Draw) -> float:
    """At most B(n, r) open cells, and as many if any r samples are independent."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X = draw.matrix(n, d)
    r = int(np.linalg.matrix_rank(X))
    masks = open_cells(X)
    if masks is None or r == 0:
        return 0.0
    subsets = [X[list(rows)] for rows in itertools.combinations(range(n), r)]
    sizes = [np.linalg.svd(rows, compute_uv=False)[-1] for rows in subsets]
    general = min(sizes) > 1e-6
    missed = len(masks) != bound_on_cells(n, r) if general else len(masks) > bound_on_cells(n, r)
    N = n - 1
    simple = r <= N and bound_on_cells(n, r) > 2 * (np.e * N / r) ** r
    listed = {tuple(mask) for mask in cl.enumerate_arrangements(X).masks.tolist()}
    return 2.0 * (missed or simple or listed != {tuple(mask) for mask in masks.tolist()})


@refute("two-layer-cover", "at most B(n, r) patterns 1[Xu >= 0] over all u, on walls too")
def patterns_on_walls(draw: Draw) -> float:
    """The neuron u = 0 has the pattern of all samples, which need not be that of a cell."""
    n, d = draw.size(1, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    U = np.concatenate([draw.rng.standard_normal((2000, d)), np.zeros((1, d))])
    found = np.unique(U @ X.T >= 0, axis=0)
    r = int(np.linalg.matrix_rank(X))
    return len(found) / bound_on_cells(n, r) if r else 0.0


@refute("two-layer-cover", "B(n, r) cells whenever the rank of n samples is r")
def full_rank(draw: Draw) -> float:
    """Full rank is not general position: repeated, opposite and zero samples add no wall."""
    n, d = draw.size(2, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    r = int(np.linalg.matrix_rank(X))
    return bound_on_cells(n, r) / len(cl.enumerate_arrangements(X)) if r else 0.0


@refute("two-layer-cover", "directions orthogonal to d - 1 samples find all patterns")
def by_subsets(draw: Draw) -> float:
    """Not where more samples vanish on such a direction, and not for a redundant column."""
    n = draw.size(3, 6)
    X = np.round(3 * draw.matrix(n, 3))
    found = set()
    for pair in itertools.combinations(range(n), 2):
        direction = np.cross(X[pair[0]], X[pair[1]])
        for u, signs in itertools.product((direction, -direction), all_masks(2)):
            mask = X @ u >= 0
            mask[list(pair)] = signs
            found.add(tuple(mask.tolist()))
    listed = cl.enumerate_arrangements(X)
    missed = {tuple(mask) for mask in listed.masks.tolist()} - found
    return 2.0 * bool(missed)


@attack("two-layer-zonotope")
def zonotope(draw: Draw) -> float:
    """Vertices are the points of the cells, distinct; their normal cones are the cells."""
    n, d = draw.size(1, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    masks = open_cells(X)
    if masks is None:
        return 0.0
    corners, points = all_masks(n) @ X, masks @ X  # (2^n, d), (P, d)
    U = draw.rng.standard_normal((200, d))
    size = 1e-9 * (1 + np.abs(X).sum())
    supports = (U @ corners.T).max(axis=1)
    slack = np.abs(supports - relu(U @ X.T).sum(axis=1)).max()  # part 1
    hidden = np.abs(supports - (U @ points.T).max(axis=1)).max()  # no vertex but these
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    apart[np.diag_indices(len(points))] = np.inf
    # Part 3: where a point is the best corner, the neuron is in its cone, and conversely.
    best = supports[:, None] - U @ points.T <= size  # (200, P)
    inside = ((2.0 * masks - 1.0) * (U @ X.T)[:, None] >= -size).all(axis=2)
    return float(max(slack / size, hidden / size, 2.0 * (apart.min() < 1e-6),
                     2.0 * (best != inside).any()))  # fmt: skip


@attack("two-layer-gated")
def gated(draw: Draw) -> float:
    """Gated over all patterns is below the optimum; over some of them it is above that."""
    X, y, beta = instance(draw, most=6)
    full = cl.enumerate_arrangements(X)
    size = draw.size(1, len(full))
    some = full.select(draw.rng.choice(len(full), size, replace=False))
    found = {
        (name, kind): solved(cl.TwoLayer(X, y, beta=beta, arrangements=patterns, gated=kind))
        for name, patterns in (("all", full), ("some", some))
        for kind in (False, True)
    }
    half = 0.5 * float(y @ y)
    claims = (
        found["all", True].dual - found["all", False].value,
        found["all", False].dual - found["some", False].value,
        found["all", True].dual - found["some", True].value,
        found["some", True].dual - half,
    )
    return times(max(claims), 1e-9 * half)


@refute("two-layer-gated", "over some of the patterns too the gated value is at most the optimum")
def gated_sample(draw: Draw) -> float:
    """One gate may fit less than all neurons."""
    X, y, beta = instance(draw, most=6, scaled=False)
    full = cl.enumerate_arrangements(X)
    some = full.select(draw.rng.choice(len(full), 1))
    value = solved(cl.TwoLayer(X, y, beta=beta)).value
    sampled = solved(cl.TwoLayer(X, y, beta=beta, arrangements=some, gated=True)).dual
    return times(sampled - value, 1e-3 * value)


# --- distances, other losses, several outputs --------------------------------------------------


@attack("two-layer-outputs")
def outputs_near(draw: Draw) -> float:
    """Outputs are within sqrt(2 gap) of the optimal ones, however bad the network."""
    X, y, beta = instance(draw)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = solved(problem, tol=1e-10)
    best = problem.fitted(result.weights).numpy()
    blocks = np.concatenate(result.weights.numpy())
    signs = np.repeat([1.0, -1.0], problem.n_patterns)
    m, height = draw.size(1, 4), np.abs(y).max() or 1.0
    extra = draw.weights(m, X.shape[1]) * height / (np.abs(X).max() or 1.0)
    blocks = np.concatenate([draw.rng.uniform(0, 1.5) * blocks, draw.choice(0.0, 0.1, 1.0) * extra])
    signs = np.concatenate([signs, draw.rng.choice([-1.0, 1.0], m)])
    f = relu(X @ blocks.T) @ signs
    own = 0.5 * ((f - y) ** 2).sum() + beta * np.linalg.norm(blocks, axis=1).sum()
    gap = own - result.dual
    inexact = sqrt(2 * max(result.value - result.dual, 0.0))  # of the outputs called optimal
    missed = np.linalg.norm(f - best) - sqrt(2 * max(gap, 0.0)) - inexact
    return times(missed, 1e-7 * (np.linalg.norm(y) + np.linalg.norm(f)))  # the root of rounding


@refute("two-layer-outputs", "|f - f*| <= sqrt(2 (P - p*)) for every convex loss")
def logistic_outputs(draw: Draw) -> float:
    """The logistic loss is not strongly convex: a small gap allows a large distance."""
    n = draw.size(1, 4)
    X, y = np.abs(draw.matrix(n, 1)) + 0.5, np.ones(n)
    beta = float(10.0 ** draw.rng.uniform(-3, 0))
    problem = cl.TwoLayer(X, y, beta=beta, loss="logistic")
    result = solved(problem, tol=1e-9)
    best = problem.fitted(result.weights).numpy()
    smaller = draw.rng.uniform(0, 1) * best
    weight = smaller[0] / X[0, 0]
    reached = np.log1p(np.exp(-smaller)).sum() + beta * abs(weight)
    distance = np.linalg.norm(smaller - best)
    return float(distance / (np.sqrt(2.0 * max(reached - result.dual, 0.0)) + 1e-6))


@attack("two-layer-losses")
def other_losses(draw: Draw) -> float:
    """Kinks or not: a program, a feasible z that meets it, and with mu = 1 a distance."""
    loss = draw.choice("absolute", "hinge", "squared hinge", "mixed")
    n, d = draw.size(1, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    y = draw.labels(n) if "hinge" in loss else draw.targets(n)
    beta = float(10.0 ** draw.rng.uniform(-2, 0.5))
    draw.note(f"{loss}, beta {beta:.1e}")
    program = Program(X, y, beta, all_masks(n), loss)
    z = program.z
    # -z is a subgradient where the loss is least: the dual value, entry by entry, in closed form.
    if loss == "absolute":
        z = np.clip(z, -1, 1)
        dual = float(z @ y)
    elif loss == "mixed":  # (e^2)/2 + |e| + z e is least at e = -sign(z) (|z| - 1)_+
        dual = float(z @ y - 0.5 * (relu(np.abs(z) - 1) ** 2).sum())
    else:
        a = np.clip(y * z, 0, 1) if loss == "hinge" else relu(y * z)
        z = y * a
        dual = float(a.sum() - (0.0 if loss == "hinge" else 0.5 * a @ a))
    start = loss_at(loss, np.zeros(n), y)
    slack = 1e-6 * (1 + start)
    reach = best_neuron(X, z) - beta
    U, alpha = program.network()
    back = objective(X, y, beta, U, alpha, loss) - program.value
    worst = max(abs(program.value - dual), reach, abs(back))
    m = draw.size(1, 5)
    weights, outs = draw.weights(m, d), draw.weights(m)
    own = objective(X, y, beta, weights, outs, loss)
    worst = max(worst, program.value - own)  # no network is below
    if loss == "mixed":
        distance = np.linalg.norm(relu(X @ weights.T) @ outs - relu(X @ U.T) @ alpha)
        worst = max(worst, program.value + 0.5 * distance**2 - own - 1e-4 * distance)
    return float(worst / slack)


@refute("two-layer-losses", "all optimal networks have the same outputs, for every convex loss")
def absolute_outputs(draw: Draw) -> float:
    """With the absolute loss and beta = |x| the outputs 0 and y of one sample are both optimal."""
    x, y = np.abs(draw.rng.standard_normal(2)) + 0.1
    # min |f - y| + beta f / x over f >= 0, at beta = x.
    one, other = abs(0.0 - y), x * (y / x)
    return 2.0 * (abs(one - other) <= 1e-12 * y)


@refute("two-layer-losses", "nor does a differentiable convex loss have several optimal outputs")
def squared_hinge_outputs(draw: Draw) -> float:
    """A margin beyond 1 costs nothing, so that optimal networks may pass it as they like."""
    far = float(10.0 ** draw.rng.uniform(1, 3))
    X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [far, far]])
    beta = float(draw.rng.uniform(0.01, 1.0))
    values, ends = [], []
    for share in (0.3, 0.9):
        c = 1 - beta / sqrt(2)
        parts = sqrt(2) * c * np.array([share, share, 1 - share, 1 - share])
        corners = np.array([[1.0, 1], [-1, -1], [1, -1], [-1, 1]]) / sqrt(2)
        roots = np.sqrt(parts)
        U = roots[:, None] * corners
        values.append(objective(X, np.ones(5), beta, U, roots, "squared hinge"))
        ends.append(float(relu(U @ X[4]) @ roots))
    best = solved(cl.TwoLayer(X, np.ones(5), beta=beta, loss="squared_hinge"), tol=1e-9).dual
    optimal = max(values) - best <= 1e-7 * best
    return abs(ends[0] - ends[1]) / 1e-3 if optimal and min(ends) > 1 else 0.0


@refute("two-layer-losses", "the dual solution is unique for every convex loss")
def many_duals(draw: Draw) -> float:
    """With targets 0 and the absolute loss every small feasible z has d(z) = 0 = p*."""
    n = draw.size(1, 4)
    X, beta = draw.matrix(n, 1), float(10.0 ** draw.rng.uniform(-1, 1))
    z = draw.rng.uniform(-1, 1, n)
    reach = best_neuron(X, z)
    z = z * min(1.0, beta / reach) if reach > 0 else z
    return float(np.abs(z).max() / 1e-6)  # as optimal as z = 0


def best_outputs(Q: Floats, Y: Floats, beta: float) -> Floats:
    """min over A of 1/2 |QA - Y|^2 + beta sum |A_j| nearly, one row at a time."""
    A = np.zeros((Q.shape[1], Y.shape[1]))
    left = Y.copy()
    for _ in range(30):
        for j, q in enumerate(Q.T):
            if not q.any():
                continue
            left += np.outer(q, A[j])
            back = q @ left
            shrunk = max(1.0 - beta / max(float(np.linalg.norm(back)), 1e-300), 0.0)
            A[j] = shrunk * back / (q @ q)
            left -= np.outer(q, A[j])
    return A


@attack("two-layer-several")
def several_outputs(draw: Draw) -> float:
    """A network that shares neurons is above the brackets, and a separate one is a network."""
    n, d, c = draw.size(1, 5), draw.size(1, 2), draw.size(1, 3)
    X, Y = draw.matrix(n, d), np.column_stack([draw.targets(n) for _ in range(c)])
    beta = float(10.0 ** draw.rng.uniform(-2, 0.5))
    options = {"arrangements": cl.enumerate_arrangements(X)}
    separate = cl.VectorOutput(X, Y, beta=beta, **options)
    result = solved(separate)
    lower = solved(cl.VectorOutput(X, Y, beta=beta / sqrt(c), **options))
    nuclear = solved(cl.VectorOutput(X, Y, beta=beta, gated=True, penalty="nuclear", **options))
    network = separate.to_network(result)
    U, A = network.U.detach().numpy(), network.alpha.detach().numpy()
    if draw.rng.random() < 0.8:  # its directions and others, with the best outputs for each
        U = np.concatenate([U, draw.rng.standard_normal((3, d))])
        U /= np.linalg.norm(U, axis=1)[:, None]
        A = best_outputs(relu(X @ U.T), Y, beta)
        roots = np.sqrt(np.linalg.norm(A, axis=1))[:, None]
        U, A = roots * U, A / np.where(roots > 0, roots, 1.0)
    f = relu(X @ U.T) @ A
    own = 0.5 * ((f - Y) ** 2).sum() + 0.5 * beta * ((U**2).sum() + (A**2).sum())
    # Part 3: over a fine grid of directions, and what may lie between two of them.
    Z = draw.choice(Y, Y - f, draw.rng.standard_normal((n, c)))
    angles = np.linspace(0, 2 * np.pi, 4001)
    ball = np.stack([np.cos(angles), np.sin(angles)]) if d == 2 else np.array([[-1.0, 1.0]])
    reach = np.linalg.norm(Z.T @ relu(X @ ball), axis=0).max()
    if d == 2:
        reach += np.linalg.norm(Z) * np.linalg.norm(X) * np.pi / 4000
    Z = Z * min(1.0, beta / reach) if reach > 0 else Z
    dual = (Y * Z).sum() - 0.5 * (Z**2).sum()
    whole = 0.5 * (Y**2).sum()
    claims = (lower.dual - own, nuclear.dual - own, dual - own, lower.dual - result.value)
    return times(max(claims), 1e-9 * (whole + own))


@refute("two-layer-several", "no network with several outputs is below the separate programs")
def shared_neurons(draw: Draw) -> float:
    """One neuron that serves two outputs pays its input weights once."""
    n, c = draw.size(1, 3), draw.size(2, 3)
    X = np.abs(draw.matrix(n, 1)) + 0.1
    Y = X @ np.abs(draw.rng.standard_normal((1, c)))
    beta = float(10.0 ** draw.rng.uniform(-2, 0)) * (X.T @ Y).min()
    separate = solved(cl.VectorOutput(X, Y, beta=beta)).dual
    # One neuron u with outputs a: f = x (u a), of price |u a|. Shrink the direction of X^T Y.
    slope = (X.T @ Y)[0]
    length = max(np.linalg.norm(slope) - beta, 0.0) / (X**2).sum()
    f = X * length * slope / np.linalg.norm(slope)
    joint = 0.5 * ((f - Y) ** 2).sum() + beta * length
    return float((separate - joint) / (1e-4 * joint))
