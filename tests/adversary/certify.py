"""Attacks on the chapter on certificates."""

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import minimize_scalar

import convexlib as cl
from convexlib.losses import get_loss
from convexlib.pricing import price_outputs
from convexlib.pricing.quadratic_bound import PairBound, Pairs
from convexlib.pricing.relaxation import relaxed
from tests.adversary.cells import all_masks, best_neuron, relu, unit
from tests.adversary.programs import (
    Blocks,
    convex_loss,
    dual_of_loss,
    interior_point,
    loss_at,
    solved,
    weights_of,
)
from tests.adversary.search import TINY, Draw, Floats, attack, refute
from tests.helpers.checks import best_in_cone

LOSSES = ("squared", "logistic", "squared hinge", "absolute")


def slope(name: str, f: Floats, y: Floats) -> Floats:
    """Minus the gradient of a differentiable loss."""
    if name == "squared":
        return y - f
    if name == "logistic":
        return y * np.exp(-np.logaddexp(0.0, y * f))
    return y * relu(1 - y * f)


class Case:
    """Samples, targets, a network with or without an output bias, and its parts."""

    def __init__(self, draw: Draw, losses: tuple[str, ...] = LOSSES, most: int = 5) -> None:
        n, d, m = draw.size(1, most), draw.size(1, 3), draw.size(1, 4)
        self.loss, self.biased = draw.choice(*losses), draw.choice(True, False)
        self.X = draw.matrix(n, d) * draw.scale(3)
        self.y = draw.targets(n) if self.loss in ("squared", "absolute") else draw.labels(n)
        self.beta = draw.power(-3, 1) * (np.abs(self.X).max() or 1.0)
        self.U, self.alpha = draw.weights(m, d), draw.weights(m)
        self.b = float(draw.choice(0.0, draw.normal())) if self.biased else 0.0
        draw.note(f"{self.loss}, beta {self.beta:.1e}, bias {self.b:.1e}")

    @property
    def f(self) -> Floats:
        """Outputs."""
        return relu(self.X @ self.U.T) @ self.alpha + self.b

    @property
    def sizes(self) -> tuple[Floats, Floats]:
        """Of the neurons: the norms of the inner and the outer weights."""
        return np.linalg.norm(self.U, axis=1), np.abs(self.alpha)

    @property
    def z(self) -> Floats:
        """The dual point of a differentiable loss at the outputs."""
        return slope(self.loss, self.f, self.y)

    def objective(self) -> float:
        """The loss and beta / 2 times all squared weights."""
        squares = (self.U**2).sum() + (self.alpha**2).sum() + self.b**2
        return loss_at(self.loss, self.f, self.y) + float(0.5 * self.beta * squares)

    def dual(self, z: Floats) -> float:
        """d(1)."""
        bias = z.sum() ** 2 / (2 * self.beta) if self.biased else 0.0
        return dual_of_loss(self.loss, z, self.y) - bias


@attack("certify-bound")
def bound(draw: Draw) -> None:
    """Every admissible multiple of every z is below every network; the best one is the formula."""
    case = Case(draw)
    y, beta, n = case.y, case.beta, len(case.y)
    z = draw.choice(y, draw.normal(n), np.abs(draw.normal(n)) * y)
    if case.loss != "absolute":
        z = draw.choice(z, case.z)
    g = best_neuron(case.X, z)
    B = g * draw.choice(1.0, 1.0, 2.0) + 1e-12 * np.abs(z) @ np.linalg.norm(case.X, axis=1)
    own = case.objective()
    limit = beta / B if B > 0 else 1e3
    scales = limit * np.append(draw.rng.random(20), [0.0, 1.0])
    values = [case.dual(s * z) for s in scales]
    draw.below(values, own, 1e-9 * (1 + own))
    if case.loss == "squared" and z.any():
        curvature = z @ z + (z.sum() ** 2 / beta if case.biased else 0.0)
        s = min(limit, max(y @ z, 0.0) / curvature)
        draw.below(values, case.dual(s * z), 1e-9 * (1 + y @ y))


@refute("certify-bound", "the residual bounds the optimum as it is, without scaling")
def without_scaling(draw: Draw) -> None:
    """A neuron that exceeds beta makes d(1) larger than the objective of a better network."""
    case = Case(draw, ("squared",))
    problem = cl.TwoLayer(case.X, case.y, beta=case.beta)
    case.biased, case.b = False, 0.0
    draw.below(case.dual(case.z), solved(problem).value, 1e-6 * (1 + case.y @ case.y))


@attack("certify-parts")
def parts(draw: Draw) -> None:
    """P - d(1) is the sum of the parts, which are positive where z is feasible, 0 at an optimum."""
    case = Case(draw, LOSSES[:3])
    if draw.rng.random() < 0.3:  # an optimum: of a program without an output bias
        case.loss, case.biased, case.b = "squared", False, 0.0
        problem = cl.TwoLayer(case.X, draw.targets(len(case.y)), beta=case.beta)
        case.y = problem.y.numpy()
        case.U, case.alpha = weights_of(problem.to_network(solved(problem, tol=1e-10)))
    beta, X, z = case.beta, case.X, case.z
    sizes, outs = case.sizes
    unbalanced = 0.5 * beta * (sizes - outs) ** 2
    unmet = beta * sizes * outs - (relu(X @ case.U.T).T @ z) * case.alpha
    off = 0.5 * beta * (case.b - z.sum() / beta) ** 2 if case.biased else 0.0
    own = case.objective()
    total = float((unbalanced + unmet).sum() + off)
    terms = own + np.abs(unmet).sum() + off + abs(case.dual(z)) + np.abs(z) @ np.abs(case.f)
    draw.same(own - case.dual(z), total, 1e-9 * terms)
    if best_neuron(X, z) <= beta:
        draw.below(0.0, unbalanced + unmet, 1e-9 * terms)
    if not case.biased and case.loss == "squared":
        # The gap bounds the parts where z is feasible, and z is so up to the root of the gap.
        value = cl.TwoLayer(X, case.y, beta=beta)
        left = max(own - solved(value, tol=1e-10).dual, 0.0)
        spread = np.linalg.norm(X, 2) * np.sqrt(2 * left) * (sizes @ outs)
        if left <= 1e-8 * own:  # an optimum
            draw.below(abs(total), 2 * left + spread, 1e-7 * terms)


@refute("certify-parts", "where g(z) > beta a direction is missing that the network does not have")
def own_neuron_too_small(draw: Draw) -> None:
    """The only neuron that exceeds beta may be there already."""
    x, y = np.abs(draw.normal(2)) + 0.1
    beta = 0.5 * x * y
    size = draw.rng.uniform(0, 0.3) * (y - beta / x) / x  # of the neuron x -> relu(x) size
    # u = 1 and u = -1 are all directions, and the second has z a = 0.
    draw.below((y - size * x) * relu(x), beta, 1e-9 * beta)


@attack("certify-missing")
def missing(draw: Draw) -> None:
    """A neuron helps if and only if its z^T a exceeds beta, and by the formula."""
    case = Case(draw, LOSSES[:3])
    X, y, beta, loss, f, z = case.X, case.y, case.beta, case.loss, case.f, case.z
    u = draw.normal(X.shape[1])
    if draw.rng.random() < 0.5 and len(X) > 1:
        u = X[draw.rng.integers(len(X))] + 1e-3 * u  # a sample's own direction
    a = draw.choice(1.0, -1.0) * relu(X @ unit(u))
    rate = float(z @ a) - beta
    start = loss_at(loss, f, y)

    def phi(t: float) -> float:
        return loss_at(loss, f + t * a, y) - start + beta * t

    curvature = a @ a if loss != "logistic" else 0.25 * a @ a  # at most
    top = rate / curvature if rate > 0 and curvature > 0 else 1.0
    found = minimize_scalar(phi, bounds=(0.0, 4.0 * top), method="bounded", options={"xatol": 0.0})
    gain = max(-float(found.fun), 0.0)
    # phi is a difference of losses, known up to their rounding.
    rounding = 1e-13 * (1 + start + np.abs(z) @ np.abs(a) * 4 * top + beta * 4 * top)
    if rate <= 0:
        draw.below(gain, 0.0, rounding)
    if loss == "squared":
        formula = max(rate, 0.0) ** 2 / (2 * a @ a) if a.any() else 0.0
        draw.same(gain, formula, 1e-7 * formula + rounding)
    # A smooth loss keeps at least half of the linear gain over a step of rate over curvature.
    elif rate > 0:
        draw.below(0.5 * rate * top, -phi(top), rounding)
    # And some neuron helps if and only if g exceeds beta: the best one is among those in cones.
    if best_neuron(X, z) <= beta:
        draw.below(rate, 0.0, 1e-9 * (beta + np.abs(z) @ np.abs(a)))


@refute("certify-missing", "the neuron that exceeds beta most is the one that gains most")
def fastest_is_best(draw: Draw) -> None:
    """A large image overshoots: the gain divides by its square."""
    x = np.array([draw.power(0, 2), -1.0])
    z = np.abs(draw.normal(2)) / np.abs(x)
    heights = z * np.abs(x)  # of u = 1 and u = -1
    gains = relu(heights - 0.5 * heights.max()) ** 2 / (2 * x**2)
    fastest = gains[heights.argmax()]
    draw.below(gains, fastest, 1e-9 * fastest)


def rewritten(draw: Draw, case: Case) -> tuple[list[float], list[float]]:
    """Objectives along the steps of polishing, and by how much each may be above the last one."""
    X, y, beta = case.X, case.y, case.beta
    sizes, outs = case.sizes
    live = (sizes > 0) & (outs > 0)
    vectors, signs = (case.U * outs[:, None])[live], np.sign(case.alpha[live])

    def of(vectors: Floats, signs: Floats) -> float:
        f = relu(X @ vectors.T) @ signs + case.b
        price = np.linalg.norm(vectors, axis=1).sum()
        return loss_at(case.loss, f, y) + beta * (price + 0.5 * case.b**2)

    patterns = X @ vectors.T >= 0  # (n, m)
    keys = [(*pattern.tolist(), sign) for pattern, sign in zip(patterns.T, signs, strict=True)]
    merged = {key: np.zeros(X.shape[1]) for key in keys}
    for key, vector in zip(keys, vectors, strict=True):
        merged[key] += vector
    blocks = np.array([*merged.values()]).reshape(-1, X.shape[1])
    steps = [case.objective(), of(vectors, signs)]
    steps.append(of(blocks, np.array([key[-1] for key in merged])))
    scale = 1 + steps[0]
    slack = [1e-9 * scale] * 2
    if draw.rng.random() < 0.5:  # the programs take most of the time
        own = np.unique(patterns, axis=1).T if len(vectors) else np.zeros((1, len(y)), dtype=bool)
        size = np.abs(X).max() or 1.0
        for masks in (own, all_masks(len(y))):
            made, c = Blocks(X / size, masks), cp.Variable()
            error = convex_loss(case.loss, made.outputs + c, y)
            goal = error + beta / size * made.price + 0.5 * beta * cp.square(c)
            fixed = [] if case.biased else [c == 0]
            program = cp.Problem(cp.Minimize(goal), [*made.cones, *fixed])
            steps.append(interior_point(program))
            slack.append(1e-6 * scale)
    return steps, slack


@attack("certify-polish")
def polish(draw: Draw) -> None:
    """Balance, merge, own patterns, all patterns: the objective never rises, for any loss."""
    case = Case(draw, ("squared", "squared hinge", "absolute"), most=4)
    steps, slack = rewritten(draw, case)
    draw.below(steps[1:], steps[:-1], slack)
    scale, (sizes, outs) = 1 + steps[0], case.sizes
    draw.same(steps[0] - steps[1], 0.5 * case.beta * ((sizes - outs) ** 2).sum(), 1e-9 * scale)
    if case.loss == "squared" and not case.biased and draw.rng.random() < 0.3:
        network = cl.TwoLayerReLU(torch.from_numpy(case.U), torch.from_numpy(case.alpha))
        found = cl.polish(network, case.X, case.y, beta=case.beta, max_nodes=20_000)
        reached = [stage.objective for stage in found.stages]
        draw.below(reached[1:], reached[:-1], 1e-12 * scale)
        draw.below(found.certificate.dual, found.certificate.primal, 1e-9 * scale)


def z_matrix(draw: Draw, n: int) -> tuple[Floats, Floats, Floats]:
    """Pairs (n, n), r > 0 and delta >= 0 that make diag(near r / r + delta) - near."""
    near = np.triu(np.abs(draw.normal(n, n)) * (draw.rng.random((n, n)) < 0.4), 1)
    near = (near + near.T) * draw.power(-3, 3)
    return near, np.exp(draw.power(-1, 0.7) * draw.normal(n)), draw.power(-3, 1) * np.ones(n)


@attack("certify-z-matrix")
def by_one_vector(draw: Draw) -> None:
    """Nonpositive entries off the diagonal and A r > 0: positive definite, with a bound."""
    n = draw.size(1, 7)
    near, r, delta = z_matrix(draw, n)
    A = np.diag(near @ r / r + delta) - near
    image = delta * r
    # A congruent matrix has the same inertia, and is dominated by its diagonal by so much.
    B = r[:, None] * A * r
    size = np.abs(B).max()
    draw.below(0.0, np.linalg.eigvalsh(B)[0], 1e-12 * size)
    inverse = np.linalg.inv(B) * r[:, None] * r
    condition = np.linalg.cond(B)
    draw.assume(condition < 1e10)
    draw.below(0.0, inverse, 1e-14 * condition * np.abs(inverse).max())
    rho = draw.choice(draw.normal(n), image, draw.signs(n) * image, np.eye(n)[0])
    form, limit = rho @ inverse @ rho, (np.abs(rho) @ r) * (np.abs(rho) / image).max()
    draw.below(form, limit, 1e-13 * condition * (1e-3 * limit + abs(form)))


@refute("certify-z-matrix", "a positive diagonal and nonpositive entries elsewhere are enough")
def sparse_signs(draw: Draw) -> None:
    """Without A r > 0 the entries off the diagonal may be too large."""
    near = z_matrix(draw, draw.size(2, 6))[0]
    A = np.eye(len(near)) - near
    draw.below(0.0, np.linalg.eigvalsh(A)[0], 1e-12)


def ball_maximum(p: Floats, Q: Floats) -> float:
    """max p^T u + u^T Q u over the unit ball, by its dual; from above."""
    values, vectors = np.linalg.eigh(Q)
    along, top = (vectors.T @ p) ** 2, max(values[-1], 0.0)
    size = np.abs(values).max() + np.linalg.norm(p) + TINY

    def dual(power: float) -> float:
        shift = top + size * 10.0**power
        return float(shift + 0.25 * (along / (shift - values)).sum())

    grid = np.linspace(-12, 1, 60)
    at = grid[int(np.argmin([dual(power) for power in grid]))]
    return float(minimize_scalar(dual, bounds=(at - 0.3, at + 0.3), method="bounded").fun)


@attack("certify-pairs")
def with_pairs(draw: Draw) -> None:
    """Any multipliers, zero ones too, bound the best neuron; so does what the library chooses."""
    X, scale = draw.matrix(draw.size(2, 6), draw.size(1, 3)), draw.scale()
    n, d = X.shape
    z = draw.targets(n)
    near, r, delta = z_matrix(draw, n)
    theta = np.triu(draw.signs(n, n), 1)
    theta = draw.choice(theta + theta.T, np.sign(X @ X.T))
    plus, minus, kappa = np.abs(draw.weights(3, n))
    aims = draw.normal(n, d)
    aims /= np.linalg.norm(aims, axis=1, keepdims=True) * draw.choice(1.0, 2.0)
    mu = near @ r / r + delta
    w = z + 2 * (plus + minus + kappa)
    mixed = X.T @ (kappa[:, None] * aims)
    Q = X.T @ (mu[:, None] * X - (theta * near) @ X) - 0.5 * (mixed + mixed.T)
    A = np.diag(mu) - near
    draw.assume(np.linalg.cond(A) < 1e10)
    bound = w @ np.linalg.solve(A, w) / 16 + ball_maximum(X.T @ (z / 2 - plus + minus), Q)
    highest = max(best_in_cone(X.T @ (mask * z), X, mask) for mask in all_masks(n))
    draw.below(highest, bound, 1e-9 * (bound + np.abs(w) @ np.abs(X).sum(1)))
    if draw.rng.random() < 0.2:
        loss = draw.choice("squared", "logistic", "squared_hinge")
        y = z if loss == "squared" else draw.labels(n)
        start = draw.choice(y, y / 2)  # its best neuron has the size of beta
        beta = scale * draw.power(-2, 1) * (best_neuron(X, start) or 1.0)
        for point in relaxed(
            torch.from_numpy(scale * X), torch.from_numpy(y), beta, get_loss(loss),
            output_bias=draw.choice(True, False), max_seconds=draw.choice(1e-9, 0.3),
        ):  # fmt: skip
            found = scale * best_neuron(X, point.z.numpy())
            draw.below(found, point.reach, 1e-9 * point.reach)


@attack("certify-blind")
def blind(draw: Draw) -> None:
    """No bound of this kind exceeds the price of moments that pairs far apart allow."""
    X = draw.matrix(draw.size(2, 30), draw.size(2, 5))
    n, d = X.shape
    sizes = np.linalg.norm(X, axis=1)
    draw.assume(sizes.min() > 1e-3 and np.linalg.matrix_rank(X) == d)
    loss = draw.choice("squared", "logistic", "squared_hinge")
    y = draw.targets(n) if loss == "squared" else draw.labels(n)
    draw.assume(y.any())
    kind, targets = get_loss(loss), torch.from_numpy(y)
    beta = draw.power(-3, 0) * float(np.abs(X.T @ y).max() + 1e-3)
    f = draw.choice(y, 3 * y, draw.normal(n))
    price = beta * 4 * np.sqrt(d) * (np.abs(f) / sizes).max()
    cost = float(kind.value(torch.from_numpy(f), targets))

    def ceiling(nearest: float) -> float:
        return cost + price / max(1 - max(np.sqrt(nearest), 1 / np.sqrt(d)), TINY)

    found = next(
        relaxed(torch.from_numpy(X), targets, beta, kind, output_bias=False, max_seconds=1e-9), None
    )
    if found is not None:  # without pairs, almost the best bound of all
        limit = beta / found.reach if found.reach > 0 else np.inf
        z = kind.best_scale(found.z, targets, limit) * found.z
        draw.below(kind.dual_value(z, targets), ceiling(0.0), 1e-9 * ceiling(0.0))
    cosines = np.abs(X @ X.T) / np.outer(sizes, sizes)
    i, j = np.triu_indices(n, 1)
    nearest = draw.choice(0.1, 0.5, 0.9)
    kept = cosines[i, j] <= nearest
    draw.assume(kept.any())
    i, j = i[kept], j[kept]
    bound = PairBound(X, Pairs(i, j, draw.signs(len(i)), n), np.eye(d) / d, np.full(n, 0.5))
    point = draw.normal(5 * n + len(i)) + draw.choice(-4.0, 0.0)
    z = kind.restrict(torch.from_numpy(draw.choice(y, draw.normal(n))), targets)
    reach = max(bound.proven(point, sign * z.numpy()) for sign in (1, -1))
    draw.assume(0 < reach < np.inf)
    z = kind.best_scale(z, targets, beta / reach) * z
    most = ceiling(cosines[i, j].max())
    draw.below(kind.dual_value(z, targets), most, 1e-9 * most)


@refute("certify-blind", "pairs of samples that are nearly on a line see no more than moments do")
def pairs_see_more(draw: Draw) -> None:
    """Nearly equal samples, opposite targets: pairs know that no network tells them apart."""
    X = np.repeat(draw.normal(8, 2), 2, axis=0) + 1e-6 * draw.normal(16, 2)
    y = np.tile([1.0, -1.0], 8)
    kind, targets, beta = get_loss("squared"), torch.from_numpy(y), 1e-3
    most = 4 * np.sqrt(2) / (1 - 1 / np.sqrt(2)) / np.linalg.norm(X, axis=1).min()
    for found in relaxed(
        torch.from_numpy(X), targets, beta, kind, output_bias=False, max_seconds=2.0
    ):
        z = kind.best_scale(found.z, targets, beta / found.reach) * found.z
        draw.below(kind.dual_value(z, targets), beta * most, 1e-9)


@attack("certify-outputs")
def outputs_together(draw: Draw) -> None:
    """Any network of several outputs is above the bound of any point, and h below its cones."""
    n, d, c = draw.size(1, 5), draw.size(1, 2), draw.size(1, 4)
    loss = draw.choice("squared", "logistic", "squared hinge")
    X, scale = draw.matrix(n, d), draw.scale(3)
    columns = [draw.targets(n) if loss == "squared" else draw.labels(n) for _ in range(c)]
    Y, biased = np.column_stack(columns), draw.choice(True, False)
    U, A = draw.weights(draw.size(1, 4), d), draw.weights(draw.size(1, 4), c)
    A = np.resize(A, (len(U), c))
    b = draw.normal(c) if biased else np.zeros(c)
    f = scale * relu(X @ U.T) @ A + b
    generic = draw.normal(n, c) if loss == "squared" else Y * draw.rng.random((n, c))
    Z = draw.choice(np.column_stack([slope(loss, f[:, k], Y[:, k]) for k in range(c)]), generic)
    # The maximum from all arcs' ends and a fine grid, with what may lie between two of its points.
    angles = np.linspace(0, 2 * np.pi, 4001)
    ball = np.stack([np.cos(angles), np.sin(angles)]) if d == 2 else np.array([[-1.0, 1.0]])
    seen = scale * np.linalg.norm(Z.T @ relu(X @ ball), axis=0).max()
    between = scale * np.linalg.norm(Z) * np.linalg.norm(X) * np.pi / 4000 if d == 2 else 0.0
    draw.assume(seen > 0)
    beta = draw.power(-2, 1) * seen
    z = min(1.0, beta / (seen + between)) * Z
    dual = sum(dual_of_loss(loss, z[:, k], Y[:, k]) for k in range(c))
    dual -= 0.5 * (z.sum(0) ** 2).sum() / beta if biased else 0.0
    cost = 0.5 * beta * ((U**2).sum() + (A**2).sum() + b @ b)
    own = sum(loss_at(loss, f[:, k], Y[:, k]) for k in range(c)) + cost
    draw.below(dual, own, 1e-9 * (own + (Y**2).sum()))
    # A cone of any generators: h at a vector inside is at most the length of any w above it.
    R = draw.normal(c, c)
    q = np.array([best_neuron(X, Z @ r) for r in R]) * (1 + draw.choice(0.0, draw.rng.random(c)))
    draw.assume(np.linalg.cond(R) < 1e6)
    w = np.linalg.solve(R, q + draw.choice(0.0, draw.rng.random(c)))
    a = draw.rng.random(c) @ R
    a /= np.linalg.norm(a)
    draw.below(best_neuron(X, Z @ a), np.linalg.norm(w), 1e-8 * np.linalg.norm(w))
    # And what the library proves.
    rtol = draw.choice(1e-1, 1e-3)
    found = price_outputs(torch.from_numpy(scale * X), torch.from_numpy(Z), rtol=rtol)
    draw.below([seen, found.lower], found.upper, 1e-12 * found.upper)
    draw.below(found.lower, seen + between, 1e-9 * seen)


@refute("certify-outputs", "output weights of one sign bound those of all signs")
def one_quadrant_is_enough(draw: Draw) -> None:
    """Two samples on the line, each seen by one of the units; the targets pull in both signs."""
    X, Z = np.array([[1.0], [-1.0]]), draw.normal(2, 2)
    angles = np.linspace(0, np.pi / 2, 2001)
    shares = np.stack([np.cos(angles), np.sin(angles)])  # a >= 0
    same = np.abs(Z @ shares).max()
    found = price_outputs(torch.from_numpy(X), torch.from_numpy(Z), rtol=1e-6)
    draw.below(found.upper, same, 1e-3 * same)


@refute("certify-outputs", "bounds of the single outputs add up by squares to the joint maximum")
def squares_add_up(draw: Draw) -> None:
    """Outputs that gain from different neurons: together they gain no more than one of them."""
    heights = np.abs(draw.normal(2)) + 0.1
    X, Z = np.array([[1.0], [-1.0]]), np.diag(heights)
    single = [best_neuron(X, z) for z in Z.T]
    found = price_outputs(torch.from_numpy(X), torch.from_numpy(Z), rtol=1e-6)
    draw.below(np.linalg.norm(single), found.upper, 1e-3)
