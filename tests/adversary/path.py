"""Attacks on the chapter on path regularisation."""

import warnings
from itertools import product
from math import prod

import numpy as np
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from tests.adversary.cells import relu
from tests.adversary.programs import solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute
from tests.adversary.three_layer import circle, compare, instance, planar_maximum


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


def objective(
    X: Floats, y: Floats, beta: float, networks: list[list[Floats]], loss: str = "squared"
) -> float:
    """Loss and path norms of a sum of sub-networks with one output each."""
    fitted = sum((forward(X, weights) for weights in networks), np.zeros(len(y)))
    losses = {
        "squared": 0.5 * (fitted - y) ** 2,
        "absolute": np.abs(fitted - y),
        "hinge": relu(1.0 - y * fitted),
    }
    return float(losses[loss].sum() + beta * sum(by_paths(weights) for weights in networks))


def parts_of(network: cl.ParallelReLU) -> list[list[Floats]]:
    """The sub-networks of a network of three layers, as weights of layers."""
    U, sides = weights_of(network)
    inner = network.inner[0].detach().numpy()
    return [[u, s, side.reshape(1, 1)] for u, s, side in zip(U, inner, sides, strict=True)]


@attack("path-theorem")
def theorem(draw: Draw) -> None:
    """The program's value is a network's, no network is below, and n sub-networks are enough."""
    X, y, beta = instance(draw)
    problem = cl.PathRegularized(X, y, beta=beta)
    result = solved(problem)
    networks = parts_of(problem.to_network(result))
    draw.true(len(networks) <= len(y))
    draw.same(objective(X, y, beta, networks), result.value, 1e-9 * result.value)
    size = np.abs(y).max() / (np.abs(X).max() or 1.0)
    for level in (1e-4, 1e-2, 1.0):
        extra = [draw.normal(*s) for s in ((2, X.shape[1]), (1, 2), (1, 1))]
        extra[0] *= level * size
        moved = [draw.near(weights, level, relative=True) for weights in networks]
        draw.below(result.dual, objective(X, y, beta, [*moved, extra]), 1e-9 * result.value)
    compare(draw, X, y, beta, "group", result.value)


@attack("path-special")
def special(draw: Draw) -> None:
    """Chains are two layers, width only helps, all-plus is a smaller beta, decay is a bracket."""
    X, y, beta = instance(draw, most=4)
    draw.assume(X.any())
    slack = 1e-9 * 0.5 * y @ y
    problem = cl.PathRegularized(X, y, beta=beta)
    two, path = solved(cl.TwoLayer(X, y, beta=beta)), solved(problem)
    chain = solved(cl.PathRegularized(X, y, beta=beta, width=1, depth=draw.size(2, 5)))
    plus = problem.units.select((problem.units.inner[0] == 1).all(axis=(1, 2)))
    all_plus = solved(problem.with_units(plus))
    smaller = solved(cl.TwoLayer(X, y, beta=beta / np.sqrt(2)))
    decay, weaker = (
        solved(cl.ThreeLayer(X, y, beta=level, units=problem.units))
        for level in (beta, beta / np.sqrt(2))
    )
    for one, other in ((chain, two), (two, chain), (all_plus, smaller), (smaller, all_plus),
                       (path, chain), (path, decay), (weaker, path)):  # fmt: skip
        draw.below(one.dual, other.value, slack)
    if len(y) <= 3 and X.shape[1] == 1:
        wider = solved(cl.PathRegularized(X, y, beta=beta, width=3))
        draw.below(wider.dual, path.value, slack)


@attack("path-sharing")
def sharing(draw: Draw) -> None:
    """Fully connected 1-m-1 sub-networks cost two layers at beta / sqrt m; trees three layers."""
    X, y, beta = instance(draw, most=4)
    draw.assume(X.any())
    slack = 1e-9 * 0.5 * y @ y
    m, d = draw.size(1, 3), X.shape[1]
    problem = cl.TwoLayer(X, y, beta=beta / np.sqrt(m))
    two = solved(problem)
    # No fully connected network is below, and the neurons of two layers attain it.
    size = np.abs(y).max() / (np.abs(X).max() or 1.0)
    shapes = (1, d), (m, 1), (1, m), (1, 1)
    networks = [[draw.weights(*shape) for shape in shapes] for _ in range(draw.size(1, 3))]
    for weights in networks:
        weights[0] *= size
    draw.below(two.dual, objective(X, y, beta, networks), slack)
    attained = [
        [u[None], np.ones((m, 1)), np.ones((1, m)) / m, a.reshape(1, 1)]
        for u, a in zip(*weights_of(problem.to_network(two)), strict=True)
    ]
    draw.same(objective(X, y, beta, attained), two.value, slack)
    for level in (1e-4, 1e-2, 0.3):
        near = [draw.near(weights, level, relative=True) for weights in attained]
        draw.below(two.dual, objective(X, y, beta, near), slack)
    if m == 2:
        tree = solved(cl.PathRegularized(X, y, beta=beta, width=(1, 2), depth=4))
        three = solved(cl.PathRegularized(X, y, beta=beta))
        draw.below(tree.dual, min(three.value, two.value), slack)
        draw.below(three.dual, tree.value, slack)


@attack("path-standard")
def standard(draw: Draw) -> None:
    """The paths of a standard network add up by its last hidden neurons; residuals are layers."""
    n, d, m, K = (draw.size(1, most) for most in (4, 2, 3, 4))
    X = draw.matrix(n, d) * draw.scale(3)
    first, second, last = draw.weights(m, d), draw.weights(K, m), draw.weights(1, K)
    whole = by_paths([first, second, last])
    heads = [[first, second[k : k + 1], last[:, k : k + 1]] for k in range(K)]
    alone = np.array([by_paths(head) for head in heads])
    total = alone.sum()
    draw.same(np.linalg.norm(alone), whole, 1e-11 * total)
    draw.below([whole, total], [total, np.sqrt(K) * whole], 1e-11 * total)
    split = sum(forward(X, head) for head in heads)
    draw.same(split, forward(X, [first, second, last]), 1e-12 * np.linalg.norm(X) * total)
    # 3: a residual layer, as it is computed and as one wide layer, and the paths of both.
    V = draw.weights(m, m)
    h = relu(X @ first.T)
    w = draw.weights(1, m)
    residual = ((h + relu(h @ V.T)) @ w.T)[:, 0]
    wide = [first, np.vstack([np.eye(m), V]), np.hstack([w, w])]
    direct, through = by_paths([first, w]), by_paths([first, V, w])
    size = by_paths(wide)
    room = 3e-12 * np.linalg.norm(X) * (direct + through + size)
    draw.same(forward(X, wide), residual, room)
    draw.same(size, np.hypot(direct, through), 1e-11 * size)


def truncated(X: Floats, rank: int) -> tuple[Floats, float]:
    """X with its largest singular values only, and the first one that is left out."""
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    kept = left[:, :rank] * sizes[:rank] @ right[:rank]
    return kept, float(sizes[rank]) if rank < len(sizes) else 0.0


@attack("path-low-rank")
def low_rank(draw: Draw) -> None:
    """Truncation costs at most a factor 1 + eps, and its optimum is attained on X."""
    X = draw.samples(4)
    n, d = X.shape
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    X = left * (sizes * 10.0 ** draw.rng.uniform(-3, 0, len(sizes))) @ right
    loss = draw.choice("absolute", "hinge")
    y = draw.targets(n) if loss == "absolute" else draw.labels(n)
    beta = draw.power(-2, 1)
    # Steps of the proof, for networks of all widths; leaves in the row space of the rest.
    rank = draw.size(0, min(n, d))
    kept, sigma = truncated(X, rank)
    widths = draw.choice((2, 1), (3, 1), (2, 2, 1), (1, 3, 1))
    shapes = [(b, a) for a, b in zip((d, *widths), (*widths, 1), strict=True)]
    networks = [[draw.weights(*shape) for shape in shapes] for _ in range(draw.size(1, 3))]
    eps = np.sqrt(prod(widths) * n) * sigma / beta
    at_X, at_kept = (objective(Z, y, beta, networks, loss) for Z in (X, kept))
    draw.below(at_kept, (1 + eps) * at_X, 1e-11 * (1 + eps) * (at_X + at_kept))
    rows = np.linalg.svd(X, full_matrices=False)[2][:rank]
    inside = [[weights[0] @ rows.T @ rows, *weights[1:]] for weights in networks]
    on_X = objective(X, y, beta, inside, loss)
    draw.below(on_X, at_kept, 1e-11 * (on_X + at_kept))
    if n > 3 or not X.any() or draw.rng.random() >= 0.5:
        return
    rank = draw.size(1, min(n, d))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the gap says how well it is trained
        found = cl.low_rank_path(X, y, beta=beta, rank=rank, loss=loss, tol=1e-7)
    best = solved(cl.PathRegularized(X, y, beta=beta, loss=loss))
    value = objective(X, y, beta, parts_of(found.network), loss)
    eps = np.sqrt(2 * n) * truncated(X, rank)[1] / beta
    slack = 1e-8 * (1 + eps) * value
    draw.same(value, found.result.value, slack)  # the network is worth the same on X
    draw.below([best.dual, found.lower], [value, best.value], slack)
    draw.below(found.result.dual, (1 + eps) * best.value, slack)


@attack("path-positive")
def positive(draw: Draw) -> None:
    """Root m times a two-layer maximum bounds trees of every shape."""
    X = draw.samples(6, 2) * draw.scale()
    n, d = X.shape
    z = draw.normal(n) * (draw.rng.random(n) < 0.8)
    widths = draw.choice((2,), (3,), (2, 2), (1, 2), (3, 2), (2, 2, 2))
    m = nodes = prod(widths)
    U = draw.normal(500, m, d)
    U[draw.rng.random((500, m)) < 0.2] = 0.0
    values = relu(np.einsum("td,kjd->kjt", X, U))
    for children in widths:
        nodes //= children
        signs = draw.signs(500, nodes, children)
        signs[:100] = 1.0
        values = relu(np.einsum("kpc,kpct->kpt", signs, values.reshape(500, nodes, children, n)))
    bound = np.sqrt(m) * max(planar_maximum(X, relu(z)), planar_maximum(X, relu(-z)))
    sizes = np.linalg.norm(U, axis=(1, 2))
    slack = 1e-12 * m * np.linalg.norm(z) * np.linalg.norm(X) * sizes
    draw.below(np.abs(values[:, 0] @ z), bound * sizes, slack)


@refute("path-sharing", "the program is exact for fully connected sub-networks of every depth")
def exact_at_every_depth(draw: Draw) -> None:
    """Trees of widths 1, 2, 1 have copies of the first neuron, fully connected ones share it."""
    X, y = circle(draw)
    connected = solved(cl.TwoLayer(X, y, beta=0.02 / np.sqrt(2)), 1e-6)
    trees = solved(cl.PathRegularized(X, y, beta=0.02, width=(1, 2), depth=4), 1e-6)
    draw.below(connected.dual, trees.value, 1e-4 * (y @ y))


@refute("path-special", "what the path norm separates and weight decay does not, is its merit")
def merit(draw: Draw) -> None:
    """At beta / sqrt 2 weight decay separates it as well: a matter of scale."""
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    X = np.column_stack([corners + 0.1 * draw.normal(4, 2), np.ones(4)])
    y, beta = np.array([1.0, -1.0, -1.0, 1.0]), float(draw.rng.uniform(1.3, 1.7))
    units = cl.enumerate_units(X)

    def separates(kind: type[cl.ThreeLayer | cl.PathRegularized], level: float) -> bool:
        """Whether the optimal outputs have the right signs, the gap of the solve included."""
        problem = kind(X, y, beta=level, units=units)
        result = solved(problem, 1e-6)
        room = np.sqrt(2.0 * max(result.value - result.dual, 0.0))
        return bool((problem.fitted(result.weights).numpy() * y > room).all())

    draw.assume(not separates(cl.ThreeLayer, beta) and separates(cl.PathRegularized, beta))
    draw.true(not separates(cl.ThreeLayer, beta / np.sqrt(2.0)))


@refute("path-low-rank", "a network is worth as much on the data as on the truncated data")
def same_value(draw: Draw) -> None:
    """Only with leaves in the row space of the truncated data, where the optimal ones are."""
    n, d = draw.size(1, 4), draw.size(2, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    kept, _ = truncated(X, draw.size(0, min(n, d) - 1))
    networks = [[draw.weights(2, d), draw.weights(1, 2), draw.weights(1, 1)]]
    on_X, on_kept = (objective(Z, y, 0.1, networks, "absolute") for Z in (X, kept))
    draw.below(on_X, on_kept, 1e-6 * on_kept)


@refute("path-low-rank", "for the squared loss too truncation costs a factor 1 + eps, R = root n")
def squared_loss(draw: Draw) -> None:
    """It has no Lipschitz constant: far from the targets it grows faster."""
    # One sample, all cut off: the zero network against u = (y - beta / x) / x.
    x, beta = float(draw.rng.uniform(0.5, 2)), float(draw.rng.uniform(0.01, 1))
    y = float(draw.rng.uniform(1, 100))
    u = max((y - beta / x) / x, 0.0)
    best = 0.5 * (x * u - y) ** 2 + beta * u
    draw.below(0.5 * y**2, (1 + x / beta) * best, 1e-9 * best)


@refute("path-standard", "the root over all paths of a standard network is what the program prices")
def one_root(draw: Draw) -> None:
    """The program adds the norms of the last hidden neurons."""
    k = draw.size(1, 3)
    weights = [draw.weights(*shape) for shape in ((2, 2), (k, 2), (1, k))]
    network = torch.nn.Sequential()
    for weight in weights:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
        layer.weight.data = torch.from_numpy(weight)
        network.extend([layer, torch.nn.ReLU()])
    priced = float(cl.as_parallel(network[:-1]).path_norms().detach().sum())
    draw.same(priced, by_paths(weights), 1e-9 * priced)
