"""Attacks on the chapter on batch normalisation."""

from math import sqrt

import numpy as np
import torch
from torch import nn

import convexlib as cl
from tests.adversary.cells import all_masks, best_neuron, relu, rows_of
from tests.adversary.programs import dual, solved
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.batchnorm import objective_by_hand
from tests.helpers.references import program_value

Weights = tuple[Floats, Floats, Floats, Floats]


def varied(draw: Draw, most: int = 6, features: int = 3) -> Floats:
    """Samples that are not all equal, with a mean, whose rank is beyond doubt."""
    n, d = draw.size(2, most), draw.size(1, features)
    X = draw.matrix(n, d) + draw.choice(0.0, 1.0) * draw.normal(d)
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    doubtful = (values < 1e-2 * values[0]) & (values > 1e-13 * values[0])
    draw.assume(values[0] >= 1e-9 and not doubtful.any())
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
    W, parts = draw.normal(m, d), draw.weights(3, m)
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


def mapped_weights(network: nn.Sequential, n: int) -> Weights:
    """Those of a network that a solution was mapped to, for n samples."""
    first, norm, _, last = network
    parts = first.weight, norm.weight * sqrt(n), norm.bias * sqrt(n), last.weight[0]
    return tuple(part.detach().numpy() for part in parts)


def share(draw: Draw, y: Floats) -> float:
    """A beta between a thousandth of a bound on beta_max and a little above it."""
    largest = max(np.linalg.norm(relu(y)), np.linalg.norm(relu(-y)))
    return draw.power(-3, 0.1) * (float(largest) or 1.0)


@attack("batchnorm-whitening")
def neurons(draw: Draw) -> None:
    """A normalised neuron is U's with |s| the size of scale and shift, and every s is one."""
    X = varied(draw) * draw.scale()
    U, S, V = compact(X)
    data = white(X)
    draw.same(data.T @ data, np.eye(data.shape[1]), 1e-12)
    W, gamma, delta, _ = network(draw, X.shape[1], 5)
    q = W @ V * S
    sizes = np.linalg.norm(q, axis=1)
    live = sizes > 1e-6 * S[0] * np.linalg.norm(W, axis=1)
    W, gamma, delta, q = W[live], gamma[live], delta[live], q[live] / sizes[live, None]
    s = np.column_stack([gamma[:, None] * q, delta])
    reach = float(np.abs(s).max(initial=0.0)) or 1.0
    # Rounding of the mean is magnified where the mean is large beside what varies.
    slack = 1e-9 * (1.0 + np.abs(X).max() / S[-1])
    draw.same(hidden(W, gamma, delta, X), relu(data @ s.T), slack * reach)
    draw.same(np.sum(s**2, axis=1), gamma**2 + delta**2, 1e-12 * reach**2)
    # Every s: part 3 of the lemma.
    a, b = draw.normal(U.shape[1]), draw.normal()
    back = hidden((V / S @ a)[None], np.array([np.linalg.norm(a)]), np.array([b]), X)[:, 0]
    draw.same(back, relu(data @ np.append(a, b)), slack)


@attack("batchnorm-program")
def program(draw: Draw) -> None:
    """The program has the value of the network it is mapped to, and no network is below."""
    X = varied(draw, 4, 2)
    n = len(X)
    y = draw.targets(n) * draw.scale(3.0)
    X = X * draw.scale(3.0)
    beta = share(draw, y)
    size = y @ y + beta**2
    value = program_value(white(X), y / sqrt(size), beta / sqrt(size), all_masks(n)) * size
    problem = cl.BatchNorm(X, y, beta=beta)
    result = solved(problem, 1e-9)
    draw.same(result.value, value, 1e-6 * size)
    mapped = problem.to_network(result)
    if len(mapped[3].weight[0]):
        draw.same(objective_by_hand(mapped, X, y, beta), result.value, 1e-8 * size)
    tuned = mapped_weights(mapped, n)
    for weights in (network(draw, X.shape[1], 4), tuned):
        near = objective(draw.near(weights, 0.01), X, y, beta)
        draw.below(result.dual, near, 1e-9 * size)
    # The two-layer network on U' with the same outputs.
    W, gamma, delta, alpha = tuned
    _, S, V = compact(X)
    q = W @ V * S
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    U = np.column_stack([gamma[:, None] * q, delta])
    plain = cl.TwoLayerReLU(torch.from_numpy(U), torch.from_numpy(alpha))
    draw.true(len(cl.prune_neurons(plain, torch.from_numpy(white(X))).alpha) <= n)


@refute("batchnorm-program", "the program may list the patterns of X instead of those of U'")
def patterns_of_samples(draw: Draw) -> None:
    """Positive samples on a line have two patterns, and the optimum needs more."""
    x = draw.rng.uniform(0.5, 3.0, (draw.size(3, 5), 1))
    y = draw.normal(len(x))
    whole, few = (
        program_value(white(x), y, 0.05, masks)
        for masks in (all_masks(len(x)), np.array([[True] * len(x), [False] * len(x)]))
    )
    draw.below(few, whole, 1e-4 * whole)


@attack("batchnorm-invariance")
def invariance(draw: Draw) -> None:
    """Another basis and another origin of the features change neither value nor outputs."""
    X = varied(draw, 6, 2)
    d = X.shape[1]
    A = np.linalg.qr(draw.normal(d, d))[0] * 10.0 ** draw.rng.uniform(-2, 2, d)
    moved = X @ A + draw.normal(d) * np.abs(X @ A).max()
    y = draw.targets(len(X))
    beta = share(draw, y)
    problems = [cl.BatchNorm(Z, y, beta=beta) for Z in (X, moved)]
    one, other = (solved(problem, 1e-10) for problem in problems)
    size = y @ y + beta**2
    draw.same(one.value, other.value, 1e-8 * size)
    gaps = max(one.value - one.dual, 0.0) + max(other.value - other.dual, 0.0)
    slack = sqrt(2.0 * gaps) + sqrt(2.0 * max(one.value - other.dual, 0.0))
    fits = [p.fitted(r.weights) for p, r in zip(problems, (one, other), strict=True)]
    draw.same(torch.dist(*fits), 0.0, 2 * slack + 1e-6 * sqrt(size))


@attack("batchnorm-patterns")
def patterns(draw: Draw) -> None:
    """U' and [X, 1] span one space, whose sign vectors are the patterns."""
    X = varied(draw, 5, 3)
    ones, data = np.column_stack([X, np.ones(len(X))]), white(X)
    for a, b in ((ones, data), (data, ones)):  # each in the span of the other
        inside = b @ np.linalg.lstsq(b, a, rcond=1e-10)[0]
        draw.same(inside, a, 1e-9 * (np.abs(a).max() or 1.0))
    found = rows_of(cl.BatchNorm(X, X[:, 0], beta=1.0).arrangements.masks)
    drawn = data @ draw.normal(data.shape[1], 300)
    draw.true(rows_of(drawn[:, np.abs(drawn).min(axis=0) > 1e-9].T >= 0) <= found)
    draw.true(len(found) <= cl.count_bound(len(X), data.shape[1]))


@attack("batchnorm-eps")
def positive_eps(draw: Draw) -> None:
    """With eps > 0 no network is below the optimum, which a large first layer approaches."""
    X = varied(draw, 5, 2)
    y = draw.targets(len(X))
    beta, eps = share(draw, y), draw.power(-8, 1)
    problem = cl.BatchNorm(X, y, beta=beta)
    result = solved(problem, 1e-9)
    size = y @ y + beta**2
    W, *rest = mapped_weights(problem.to_network(result), len(X))
    for weights in ((W, *rest), network(draw, X.shape[1], 4)):
        draw.below(result.dual, objective(weights, X, y, beta, eps), 1e-9 * size)
    far = objective((1e6 * (1 + sqrt(eps)) * W, *rest), X, y, beta, eps)
    draw.below(far, result.value, 1e-6 * size)


@refute("batchnorm-eps", "with eps > 0 the infimum is never attained")
def attained(draw: Draw) -> None:
    """Where the targets are constant a neuron without scale is optimal, and eps is not felt."""
    X = draw.normal(draw.size(2, 5), draw.size(1, 3))
    n, eps = len(X), draw.power(-6, 0)
    c = draw.rng.uniform(1.0, 2.0)
    y, beta = np.full(n, c), 0.5 * c * sqrt(n)
    size = np.array([sqrt(c * sqrt(n) - beta)])
    reached = objective((np.ones((1, X.shape[1])), 0 * size, size, size), X, y, beta, eps)
    draw.true(reached > solved(cl.BatchNorm(X, y, beta=beta), 1e-10).dual + 1e-8 * reached)


def formula(Y: Floats, beta: float) -> float:
    """The closed form."""
    parts = np.linalg.norm(np.concatenate([relu(Y), relu(-Y)], axis=1), axis=0)
    return float(np.where(parts > beta, beta * parts - 0.5 * beta**2, 0.5 * parts**2).sum())


def full_rank(draw: Draw) -> Floats:
    """Samples in general position in as many dimensions as there can be, not too flat."""
    n = draw.size(2, 6)
    X = draw.normal(n, n - 1 + draw.size(0, 2))
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[: n - 1]
    draw.assume(values[-1] > 1e-2 * values[0])
    return X * draw.scale()


@attack("batchnorm-closed-form")
def closed_form(draw: Draw) -> None:
    """The formula's network attains it, its dual point proves it, at any rank it is a bound."""
    X = full_rank(draw)
    y = draw.targets(len(X)) * draw.scale(3.0)
    beta = share(draw, y)
    value, size = formula(y[:, None], beta), y @ y + beta**2
    form = cl.batchnorm_closed_form(X, y, beta=beta)
    z = form.z.numpy()
    draw.same([form.value, dual(z, y)], value, 1e-10 * size)
    draw.same(objective_by_hand(form.network, X, y, beta), value, 1e-8 * size)
    draw.below(best_neuron(white(X), z), beta, 1e-9 * sqrt(size))
    parts = sum(np.linalg.norm(relu(part)) > beta * (1 + 1e-12) for part in (y, -y))
    draw.true(int((form.network[3].weight.abs().max(dim=0).values > 0).sum()) == parts)
    flat = varied(draw)
    y = draw.targets(len(flat))
    beta = share(draw, y)
    reached = objective(network(draw, flat.shape[1], 4), flat, y, beta)
    found = solved(cl.BatchNorm(flat, y, beta=beta), 1e-6).value
    draw.below(formula(y[:, None], beta), min(reached, found), 1e-9 * (y @ y + beta**2))


@refute("batchnorm-closed-form", "the formula gives the optimum for every X")
def low_rank(draw: Draw) -> None:
    """With fewer directions than samples have the optimum is larger."""
    X = draw.normal(draw.size(4, 6), 1)
    y = draw.normal(len(X))
    beta = 0.05 * float(np.linalg.norm(y))
    optimum = solved(cl.BatchNorm(X, y, beta=beta), 1e-8).dual
    draw.below(optimum, formula(y[:, None], beta), 1e-3 * float(y @ y))


@attack("batchnorm-vector")
def vector_outputs(draw: Draw) -> None:
    """With one entry in each row the columns' networks are optimal together."""
    X = full_rank(draw)
    n, K = len(X), draw.size(1, 3)
    Y = np.eye(K)[draw.rng.integers(K, size=n)]
    if draw.rng.random() < 0.5:
        Y *= draw.targets(n)[:, None] * draw.scale(3.0)
    beta = draw.power(-2, 0.2) * (np.linalg.norm(Y, axis=0).max() or 1.0)
    value, size = formula(Y, beta), np.sum(Y**2) + beta**2
    form = cl.batchnorm_closed_form(X, Y, beta=beta)
    Z = form.z.numpy()
    # |Z^T p| <= beta |p| for p >= 0: on the samples of one column the others vanish.
    rows = np.abs(draw.normal(500, n)) * (draw.rng.random((500, n)) < 0.7)
    rows = np.vstack([rows, relu(Y).T, relu(-Y).T])
    top = np.abs(rows).max() * (np.abs(Z).max() + beta) or 1.0
    limits = beta * np.linalg.norm(rows, axis=1)
    draw.below(np.linalg.norm(rows @ Z, axis=1), limits, 1e-9 * n * top)
    reached = objective_by_hand(form.network, X, Y, beta)
    draw.same([dual(Z, Y), form.value, reached], value, 1e-8 * size)
    # Networks whose neurons share their outputs.
    P, A = relu(white(X) @ draw.normal(n, 4)), draw.normal(4, K)
    A *= draw.power(-2, 0)
    price = np.linalg.norm(P, axis=0) @ np.linalg.norm(A, axis=1)  # at most that of the neurons
    draw.below(value, 0.5 * np.sum((P @ A - Y) ** 2) + beta * price, 1e-9 * size)


@refute("batchnorm-vector", "the columns' closed forms add up for all targets")
def shared_neurons(draw: Draw) -> None:
    """Equal columns share a neuron, which is cheaper."""
    n, K = draw.size(1, 6), draw.size(1, 3)
    y = np.abs(draw.normal(n)) + 0.1
    beta = 0.5 * float(np.linalg.norm(y))
    # One neuron y / |y| with equal output weights.
    length = sqrt(K) * float(np.linalg.norm(y))
    one = beta * length - 0.5 * beta**2
    draw.below(formula(np.tile(y[:, None], (1, K)), beta), one, 1e-3 * one)


@attack("batchnorm-descent")
def descent(draw: Draw) -> None:
    """A gradient step moves coordinate i of S V^T w by sigma_i^2 times its gradient."""
    X = varied(draw)
    n, (U, S, V) = len(X), compact(X)
    W, gamma, delta, alpha = (torch.from_numpy(p) for p in network(draw, X.shape[1], 3))
    y, rate = torch.from_numpy(draw.targets(n)), draw.power(-3, 0)
    data, white_data = torch.from_numpy(X - X.mean(axis=0)), torch.from_numpy(U)
    lengths = (data @ W.T).norm(dim=0)
    # A neuron that is almost constant has a gradient of no moderate size.
    draw.assume((lengths >= 1e-3 * W.norm(dim=1) * S[0]).all())

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
    draw.same(stepped, predicted, 1e-10 * reach)
    draw.same(np.linalg.norm(V, axis=0), 1.0, 1e-12)  # and the start
