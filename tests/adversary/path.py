"""Attacks on the chapter on path regularisation."""

from __future__ import annotations

import warnings
from itertools import product
from math import prod

import numpy as np
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.three_layer import instance, planar_maximum, reference, relu, solved


def forward(X: Floats, weights: list[Floats]) -> Floats:
    """Outputs (n,) of a fully connected network from its weights (out, in), ReLUs between."""
    values = X
    for weight in weights[:-1]:
        values = relu(values @ weight.T)
    return (values @ weights[-1].T)[:, 0]


def by_paths(weights: list[Floats]) -> float:
    """The root of the squared products over all paths, one path at a time."""
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
    total = 0.0
    for path in product(*(range(size) for size in sizes)):
        factors = (w[b, a] for w, a, b in zip(weights, path, path[1:], strict=False))
        total += prod(factors) ** 2
    return float(np.sqrt(total))


def objective(X: Floats, y: Floats, beta: float, networks: list[list[Floats]]) -> float:
    """Squared loss and path norms of a sum of sub-networks with one output each."""
    fitted = sum((forward(X, weights) for weights in networks), np.zeros(len(y)))
    penalty = sum(by_paths(weights) for weights in networks)
    return float(0.5 * ((fitted - y) ** 2).sum() + beta * penalty)


def parts_of(problem: cl.PathRegularized, result: cl.Result) -> list[list[Floats]]:
    """The sub-networks of a solution of three layers, as weights of layers."""
    return parts_of_network(problem.to_network(result))


def parts_of_network(network: cl.ParallelReLU) -> list[list[Floats]]:
    """Those of a parallel network of three layers."""
    U, inner = network.U.detach().numpy(), network.inner[0].detach().numpy()
    sides = network.alpha.detach().numpy()
    return [[u, s, side.reshape(1, 1)] for u, s, side in zip(U, inner, sides, strict=True)]


@attack("path-theorem")
def theorem(draw: Draw) -> float:
    """The program's value is a network's, no network is below, and n sub-networks are enough."""
    X, y, beta = instance(draw)
    problem = cl.PathRegularized(X, y, beta=beta)
    result = solved(problem)
    networks = parts_of(problem, result)
    if len(networks) > len(y):
        return np.inf
    scale = result.value + 1e-300
    excess = abs(objective(X, y, beta, networks) - result.value) / (1e-9 * scale)
    size = np.abs(y).max() / (np.abs(X).max() or 1.0)
    for level in (1e-4, 1e-2, 1.0):
        extra = [draw.rng.standard_normal(s) for s in ((2, X.shape[1]), (1, 2), (1, 1))]
        extra[0] *= level * size
        moved = [
            [part + level * np.abs(part).max() * draw.rng.standard_normal(part.shape)
             for part in weights]
            for weights in networks
        ]  # fmt: skip
        other = objective(X, y, beta, [*moved, extra])
        excess = max(excess, (result.dual - other) / (1e-9 * scale))
    if len(y) <= 2 and X.any() and y.any() and draw.rng.random() < 0.5:
        value, room = reference(X, y, beta, "group")
        excess = max(excess, abs(value - result.value) / room)
    return float(excess)


@attack("path-special")
def special(draw: Draw) -> float:
    """Chains are two layers, width only helps, all-plus is a smaller beta, decay is a bracket."""
    X, y, beta = instance(draw, most=4)
    if not X.any():
        return 0.0
    scale = 0.5 * y @ y + 1e-300
    two = solved(cl.TwoLayer(X, y, beta=beta))
    path = solved(problem := cl.PathRegularized(X, y, beta=beta))
    chain = solved(cl.PathRegularized(X, y, beta=beta, width=1, depth=draw.size(2, 5)))
    plus = problem.units.select((problem.units.inner[0] == 1).all(axis=(1, 2)))
    all_plus = solved(problem.with_units(plus))
    smaller = solved(cl.TwoLayer(X, y, beta=beta / np.sqrt(2)))
    decay = solved(cl.ThreeLayer(X, y, beta=beta, units=problem.units))
    weaker = solved(cl.ThreeLayer(X, y, beta=beta / np.sqrt(2), units=problem.units))
    excess = max(
        chain.dual - two.value, two.dual - chain.value,
        all_plus.dual - smaller.value, smaller.dual - all_plus.value,
        path.dual - chain.value, path.dual - decay.value, weaker.dual - path.value,
    )  # fmt: skip
    if len(y) <= 3 and X.shape[1] == 1:
        wider = solved(cl.PathRegularized(X, y, beta=beta, width=3))
        excess = max(excess, wider.dual - path.value)
    return float(excess / (1e-9 * scale))


@attack("path-sharing")
def sharing(draw: Draw) -> float:
    """Fully connected 1-m-1 sub-networks cost two layers at beta / sqrt m; trees three layers."""
    X, y, beta = instance(draw, most=4)
    if not X.any():
        return 0.0
    scale = 0.5 * y @ y + 1e-300
    m, d = draw.size(1, 3), X.shape[1]
    two = solved(cl.TwoLayer(X, y, beta=beta / np.sqrt(m)))
    # No fully connected network is below, and the neurons of two layers attain it.
    size = np.abs(y).max() / (np.abs(X).max() or 1.0)
    shapes = (1, d), (m, 1), (1, m), (1, 1)
    networks = [[draw.weights(*shape) for shape in shapes] for _ in range(draw.size(1, 3))]
    for weights in networks:
        weights[0] *= size
    excess = (two.dual - objective(X, y, beta, networks)) / (1e-9 * scale)
    neurons = cl.TwoLayer(X, y, beta=beta / np.sqrt(m)).to_network(two)
    attained = [
        [u[None], np.ones((m, 1)), np.ones((1, m)) / m, a.reshape(1, 1)]
        for u, a in zip(neurons.U.detach().numpy(), neurons.alpha.detach().numpy(), strict=True)
    ]
    excess = max(excess, abs(objective(X, y, beta, attained) - two.value) / (1e-9 * scale))
    for level in (1e-4, 1e-2, 0.3):
        near = [
            [part + level * np.abs(part).max() * draw.rng.standard_normal(part.shape)
             for part in weights]
            for weights in attained
        ]  # fmt: skip
        excess = max(excess, (two.dual - objective(X, y, beta, near)) / (1e-9 * scale))
    if m == 2:
        tree = solved(cl.PathRegularized(X, y, beta=beta, width=(1, 2), depth=4))
        three = solved(cl.PathRegularized(X, y, beta=beta))
        gap = max(tree.dual - three.value, three.dual - tree.value)
        excess = max(excess, gap / (1e-9 * scale), (tree.dual - two.value) / (1e-9 * scale))
    return float(excess)


@attack("path-standard")
def standard(draw: Draw) -> float:
    """The paths of a standard network add up by its last hidden neurons; residuals are layers."""
    n, d, m, K = (draw.size(1, most) for most in (4, 2, 3, 4))
    X = draw.matrix(n, d) * draw.scale(3)
    first, second, last = draw.weights(m, d), draw.weights(K, m), draw.weights(1, K)
    whole = by_paths([first, second, last])
    alone = np.array([by_paths([first, second[k : k + 1], last[:, k : k + 1]]) for k in range(K)])
    total = alone.sum()
    split = sum(forward(X, [first, second[k : k + 1], last[:, k : k + 1]]) for k in range(K))
    output = forward(X, [first, second, last])
    tolerance = 1e-11 * total + 1e-290
    excess = (
        max(abs(np.linalg.norm(alone) - whole), whole - total, total - np.sqrt(K) * whole)
        / tolerance
    )
    room = 1e-12 * np.linalg.norm(X) * total + 1e-290
    excess = max(excess, np.abs(split - output).max() / room)
    # 3: a residual layer, as it is computed and as one wide layer, and the paths of both.
    V = draw.weights(m, m)
    h = relu(X @ first.T)
    w = draw.weights(1, m)
    residual = ((h + relu(h @ V.T)) @ w.T)[:, 0]
    wide = [first, np.vstack([np.eye(m), V]), np.hstack([w, w])]
    direct, through = by_paths([first, w]), by_paths([first, V, w])
    size = by_paths(wide)
    room = 1e-12 * np.linalg.norm(X) * 3 * (direct + through + size) + 1e-290
    excess = max(excess, np.abs(forward(X, wide) - residual).max() / room)
    excess = max(excess, abs(size - np.hypot(direct, through)) / (1e-11 * size + 1e-290))
    return float(excess)


def truncated(X: Floats, rank: int) -> tuple[Floats, float]:
    """X with its largest singular values only, and the first one that is left out."""
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    kept = left[:, :rank] * sizes[:rank] @ right[:rank]
    return kept, float(sizes[rank]) if rank < len(sizes) else 0.0


def lipschitz_objective(
    X: Floats, y: Floats, beta: float, networks: list[list[Floats]], loss: str
) -> float:
    """Absolute or hinge loss and path norms."""
    fitted = sum((forward(X, weights) for weights in networks), np.zeros(len(y)))
    losses = np.abs(fitted - y) if loss == "absolute" else relu(1.0 - y * fitted)
    return float(losses.sum() + beta * sum(by_paths(weights) for weights in networks))


def truncated_training(X: Floats, y: Floats, beta: float, rank: int, loss: str) -> cl.LowRankPath:
    """A network trained on truncated data; the gap says how well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cl.low_rank_path(X, y, beta=beta, rank=rank, loss=loss, tol=1e-7)


@attack("path-low-rank")
def low_rank(draw: Draw) -> float:
    """Truncation costs at most a factor 1 + eps, and its optimum is attained on X."""
    n, d = draw.size(1, 4), draw.size(1, 3)
    X = draw.matrix(n, d)
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    X = left * (sizes * 10.0 ** draw.rng.uniform(-3, 0, len(sizes))) @ right
    loss = draw.choice("absolute", "hinge")
    y = draw.targets(n) if loss == "absolute" else draw.labels(n)
    beta = float(10.0 ** draw.rng.uniform(-2, 1))
    # Steps of the proof, for networks of all widths; leaves in the row space of the rest.
    rank = draw.size(0, min(n, d))
    kept, sigma = truncated(X, rank)
    widths = draw.choice((2, 1), (3, 1), (2, 2, 1), (1, 3, 1))
    shapes = [(b, a) for a, b in zip((d, *widths), (*widths, 1), strict=True)]
    networks = [[draw.weights(*shape) for shape in shapes] for _ in range(draw.size(1, 3))]
    eps = np.sqrt(prod(widths) * n) * sigma / beta
    at_X, at_kept = (lipschitz_objective(Z, y, beta, networks, loss) for Z in (X, kept))
    excess = at_kept - (1 + eps) * at_X
    excess /= 1e-11 * (1 + eps) * (at_X + at_kept) + 1e-290
    rows = np.linalg.svd(X, full_matrices=False)[2][:rank]
    inside = [[weights[0] @ rows.T @ rows, *weights[1:]] for weights in networks]
    on_X = lipschitz_objective(X, y, beta, inside, loss)
    excess = max(excess, (on_X - at_kept) / (1e-11 * (on_X + at_kept) + 1e-290))
    if n <= 3 and X.any() and draw.rng.random() < 0.5:
        rank = draw.size(1, min(n, d))
        found = truncated_training(X, y, beta, rank, loss)
        best = solved(cl.PathRegularized(X, y, beta=beta, loss=loss))
        value = lipschitz_objective(X, y, beta, parts_of_network(found.network), loss)
        sigma = truncated(X, rank)[1]
        eps = np.sqrt(2 * n) * sigma / beta
        gaps = (
            abs(value - found.result.value),  # the network is worth the same on X
            best.dual - value,
            found.result.dual - (1 + eps) * best.value,
            found.lower - best.value,
        )
        excess = max(excess, max(gaps) / (1e-8 * (1 + eps) * (value + 1e-300)))
    return float(excess)


@attack("path-positive")
def positive(draw: Draw) -> float:
    """Root m times a two-layer maximum bounds trees of every shape."""
    n, d = draw.size(1, 6), draw.size(1, 2)
    X = draw.matrix(n, d) * draw.scale()
    z = draw.rng.standard_normal(n) * (draw.rng.random(n) < 0.8)
    widths = draw.choice((2,), (3,), (2, 2), (1, 2), (3, 2), (2, 2, 2))
    m = nodes = prod(widths)
    U = draw.rng.standard_normal((500, m, d))
    U[draw.rng.random((500, m)) < 0.2] = 0.0
    values = relu(np.einsum("td,kjd->kjt", X, U))
    for children in widths:
        nodes //= children
        signs = draw.rng.choice([-1.0, 1.0], (500, nodes, children))
        signs[:100] = 1.0
        values = relu(np.einsum("kpc,kpct->kpt", signs, values.reshape(500, nodes, children, n)))
    bound = np.sqrt(m) * max(planar_maximum(X, relu(z)), planar_maximum(X, relu(-z)))
    sizes = np.linalg.norm(U, axis=(1, 2))
    scale = np.linalg.norm(z) * np.linalg.norm(X) + 1e-300
    heights = np.abs(values[:, 0] @ z)
    return float(((heights - bound * sizes) / (1e-12 * m * scale * sizes + 1e-290)).max())


def subtraction(draw: Draw, most: int = 6) -> tuple[Floats, Floats]:
    """Samples around a circle, and a target that needs a subtraction in the second layer."""
    n = draw.size(4, most)
    angles = 2 * np.pi * (np.arange(n) + draw.rng.uniform(-0.3, 0.3, n)) / n
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return X, relu(relu(X @ [2.0, 0.0]) - relu(X @ [1.5, 2.0]))


@refute("path-sharing", "the program is exact for fully connected sub-networks of every depth")
def exact_at_every_depth(draw: Draw) -> float:
    """Trees of widths 1, 2, 1 have copies of the first neuron, fully connected ones share it."""
    X, y = subtraction(draw)
    connected = solved(cl.TwoLayer(X, y, beta=0.02 / np.sqrt(2)), 1e-6)
    trees = solved(cl.PathRegularized(X, y, beta=0.02, width=(1, 2), depth=4), 1e-6)
    return (connected.dual - trees.value) / (1e-4 * (y @ y) + 1e-300)


@refute("path-special", "what the path norm separates and weight decay does not, is its merit")
def merit(draw: Draw) -> float:
    """At beta / sqrt 2 weight decay separates it as well: a matter of scale."""
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    X = np.column_stack([corners + 0.1 * draw.rng.standard_normal((4, 2)), np.ones(4)])
    y, beta = np.array([1.0, -1.0, -1.0, 1.0]), float(draw.rng.uniform(1.3, 1.7))
    units = cl.enumerate_units(X)

    def separates(kind: type[cl.ThreeLayer | cl.PathRegularized], level: float) -> bool:
        """Whether the optimal outputs have the right signs, the gap of the solve included."""
        problem = kind(X, y, beta=level, units=units)
        result = solved(problem, 1e-6)
        room = np.sqrt(2.0 * max(result.value - result.dual, 0.0))
        return bool((problem.fitted(result.weights).numpy() * y > room).all())

    if separates(cl.ThreeLayer, beta) or not separates(cl.PathRegularized, beta):
        return 0.0
    return 2.0 if separates(cl.ThreeLayer, beta / np.sqrt(2.0)) else 0.0


@refute("path-low-rank", "a network is worth as much on the data as on the truncated data")
def same_value(draw: Draw) -> float:
    """Only with leaves in the row space of the truncated data, where the optimal ones are."""
    n, d = draw.size(1, 4), draw.size(2, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    kept, _ = truncated(X, draw.size(0, min(n, d) - 1))
    networks = [[draw.weights(2, d), draw.weights(1, 2), draw.weights(1, 1)]]
    on_X, on_kept = (lipschitz_objective(Z, y, 0.1, networks, "absolute") for Z in (X, kept))
    return (on_X - on_kept) / (1e-6 * on_kept + 1e-290)


@refute("path-low-rank", "for the squared loss too truncation costs a factor 1 + eps, R = root n")
def squared_loss(draw: Draw) -> float:
    """It has no Lipschitz constant: far from the targets it grows faster."""
    # One sample, all cut off: the zero network against u = (y - beta / x) / x.
    x, beta = float(draw.rng.uniform(0.5, 2)), float(draw.rng.uniform(0.01, 1))
    y = float(draw.rng.uniform(1, 100))
    u = max((y - beta / x) / x, 0.0)
    best = 0.5 * (x * u - y) ** 2 + beta * u
    return (0.5 * y**2 / best - 1.0) / (x / beta)


@refute("path-standard", "the root over all paths of a standard network is what the program prices")
def one_root(draw: Draw) -> float:
    """The program adds the norms of the last hidden neurons."""
    shapes = (2, 2), (draw.size(1, 3), 2), (1, 0)
    first, second = (draw.weights(*shape) for shape in shapes[:2])
    last = draw.weights(1, len(second))
    network = torch.nn.Sequential()
    for weight in (first, second, last):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
        layer.weight.data = torch.from_numpy(weight)
        network.extend([layer, torch.nn.ReLU()])
    priced = float(cl.as_parallel(network[:-1]).path_norms().detach().sum())
    return (priced - by_paths([first, second, last])) / (1e-9 * priced + 1e-290)
