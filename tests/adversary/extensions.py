"""Attacks on the chapter of extensions."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
from scipy.optimize import nnls

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from tests.adversary.search import Draw, Floats, attack, refute


def solve(problem: cl.TwoLayer | cl.Threshold | cl.Convolution, tol: float) -> cl.Result:
    """The library's solution; where the optimum is zero no gap relative to it can be reached."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(problem, tol=tol)


def part_of(draw: Draw, largest: float, lowest: float = -3.0) -> float:
    """A beta that is a part of beta_max, or somewhat above it; 1 where that is nothing."""
    return float(10.0 ** draw.rng.uniform(lowest, 0.2)) * largest or 1.0


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
def threshold(draw: Draw) -> float:
    """On a line with ties: the mapped-back network has the Lasso's value, none is below it."""
    n = draw.size(1, 7)
    x = draw.matrix(n, 1)[:, 0] * draw.scale(3)
    X, y = np.stack([x, np.ones(n)], axis=1), draw.targets(n) * draw.scale(3)
    cuts = np.append(np.unique(x), np.inf)
    right = x >= cuts[:, None]
    patterns = np.unique(np.vstack([right, ~right]), axis=0)
    beta = part_of(draw, float(np.abs(patterns @ y).max()))
    problem = cl.Threshold(X, y, beta=beta)
    if {tuple(m) for m in problem.arrangements.masks.tolist()} != {tuple(m) for m in patterns}:
        return 2.0
    result = solve(problem, 1e-9)
    z = result.z.numpy()
    largest = float(np.abs(patterns @ z).max())
    z = z * min(1.0, beta / largest) if largest > 0 else z
    dual = y @ z - 0.5 * z @ z

    def objective(U: Floats, s: Floats, a: Floats) -> float:
        f = (X @ U.T >= 0) @ (s * a)
        return float(0.5 * ((f - y) ** 2).sum() + 0.5 * beta * ((s**2).sum() + (a**2).sum()))

    network = problem.to_network(result)
    U, s, a = (p.detach().numpy() for p in (network.U, network.amplitude, network.alpha))
    size = 1e-8 * float(y @ y) + 1e-200
    worst = abs(objective(U, s, a) - dual) / size
    for _ in range(20):
        m, spread = draw.size(0, 3), 10.0 ** draw.rng.uniform(-5, 0)
        hinges = draw.rng.choice(np.append(x, draw.rng.standard_normal(3)), m)  # on samples, too
        signs = draw.rng.choice([-1.0, 1.0], m)
        more = np.stack([signs, -signs * hinges], axis=1)
        moved = np.concatenate([np.stack([s, a]), np.zeros((2, m))], axis=1)
        moved = moved + spread * np.abs(y).max() ** 0.5 * draw.rng.standard_normal(moved.shape)
        worst = max(worst, (dual - objective(np.vstack([U, more]), *moved)) / size)
    return float(worst)


@refute("threshold-lasso", "the patterns of the open cells are enough for threshold units")
def open_cells(draw: Draw) -> float:
    """Without a bias u = 0 is active on all samples, which no cell need be."""
    n = draw.size(2, 6)
    X, y = draw.rng.standard_normal((n, 1)), np.abs(draw.rng.standard_normal(n))
    beta = 0.1 * y.sum()
    cells = cl.enumerate_arrangements(X)
    over_cells = solve(cl.Threshold(X, y, beta=beta, arrangements=cells), 1e-9)
    level = max(y.mean() - beta / n, 0.0)  # the best height of the unit with u = 0
    one_unit = 0.5 * ((level - y) ** 2).sum() + beta * level
    return float((over_cells.dual - one_unit) / (1e-6 * (y @ y)))


@attack("threshold-deep")
def deep_threshold(draw: Draw) -> float:
    """The program's optimum in closed form: a network of the proof has it, none is below."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X, y = np.unique(draw.matrix(n, d), axis=0), draw.targets(n)
    n = len(X)
    y = y[:n] * draw.scale(3)
    beta = part_of(draw, max(np.maximum(y, 0).sum(), np.maximum(-y, 0).sum()))
    z = l1_balls(y, beta)  # the dual optimum
    dual, f = y @ z - 0.5 * z @ z, y - z
    value = 0.5 * z @ z + beta * (max(f.max(), 0.0) + max(-f.min(), 0.0))
    size = 1e-10 * float(y @ y) + 1e-200
    worst = abs(value - dual) / size

    def outputs(w: Floats, t: Floats, V: Floats, c: Floats) -> Floats:
        first = (X @ w >= t).astype(float)
        return (first @ V.T >= c).astype(float)

    w = draw.rng.standard_normal((d, n)) if n > 1 else np.ones((d, 1))
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
        worst = max(worst, np.abs(made - f).max() / (1e-10 * np.abs(y).max()))
        worst = max(worst, (np.abs(a).sum() - (value - 0.5 * z @ z) / beta) * beta / size)
    for _ in range(20):
        m = draw.size(1, 3)
        parts = [draw.rng.standard_normal(shape) for shape in ((d, n), n, (m, n), m)]
        columns = outputs(*parts)
        a = np.linalg.lstsq(columns, y, rcond=None)[0] * draw.rng.uniform(0, 1)
        price = 0.5 * ((columns @ a - y) ** 2).sum() + beta * np.abs(a).sum()
        worst = max(worst, (dual - price) / size)
    return float(worst)


@refute("threshold-deep", "threshold networks with two hidden layers need no biases for that")
def without_biases(draw: Draw) -> float:
    """Positive multiples of one sample are on one side of every hyperplane through the origin."""
    n = draw.size(2, 5)
    y = draw.rng.standard_normal(n)
    beta = 0.1 * np.abs(y).max()
    z = l1_balls(y, beta)
    program = y @ z - 0.5 * z @ z
    # Every network has equal outputs on x, 2x, 3x, ...: the best constant, even for nothing.
    constant = 0.5 * ((y - y.mean()) ** 2).sum()
    return float((constant - program) / (1e-6 * (y @ y)))


def pooled(patches: Floats, U: Floats, alpha: Floats) -> Floats:
    """Outputs of a convolutional network with average pooling."""
    out: Floats = np.maximum(patches @ U.T, 0).mean(axis=1) @ alpha
    return out


@attack("cnn-theorem")
def convolution(draw: Draw) -> float:
    """The mapped-back network has the program's value, none is below; dual points lift to M."""
    n, K, h = draw.size(1, 3), draw.size(1, 3), draw.size(1, 2)
    patches = draw.matrix(n * K, h).reshape(n, K, h) * draw.scale(3)
    y = draw.targets(n) * draw.scale(3)
    problem = cl.Convolution(patches, y, beta=1.0)
    problem = problem.with_beta(part_of(draw, problem.beta_max()))
    result = solve(problem, 1e-8)
    body = problem.to_network(result).body
    U, alpha = body.U.detach().numpy(), body.alpha.detach().numpy()
    z = result.z.numpy()
    # Rows of M in one vector: z_i / K for every patch of sample i. In the plane all directions.
    angles = np.linspace(0, 2 * np.pi, 721)
    u = np.stack([np.cos(angles), np.sin(angles)])[:h] if h == 2 else np.array([[1.0, -1.0]])
    hidden = np.maximum(patches @ u, 0)  # (n, K, directions)
    one = z @ hidden.mean(axis=1)
    two = np.repeat(z / K, K) @ hidden.reshape(n * K, -1)
    length = np.abs(z) @ np.linalg.norm(patches, axis=2).sum(axis=1) or 1e-300
    worst = np.abs(one - two).max() / (1e-12 * length)
    largest = problem.dual_norm(result.z)
    worst = max(worst, (np.abs(one).max() - largest) / (1e-9 * length))
    scaled = z * min(1.0, problem.beta / largest) if largest > 0 else z
    dual = y @ scaled - 0.5 * scaled @ scaled

    def objective(U: Floats, alpha: Floats) -> float:
        misfit = pooled(patches, U, alpha) - y
        decay = (U**2).sum() + (alpha**2).sum()
        return float(0.5 * (misfit**2).sum() + 0.5 * problem.beta * decay)

    size = 1e-9 * float(y @ y) + 1e-200
    worst = max(worst, abs(objective(U, alpha) - result.value) / size)
    reported = result.gap * result.value  # where rounding stops the solver it says so
    worst = max(worst, (result.value - dual - reported) / size)
    for _ in range(20):
        spread = 10.0 ** draw.rng.uniform(-5, 0)
        parts = [np.concatenate([U, np.zeros((2, h))]), np.append(alpha, [0.0, 0.0])]
        moved = [
            part + spread * (np.abs(part).max() or 1.0) * draw.rng.standard_normal(part.shape)
            for part in parts
        ]
        worst = max(worst, (dual - objective(*moved)) / size)
    return float(worst)


@refute("cnn-theorem", "the gated optimum over some patterns is a lower bound for networks")
def gated_is_lower(draw: Draw) -> float:
    """Few gates can fit less than the ReLU network does."""
    n = draw.size(2, 6)
    patches, y = draw.rng.standard_normal((n, 2, 2)), draw.rng.standard_normal(n)
    full = cl.Convolution(patches, y, beta=1.0)
    full = full.with_beta(0.1 * full.beta_max())
    gates = cl.sample_arrangements(patches.reshape(-1, 2), 1, seed=draw.number)
    some = cl.Convolution(patches, y, beta=full.beta, arrangements=gates, gated=True)
    gated, relu = solve(some, 1e-8), solve(full, 1e-8)
    return float((gated.dual - relu.value) / (1e-5 * (y @ y)))


@attack("cnn-linear")
def linear_convolution(draw: Draw) -> float:
    """Filters cost no less than the nuclear norm, or the Fourier l1 norm, and some cost that."""
    h, K, m = draw.size(1, 4), draw.size(1, 4), draw.size(1, 4)
    u, a = draw.weights(m, h), draw.weights(m, K)
    Z = u.T @ a
    nuclear = np.linalg.svd(Z)[1].sum()
    cost = 0.5 * ((u**2).sum() + (a**2).sum())
    worst = (nuclear - cost) / (1e-12 * cost or 1e-300)
    left, sizes, right = np.linalg.svd(Z)
    k = len(sizes)
    made = left[:, :k] * np.sqrt(sizes), right[:k] * np.sqrt(sizes)[:, None]
    worst = max(worst, np.abs(made[0] @ made[1] - Z).max() / (1e-12 * nuclear or 1e-300))
    worst = max(
        worst, abs(0.5 * sum((p**2).sum() for p in made) - nuclear) / (1e-12 * nuclear or 1e-300)
    )
    d = draw.size(1, 7)
    u, a = draw.weights(m, d), draw.weights(m, d)
    shift = (np.arange(d)[:, None] - np.arange(d)) % d
    v = sum(one[shift] @ two for one, two in zip(u, a, strict=True))  # circulant times vector
    fourier = np.abs(np.fft.fft(v)).sum() / d  # the unitary transform over the root of d
    cost = 0.5 * ((u**2).sum() + (a**2).sum())
    worst = max(worst, (fourier - cost) / (1e-12 * cost or 1e-300))
    spectrum = np.fft.fft(v)
    one = np.fft.ifft(np.sqrt(np.abs(spectrum)))
    phase = np.where(np.abs(spectrum) > 0, spectrum / (np.abs(spectrum) + 1e-300), 1.0)
    two = np.fft.ifft(np.sqrt(np.abs(spectrum)) * phase)
    square = float(np.abs(spectrum).max()) or 1e-200
    worst = max(worst, max(np.abs(one.imag).max(), np.abs(two.imag).max()) / (1e-7 * square**0.5))
    made_v = one.real[shift] @ two.real
    worst = max(worst, np.abs(made_v - v).max() / (1e-7 * square))
    least = 0.5 * ((one.real**2).sum() + (two.real**2).sum())
    return float(max(worst, abs(least - fourier) / (1e-7 * square)))


@attack("ntk-kernel")
def tangent_kernel(draw: Draw) -> float:
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
    size = size[:, None] * size
    return float((np.abs(gram * shares - kernel) / (1e-13 * size + 1e-300)).max())


def gated(draw: Draw) -> tuple[cl.TwoLayer, Floats]:
    """A gated problem in the plane, and the kernels of its patterns."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X, y = draw.matrix(n, d) * draw.scale(2), draw.targets(n) * draw.scale(2)
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True)
    problem = problem.with_beta(part_of(draw, problem.beta_max(), -2))
    masks = problem.masks.double().numpy()
    return problem, masks[:, :, None] * masks[:, None] * (X @ X.T)


@attack("ntk-mkl")
def kernel_learning(draw: Draw) -> float:
    """No weights of kernels are below the group Lasso, its norms attain it, steps never rise."""
    problem, kernels = gated(draw)
    X, y, beta = problem.X.numpy(), problem.y.numpy(), problem.beta
    masks = problem.masks.double().numpy()
    result = solve(problem, 1e-9)
    eta = np.linalg.norm(result.weights[0].numpy(), axis=1)

    def learned(eta: Floats) -> tuple[float, Floats]:
        system = np.tensordot(eta, kernels, 1) + beta * np.eye(len(y))
        z = beta * np.linalg.solve(system, y)
        slopes = np.linalg.norm((masks * z) @ X, axis=1) / beta
        return float(0.5 * (y @ z) + 0.5 * beta * eta.sum()), slopes

    size = 1e-7 * float(y @ y) + 1e-200
    worst = abs(learned(eta)[0] - result.value) / size
    scale = eta.max(initial=0.0) or np.abs(y).max() / (np.abs(X).max() or 1.0)
    for _ in range(10):
        tried = eta * draw.rng.uniform(0, 2, len(eta))
        tried += scale * 10.0 ** draw.rng.uniform(-5, 0) * draw.rng.exponential(size=len(eta))
        tried[draw.rng.random(len(eta)) < 0.3] = 0.0
        before, slopes = learned(tried)
        after, _ = learned(tried * slopes)
        worst = max(worst, (after - before) / (1e-9 * before + 1e-200))
        worst = max(worst, (result.dual - before) / (1e-9 * before + 1e-200))
        # The derivative in eta_i is beta (1 - slope^2) / 2: convexity gives a bound everywhere.
        linear = before + 0.5 * beta * (1 - slopes**2) @ (eta - tried)
        worst = max(worst, (linear - learned(eta)[0]) / (1e-7 * before + 1e-200))
    return float(worst)


@refute("ntk-mkl", "reweighting ends at the optimum from any start")
def reweighting(draw: Draw) -> float:
    """A weight of zero stays zero: the kernels that a start lacks are lost."""
    X, y = draw.rng.standard_normal((5, 2)), draw.rng.standard_normal(5)
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True)
    problem = problem.with_beta(0.1 * problem.beta_max())
    masks = problem.masks.double().numpy()
    kernels = masks[:, :, None] * masks[:, None] * (X @ X.T)
    eta = np.zeros(len(masks))
    eta[draw.rng.integers(len(masks))] = 1.0
    for _ in range(200):
        z = problem.beta * np.linalg.solve(
            np.tensordot(eta, kernels, 1) + problem.beta * np.eye(5), y
        )
        eta = eta * np.linalg.norm((masks * z) @ X, axis=1) / problem.beta
    system = np.tensordot(eta, kernels, 1) + problem.beta * np.eye(5)
    value = 0.5 * problem.beta * (y @ np.linalg.solve(system, y) + eta.sum())
    return float((value / solve(problem, 1e-8).value - 1) / 1e-3)


def into_cone(rows: Floats, point: Floats) -> Floats:
    """The projection onto {u : rows u >= 0}: point + rows' t with the best t >= 0 (Moreau)."""
    size = float(np.linalg.norm(point))
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    if size == 0 or not len(rows):
        return point
    return point + size * (rows.T @ nnls(rows.T, -point / size)[0])


def optima(draw: Draw) -> tuple[cl.TwoLayer, cl.Result, cl.OptimalSet, float]:
    """A problem in the plane, often a symmetric one, with its set of optima.

    The last number is how far, relative to beta, the constraints at the solver's dual point may be
    from those at the optimal one: |z - z*| <= sqrt(2 gap). `OptimalSet` is of use where its slack
    is far above that.
    """
    n = draw.size(2, 6)
    if draw.rng.random() < 0.5:
        angles = 2 * np.pi * np.arange(n) / n
        X, y = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.ones(n)
        draw.note(f"regular {n}-gon")
    else:
        X, y = draw.matrix(n, 2), draw.targets(n)
    X, y = X * draw.scale(2), y * draw.scale(2)
    problem = cl.TwoLayer(X, y, beta=1.0)
    top = problem.beta_max()
    problem = problem.with_beta(float(10.0 ** draw.rng.uniform(-2, -0.05)) * top or 1.0)
    result = solve(problem, 1e-12)
    gap = max(result.value - result.dual, 1e-15 * result.value)
    known = float(np.sqrt(2 * gap) * np.linalg.norm(X, 2) / problem.beta)
    found = cl.optimal_set(problem, result)
    draw.note(f"slack {found.slack:.0e}")
    return problem, result, found, known


@attack("optimal-set")
def optimal_set(draw: Draw) -> float:
    """Blocks of an optimum are multiples of q, of size one; what satisfies the rest is optimal."""
    problem, result, found, known = optima(draw)
    X, y, beta = problem.X.numpy(), problem.y.numpy(), problem.beta
    f = problem.fitted(result.weights).numpy()
    masks = problem.masks.double().numpy()
    size = float(y @ y) + 1e-200
    worst = 0.0
    weights = result.weights.numpy()
    largest = np.linalg.norm(weights, axis=2).max(initial=0.0)
    for side, pattern in product(range(2), range(len(masks))):
        block = weights[side, pattern]
        norm = float(np.linalg.norm(block))
        if norm <= 1e-4 * largest:  # what the solver's gap may leave
            continue
        slope = (1.0 - 2.0 * side) * X.T @ (masks[pattern] * (y - f)) / beta
        q = into_cone((2 * masks[pattern] - 1)[:, None] * X, slope)
        worst = max(worst, abs(np.linalg.norm(q) - 1) / (10 * known + 1e-7))
        # For unit vectors |v - q|^2 = 2 (1 - v.q), and the gap has beta |v| (1 - v.q) as a part.
        turned = np.sqrt(2 * max(result.value - result.dual, 1e-15 * result.value) / (beta * norm))
        worst = max(worst, np.abs(block / norm - q).max() / (turned + 10 * known + 1e-7))
    if found.slack < 1e3 * known or known > 1e-6:
        return float(worst)
    for _ in range(2):
        costs = result.z.new_tensor(draw.rng.standard_normal(len(found)))
        member = found.weights(found.vertex(costs))
        worst = max(worst, abs(problem.value(member) - result.value) / (1e-6 * size))
        network = problem.to_network(member)
        U, alpha = network.U.detach().numpy(), network.alpha.detach().numpy()
        misfit = np.maximum(X @ U.T, 0) @ alpha - y
        value = 0.5 * (misfit**2).sum() + 0.5 * beta * ((U**2).sum() + (alpha**2).sum())
        worst = max(worst, abs(value - result.value) / (1e-6 * size))
    return float(worst)


@attack("optimal-corollary")
def corollary(draw: Draw) -> float:
    """Between vertices all is optimal; vertices have independent images; so does what is pruned."""
    problem, result, found, known = optima(draw)
    if found.slack < 1e3 * known or known > 1e-6:
        return 0.0
    X, y = problem.X.numpy(), problem.y.numpy()
    size = float(y @ y) + 1e-200
    ends = []
    for _ in range(2):
        costs = result.z.new_tensor(draw.rng.standard_normal(len(found)))
        ends.append(found.vertex(costs))
    worst = 0.0
    images = found.images.numpy()
    for end in ends:
        used = images[:, end.numpy() > 1e-6 * float(end.max() if len(end) else 0)]
        if used.shape[1] > len(y):
            return 2.0
        if used.shape[1]:
            least = np.linalg.svd(used / np.linalg.norm(used, axis=0))[1].min()
            worst = max(worst, 1e-7 / least)
    share = draw.rng.random()
    between = found.weights((1 - share) * ends[0] + share * ends[1])
    network = problem.to_network(between)
    worst = max(worst, abs(problem.objective(network) - result.value) / (1e-6 * size))
    pruned = cl.prune_neurons(network, X)
    worst = max(worst, (problem.objective(pruned) - result.value) / (1e-6 * size))
    outputs = np.maximum(X @ pruned.U.detach().numpy().T, 0)
    if np.linalg.matrix_rank(outputs, tol=1e-9 * (np.abs(outputs).max(initial=0.0) or 1.0)) < (
        pruned.n_neurons
    ):
        return 2.0
    ranges = found.ranges().numpy()
    spread = (ranges[:, 1] - ranges[:, 0]).max(initial=0.0)
    apart = float((ends[0] - ends[1]).abs().max()) if len(found) else 0.0
    return float(max(worst, (apart - spread) / (1e-5 * ranges.max(initial=0.0) + 1e-200)))


@refute("optimal-corollary", "optimal networks are connected by straight lines of their weights")
def straight_line(draw: Draw) -> float:
    """Half of two networks side by side has a quarter of each: half of the outputs."""
    n = 2 * draw.size(2, 4)
    angles = 2 * np.pi * np.arange(n) / n
    X, y = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.ones(n)
    problem = cl.TwoLayer(X, y, beta=0.2)
    result = solve(problem, 1e-10)
    found = cl.optimal_set(problem, result)
    costs = result.z.new_tensor(draw.rng.standard_normal(len(found)))
    both = [problem.to_network(found.weights(found.vertex(c))) for c in (costs, -costs)]
    U = 0.5 * np.concatenate([one.U.detach().numpy() for one in both])
    alpha = 0.5 * np.concatenate([one.alpha.detach().numpy() for one in both])
    misfit = np.maximum(X @ U.T, 0) @ alpha - y
    value = 0.5 * (misfit**2).sum() + 0.1 * ((U**2).sum() + (alpha**2).sum())
    return float((value - result.value) / 1e-6)


def factors(draw: Draw, L: int, d: int, c: int) -> list[Floats]:
    """Weights of a linear network, wide enough for any product."""
    widths = [d, *[min(d, c) + draw.size(0, 1)] * (L - 1), c]
    return [draw.weights(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]


def product_of(layers: list[Floats]) -> Floats:
    """W_1 ... W_L."""
    total = layers[0]
    for W in layers[1:]:
        total = total @ W
    return total


@attack("parallel-linear")
def parallel_linear(draw: Draw) -> float:
    """Prices of products, both attained; the dual value bounds both networks, and is the second."""
    L, d, c = draw.size(2, 5), draw.size(1, 3), draw.size(1, 3)
    layers = factors(draw, L, d, c)
    Z = product_of(layers)
    left, sizes, right = np.linalg.svd(Z, full_matrices=False)
    quasi = float((sizes ** (2 / L)).sum() ** (L / 2))
    power = sum(float((W**2).sum() ** (L / 2)) for W in layers) / L
    sizes_of = [float(np.linalg.norm(W)) for W in layers]
    rounding = 1e-11 * float(np.prod(sizes_of)) + 1e-200
    worst = max((quasi - power) / rounding, (sizes.sum() - quasi) / rounding)
    root = np.diag(sizes ** (1 / L))
    made = [left @ root, *[root] * (L - 2), root @ right]
    worst = max(worst, np.abs(product_of(made) - Z).max() / rounding)
    cost = sum(float(np.linalg.norm(W) ** L) for W in made) / L
    worst = max(worst, abs(cost - quasi) / rounding)
    # Training with orthonormal columns: everything is a matter of singular values.
    n = draw.size(d, d + 3)
    Q = np.linalg.qr(draw.rng.standard_normal((n, d)))[0]
    Y = draw.matrix(n, c) * draw.scale(3)
    P, tau, R = np.linalg.svd(Q.T @ Y, full_matrices=False)
    beta = part_of(draw, float(tau.max()))
    kept = np.maximum(tau - beta, 0.0)
    rest = 0.5 * float((Y**2).sum() - (tau**2).sum())
    value = rest + 0.5 * float(((kept - tau) ** 2).sum()) + beta * float(kept.sum())
    dual_point = Y - Q @ (P * kept) @ R
    dual = float((dual_point * Y).sum() - 0.5 * (dual_point**2).sum())
    size = 1e-11 * float((Y**2).sum()) + 1e-200
    worst = max(worst, abs(dual - value) / size)
    worst = max(worst, (np.linalg.norm(Q.T @ dual_point, 2) - beta) / (1e-11 * tau.max() + 1e-200))

    def standard(layers: list[Floats]) -> float:
        price = beta / L * sum(float(np.linalg.norm(W) ** L) for W in layers)
        return 0.5 * float(((Q @ product_of(layers) - Y) ** 2).sum()) + price

    root = np.diag(kept ** (1 / L))
    best = [P @ root, *[root] * (L - 2), root @ R]
    reached = standard(best)
    worst = max(worst, (dual - reached) / size)
    if (kept > 0).sum() <= 1 or L == 2:  # no gap
        worst = max(worst, (reached - value) / size)
    for _ in range(10):
        spread = 10.0 ** draw.rng.uniform(-4, 0.5) * (float(kept.max()) or 1.0) ** (1 / L)
        moved = [W + spread * draw.rng.standard_normal(W.shape) for W in best]
        worst = max(worst, (dual - standard(moved)) / size)
    return float(worst)


@refute("parallel-linear", "standard linear networks of three layers always have a duality gap")
def always_a_gap(draw: Draw) -> float:
    """Where the parallel solution has rank one there is none: returns one over the gap found."""
    tau = np.sort(np.abs(draw.rng.standard_normal(2)))[::-1]
    beta = float(draw.rng.uniform(0, 1)) * tau[0]
    kept = np.maximum(tau - beta, 0.0)
    parallel = 0.5 * ((kept - tau) ** 2).sum() + beta * kept.sum()
    grid = np.linspace(0, tau[0], 201)
    a, b = np.meshgrid(np.append(grid, kept[0]), np.append(grid, kept[1]))
    price = beta * (a ** (2 / 3) + b ** (2 / 3)) ** 1.5
    gap = (0.5 * ((a - tau[0]) ** 2 + (b - tau[1]) ** 2) + price).min() - parallel
    return float(1e-9 / max(gap, 1e-12))


def branch(x: Floats, layers: list[Floats]) -> Floats:
    """A ReLU network of one input without biases; the last layer is linear."""
    h = x[:, None]
    for W in layers[:-1]:
        h = np.maximum(h @ W, 0)
    return (h @ layers[-1])[:, 0]


@attack("parallel-relu")
def parallel_relu(draw: Draw) -> float:
    """One feature: the hull is that of +-x_+ and +-(-x)_+, so the optimum has a closed form."""
    n, L, K = draw.size(1, 6), draw.size(2, 5), draw.size(1, 3)
    x, y = draw.matrix(n, 1)[:, 0] * draw.scale(2), draw.targets(n) * draw.scale(2)
    columns = [np.maximum(x, 0), np.maximum(-x, 0)]  # orthogonal
    lengths = [float(c @ c) for c in columns]
    beta = part_of(draw, max(abs(float(c @ y)) for c in columns))
    best, f = [], np.zeros(n)
    for c, length in zip(columns, lengths, strict=True):
        slope = float(c @ y)
        t = np.sign(slope) * max(abs(slope) - beta, 0.0) / length if length else 0.0
        best.append(t)
        f = f + t * c
    z = y - f
    value = 0.5 * float(z @ z) + beta * sum(map(abs, best))
    dual = float(y @ z - 0.5 * z @ z)
    size = 1e-10 * float(y @ y) + 1e-200
    worst = abs(value - dual) / size

    def objective(branches: list[list[Floats]]) -> float:
        fitted = sum((branch(x, layers) for layers in branches), np.zeros(n))
        price = sum(float((W**2).sum() ** (L / 2)) for layers in branches for W in layers)
        return float(0.5 * ((fitted - y) ** 2).sum() + beta / L * price)

    made = []
    for sign, t in zip((1.0, -1.0), best, strict=True):
        g = abs(t) ** (1 / L)
        made.append([sign * g * np.ones((1, 1)), *[g * np.ones((1, 1))] * (L - 2)])
        made[-1].append(np.sign(t) * g * np.ones((1, 1)))
    worst = max(worst, abs(objective(made) - value) / size)
    for _ in range(10):
        m = draw.size(1, 3)
        shapes = [(1, m), *[(m, m)] * (L - 2), (m, 1)]
        spread = 10.0 ** draw.rng.uniform(-3, 0.5)
        tried = [[spread * draw.rng.standard_normal(s) for s in shapes] for _ in range(K)]
        moved = [
            [W + spread * draw.rng.standard_normal(W.shape) * np.abs(W) for W in layers]
            for layers in made
        ]
        worst = max(worst, (dual - objective(tried)) / size, (dual - objective(moved)) / size)
        worst = max(worst, (dual - objective(moved + tried)) / size)
    return float(worst)


@refute("parallel-relu", "the minimum is attained for every finite convex loss")
def any_convex_loss(draw: Draw) -> float:
    """A linear loss that falls faster than the price grows has no minimum."""
    x = np.abs(draw.rng.standard_normal(draw.size(1, 4))) + 0.1
    beta = float(draw.rng.uniform(0, 0.9)) * x.sum()
    values = [-t * x.sum() + beta * t for t in (1.0, 1e3, 1e6)]  # ell(f) = -sum f, f = t x_+
    falling = values[0] > values[1] > values[2] and values[2] < -1e3 * abs(values[0])
    return 2.0 if falling else 0.0
