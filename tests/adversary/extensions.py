"""Attacks on the chapter of extensions."""

from itertools import product

import numpy as np

import convexlib as cl
from tests.adversary.cells import projected, relu, rows_of, sided
from tests.adversary.programs import at_part, dual, objective, scaled, solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute


def part_of(draw: Draw, largest: float) -> float:
    """A beta that is a part of beta_max, or somewhat above it; 1 where that is nothing."""
    return draw.power(-3, 0.2) * largest or 1.0


def l1_balls(y: Floats, beta: float) -> Floats:
    """The nearest point to y whose positive parts sum to beta at most, and its negative ones."""
    z = np.zeros_like(y)
    for sign in (1.0, -1.0):
        part = np.maximum(sign * y, 0.0)
        if part.sum() > beta:
            ordered = np.sort(part)[::-1]
            levels = (np.cumsum(ordered) - beta) / np.arange(1, len(part) + 1)
            part = np.maximum(part - levels[np.flatnonzero(ordered > levels)[-1]], 0.0)
        z += sign * part
    return z


@attack("threshold-lasso")
def threshold(draw: Draw) -> None:
    """On a line with ties: the mapped-back network has the Lasso's value, none is below it."""
    n = draw.size(1, 7)
    x = draw.matrix(n, 1)[:, 0] * draw.scale(3)
    X, y = np.stack([x, np.ones(n)], axis=1), draw.targets(n) * draw.scale(3)
    right = x >= np.append(np.unique(x), np.inf)[:, None]
    patterns = np.unique(np.vstack([right, ~right]), axis=0)
    beta = part_of(draw, float(np.abs(patterns @ y).max()))
    problem = cl.Threshold(X, y, beta=beta)
    draw.true(rows_of(problem.arrangements.masks) == rows_of(patterns))
    result = solved(problem, 1e-9)
    z = result.z.numpy()
    best = dual(scaled(z, float(np.abs(patterns @ z).max()), beta), y)

    def price(U: Floats, s: Floats, a: Floats) -> float:
        f = (X @ U.T >= 0) @ (s * a)
        return float(0.5 * ((f - y) ** 2).sum() + 0.5 * beta * ((s**2).sum() + (a**2).sum()))

    U, s, a = weights_of(problem.to_network(result), "U", "amplitude", "alpha")
    size = 1e-8 * float(y @ y)
    draw.same(price(U, s, a), best, size)
    for _ in range(20):
        m, spread = draw.size(0, 3), draw.power(-5, 0)
        hinges = draw.rng.choice(np.append(x, draw.normal(3)), m)  # on samples, too
        signs = draw.signs(m)
        more = np.stack([signs, -signs * hinges], axis=1)
        grown = np.concatenate([np.stack([s, a]), np.zeros((2, m))], axis=1)
        (moved,) = draw.near([grown], spread * np.abs(y).max() ** 0.5)
        draw.below(best, price(np.vstack([U, more]), *moved), size)


@refute("threshold-lasso", "the patterns of the open cells are enough for threshold units")
def open_cells(draw: Draw) -> None:
    """Without a bias u = 0 is active on all samples, which no cell need be."""
    n = draw.size(2, 6)
    X, y = draw.normal(n, 1), np.abs(draw.normal(n))
    beta = 0.1 * y.sum()
    cells = cl.enumerate_arrangements(X)
    over_cells = solved(cl.Threshold(X, y, beta=beta, arrangements=cells), 1e-9)
    level = max(y.mean() - beta / n, 0.0)  # the best height of the unit with u = 0
    one_unit = 0.5 * ((level - y) ** 2).sum() + beta * level
    draw.below(over_cells.dual, one_unit, 1e-6 * (y @ y))


@attack("threshold-deep")
def deep_threshold(draw: Draw) -> None:
    """The program's optimum in closed form: a network of the proof has it, none is below."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X, y = np.unique(draw.matrix(n, d), axis=0), draw.targets(n)
    n = len(X)
    y = y[:n] * draw.scale(3)
    beta = part_of(draw, max(np.maximum(y, 0).sum(), np.maximum(-y, 0).sum()))
    z = l1_balls(y, beta)  # the dual optimum
    bound, f, size = dual(z, y), y - z, 1e-10 * float(y @ y)
    norm = max(f.max(), 0.0) + max(-f.min(), 0.0)
    draw.same(0.5 * z @ z + beta * norm, bound, size)

    def outputs(w: Floats, t: Floats, V: Floats, c: Floats) -> Floats:
        first = (X @ w >= t).astype(float)
        return (first @ V.T >= c).astype(float)

    w = draw.normal(d, n) if n > 1 else np.ones((d, 1))
    w[:] = w[:, :1]  # one direction for all: nested patterns
    heights = X @ w[:, 0]
    order = np.argsort(heights)
    t = heights[order]
    t = t - 0.5 * np.append(np.diff(t, prepend=t[0] - 1.0)[0], np.diff(t))  # between the samples
    V, a = [], []
    for sign in (1.0, -1.0):
        levels = np.unique(np.append(np.maximum(sign * f, 0.0), 0.0))
        for low, high in zip(levels[:-1], levels[1:], strict=True):
            S = (sign * f >= high)[order].astype(float)
            V.append(np.diff(S, prepend=0.0))
            a.append(sign * (high - low))
    if V and np.diff(heights[order]).min(initial=1.0) > 1e-9:
        made = outputs(w, t, np.array(V), np.full(len(V), 0.5)) @ np.array(a)
        draw.same(made, f, 1e-10 * np.abs(y).max())
        draw.below(beta * np.abs(a).sum(), beta * norm, size)
    for _ in range(20):
        m = draw.size(1, 3)
        parts = [draw.normal(*shape) for shape in ((d, n), (n,), (m, n), (m,))]
        columns = outputs(*parts)
        a = np.linalg.lstsq(columns, y, rcond=None)[0] * draw.rng.uniform(0, 1)
        price = 0.5 * ((columns @ a - y) ** 2).sum() + beta * np.abs(a).sum()
        draw.below(bound, price, size)


@refute("threshold-deep", "threshold networks with two hidden layers need no biases for that")
def without_biases(draw: Draw) -> None:
    """Positive multiples of one sample are on one side of every hyperplane through the origin."""
    y = draw.normal(draw.size(2, 5))
    program = dual(l1_balls(y, 0.1 * np.abs(y).max()), y)
    # Every network has equal outputs on x, 2x, 3x, ...: the best constant, even for nothing.
    draw.below(0.5 * ((y - y.mean()) ** 2).sum(), program, 1e-6 * (y @ y))


@attack("cnn-theorem")
def convolution(draw: Draw) -> None:
    """The mapped-back network has the program's value, none is below; dual points lift to M."""
    n, K, h = draw.size(1, 3), draw.size(1, 3), draw.size(1, 2)
    patches = draw.matrix(n * K, h).reshape(n, K, h) * draw.scale(3)
    y = draw.targets(n) * draw.scale(3)
    problem = at_part(draw, cl.Convolution(patches, y, beta=1.0), -3, 0.2)
    result = solved(problem)
    z = result.z.numpy()
    # Rows of M in one vector: z_i / K for every patch of sample i. In the plane all directions.
    angles = np.linspace(0, 2 * np.pi, 721)
    u = np.stack([np.cos(angles), np.sin(angles)])[:h] if h == 2 else np.array([[1.0, -1.0]])
    hidden = np.maximum(patches @ u, 0)  # (n, K, directions)
    one = z @ hidden.mean(axis=1)
    length = np.abs(z) @ np.linalg.norm(patches, axis=2).sum(axis=1)
    draw.same(one, np.repeat(z / K, K) @ hidden.reshape(n * K, -1), 1e-12 * length)
    largest = problem.dual_norm(result.z)
    draw.below(np.abs(one), largest, 1e-9 * length)
    bound = dual(scaled(z, largest, problem.beta), y)

    def price(U: Floats, alpha: Floats) -> float:
        outputs = np.maximum(patches @ U.T, 0).mean(axis=1) @ alpha
        decay = (U**2).sum() + (alpha**2).sum()
        return float(0.5 * ((outputs - y) ** 2).sum() + 0.5 * problem.beta * decay)

    size = 1e-9 * float(y @ y)
    U, alpha = weights_of(problem.to_network(result).body)
    draw.same(price(U, alpha), result.value, size)
    reported = result.gap * result.value  # where rounding stops the solver it says so
    draw.below(result.value - reported, bound, size)
    grown = np.concatenate([U, np.zeros((2, h))]), np.append(alpha, [0.0, 0.0])
    for _ in range(20):
        draw.below(bound, price(*draw.near(grown, draw.power(-5, 0), relative=True)), size)


@refute("cnn-theorem", "the gated optimum over some patterns is a lower bound for networks")
def gated_is_lower(draw: Draw) -> None:
    """Few gates can fit less than the ReLU network does."""
    n = draw.size(2, 6)
    patches, y = draw.normal(n, 2, 2), draw.normal(n)
    full = cl.Convolution(patches, y, beta=1.0)
    full = full.with_beta(0.1 * full.beta_max())
    gates = cl.sample_arrangements(patches.reshape(-1, 2), 1, seed=draw.number)
    some = cl.Convolution(patches, y, beta=full.beta, arrangements=gates, gated=True)
    draw.below(solved(some).dual, solved(full).value, 1e-5 * (y @ y))


def half_squares(*parts: Floats) -> float:
    """Half the sum of squares."""
    return 0.5 * sum(float((part**2).sum()) for part in parts)


@attack("cnn-linear")
def linear_convolution(draw: Draw) -> None:
    """Filters cost no less than the nuclear norm, or the Fourier l1 norm, and some cost that."""
    h, K, m = draw.size(1, 4), draw.size(1, 4), draw.size(1, 4)
    u, a = draw.weights(m, h), draw.weights(m, K)
    Z, cost = u.T @ a, half_squares(u, a)
    left, sizes, right = np.linalg.svd(Z, full_matrices=False)
    nuclear = sizes.sum()
    draw.below(nuclear, cost, 1e-12 * cost)
    made = left * np.sqrt(sizes), right * np.sqrt(sizes)[:, None]
    draw.same(made[0] @ made[1], Z, 1e-12 * nuclear)
    draw.same(half_squares(*made), nuclear, 1e-12 * nuclear)
    d = draw.size(1, 7)
    u, a = draw.weights(m, d), draw.weights(m, d)
    shift = (np.arange(d)[:, None] - np.arange(d)) % d
    v = sum(one[shift] @ two for one, two in zip(u, a, strict=True))  # circulant times vector
    spectrum = np.fft.fft(v)
    fourier = np.abs(spectrum).sum() / d  # the unitary transform over the root of d
    cost = half_squares(u, a)
    draw.below(fourier, cost, 1e-12 * cost)
    phase = np.where(np.abs(spectrum) > 0, spectrum / (np.abs(spectrum) + 1e-300), 1.0)
    pair = [np.fft.ifft(np.sqrt(np.abs(spectrum)) * turn) for turn in (1.0, phase)]
    square = float(np.abs(spectrum).max())
    draw.same([part.imag for part in pair], 0.0, 1e-7 * square**0.5)
    one, two = (part.real for part in pair)
    draw.same(one[shift] @ two, v, 1e-7 * square)
    draw.same(half_squares(one, two), fourier, 1e-7 * square)


@attack("ntk-kernel")
def tangent_kernel(draw: Draw) -> None:
    """In the plane: the cells are arcs, their lengths the probabilities, all of it exact."""
    n = draw.size(1, 7)
    X = draw.matrix(n, 2) * draw.scale(3)
    live = np.linalg.norm(X, axis=1) > 0
    rays = np.arctan2(X[live, 1], X[live, 0])
    walls = np.sort(np.concatenate([rays + np.pi / 2, rays - np.pi / 2, [0.0]]) % (2 * np.pi))
    widths = np.diff(np.append(walls, walls[0] + 2 * np.pi))
    middles = walls + widths / 2
    masks = X @ np.stack([np.cos(middles), np.sin(middles)]) >= 0  # (n, arcs)
    shares = np.einsum("ak,bk,k->ab", masks, masks, widths) / (2 * np.pi)
    gram = X @ X.T
    cross = np.abs(X[:, :1] * X[:, 1] - X[:, 1:] * X[:, 0])
    angle = np.arctan2(cross, gram)  # of the zero sample anything: its entries vanish
    kernel = gram * (np.pi - angle) / (2 * np.pi)
    size = np.linalg.norm(X, axis=1)
    draw.same(gram * shares, kernel, 1e-13 * size[:, None] * size)


class Kernels:
    """Weights eta of the kernels of a gated problem's patterns."""

    def __init__(self, problem: cl.TwoLayer) -> None:
        self.X, self.y, self.beta = problem.X.numpy(), problem.y.numpy(), problem.beta
        self.masks = problem.masks.double().numpy()
        self.kernels = self.masks[:, :, None] * self.masks[:, None] * (self.X @ self.X.T)

    def learned(self, eta: Floats) -> tuple[float, Floats]:
        """The value, and by what reweighting multiplies each weight."""
        system = np.tensordot(eta, self.kernels, 1) + self.beta * np.eye(len(self.y))
        z = self.beta * np.linalg.solve(system, self.y)
        slopes = np.linalg.norm((self.masks * z) @ self.X, axis=1) / self.beta
        return float(0.5 * (self.y @ z) + 0.5 * self.beta * eta.sum()), slopes


@attack("ntk-mkl")
def kernel_learning(draw: Draw) -> None:
    """No weights of kernels are below the group Lasso, its norms attain it, steps never rise."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X, y = draw.matrix(n, d) * draw.scale(2), draw.targets(n) * draw.scale(2)
    problem = at_part(draw, cl.TwoLayer(X, y, beta=1.0, gated=True), -2, 0.2)
    result, kernels = solved(problem, 1e-9), Kernels(problem)
    eta = np.linalg.norm(result.weights[0].numpy(), axis=1)
    reached, _ = kernels.learned(eta)
    draw.same(reached, result.value, 1e-7 * float(y @ y))
    scale = eta.max(initial=0.0) or np.abs(y).max() / (np.abs(X).max() or 1.0)
    for _ in range(10):
        tried = eta * draw.rng.uniform(0, 2, len(eta))
        tried += scale * draw.power(-5, 0) * draw.rng.exponential(size=len(eta))
        tried[draw.rng.random(len(eta)) < 0.3] = 0.0
        before, slopes = kernels.learned(tried)
        after, _ = kernels.learned(tried * slopes)
        draw.below([after, result.dual], before, 1e-9 * before)
        # The derivative in eta_i is beta (1 - slope^2) / 2: convexity gives a bound everywhere.
        linear = before + 0.5 * problem.beta * (1 - slopes**2) @ (eta - tried)
        draw.below(linear, reached, 1e-7 * before)


@refute("ntk-mkl", "reweighting ends at the optimum from any start")
def reweighting(draw: Draw) -> None:
    """A weight of zero stays zero: the kernels that a start lacks are lost."""
    X, y = draw.normal(5, 2), draw.normal(5)
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True)
    problem = problem.with_beta(0.1 * problem.beta_max())
    kernels = Kernels(problem)
    eta = np.zeros(problem.n_patterns)
    eta[draw.rng.integers(len(eta))] = 1.0
    for _ in range(200):
        eta = eta * kernels.learned(eta)[1]
    best = solved(problem).value
    draw.below(kernels.learned(eta)[0], best, 1e-3 * best)


def polygon(n: int) -> tuple[Floats, Floats]:
    """The corners of a regular polygon, with targets 1."""
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1), np.ones(n)


def optima(draw: Draw) -> tuple[cl.TwoLayer, cl.Result, cl.OptimalSet, float]:
    """A problem in the plane, often a symmetric one, with its set of optima.

    The last number is how far, relative to beta, the constraints at the solver's dual point may be
    from those at the optimal one: |z - z*| <= sqrt(2 gap). `OptimalSet` is of use where its slack
    is far above that.
    """
    n = draw.size(2, 6)
    if draw.rng.random() < 0.5:
        X, y = polygon(n)
        draw.note(f"regular {n}-gon")
    else:
        X, y = draw.matrix(n, 2), draw.targets(n)
    X, y = X * draw.scale(2), y * draw.scale(2)
    problem = at_part(draw, cl.TwoLayer(X, y, beta=1.0), -2, -0.05)
    result = solved(problem, 1e-12)
    gap = max(result.value - result.dual, 1e-15 * result.value)
    known = float(np.sqrt(2 * gap) * np.linalg.norm(X, 2) / problem.beta)
    found = cl.optimal_set(problem, result)
    draw.note(f"slack {found.slack:.0e}")
    return problem, result, found, known


def of_use(found: cl.OptimalSet, known: float) -> bool:
    """Whether the slack of a set of optima is far above what is known."""
    return found.slack >= 1e3 * known and known <= 1e-6


def vertex(draw: Draw, found: cl.OptimalSet) -> Floats:
    """The best optimum for random costs."""
    return found.vertex(found.images.new_tensor(draw.normal(len(found))))


@attack("optimal-set")
def optimal_set(draw: Draw) -> None:
    """Blocks of an optimum are multiples of q, of size one; what satisfies the rest is optimal."""
    problem, result, found, known = optima(draw)
    X, y, beta = problem.X.numpy(), problem.y.numpy(), problem.beta
    f = problem.fitted(result.weights).numpy()
    masks = problem.masks.numpy()
    size = float(y @ y)
    weights = result.weights.numpy()
    largest = np.linalg.norm(weights, axis=2).max(initial=0.0)
    for side, pattern in product(range(2), range(len(masks))):
        block = weights[side, pattern]
        norm = float(np.linalg.norm(block))
        if norm <= 1e-4 * largest:  # what the solver's gap may leave
            continue
        slope = (1.0 - 2.0 * side) * X.T @ (masks[pattern] * (y - f)) / beta
        q = projected(sided(masks[pattern], X), slope)
        draw.same(np.linalg.norm(q), 1.0, 10 * known + 1e-7)
        # For unit vectors |v - q|^2 = 2 (1 - v.q), and the gap has beta |v| (1 - v.q) as a part.
        turned = np.sqrt(2 * max(result.value - result.dual, 1e-15 * result.value) / (beta * norm))
        draw.same(block / norm, q, turned + 10 * known + 1e-7)
    draw.assume(of_use(found, known))
    for _ in range(2):
        member = found.weights(vertex(draw, found))
        reached = objective(X, y, beta, *weights_of(problem.to_network(member)))
        draw.same([problem.value(member), reached], result.value, 1e-6 * size)


@attack("optimal-corollary")
def corollary(draw: Draw) -> None:
    """Between vertices all is optimal; vertices have independent images; so does what is pruned."""
    problem, result, found, known = optima(draw)
    draw.assume(of_use(found, known))
    X, y = problem.X.numpy(), problem.y.numpy()
    size = float(y @ y)
    ends = [vertex(draw, found) for _ in range(2)]
    images = found.images.numpy()
    for end in ends:
        used = images[:, end.numpy() > 1e-6 * float(end.max() if len(end) else 0)]
        draw.true(used.shape[1] <= len(y))
        if used.shape[1]:
            least = np.linalg.svd(used / np.linalg.norm(used, axis=0))[1].min()
            draw.true(least >= 1e-7)
    share = draw.rng.random()
    network = problem.to_network(found.weights((1 - share) * ends[0] + share * ends[1]))
    draw.same(problem.objective(network), result.value, 1e-6 * size)
    pruned = cl.prune_neurons(network, X)
    draw.below(problem.objective(pruned), result.value, 1e-6 * size)
    outputs = relu(X @ weights_of(pruned, "U")[0].T)
    rank = np.linalg.matrix_rank(outputs, tol=1e-9 * (np.abs(outputs).max(initial=0.0) or 1.0))
    draw.true(rank >= pruned.n_neurons)
    ranges = found.ranges().numpy()
    spread = (ranges[:, 1] - ranges[:, 0]).max(initial=0.0)
    draw.below((ends[0] - ends[1]).abs(), spread, 1e-5 * ranges.max(initial=0.0))


@refute("optimal-corollary", "optimal networks are connected by straight lines of their weights")
def straight_line(draw: Draw) -> None:
    """Half of two networks side by side has a quarter of each: half of the outputs."""
    X, y = polygon(2 * draw.size(2, 4))
    problem = cl.TwoLayer(X, y, beta=0.2)
    result = solved(problem, 1e-10)
    found = cl.optimal_set(problem, result)
    costs = result.z.new_tensor(draw.normal(len(found)))
    both = [weights_of(problem.to_network(found.weights(found.vertex(c)))) for c in (costs, -costs)]
    U, alpha = (0.5 * np.concatenate(pair) for pair in zip(*both, strict=True))
    draw.below(objective(X, y, 0.2, U, alpha), result.value, 1e-6)


def factors(draw: Draw, L: int, d: int, c: int) -> list[Floats]:
    """Weights of a linear network, wide enough for any product."""
    widths = [d, *[min(d, c) + draw.size(0, 1)] * (L - 1), c]
    return [draw.weights(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]


def product_of(layers: list[Floats]) -> Floats:
    """W_1 ... W_L."""
    return layers[0] if len(layers) == 1 else np.linalg.multi_dot(layers)


def balanced(left: Floats, sizes: Floats, right: Floats, L: int) -> list[Floats]:
    """A product of L layers from its singular value decomposition."""
    root = np.diag(sizes ** (1 / L))
    return [left @ root, *[root] * (L - 2), root @ right]


def powers(layers: list[Floats]) -> float:
    """The price of layers: the L-th powers of their norms, over L."""
    L = len(layers)
    return sum(float((W**2).sum() ** (L / 2)) for W in layers) / L


@attack("parallel-linear")
def parallel_linear(draw: Draw) -> None:
    """Prices of products, both attained; the dual value bounds both networks, and is the second."""
    L, d, c = draw.size(2, 5), draw.size(1, 3), draw.size(1, 3)
    layers = factors(draw, L, d, c)
    Z = product_of(layers)
    left, sizes, right = np.linalg.svd(Z, full_matrices=False)
    quasi = float((sizes ** (2 / L)).sum() ** (L / 2))
    rounding = 1e-11 * float(np.prod([np.linalg.norm(W) for W in layers]))
    draw.below([sizes.sum(), quasi], [quasi, powers(layers)], rounding)
    made = balanced(left, sizes, right, L)
    draw.same(product_of(made), Z, rounding)
    draw.same(powers(made), quasi, rounding)
    # Training with orthonormal columns: everything is a matter of singular values.
    n = draw.size(d, d + 3)
    Q = np.linalg.qr(draw.normal(n, d))[0]
    Y = draw.matrix(n, c) * draw.scale(3)
    P, tau, R = np.linalg.svd(Q.T @ Y, full_matrices=False)
    beta = part_of(draw, float(tau.max()))
    kept = np.maximum(tau - beta, 0.0)
    rest = 0.5 * float((Y**2).sum() - (tau**2).sum())
    value = rest + 0.5 * float(((kept - tau) ** 2).sum()) + beta * float(kept.sum())
    dual_point = Y - Q @ (P * kept) @ R
    bound, size = dual(dual_point, Y), 1e-11 * float((Y**2).sum())
    draw.same(bound, value, size)
    draw.below(np.linalg.norm(Q.T @ dual_point, 2), beta, 1e-11 * tau.max())

    def standard(layers: list[Floats]) -> float:
        return 0.5 * float(((Q @ product_of(layers) - Y) ** 2).sum()) + beta * powers(layers)

    best = balanced(P, kept, R, L)
    draw.below(bound, standard(best), size)
    if (kept > 0).sum() <= 1 or L == 2:  # no gap
        draw.below(standard(best), value, size)
    for _ in range(10):
        spread = draw.power(-4, 0.5) * (float(kept.max()) or 1.0) ** (1 / L)
        draw.below(bound, standard(draw.near(best, spread)), size)


@refute("parallel-linear", "standard linear networks of three layers always have a duality gap")
def always_a_gap(draw: Draw) -> None:
    """Where the parallel solution has rank one there is none."""
    tau = np.sort(np.abs(draw.normal(2)))[::-1]
    beta = float(draw.rng.uniform(0, 1)) * tau[0]
    kept = np.maximum(tau - beta, 0.0)
    parallel = 0.5 * ((kept - tau) ** 2).sum() + beta * kept.sum()
    grid = np.linspace(0, tau[0], 201)
    a, b = np.meshgrid(np.append(grid, kept[0]), np.append(grid, kept[1]))
    price = beta * (a ** (2 / 3) + b ** (2 / 3)) ** 1.5
    draw.true((0.5 * ((a - tau[0]) ** 2 + (b - tau[1]) ** 2) + price).min() >= parallel + 1e-9)


def branch(x: Floats, layers: list[Floats]) -> Floats:
    """A ReLU network of one input without biases; the last layer is linear."""
    h = x[:, None]
    for W in layers[:-1]:
        h = np.maximum(h @ W, 0)
    return (h @ layers[-1])[:, 0]


@attack("parallel-relu")
def parallel_relu(draw: Draw) -> None:
    """One feature: the hull is that of +-x_+ and +-(-x)_+, so the optimum has a closed form."""
    n, L, K = draw.size(1, 6), draw.size(2, 5), draw.size(1, 3)
    x, y = draw.matrix(n, 1)[:, 0] * draw.scale(2), draw.targets(n) * draw.scale(2)
    columns = [np.maximum(x, 0), np.maximum(-x, 0)]  # orthogonal
    beta = part_of(draw, max(abs(float(c @ y)) for c in columns))
    best = []
    for c in columns:
        slope, length = float(c @ y), float(c @ c)
        best.append(np.sign(slope) * max(abs(slope) - beta, 0.0) / (length or 1.0))
    z = y - np.array(best) @ columns
    value, bound = 0.5 * float(z @ z) + beta * sum(map(abs, best)), dual(z, y)
    size = 1e-10 * float(y @ y)
    draw.same(value, bound, size)

    def price(branches: list[list[Floats]]) -> float:
        fitted = sum((branch(x, layers) for layers in branches), np.zeros(n))
        return float(0.5 * ((fitted - y) ** 2).sum() + beta * sum(map(powers, branches)))

    made = []
    for sign, t in zip((1.0, -1.0), best, strict=True):
        layer = abs(t) ** (1 / L) * np.ones((1, 1))
        made.append([sign * layer, *[layer] * (L - 2), np.sign(t) * layer])
    draw.same(price(made), value, size)
    for _ in range(10):
        m = draw.size(1, 3)
        shapes = [(1, m), *[(m, m)] * (L - 2), (m, 1)]
        spread = draw.power(-3, 0.5)
        tried = [[spread * draw.normal(*s) for s in shapes] for _ in range(K)]
        moved = [
            [W + spread * draw.normal(*W.shape) * np.abs(W) for W in layers] for layers in made
        ]
        draw.below(bound, [price(tried), price(moved), price(moved + tried)], size)


@refute("parallel-relu", "the minimum is attained for every finite convex loss")
def any_convex_loss(draw: Draw) -> None:
    """A linear loss that falls faster than the price grows has no minimum."""
    x = np.abs(draw.normal(draw.size(1, 4))) + 0.1
    beta = float(draw.rng.uniform(0, 0.9)) * x.sum()
    values = [-t * x.sum() + beta * t for t in (1.0, 1e3, 1e6)]  # ell(f) = -sum f, f = t x_+
    falling = values[0] > values[1] > values[2] and values[2] < -1e3 * abs(values[0])
    draw.true(not falling)
