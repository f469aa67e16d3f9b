"""Attacks on the chapter on two layers."""

import itertools
from math import sqrt

import numpy as np

import convexlib as cl
from tests.adversary.cells import (
    Masks,
    all_masks,
    best_neuron,
    bound_on_cells,
    depth_of_cone,
    relu,
    rows_of,
    sided,
)
from tests.adversary.programs import (
    Program,
    dual,
    dual_of_loss,
    loss_at,
    network,
    objective,
    relu_norm,
    scaled,
    solved,
    weights_of,
)
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.checks import best_in_cone


def instance(
    draw: Draw, most: int = 8, least_share: float = -5.0, extreme: bool = True
) -> tuple[Floats, Floats, float]:
    """Samples, targets and a beta that is a part of beta_max, or above it, or tiny."""
    X = draw.samples(most)
    y = draw.targets(len(X))
    if extreme:
        X, y = X * draw.scale(), y * draw.scale()
    share = draw.power(least_share, 0.3)
    draw.note(f"beta {share:.1e} of a bound on beta_max")
    return X, y, share * (np.abs(y) @ np.linalg.norm(X, axis=1) or 1.0)


def open_cells(draw: Draw, X: Floats) -> Masks:
    """The patterns of open cells, one linear program for each mask."""
    lengths = np.linalg.norm(X, axis=1)
    live = lengths > 0
    rows = X[live] / lengths[live, None]
    found = []
    for mask in all_masks(int(live.sum())):
        depth = depth_of_cone(sided(mask, rows))
        draw.assume(not 1e-8 < depth < 1e-5)  # the solver cannot tell whether this cell is empty
        if depth >= 1e-5:
            whole = np.ones(len(X), dtype=bool)  # a zero sample counts as active
            whole[live] = mask
            found.append(whole)
    return np.array(found)


# --- the bound, and that it is attained --------------------------------------------------------


def decay(sizes: Floats, outputs: Floats, factors: Floats) -> Floats:
    """Half the squares of rescaled neurons."""
    return 0.5 * ((factors * sizes) ** 2 + (outputs / factors) ** 2)


@attack("two-layer-rescaling")
def rescaling(draw: Draw) -> None:
    """No rescaling of the neurons costs less than the path norm, which the balanced one costs."""
    m, d = draw.size(1, 5), draw.size(1, 3)
    U, alpha = draw.weights(m, d), draw.weights(m)
    sizes, outputs = np.linalg.norm(U, axis=1), np.abs(alpha)
    path = sizes @ outputs
    draw.below(path, decay(sizes, outputs, 10.0 ** draw.rng.uniform(-3, 3, m)).sum(), 1e-12 * path)
    live = (sizes > 0) & (outputs > 0)
    # Of a neuron with one zero layer the decay comes as close to 0 as one likes.
    factors = np.where(sizes > 0, 1e-9, 1e9)
    factors[live] = np.sqrt(outputs[live] / sizes[live])
    least = decay(sizes, outputs, factors)
    draw.same(path, least[live].sum(), 1e-12 * path)
    draw.below(least[~live].sum(), 0.0, 1e-12)


@refute("two-layer-rescaling", "some rescaling of every network costs its path norm")
def a_dead_half(draw: Draw) -> None:
    """Of a neuron with one zero layer every rescaling costs more than its path norm 0."""
    m, d = draw.size(1, 3), draw.size(1, 3)
    U, alpha = draw.weights(m, d), draw.weights(m)
    sizes, outputs = np.linalg.norm(U, axis=1), np.abs(alpha)
    half = (sizes > 0) != (outputs > 0)
    draw.true(decay(sizes, outputs, 10.0 ** draw.rng.uniform(-3, 3, m))[half].sum() == 0.0)


@attack("two-layer-weak-duality")
def weak_duality(draw: Draw) -> None:
    """Scaled to be feasible, no z has a d(z) above the objective of any network."""
    X, y, beta = instance(draw, most=6)
    U, alpha = network(draw, X, 6)
    if draw.rng.random() < 0.5:  # a network that explains the data
        optimum = cl.TwoLayer(X, y, beta=beta)
        U, alpha = weights_of(optimum.to_network(solved(optimum)))
    reached = objective(X, y, beta, U, alpha)
    z = draw.choice(y, y - relu(X @ U.T) @ alpha, draw.normal(len(y)))
    draw.below(dual(scaled(z, best_neuron(X, z), beta), y), reached, 1e-9 * (reached + y @ y))


@attack("two-layer-gauge")
def gauge(draw: Draw) -> None:
    """gamma is the least path norm: below every network's, above z^T f / g(z), and attained."""
    n, d, m = draw.size(1, 5), draw.size(1, 3), draw.size(1, 5)
    X = draw.matrix(n, d)
    U, alpha = draw.normal(m, d), draw.normal(m)
    f = relu(X @ U.T) @ alpha
    (gamma, program), path = relu_norm(X, f), float(np.linalg.norm(U, axis=1) @ np.abs(alpha))
    slack = 1e-6 * (1.0 + path)  # the solver is right to about 1e-8 of the sizes involved
    draw.below(gamma, path, slack)
    z = draw.choice(f, draw.normal(n))
    reach = best_neuron(X, z)
    draw.below(z @ f / reach if reach > 0 else 0.0, gamma, slack)
    blocks, signs = program.neurons()
    draw.same(np.linalg.norm(blocks, axis=1).sum(), gamma, slack)
    draw.same(relu(X @ blocks.T) @ signs, f, slack)


@attack("two-layer-strong-duality")
def strong_duality(draw: Draw) -> None:
    """The residual is feasible and its d is the optimum; dim S neurons suffice."""
    X, y, beta = instance(draw, most=6)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = solved(problem, tol=1e-10)
    z = y - problem.fitted(result.weights).numpy()
    value, half = result.value, 0.5 * y @ y
    gap = max(value - result.dual, 0.0) + 1e-14 * half
    # Outputs are off by sqrt(2 gap), g by the norm of X times that, and d by the derivative.
    off = sqrt(2.0 * gap)
    limit = beta + np.linalg.norm(X, 2) * off
    draw.below(best_neuron(X, z), limit, 1e-9 * limit)
    draw.same(dual(z, y), value, np.linalg.norm(y) * off + 2.0 * gap + 1e-9 * half)
    U, alpha = weights_of(cl.prune_neurons(problem.to_network(result), X))
    draw.below(objective(X, y, beta, U, alpha), value, 1e-9 * half)
    directions = draw.normal(500, X.shape[1])
    size = np.abs(X).max() or 1.0
    span = np.linalg.matrix_rank(relu(X / size @ directions.T)) if X.any() else 0
    draw.true(len(alpha) <= span)


# --- the program -------------------------------------------------------------------------------


@attack("two-layer-cells")
def cells(draw: Draw) -> None:
    """Every neuron, on walls too, is in the cone of an open cell, where (Xu)_+ = DXu."""
    X = draw.samples(5)
    masks = open_cells(draw, X)
    U = draw.normal(20, X.shape[1])
    for u in U[:10]:  # onto the walls of some samples
        walls = X[draw.rng.random(len(X)) < 0.5]
        if len(walls):
            u -= np.linalg.pinv(walls) @ (walls @ u)
    inner = U @ X.T  # (20, n)
    slack = 1e-10 * (1 + np.abs(X).max())
    inside = ((2.0 * masks - 1.0) * inner[:, None] >= -slack).all(axis=2)  # (20, P)
    draw.true(inside.any(axis=1).all())
    draw.same(relu(inner), masks[inside.argmax(axis=1)] * inner, slack)


@attack("two-layer-convex-program")
def convex_program(draw: Draw) -> None:
    """Over the open cells the program has the optimum of networks: a dual point meets it."""
    X, y, beta = instance(draw, most=5, least_share=-3)
    masks = open_cells(draw, X)
    program = Program(X, y, beta, masks)
    slack = 1e-6 * program.value + 1e-7 * (0.5 * y @ y or 1.0)
    U, alpha = program.network()
    draw.same(objective(X, y, beta, U, alpha), program.value, slack)
    z = y - relu(X @ U.T) @ alpha
    draw.below(program.value, dual(scaled(z, best_neuron(X, z), beta), y), slack)
    # And from any network to the program: merged neurons cost no more, with the same outputs.
    weights, outputs = network(draw, X, 6)
    inside = ((2.0 * masks - 1.0) * (weights @ X.T)[:, None] >= 0).all(axis=2)
    draw.assume(inside.any(axis=1).all())  # else on a wall, up to rounding
    price, made = 0.0, np.zeros(len(y))
    for cone, sign in itertools.product(set(inside.argmax(axis=1)), (1.0, -1.0)):
        chosen = (inside.argmax(axis=1) == cone) & (np.sign(outputs) == sign)
        block = np.abs(outputs[chosen]) @ weights[chosen]
        price += float(np.linalg.norm(block))
        made += sign * masks[cone] * (X @ block)
    own = objective(X, y, beta, weights, outputs)
    draw.below(0.5 * ((made - y) ** 2).sum() + beta * price, own, 1e-9 * own)


@refute("two-layer-convex-program", "with (2D - I)Xw <= 0 the program has the same optimum")
def misprint(draw: Draw) -> None:
    """The cone of w with the wrong sign removes the neurons with negative output weights."""
    X, y, beta = instance(draw, most=4, least_share=-2, extreme=False)
    right = solved(cl.TwoLayer(X, y, beta=beta)).value
    wrong = Program(X, y, beta, all_masks(len(y)), w_sign=-1).value
    draw.below(wrong, right, 1e-4 * (1 + right))


@attack("two-layer-moreau")
def moreau(draw: Draw) -> None:
    """The projection's norm is the largest c^T u in a cone, and over all cells g(z)."""
    X = draw.samples(6)
    n, d = X.shape
    c, mask = draw.normal(d), draw.rng.random(n) < 0.5
    slack = 1e-9 * (1 + np.abs(X).sum())
    # Neurons in the cone: those of random ones that are there, and of the polar projection itself.
    normals = sided(mask, X)
    points = np.concatenate([draw.normal(2000, d), normals, [c]])
    points = points[(points @ normals.T >= 0).all(axis=1)]
    lengths = np.linalg.norm(points, axis=1)
    heights = points[lengths > 0] / lengths[lengths > 0, None] @ c
    draw.below(heights, best_in_cone(c, X, mask), slack)
    z = draw.normal(n)
    U = draw.normal(2000, d)
    reached = (np.abs(relu(X @ U.T).T @ z) / np.linalg.norm(U, axis=1)).max()
    best = best_neuron(X, z)
    draw.below(reached, best, slack)
    if d == 1:  # two directions are all there are
        draw.below(best, reached, slack)


# --- patterns ----------------------------------------------------------------------------------


@attack("two-layer-cover")
def cover(draw: Draw) -> None:
    """At most B(n, r) open cells, and as many if any r samples are independent."""
    X = draw.samples(6)
    n, r = len(X), int(np.linalg.matrix_rank(X))
    masks, limit = open_cells(draw, X), bound_on_cells(n, r)
    draw.assume(r > 0)
    subsets = [X[list(rows)] for rows in itertools.combinations(range(n), r)]
    general = min(np.linalg.svd(rows, compute_uv=False)[-1] for rows in subsets) > 1e-6
    draw.true(len(masks) == limit if general else len(masks) <= limit)
    N = n - 1
    draw.true(r > N or limit <= 2 * (np.e * N / r) ** r)
    draw.true(rows_of(cl.enumerate_arrangements(X).masks) == rows_of(masks))


@refute("two-layer-cover", "at most B(n, r) patterns 1[Xu >= 0] over all u, on walls too")
def patterns_on_walls(draw: Draw) -> None:
    """The neuron u = 0 has the pattern of all samples, which need not be that of a cell."""
    X = draw.samples(5)
    U = np.concatenate([draw.normal(2000, X.shape[1]), np.zeros((1, X.shape[1]))])
    r = int(np.linalg.matrix_rank(X))
    draw.assume(r > 0)
    draw.true(len(rows_of(U @ X.T >= 0)) <= bound_on_cells(len(X), r))


@refute("two-layer-cover", "B(n, r) cells whenever the rank of n samples is r")
def full_rank(draw: Draw) -> None:
    """Full rank is not general position: repeated, opposite and zero samples add no wall."""
    n, d = draw.size(2, 5), draw.size(1, 3)
    X = draw.matrix(n, d)
    r = int(np.linalg.matrix_rank(X))
    draw.assume(r > 0)
    draw.true(len(cl.enumerate_arrangements(X)) >= bound_on_cells(n, r))


@refute("two-layer-cover", "directions orthogonal to d - 1 samples find all patterns")
def by_subsets(draw: Draw) -> None:
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
    draw.true(rows_of(cl.enumerate_arrangements(X).masks) <= found)


@attack("two-layer-zonotope")
def zonotope(draw: Draw) -> None:
    """Vertices are the points of the cells, distinct; their normal cones are the cells."""
    X = draw.samples(5)
    masks = open_cells(draw, X)
    corners, points = all_masks(len(X)) @ X, masks @ X  # (2^n, d), (P, d)
    U = draw.normal(200, X.shape[1])
    size = 1e-9 * (1 + np.abs(X).sum())
    supports = (U @ corners.T).max(axis=1)
    draw.same(supports, relu(U @ X.T).sum(axis=1), size)  # part 1
    draw.same(supports, (U @ points.T).max(axis=1), size)  # no vertex but these
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    apart[np.diag_indices(len(points))] = np.inf
    draw.true(apart.min() >= 1e-6)
    # Part 3: where a point is the best corner, the neuron is in its cone, and conversely.
    best = supports[:, None] - U @ points.T <= size  # (200, P)
    inside = ((2.0 * masks - 1.0) * (U @ X.T)[:, None] >= -size).all(axis=2)
    draw.true((best == inside).all())


@attack("two-layer-gated")
def gated(draw: Draw) -> None:
    """Gated over all patterns is below the optimum; over some of them it is above that."""
    X, y, beta = instance(draw, most=6)
    full = cl.enumerate_arrangements(X)
    size = draw.size(1, len(full))
    some = full.select(draw.rng.choice(len(full), size, replace=False))
    (relu_all, gated_all), (relu_some, gated_some) = (
        [
            solved(cl.TwoLayer(X, y, beta=beta, arrangements=patterns, gated=kind))
            for kind in (False, True)
        ]
        for patterns in (full, some)
    )
    half = 0.5 * float(y @ y)
    draw.below(gated_all.dual, min(relu_all.value, gated_some.value), 1e-9 * half)
    draw.below(relu_all.dual, relu_some.value, 1e-9 * half)
    draw.below(gated_some.dual, half, 1e-9 * half)


@refute("two-layer-gated", "over some of the patterns too the gated value is at most the optimum")
def gated_sample(draw: Draw) -> None:
    """One gate may fit less than all neurons."""
    X, y, beta = instance(draw, most=6, extreme=False)
    full = cl.enumerate_arrangements(X)
    some = full.select(draw.rng.choice(len(full), 1))
    value = solved(cl.TwoLayer(X, y, beta=beta)).value
    sampled = solved(cl.TwoLayer(X, y, beta=beta, arrangements=some, gated=True))
    draw.below(sampled.dual, value, 1e-3 * value)


# --- distances, other losses, several outputs --------------------------------------------------


@attack("two-layer-outputs")
def outputs_near(draw: Draw) -> None:
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
    signs = np.concatenate([signs, draw.signs(m)])
    f = relu(X @ blocks.T) @ signs
    own = 0.5 * ((f - y) ** 2).sum() + beta * np.linalg.norm(blocks, axis=1).sum()
    inexact = sqrt(2 * max(result.value - result.dual, 0.0))  # of the outputs called optimal
    limit = sqrt(2 * max(own - result.dual, 0.0)) + inexact
    slack = 1e-7 * (np.linalg.norm(y) + np.linalg.norm(f))  # the root of rounding
    draw.below(np.linalg.norm(f - best), limit, slack)


@refute("two-layer-outputs", "|f - f*| <= sqrt(2 (P - p*)) for every convex loss")
def logistic_outputs(draw: Draw) -> None:
    """The logistic loss is not strongly convex: a small gap allows a large distance."""
    n = draw.size(1, 4)
    X, y = np.abs(draw.matrix(n, 1)) + 0.5, np.ones(n)
    beta = draw.power(-3, 0)
    problem = cl.TwoLayer(X, y, beta=beta, loss="logistic")
    result = solved(problem, tol=1e-9)
    best = problem.fitted(result.weights).numpy()
    smaller = draw.rng.uniform(0, 1) * best
    reached = loss_at("logistic", smaller, y) + beta * abs(smaller[0] / X[0, 0])
    limit = np.sqrt(2.0 * max(reached - result.dual, 0.0))
    draw.below(np.linalg.norm(smaller - best), limit, 1e-6)


@attack("two-layer-losses")
def other_losses(draw: Draw) -> None:
    """Kinks or not: a program, a feasible z that meets it, and with mu = 1 a distance."""
    loss = draw.choice("absolute", "hinge", "squared hinge", "mixed")
    X = draw.samples(5)
    n = len(X)
    y = draw.labels(n) if "hinge" in loss else draw.targets(n)
    beta = draw.power(-2, 0.5)
    draw.note(f"{loss}, beta {beta:.1e}")
    program = Program(X, y, beta, all_masks(n), loss)
    slack = 1e-6 * (1 + loss_at(loss, np.zeros(n), y))
    # -z is a subgradient where the loss is least, up to rounding in the dual's domain.
    z = {
        "absolute": np.clip(program.z, -1, 1),
        "hinge": y * np.clip(y * program.z, 0, 1),
        "squared hinge": y * relu(y * program.z),
        "mixed": program.z,
    }[loss]
    draw.same(program.value, dual_of_loss(loss, z, y), slack)
    draw.below(best_neuron(X, z), beta, slack)
    U, alpha = program.network()
    draw.same(objective(X, y, beta, U, alpha, loss), program.value, slack)
    weights, outs = network(draw, X, 5)
    own = objective(X, y, beta, weights, outs, loss)
    draw.below(program.value, own, slack)  # no network is below
    if loss == "mixed":
        distance = np.linalg.norm(relu(X @ weights.T) @ outs - relu(X @ U.T) @ alpha)
        draw.below(program.value + 0.5 * distance**2 - 1e-4 * distance, own, slack)


@refute("two-layer-losses", "all optimal networks have the same outputs, for every convex loss")
def absolute_outputs(draw: Draw) -> None:
    """With the absolute loss and beta = |x| the outputs 0 and y of one sample are both optimal."""
    x, y = np.abs(draw.normal(2)) + 0.1
    # min |f - y| + beta f / x over f >= 0, at beta = x.
    one, other = abs(0.0 - y), x * (y / x)
    draw.true(abs(one - other) > 1e-12 * y)


@refute("two-layer-losses", "nor does a differentiable convex loss have several optimal outputs")
def squared_hinge_outputs(draw: Draw) -> None:
    """A margin beyond 1 costs nothing, so that optimal networks may pass it as they like."""
    far = draw.power(1, 3)
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
    draw.assume(max(values) - best <= 1e-7 * best and min(ends) > 1)
    draw.same(*ends, 1e-3)


@refute("two-layer-losses", "the dual solution is unique for every convex loss")
def many_duals(draw: Draw) -> None:
    """With targets 0 and the absolute loss every small feasible z has d(z) = 0 = p*."""
    n = draw.size(1, 4)
    X, beta = draw.matrix(n, 1), draw.power(-1, 1)
    z = draw.rng.uniform(-1, 1, n)
    draw.same(scaled(z, best_neuron(X, z), beta), 0.0, 1e-6)  # as optimal as z = 0


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
def several_outputs(draw: Draw) -> None:
    """A network that shares neurons is above the brackets, and a separate one is a network."""
    n, d, c = draw.size(1, 5), draw.size(1, 2), draw.size(1, 3)
    X, Y = draw.matrix(n, d), np.column_stack([draw.targets(n) for _ in range(c)])
    beta = draw.power(-2, 0.5)
    options = {"arrangements": cl.enumerate_arrangements(X)}
    separate = cl.VectorOutput(X, Y, beta=beta, **options)
    result = solved(separate)
    lower = solved(cl.VectorOutput(X, Y, beta=beta / sqrt(c), **options))
    nuclear = solved(cl.VectorOutput(X, Y, beta=beta, gated=True, penalty="nuclear", **options))
    U, A = weights_of(separate.to_network(result))
    if draw.rng.random() < 0.8:  # its directions and others, with the best outputs for each
        U = np.concatenate([U, draw.normal(3, d)])
        U /= np.linalg.norm(U, axis=1)[:, None]
        A = best_outputs(relu(X @ U.T), Y, beta)
        roots = np.sqrt(np.linalg.norm(A, axis=1))[:, None]
        U, A = roots * U, A / np.where(roots > 0, roots, 1.0)
    f = relu(X @ U.T) @ A
    own = 0.5 * ((f - Y) ** 2).sum() + 0.5 * beta * ((U**2).sum() + (A**2).sum())
    # Part 3: over a fine grid of directions, and what may lie between two of them.
    Z = draw.choice(Y, Y - f, draw.normal(n, c))
    angles = np.linspace(0, 2 * np.pi, 4001)
    ball = np.stack([np.cos(angles), np.sin(angles)]) if d == 2 else np.array([[-1.0, 1.0]])
    reach = np.linalg.norm(Z.T @ relu(X @ ball), axis=0).max()
    if d == 2:
        reach += np.linalg.norm(Z) * np.linalg.norm(X) * np.pi / 4000
    slack = 1e-9 * (0.5 * (Y**2).sum() + own)
    draw.below([lower.dual, nuclear.dual, dual(scaled(Z, reach, beta), Y)], own, slack)
    draw.below(lower.dual, result.value, slack)


@refute("two-layer-several", "no network with several outputs is below the separate programs")
def shared_neurons(draw: Draw) -> None:
    """One neuron that serves two outputs pays its input weights once."""
    n, c = draw.size(1, 3), draw.size(2, 3)
    X = np.abs(draw.matrix(n, 1)) + 0.1
    Y = X @ np.abs(draw.normal(1, c))
    beta = draw.power(-2, 0) * (X.T @ Y).min()
    separate = solved(cl.VectorOutput(X, Y, beta=beta)).dual
    # One neuron u with outputs a: f = x (u a), of price |u a|. Shrink the direction of X^T Y.
    slope = (X.T @ Y)[0]
    length = max(np.linalg.norm(slope) - beta, 0.0) / (X**2).sum()
    f = X * length * slope / np.linalg.norm(slope)
    joint = 0.5 * ((f - Y) ** 2).sum() + beta * length
    draw.below(separate, joint, 1e-4 * joint)
