"""Attacks on the chapter on batch normalisation."""

from __future__ import annotations

import warnings
from math import sqrt

import numpy as np
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.two_layer import all_masks, best_neuron, relu
from tests.helpers.batchnorm import objective_by_hand
from tests.helpers.references import program_value

Weights = tuple[Floats, Floats, Floats, Floats]


def varied(draw: Draw, most: int = 6, features: int = 3) -> Floats | None:
    """Samples that are not all equal, with a mean, whose rank is beyond doubt."""
    n, d = draw.size(2, most), draw.size(1, features)
    X = draw.matrix(n, d) + draw.choice(0.0, 1.0) * draw.rng.standard_normal(d)
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    if values[0] < 1e-9 or ((values < 1e-2 * values[0]) & (values > 1e-13 * values[0])).any():
        return None
    return X


def compact(X: Floats) -> tuple[Floats, Floats, Floats]:
    """The compact singular value decomposition of the centred samples."""
    U, S, Vt = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = np.count_nonzero(S / S[0] > 1e-8)
    return U[:, :k], S[:k], Vt[:k].T


def white(X: Floats) -> Floats:
    """The data U'."""
    U = compact(X)[0]
    return np.column_stack([U, np.full(len(X), 1 / sqrt(len(X)))])


def network(draw: Draw, d: int, m: int) -> Weights:
    """Weights W (m, d), gamma, delta and alpha (m,); whole neurons and scales may vanish."""
    W, parts = draw.rng.standard_normal((m, d)), draw.weights(3, m)
    return W, parts[0], parts[1], parts[2]


def hidden(W: Floats, gamma: Floats, delta: Floats, X: Floats, eps: float = 0.0) -> Floats:
    """The hidden layer from the definition; a neuron that is constant keeps its shift alone."""
    inner = (X - X.mean(axis=0)) @ W.T
    sizes = np.sqrt(np.sum(inner**2, axis=0) + len(X) * eps)
    constant = np.linalg.norm(inner, axis=0) <= 1e-12 * np.linalg.norm(W, axis=1) * np.abs(X).max()
    normal = np.where(constant, 0.0, inner / np.where(sizes > 0, sizes, 1.0))
    return relu(gamma * normal + delta / sqrt(len(X)))


def objective(weights: Weights, X: Floats, y: Floats, beta: float, eps: float = 0.0) -> float:
    """The training objective."""
    W, gamma, delta, alpha = weights
    residual = hidden(W, gamma, delta, X, eps) @ alpha - y
    decay = sum(float(np.sum(part**2)) for part in (gamma, delta, alpha))
    return float(0.5 * residual @ residual + 0.5 * beta * decay)


def solved(problem: cl.TwoLayer, tol: float) -> cl.Result:
    """The library's solution; an optimum of zero has no relative gap to reach."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.solve(problem, tol=tol)


def share(draw: Draw, y: Floats) -> float:
    """A beta between a thousandth of a bound on beta_max and a little above it."""
    largest = max(np.linalg.norm(relu(y)), np.linalg.norm(relu(-y)))
    return float(10.0 ** draw.rng.uniform(-3, 0.1)) * (float(largest) or 1.0)


@attack("batchnorm-whitening")
def neurons(draw: Draw) -> float:
    """A normalised neuron is U's with |s| the size of scale and shift, and every s is one."""
    X = varied(draw)
    if X is None:
        return 0.0
    X = X * draw.scale()
    U, S, V = compact(X)
    data = white(X)
    excess = np.abs(data.T @ data - np.eye(data.shape[1])).max() / 1e-12
    W, gamma, delta, _ = network(draw, X.shape[1], 5)
    q = W @ V * S
    sizes = np.linalg.norm(q, axis=1)
    live = sizes > 1e-6 * S[0] * np.linalg.norm(W, axis=1)
    W, gamma, delta, q = W[live], gamma[live], delta[live], q[live] / sizes[live, None]
    s = np.column_stack([gamma[:, None] * q, delta])
    reach = float(np.abs(s).max(initial=0.0)) or 1.0
    # Rounding of the mean is magnified where the mean is large beside what varies.
    slack = 1e-9 * (1.0 + np.abs(X).max() / S[-1])
    off = np.abs(hidden(W, gamma, delta, X) - relu(data @ s.T)).max(initial=0.0)
    excess = max(excess, off / (slack * reach))
    lengths = np.sum(s**2, axis=1) - gamma**2 - delta**2
    excess = max(excess, np.abs(lengths).max(initial=0.0) / (1e-12 * reach**2))
    # Every s: part 3 of the lemma.
    a, b = draw.rng.standard_normal(U.shape[1]), draw.rng.standard_normal()
    back = hidden((V / S @ a)[None], np.array([np.linalg.norm(a)]), np.array([b]), X)[:, 0]
    direct = relu(data @ np.append(a, b))
    return float(max(excess, np.abs(back - direct).max() / slack))


@attack("batchnorm-program")
def program(draw: Draw) -> float:
    """The program has the value of the network it is mapped to, and no network is below."""
    X = varied(draw, 4, 2)
    if X is None:
        return 0.0
    y = draw.targets(len(X)) * draw.scale(3.0)
    X = X * draw.scale(3.0)
    beta = share(draw, y)
    size = y @ y + beta**2
    value = program_value(white(X), y / sqrt(size), beta / sqrt(size), all_masks(len(X))) * size
    problem = cl.BatchNorm(X, y, beta=beta)
    result = solved(problem, 1e-9)
    excess = abs(result.value - value) / (1e-6 * size)
    mapped = problem.to_network(result)
    by_hand = objective_by_hand(mapped, X, y, beta) if len(mapped[3].weight[0]) else result.value
    excess = max(excess, abs(by_hand - result.value) / (1e-8 * size))
    parts = mapped[0].weight, mapped[1].weight * sqrt(len(X)), mapped[1].bias * sqrt(len(X))
    tuned = tuple(p.detach().numpy() for p in (*parts, mapped[3].weight[0]))
    for weights in (network(draw, X.shape[1], 4), tuned):
        moved = tuple(part + 0.01 * draw.rng.standard_normal(part.shape) for part in weights)
        excess = max(excess, (result.dual - objective(moved, X, y, beta)) / (1e-9 * size))
    used = int((np.abs(tuned[3]) > 0).sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        few = cl.prune_neurons(cl.TwoLayerReLU(*unnormalised(tuned, X)), torch.from_numpy(white(X)))
    return float(max(excess, 2.0 * (used > 0 and len(few.alpha) > len(X))))


def unnormalised(weights: Weights, X: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """The two-layer network on U' with the same outputs."""
    W, gamma, delta, alpha = weights
    _, S, V = compact(X)
    q = W @ V * S
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    return torch.from_numpy(np.column_stack([gamma[:, None] * q, delta])), torch.from_numpy(alpha)


@refute("batchnorm-program", "the program may list the patterns of X instead of those of U'")
def patterns_of_samples(draw: Draw) -> float:
    """Positive samples on a line have two patterns, and the optimum needs more."""
    x = draw.rng.uniform(0.5, 3.0, (draw.size(3, 5), 1))
    y = draw.rng.standard_normal(len(x))
    data = white(x)
    whole, few = (
        program_value(data, y, 0.05, masks)
        for masks in (all_masks(len(x)), np.array([[True] * len(x), [False] * len(x)]))
    )
    return (few - whole) / (1e-4 * whole)


@attack("batchnorm-invariance")
def invariance(draw: Draw) -> float:
    """Another basis and another origin of the features change neither value nor outputs."""
    X = varied(draw, 6, 2)
    if X is None:
        return 0.0
    d = X.shape[1]
    A = np.linalg.qr(draw.rng.standard_normal((d, d)))[0] * 10.0 ** draw.rng.uniform(-2, 2, d)
    moved = X @ A + draw.rng.standard_normal(d) * np.abs(X @ A).max()
    y = draw.targets(len(X))
    beta = share(draw, y)
    problems = [cl.BatchNorm(Z, y, beta=beta) for Z in (X, moved)]
    results = [solved(problem, 1e-10) for problem in problems]
    size = y @ y + beta**2
    excess = abs(results[0].value - results[1].value) / (1e-8 * size)
    fits = [p.fitted(r.weights).numpy() for p, r in zip(problems, results, strict=True)]
    gaps = sum(max(r.value - r.dual, 0.0) for r in results)
    slack = sqrt(2.0 * gaps) + sqrt(2.0 * max(results[0].value - results[1].dual, 0.0))
    return float(max(excess, np.linalg.norm(fits[0] - fits[1]) / (2 * slack + 1e-6 * sqrt(size))))


@attack("batchnorm-patterns")
def patterns(draw: Draw) -> float:
    """U' and [X, 1] span one space, whose sign vectors are the patterns."""
    X = varied(draw, 5, 3)
    if X is None:
        return 0.0
    ones = np.column_stack([X, np.ones(len(X))])
    data = white(X)
    # Each in the span of the other.
    off = max(
        np.abs(a - b @ np.linalg.lstsq(b, a, rcond=1e-10)[0]).max() / (np.abs(a).max() or 1.0)
        for a, b in ((ones, data), (data, ones))
    )
    found = {tuple(row) for row in cl.BatchNorm(X, X[:, 0], beta=1.0).arrangements.masks.tolist()}
    drawn = data @ draw.rng.standard_normal((data.shape[1], 300))
    clear = drawn[:, np.abs(drawn).min(axis=0) > 1e-9].T >= 0
    missing = sum(tuple(row) not in found for row in clear.tolist())
    generic = 2.0 * (len(found) > cl.count_bound(len(X), data.shape[1]))
    return float(max(off / 1e-9, 2.0 * missing, generic))


@attack("batchnorm-eps")
def positive_eps(draw: Draw) -> float:
    """With eps > 0 no network is below the optimum, which a large first layer approaches."""
    X = varied(draw, 5, 2)
    if X is None:
        return 0.0
    y = draw.targets(len(X))
    beta, eps = share(draw, y), float(10.0 ** draw.rng.uniform(-8, 1))
    problem = cl.BatchNorm(X, y, beta=beta)
    result = solved(problem, 1e-9)
    size = y @ y + beta**2
    mapped = problem.to_network(result)
    root = sqrt(len(X))
    parts = mapped[0].weight, mapped[1].weight * root, mapped[1].bias * root, mapped[3].weight[0]
    W, gamma, delta, alpha = (part.detach().numpy() for part in parts)
    excess = 0.0
    for weights in ((W, gamma, delta, alpha), network(draw, X.shape[1], 4)):
        excess = max(excess, (result.dual - objective(weights, X, y, beta, eps)) / (1e-9 * size))
    far = objective((1e6 * (1 + sqrt(eps)) * W, gamma, delta, alpha), X, y, beta, eps)
    return float(max(excess, (far - result.value) / (1e-6 * size)))


@refute("batchnorm-eps", "with eps > 0 the infimum is never attained")
def attained(draw: Draw) -> float:
    """Where the targets are constant a neuron without scale is optimal, and eps is not felt."""
    X = draw.rng.standard_normal((draw.size(2, 5), draw.size(1, 3)))
    n, eps = len(X), float(10.0 ** draw.rng.uniform(-6, 0))
    c = draw.rng.uniform(1.0, 2.0)
    y, beta = np.full(n, c), 0.5 * c * sqrt(n)
    size = np.array([sqrt(c * sqrt(n) - beta)])
    reached = objective((np.ones((1, X.shape[1])), 0 * size, size, size), X, y, beta, eps)
    lowest = solved(cl.BatchNorm(X, y, beta=beta), 1e-10).dual
    return float(1e-8 * reached / (max(reached - lowest, 0.0) + 1e-12 * reached))


def formula(Y: Floats, beta: float) -> float:
    """The closed form."""
    parts = np.linalg.norm(np.concatenate([relu(Y), relu(-Y)], axis=1), axis=0)
    return float(np.where(parts > beta, beta * parts - 0.5 * beta**2, 0.5 * parts**2).sum())


def full_rank(draw: Draw) -> Floats | None:
    """Samples in general position in as many dimensions as there can be, not too flat."""
    n = draw.size(2, 6)
    X = draw.rng.standard_normal((n, n - 1 + draw.size(0, 2)))
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[: n - 1]
    return X * draw.scale() if values[-1] > 1e-2 * values[0] else None


@attack("batchnorm-closed-form")
def closed_form(draw: Draw) -> float:
    """The formula's network attains it, its dual point proves it, at any rank it is a bound."""
    X = full_rank(draw)
    if X is None:
        return 0.0
    y = draw.targets(len(X)) * draw.scale(3.0)
    beta = share(draw, y)
    value, size = formula(y[:, None], beta), y @ y + beta**2
    form = cl.batchnorm_closed_form(X, y, beta=beta)
    z = form.z.numpy()
    excess = max(
        abs(form.value - value) / (1e-10 * size),
        abs(objective_by_hand(form.network, X, y, beta) - value) / (1e-8 * size),
        abs(y @ z - 0.5 * z @ z - value) / (1e-10 * size),
        (best_neuron(white(X), z) - beta) / (1e-9 * sqrt(size)),
    )
    parts = sum(np.linalg.norm(relu(part)) > beta * (1 + 1e-12) for part in (y, -y))
    live = int((form.network[3].weight.abs().max(dim=0).values > 0).sum())
    excess = max(excess, 2.0 * (live != parts))
    flat = varied(draw)
    if flat is None:
        return float(excess)
    y = draw.targets(len(flat))
    beta = share(draw, y)
    value = formula(y[:, None], beta)
    networks = [network(draw, flat.shape[1], 4)]
    found = solved(cl.BatchNorm(flat, y, beta=beta), 1e-6)
    lowest = min(objective(networks[0], flat, y, beta), found.value)
    return float(max(excess, (value - lowest) / (1e-9 * (y @ y + beta**2))))


@refute("batchnorm-closed-form", "the formula gives the optimum for every X")
def low_rank(draw: Draw) -> float:
    """With fewer directions than samples have the optimum is larger."""
    X = draw.rng.standard_normal((draw.size(4, 6), 1))
    y = draw.rng.standard_normal(len(X))
    beta = 0.05 * float(np.linalg.norm(y))
    gap = solved(cl.BatchNorm(X, y, beta=beta), 1e-8).dual - formula(y[:, None], beta)
    return gap / (1e-3 * float(y @ y))


@attack("batchnorm-vector")
def vector_outputs(draw: Draw) -> float:
    """With one entry in each row the columns' networks are optimal together."""
    X = full_rank(draw)
    if X is None:
        return 0.0
    n, K = len(X), draw.size(1, 3)
    Y = np.eye(K)[draw.rng.integers(K, size=n)]
    if draw.rng.random() < 0.5:
        Y *= draw.targets(n)[:, None] * draw.scale(3.0)
    beta = 10.0 ** draw.rng.uniform(-2, 0.2) * (np.linalg.norm(Y, axis=0).max() or 1.0)
    value, size = formula(Y, beta), np.sum(Y**2) + beta**2
    form = cl.batchnorm_closed_form(X, Y, beta=beta)
    Z = form.z.numpy()
    # |Z^T p| <= beta |p| for p >= 0: on the samples of one column the others vanish.
    rows = np.abs(draw.rng.standard_normal((500, n))) * (draw.rng.random((500, n)) < 0.7)
    rows = np.vstack([rows, relu(Y).T, relu(-Y).T])
    over = np.linalg.norm(rows @ Z, axis=1) - beta * np.linalg.norm(rows, axis=1)
    shared = [np.sum(Z * Y) - 0.5 * np.sum(Z**2), form.value]
    shared.append(objective_by_hand(form.network, X, Y, beta))
    off = max(abs(found - value) for found in shared) / (1e-8 * size)
    # Networks whose neurons share their outputs.
    P, A = relu(white(X) @ draw.rng.standard_normal((n, 4))), draw.rng.standard_normal((4, K))
    A *= 10.0 ** draw.rng.uniform(-2, 0)
    price = np.linalg.norm(P, axis=0) @ np.linalg.norm(A, axis=1)  # at most that of the neurons
    reached = 0.5 * np.sum((P @ A - Y) ** 2) + beta * price
    top = np.abs(rows).max() * (np.abs(Z).max() + beta) or 1.0
    return float(max(over.max() / (1e-9 * n * top), off, (value - reached) / (1e-9 * size)))


@refute("batchnorm-vector", "the columns' closed forms add up for all targets")
def shared_neurons(draw: Draw) -> float:
    """Equal columns share a neuron, which is cheaper."""
    n, K = draw.size(1, 6), draw.size(1, 3)
    y = np.abs(draw.rng.standard_normal(n)) + 0.1
    beta = 0.5 * float(np.linalg.norm(y))
    # One neuron y / |y| with equal output weights.
    length = sqrt(K) * float(np.linalg.norm(y))
    one = beta * length - 0.5 * beta**2
    return (formula(np.tile(y[:, None], (1, K)), beta) - one) / (1e-3 * one)


@attack("batchnorm-descent")
def descent(draw: Draw) -> float:
    """A gradient step moves coordinate i of S V^T w by sigma_i^2 times its gradient."""
    X = varied(draw)
    if X is None:
        return 0.0
    n, (U, S, V) = len(X), compact(X)
    W, gamma, delta, alpha = (torch.from_numpy(p) for p in network(draw, X.shape[1], 3))
    y, rate = torch.from_numpy(draw.targets(n)), float(10.0 ** draw.rng.uniform(-3, 0))
    data, white_data = torch.from_numpy(X - X.mean(axis=0)), torch.from_numpy(U)
    lengths = (data @ W.T).norm(dim=0)
    if (lengths < 1e-3 * W.norm(dim=1) * S[0]).any():
        return 0.0  # a neuron that is almost constant has a gradient of no moderate size

    def loss(inner: torch.Tensor) -> torch.Tensor:
        normal = inner / inner.norm(dim=0)
        fitted = torch.relu(gamma * normal + delta / sqrt(n)) @ alpha
        return 0.5 * ((fitted - y) ** 2).sum()

    W.requires_grad_()
    (slope,) = torch.autograd.grad(loss(data @ W.T), W)
    right, sizes = torch.from_numpy(V), torch.from_numpy(S)
    a = (W.detach() @ right * sizes).requires_grad_()
    (white_slope,) = torch.autograd.grad(loss(white_data @ a.T), a)
    stepped = (W.detach() - rate * slope) @ right * sizes
    predicted = a.detach() - rate * sizes**2 * white_slope
    reach = a.detach().abs().max() + rate * S[0] ** 2 * white_slope.abs().max()
    # And the start: the rows of V have length one.
    start = np.abs(np.linalg.norm(V, axis=0) - 1.0).max() / 1e-12
    return float(max(start, (stepped - predicted).abs().max() / (1e-10 * reach)))
