"""Attacks on the chapter on generative models and attention."""

import numpy as np

import convexlib as cl
from tests.adversary.cells import relu, rows_of
from tests.adversary.programs import at_part, solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute


@attack("generative-denoising")
def denoising(draw: Draw) -> None:
    """The two risks differ by the same constant for any two functions: exact sums on a grid."""
    atoms = draw.normal(draw.size(1, 4)) * draw.scale(3)
    if draw.rng.random() < 0.3:
        atoms[:] = atoms[0]
    shares = draw.rng.dirichlet(np.ones(len(atoms)))
    sigma = draw.power(-1, 1) * max(float(np.ptp(atoms)), 1.0)
    grid = np.linspace(atoms.min() - 12 * sigma, atoms.max() + 12 * sigma, 4001)
    step = grid[1] - grid[0]
    noise = (grid - atoms[:, None]) / sigma  # (k, grid): the epsilon that leads from an atom there
    joint = shares[:, None] * np.exp(-0.5 * noise**2) / (sigma * np.sqrt(2 * np.pi))

    def log_density(x: Floats) -> Floats:
        return np.log((shares[:, None] * np.exp(-0.5 * ((x - atoms[:, None]) / sigma) ** 2)).sum(0))

    seen = joint.sum(axis=0) > 1e-250  # where the density is a number
    score = np.zeros_like(grid)
    score[seen] = log_density(grid[seen] + 1e-20j * sigma).imag / (1e-20 * sigma)  # no difference
    risks = []
    for _ in range(2):
        a, b, c = draw.normal(3) * 10.0 ** draw.rng.uniform(-1, 1)
        s = (a * np.sin(grid / sigma + b) + c * grid / sigma) / sigma
        noisy = (joint * (s + noise / sigma) ** 2).sum() * step
        exact = (joint.sum(axis=0) * (s - score) ** 2).sum() * step
        risks.append((noisy, exact))
    (one, first), (two, second) = risks
    draw.same(one - first, two - second, 1e-10 * (one + two))


@attack("generative-score")
def score(draw: Draw) -> None:
    """2n patterns of distinct samples; no score network is below the two-layer program."""
    n = draw.size(1, 7)
    x = draw.normal(n)
    if draw.rng.random() < 0.3:
        x = np.unique(draw.rng.integers(-4, 5, n)).astype(float)
    n = len(x)
    sigma, noise = draw.power(-2, 2), draw.normal(n)
    noisy, target = x + sigma * noise, -noise / sigma
    X = np.stack([noisy, np.ones(n)], axis=1)
    beta = draw.power(-3, 0) * np.abs(target) @ np.linalg.norm(X, axis=1)
    problem = cl.TwoLayer(X, target, beta=beta)
    # The samples to the right of a cut, and those to the left of one.
    right = noisy >= np.append(np.sort(noisy), np.inf)[:, None]
    draw.true(rows_of(problem.arrangements.masks) == rows_of(np.vstack([right, ~right])))
    draw.true(problem.n_patterns == 2 * n)
    result = solved(problem)

    def risk(u: Floats, b: Floats, alpha: Floats) -> float:
        s = np.maximum(noisy[:, None] * u + b, 0) @ alpha
        decay = 0.5 * beta * float((u**2).sum() + (b**2).sum() + (alpha**2).sum())
        return 0.5 * float(((s + noise / sigma) ** 2).sum()) + decay

    U, alpha = weights_of(problem.to_network(result))
    size = 1e-9 * float(target @ target)
    draw.same(risk(*U.T, alpha), result.value, size)
    grown = np.concatenate([np.vstack([*U.T, alpha]), np.zeros((3, 2))], axis=1)
    for _ in range(10):
        (moved,) = draw.near([grown], draw.power(-4, 1))
        draw.below(result.dual, risk(*moved), size)


@refute("generative-score", "n noisy samples in one dimension have 2n patterns")
def tied_samples(draw: Draw) -> None:
    """Equal samples are one."""
    x = draw.rng.integers(-2, 3, draw.size(2, 6)).astype(float)
    draw.true(len(cl.enumerate_arrangements(np.stack([x, np.ones(len(x))], axis=1))) == 2 * len(x))


def _points(draw: Draw) -> Floats:
    """Samples on the line, often with some of them several times."""
    n = draw.size(1, 6)
    x = draw.normal(n) * draw.scale(2)
    return x[draw.rng.integers(0, max(n // 2, 1), n)] if draw.rng.random() < 0.4 else x


@attack("generative-unbounded")
def unbounded(draw: Draw) -> None:
    """Below the bound feasible blocks, and networks near them, fall in proportion to t."""
    x = _points(draw)
    k = int(draw.rng.integers(len(x)))
    times = int((x == x[k]).sum())
    beta = float(draw.rng.uniform(0, 0.99)) * times / (2 * np.hypot(1, x[k]))
    rows = np.stack([x, np.ones(len(x))], axis=1)
    known = rows_of(cl.enumerate_arrangements(rows).masks)
    masks = np.stack([x > x[k], x >= x[k]])  # both are cells, and u lies in them
    draw.true(rows_of(masks) <= known)
    after, from_k = masks.astype(float)
    for t in 10.0 ** draw.rng.uniform(0, 5, 3):
        u = t * np.array([1.0, -x[k]])
        draw.below(-(2.0 * masks - 1) * (rows @ u), 0.0, 1e-14 * t * (1 + np.abs(x).max()))
        outputs = (after - from_k) * (rows @ u)
        value = 0.5 * (outputs**2).sum() + (after.sum() - from_k.sum()) * t
        value += 2 * beta * np.linalg.norm(u)
        promised = -t * (times - 2 * beta * np.hypot(1, x[k]))
        draw.below(value, promised, 1e-10 * t * times)
        # Networks: hinges a little to the right and left, so that one misses x_k, rounding or not.
        gaps = np.diff(np.unique(x))
        tilt = 1e-6 / t * min(1.0, float(gaps.min(initial=1.0)))
        neurons = (u - np.array([0.0, t * tilt]), u + np.array([0.0, t * tilt]))
        hidden = [np.maximum(rows @ v, 0) for v in neurons]
        slopes = [(rows @ v >= 0).sum() * v[0] for v in neurons]
        value = 0.5 * ((hidden[0] - hidden[1]) ** 2).sum() + slopes[0] - slopes[1]
        value += beta * sum(np.linalg.norm(v) for v in neurons)
        draw.below(value, promised, 1e-4 * t * times)


@attack("generative-unbounded")
def unbounded_at_an_end(draw: Draw) -> None:
    """One neuron with its hinge at the first or the last sample falls in proportion to t."""
    x = _points(draw)
    side = float(draw.rng.choice([-1.0, 1.0]))  # the slope: towards which end it is active
    end = side * (side * x).max()
    times = int((x == end).sum())
    beta = float(draw.rng.uniform(0, 0.99)) * times / np.hypot(1, end)
    rows = np.stack([x, np.ones(len(x))], axis=1)
    mask = side * (x - end) >= 0
    draw.true(rows_of(mask[None]) <= rows_of(cl.enumerate_arrangements(rows).masks))
    gap = float(np.diff(np.unique(x)).min(initial=1.0))
    for t in 10.0 ** draw.rng.uniform(0, 5, 3):
        promised = -t * (times - beta * np.hypot(1, end))
        tilt = 1e-6 / t * min(1.0, gap)  # so that the end counts as active, rounding or not
        u = t * np.array([side, tilt - side * end])
        hidden, counted = np.maximum(rows @ u, 0), (rows @ u >= 0).sum()
        value = 0.5 * (hidden**2).sum() - counted * t + beta * np.linalg.norm(u)
        draw.below(value, promised, 1e-4 * t * times)


@refute("generative-unbounded", "score matching with weight decay has a minimum")
def has_a_minimum(draw: Draw) -> None:
    """Two neurons that cancel everywhere but at one sample, ten times as large, gain ten times."""
    x = draw.normal(draw.size(1, 6))
    beta = float(draw.rng.uniform(0.01, 1))
    k, values = int(np.abs(x).argmin()), []
    for t in (10.0, 100.0, 1000.0):
        tilt = 1e-6 / t
        b = t * np.array([-x[k] - tilt, -x[k] + tilt])  # of neurons of slope t, signs + and -
        inner = t * x[:, None] + b
        output = np.maximum(inner, 0) @ [1.0, -1.0]
        slope = t * ((inner >= 0) @ [1.0, -1.0]).sum()
        values.append(0.5 * (output**2).sum() + slope + beta * np.hypot(t, b).sum())
    falls = np.diff(values)  # without bound, if the second is ten times the first
    draw.true(falls[0] >= 0 or falls[1] >= 9 * falls[0])


def critics(draw: Draw) -> tuple[Floats, Floats, Floats]:
    """Data, generated samples, and the weights 1/n and -1/m of the mean difference."""
    d = draw.size(1, 3)
    real = draw.matrix(draw.size(1, 6), d)
    fake = draw.choice(real, draw.matrix(draw.size(1, 6), d), np.zeros((2, d)))
    size = draw.scale(4)
    z = np.concatenate([np.full(len(real), 1 / len(real)), np.full(len(fake), -1 / len(fake))])
    return size * real, size * fake, z


@attack("generative-critic")
def critic(draw: Draw) -> None:
    """No critic within the budget is above the spectral norm or the dual norm; one attains it."""
    real, fake, z = critics(draw)
    both = np.vstack([real, fake])
    moments = real.T @ real / len(real) - fake.T @ fake / len(fake)
    values, vectors = np.linalg.eigh(moments)
    spectral = float(np.abs(values).max())
    dual = cl.TwoLayer(both, z, beta=1.0).beta_max()
    square = (both**2).sum(axis=1).max()
    top = vectors[:, np.abs(values).argmax()]
    draw.same(abs(z @ (both @ top) ** 2), spectral, 1e-12 * square)
    # The kinks of z.(Xu)_+ in the plane are where a sample is orthogonal to u: likely best places.
    for _ in range(20):
        m = draw.size(1, 4)
        u = draw.normal(m, both.shape[1]) + draw.choice(0.0, 3.0) * top
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        alpha = draw.normal(m)
        alpha /= max(np.abs(alpha).sum(), 1e-300) * draw.rng.uniform(1, 1.5)
        draw.below(abs(z @ ((both @ u.T) ** 2 @ alpha)), spectral, 1e-12 * square)
        draw.below(abs(z @ (relu(both @ u.T) @ alpha)), dual, 1e-9 * np.sqrt(square))
    # The maximum over a cell is that of a linear function: attained at its own slope.
    for mask in cl.enumerate_arrangements(both).masks.numpy():
        slope = (mask * z) @ both
        u = slope / (np.linalg.norm(slope) or 1.0)
        draw.below(np.abs(z @ relu(both @ np.stack([u, -u]).T)), dual, 1e-9 * np.sqrt(square))


def generator(values: Floats, vectors: Floats, beta: float) -> tuple[Floats, float, int]:
    """The theorem's W, the value of the game, and k."""
    k = int(np.floor(2.0 / beta))
    t = values[k] if k < len(values) else 0.0
    kept = np.maximum(values - t, 0.0)
    return vectors * np.sqrt(kept), float(t + 0.5 * beta * kept.sum()), k


def moments(draw: Draw) -> tuple[Floats, Floats, Floats]:
    """A second-moment matrix, often with ties or zeros in its spectrum, and both its parts."""
    d = draw.size(1, 5)
    values = draw.rng.uniform(0, 2, d)
    kind = draw.choice("generic", "ties", "low rank", "zero")
    if kind == "ties":
        values = draw.rng.integers(0, 3, d).astype(float)
    elif kind == "low rank":
        values[draw.rng.random(d) < 0.5] = 0.0
    elif kind == "zero":
        values[:] = 0.0
    draw.note(f"{kind} spectrum of {d}")
    values = np.sort(values)[::-1] * draw.scale()
    vectors = np.linalg.qr(draw.normal(d, d))[0]
    return (vectors * values) @ vectors.T, values, vectors


@attack("generative-linear")
def linear(draw: Draw) -> None:
    """No W is below the shrunken components, in the game and under a limit on the spectral norm."""
    Sigma, values, vectors = moments(draw)
    beta = float(draw.choice(2 / draw.size(1, 6), draw.rng.uniform(0.1, 4)))
    W, value, _ = generator(values, vectors, beta)
    level = float(
        draw.choice(values[draw.size(0, len(values) - 1)], draw.rng.uniform(0, values[0]))
    )
    shrunken = vectors * np.sqrt(np.maximum(values - level, 0.0))
    size = 1e-12 * (values[0] or 1.0)

    def played(W: Floats) -> tuple[float, float]:
        return float(np.linalg.norm(Sigma - W @ W.T, 2)), float((W**2).sum())

    distance, cost = played(W)
    draw.same(distance + 0.5 * beta * cost, value, size)
    draw.below(played(shrunken)[0], level, size)
    for _ in range(20):
        spread = np.sqrt(values[0] or 1.0) * draw.power(-6, 0.3)
        start = draw.choice(W, shrunken, np.zeros_like(W))
        distance, cost = played(*draw.near([start], spread))
        draw.below(value, distance + 0.5 * beta * cost, size)
        # Whatever its spectral norm is, the shrunken components reach it with no more weight.
        draw.below(np.maximum(values - distance, 0.0).sum(), cost, 10 * size)


@refute("generative-linear", "a weight decay of 2/k keeps exactly k components")
def exactly_k(draw: Draw) -> None:
    """Equal or zero eigenvalues leave fewer."""
    _, values, vectors = moments(draw)
    k = draw.size(1, 5)
    W, _, _ = generator(values, vectors, 2.0 / k)
    kept = int((np.linalg.norm(W, axis=0) > 0).sum())
    draw.true(k > len(values) or kept == k)


def attended(tokens: Floats, Q: Floats, V: Floats, H: Floats) -> Floats:
    """Outputs (n, s, c) of heads, pair of tokens by pair of tokens."""
    out = np.zeros((*tokens.shape[:2], V.shape[2]))
    for q, v, h in zip(Q, V, H, strict=True):
        for x, total in zip(tokens, out, strict=True):
            for a in range(len(x)):
                for b in range(len(x)):
                    if x[a] @ h @ x[b] >= 0:
                        total[a] += (x[a] @ q @ x[b]) * (x[b] @ v)
    return out


def instance(draw: Draw, gates: int = 0) -> cl.Attention:
    """A small problem, its tokens or targets possibly zero, repeated or large."""
    n, s, d, c = draw.size(1, 3), draw.size(1, 3), draw.size(1, 2), draw.size(1, 2)
    tokens = draw.matrix(n * s, d).reshape(n, s, d) * draw.scale(2)
    Y = draw.targets(n * s * c).reshape(n, s, c) * draw.scale(3)
    patterns = cl.sample_arrangements(cl.token_pairs(tokens), gates, seed=0) if gates else None
    return at_part(draw, cl.Attention(tokens, Y, beta=1.0, arrangements=patterns), -2, 0.2)


@attack("generative-attention")
def attention(draw: Draw) -> None:
    """The mapped-back heads have the program's value, no heads are below its dual value."""
    gates = draw.choice(0, 0, 3)
    problem = instance(draw, gates)
    result = solved(problem)
    Q, V, H = weights_of(problem.to_network(result), "Q", "V", "gates")
    tokens, c = problem.X.numpy(), problem.y.shape[1]
    Y = problem.y.numpy().reshape(*tokens.shape[:2], c)
    d = tokens.shape[2]

    def objective(Q: Floats, V: Floats, H: Floats) -> float:
        misfit = attended(tokens, Q, V, H) - Y
        return float(0.5 * (misfit**2).sum() + 0.5 * problem.beta * ((Q**2).sum() + (V**2).sum()))

    size = 1e-9 * float((Y**2).sum())
    draw.same(objective(Q, V, H), result.value, size)
    known = problem.arrangements.gates.numpy().reshape(-1, d, d)
    draw.true(len(Q) <= len(known) * min(d * d, d * c))
    grown = np.concatenate([Q, np.zeros((1, d, d))]), np.concatenate([V, np.zeros((1, d, c))])
    for _ in range(4):
        spread = draw.power(-3, 0) * (np.abs(Q).max(initial=0.0) or 1.0)
        more = known[draw.rng.integers(0, len(known), 1)]
        value = objective(*draw.near(grown, spread), np.concatenate([H, more]))
        draw.below(result.dual, value, size)


@refute("generative-attention", "linear attention with any number of heads is that program")
def one_head(draw: Draw) -> None:
    """One head is a group Lasso for every direction of its V: all of them, on a fine grid."""
    n, s, d = 6, 3, 2
    tokens = draw.normal(n, s, d)
    planted = draw.normal(2, d, d), draw.normal(2, d, 1)
    Y = attended(tokens, *planted, np.zeros((2, d, d)))
    problem = cl.Attention(tokens, Y, beta=1.0)
    problem = problem.with_beta(0.01 * problem.beta_max())
    best = 0.5 * (Y**2).sum()
    for angle in np.linspace(0, np.pi, 200):
        v = np.array([np.cos(angle), np.sin(angle)])
        B = (problem.maps[0].numpy() @ v).reshape(n * s, d * d)  # outputs are B vec(Q)
        values, axes = np.linalg.eigh(B.T @ B)
        y = axes.T @ B.T @ Y.ravel()
        low, high = 1e-12, 1e12  # beta / |q| is where its product with |q| is beta
        for _ in range(100):
            middle = np.sqrt(low * high)
            if middle * np.linalg.norm(y / (values + middle)) < problem.beta:
                low = middle
            else:
                high = middle
        q = axes @ (y / (values + high))
        value = 0.5 * ((B @ q - Y.ravel()) ** 2).sum() + problem.beta * np.linalg.norm(q)
        best = min(best, value)
    program = solved(problem).value
    draw.below(best, program, 1e-2 * program)
