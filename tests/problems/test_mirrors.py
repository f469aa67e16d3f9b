"""One-dimensional networks against dictionaries, programs and searches written out here."""

import math
from itertools import combinations, product

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, ProblemError
from convexlib.problems.mirrors.norms import interpolation_norm

SLOPE = 0.3
CHAINED = [
    ("relu", 2),
    ("relu", 3),
    ("relu", 4),
    ("relu", 6),
    ("abs", 2),
    ("abs", 3),
    ("abs", 4),
    ("leaky", 2),
    ("leaky", 3),
    ("leaky", 4),
]
SWITCHING = [
    ("sign", 2, None),
    ("sign", 3, 3),
    ("sign", 5, 2),
    ("sign", 4, (2, 2)),
    ("threshold", 2, None),
    ("threshold", 3, 2),
    ("threshold", 4, (2, 2)),
    ("threshold", 5, 3),
]
KINDS = [(name, depth, None) for name, depth in CHAINED] + SWITCHING
TOYS = [
    # x, y, least norms for two, three and four layers of ReLU
    ((0, 2, 6, 7), (0, 0, 3, 3), (1.5, 0.75, 0.75)),
    ((0, 2, 6, 7), (0, 0, 3, 7), (4, 4, 4)),
    ((0, 4, 5, 7, 10, 11), (0, 0, 0, 2, 3, 3), (2, 1, 1)),
]


def data(seed, n):
    """Unsorted inputs; every third draw is an integer grid, where mirrors meet data points."""
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.arange(-8, 9))[:n] / 2 if seed % 3 == 0 else rng.standard_normal(n)
    return x.astype(float), rng.standard_normal(n)


def make(x, y, kind, beta, **options):
    activation, depth, widths = kind
    slope = {"slope": SLOPE} if activation == "leaky" else {}
    return cl.Mirrors(
        x, y, beta=beta, depth=depth, activation=activation, widths=widths, **slope, **options
    )


def act(values, activation):
    return {
        "relu": lambda t: np.maximum(t, 0),
        "abs": np.abs,
        "leaky": lambda t: np.where(t >= 0, t, SLOPE * t),
        "sign": lambda t: np.where(t >= 0, 1.0, -1.0),
        "threshold": lambda t: np.where(t >= 0, 1.0, 0.0),
    }[activation](values)


def columns(x, kind):
    """A dictionary from the text: for chains every anchor at every layer, as a superset."""
    activation, depth, widths = kind
    if activation in ("sign", "threshold"):
        switches = math.prod(widths) if isinstance(widths, tuple) else (widths or 1)
        inside = np.sort(np.unique(x))[1:]
        found = []
        for k in range(1, min(switches, len(inside)) + 1):
            for places in combinations(inside, k):
                value = (-1.0) ** np.searchsorted(np.array(places), x, side="right")
                found.append(value if activation == "sign" else (value + 1) / 2)
        return np.array(found).T
    layers = [x[None, :]]
    for layer in range(1, depth):
        found = []
        for h in layers:
            anchors = set(np.round(h, 12).ravel())
            if activation == "abs" and layer < depth - 1:
                anchors |= {np.round((p + q) / 2, 12) for p, q in product(h.ravel(), repeat=2)}
            if activation == "abs" and layer < depth - 2:
                anchors |= {np.round((p + q) / 2, 12) for p, q in product(anchors, repeat=2)}
                anchors |= {
                    np.round(a + sign * (p - q) / 2, 12)
                    for a in tuple(anchors)
                    for p, q in product(h.ravel(), repeat=2)
                    for sign in (1, -1)
                }
            for anchor, sign in product(sorted(anchors), (1.0, -1.0)):
                found.append(act(sign * (h - anchor), activation))
        layers = list(np.unique(np.round(np.vstack(found), 12), axis=0)[:, None, :])
    return np.vstack(layers).T


def independent_value(x, y, kind, beta):
    """The Lasso of the theorem over the columns above, by CVXPY."""
    A = columns(x, kind)
    z, bias = cp.Variable(A.shape[1]), cp.Variable()
    loss = 0.5 * cp.sum_squares(A @ z + bias - y)
    settings = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    problem = cp.Problem(cp.Minimize(loss + beta * cp.norm1(z)))
    return problem.solve(solver=cp.CLARABEL, **settings)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_agrees_with_an_independent_program_and_the_network(kind, seed):
    n = {"abs": 4 if kind[1] == 4 else 7, "leaky": 9 - kind[1]}.get(kind[0], 8)
    x, y = data(seed, n)
    problem = make(x, y, kind, beta=0.02)
    result = cl.solve(problem, tol=1e-9)
    assert result.method == "lasso"
    assert result.converged
    assert result.value == pytest.approx(independent_value(x, y, kind, 0.02), rel=1e-6)
    network = problem.to_network(result)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-9)
    # ... and the objective by hand.
    fitted = network(torch.from_numpy(x)).detach().numpy()
    if kind[0] in ("sign", "threshold"):
        squares = network.amplitudes.detach() ** 2 + network.alpha.detach() ** 2
        penalty = 0.5 * float(squares.sum())
    else:
        weights = torch.cat([network.weights.ravel(), network.alpha]).detach()
        penalty = float((weights.abs() ** kind[1]).sum()) / kind[1]
    by_hand = 0.5 * np.sum((fitted - y) ** 2) + 0.02 * penalty
    assert by_hand == pytest.approx(result.value, rel=1e-9)


def climb(x, z, kind, rng, starts=600, steps=150):
    """Search for a narrow unit with a large |z^T h(x)|: random starts, random steps uphill."""
    activation, depth, _ = kind
    signs = rng.choice([-1.0, 1.0], (starts, depth - 1))
    biases = rng.standard_normal((starts, depth - 1)) * np.ptp(x)

    def value(biases):
        h = np.repeat(x[None, :], starts, axis=0)
        for layer in range(depth - 1):
            h = act(signs[:, layer : layer + 1] * h + biases[:, layer : layer + 1], activation)
        return np.abs(h @ z)

    best = value(biases)
    for _ in range(steps):
        length = np.ptp(x) * 10 ** rng.uniform(-3, 0, (starts, 1))
        step = rng.standard_normal(biases.shape) * (rng.random(biases.shape) < 0.5) * length
        found = value(biases + step)
        biases[found > best] += step[found > best]
        best = np.maximum(best, found)
    return best.max()


@pytest.mark.parametrize(
    ("activation", "depth", "n"),
    [
        ("relu", 2, 7),
        ("relu", 3, 7),
        ("relu", 4, 7),
        ("relu", 5, 6),
        ("abs", 2, 7),
        ("abs", 3, 6),
        ("abs", 4, 5),
        ("abs", 5, 3),
        ("leaky", 3, 6),
        ("leaky", 4, 5),
    ],
)
def test_no_narrow_unit_violates_the_bound_of_the_dictionary(activation, depth, n):
    rng = np.random.default_rng(depth)
    closest = 0.0
    for seed in range(3):
        x, z = data(seed, n)
        z -= z.mean()
        problem = make(x, z, (activation, depth, None), beta=1.0)
        norm = problem.dual_norm(torch.from_numpy(z))
        reached = climb(x, z, (activation, depth, None), rng)
        assert reached <= norm * (1 + 1e-9)
        closest = max(closest, reached / norm)
    assert closest > 0.99  # the search is worth something


def test_without_midpoints_the_dual_bound_of_three_abs_layers_is_too_small():
    rng = np.random.default_rng(0)
    smaller = 0
    for _ in range(100):
        x, z = rng.standard_normal(6), rng.standard_normal(6)
        z -= z.mean()
        problem = cl.Mirrors(x, z, beta=1.0, depth=3, activation="abs")
        full = problem.dual_norm(torch.from_numpy(z))
        at_data = np.abs(x[:, None] - x)  # (sample, a)
        poor = np.abs(np.abs(at_data[:, :, None] - at_data.T[None]).transpose(2, 1, 0) @ z).max()
        smaller += poor < full * (1 - 1e-9)
    assert 0 < smaller < 50


@pytest.mark.parametrize("kind", SWITCHING, ids=str)
def test_switching_trees_reach_every_column_and_no_more_switches(kind):
    x, y = data(1, 9)
    problem = make(x, y, kind, beta=1.0)
    rng = np.random.default_rng(0)
    for index in rng.choice(problem.n_features, size=min(12, problem.n_features), replace=False):
        weights = torch.zeros(problem.n_features + 1, dtype=torch.float64)
        weights[index] = 1.0
        outputs = problem.to_network(weights)(torch.from_numpy(x)).detach().numpy()
        assert np.allclose(outputs, problem.matrix([index]).numpy()[:, 0])
    network = problem.to_network(weights)
    line = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    for _ in range(50):  # random weights: the architecture allows no more switches
        for part in network.weights:
            part.data.normal_()
        for part in network.biases:
            part.data.normal_()
        values = network.hidden(line)
        assert int((values.diff(dim=0) != 0).sum()) <= problem.switches


@pytest.mark.parametrize(("x", "y", "norms"), TOYS)
@pytest.mark.parametrize("beta", [1e-8, 1e-3])
def test_toy_sets_have_their_exact_norms(x, y, norms, beta):
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    for depth, norm in zip((2, 3, 4), norms, strict=True):
        problem = cl.Mirrors(x, y, beta=beta, depth=depth)
        assert interpolation_norm(problem) == pytest.approx(norm, abs=1e-12)
        result = cl.solve(problem)
        assert result.converged
        assert result.value / beta == pytest.approx(norm, rel=10 * beta + 1e-9)


def test_reflections_of_four_relu_layers_change_the_optima_but_not_the_value():
    x, y, _ = TOYS[2]
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    plain = cl.Mirrors(x, y, beta=0.1, depth=4)
    more = cl.Mirrors(x, y, beta=0.1, depth=4, reflections=True)
    assert more.n_features > plain.n_features
    assert cl.solve(more).value == pytest.approx(cl.solve(plain).value, rel=1e-9)
    names = [more.feature(j).describe() for j in range(more.n_features)]
    assert "clipped ramp between x_3 and reflection of x_1 about x_2" in names
    # min((x - 5)_+, 3) is one unit of norm 1 and fits the targets exactly.
    place = names.index("clipped ramp between x_3 and reflection of x_1 about x_2")
    assert np.allclose(more.matrix([place])[:, 0], y)
    for seed in range(4):
        x, y = data(seed, 7)
        values = [
            cl.solve(cl.Mirrors(x, y, beta=0.05, depth=4, reflections=flag), tol=1e-9).value
            for flag in (False, True)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_deeper_is_never_worse_and_relu_stops_at_three():
    x, y = data(4, 7)
    relu = [cl.solve(cl.Mirrors(x, y, beta=0.05, depth=d)).value for d in (2, 3, 4, 7)]
    assert relu[0] > relu[1] * (1 + 1e-6)
    assert relu[1:] == pytest.approx([relu[1]] * 3, rel=1e-12)
    folded = [
        cl.solve(cl.Mirrors(x, y, beta=0.05, depth=d, activation="abs")).value for d in (2, 3, 4)
    ]
    assert folded[0] > folded[1] * (1 + 1e-6) > folded[2] * (1 + 1e-6)


def test_two_layers_are_the_two_layer_program_with_free_biases():
    # The cells of [x, 1] with the penalty on the slopes alone, and a free output bias.
    x, y = data(1, 7)
    X = np.stack([x, np.ones_like(x)], axis=1)
    masks = cl.enumerate_arrangements(X).masks.numpy()
    V, W = cp.Variable((len(masks), 2)), cp.Variable((len(masks), 2))
    bias = cp.Variable()
    signs = 2.0 * masks - 1.0
    fitted = cp.sum(cp.multiply(X @ (V - W).T, masks.T.astype(float)), axis=1) + bias
    penalty = cp.sum(cp.abs(V[:, 0])) + cp.sum(cp.abs(W[:, 0]))
    cones = [cp.multiply(signs, part @ X.T) >= 0 for part in (V, W)]
    program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(fitted - y) + 0.05 * penalty), cones)
    value = program.solve(solver=cp.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10)
    mirrors = cl.solve(cl.Mirrors(x, y, beta=0.05)).value
    assert value == pytest.approx(mirrors, rel=1e-6)
    # In TwoLayer a bias column of size c costs b / c: the values fall to the free one.
    values = []
    for c in (1.0, 10.0, 50.0):
        problem = cl.TwoLayer(np.stack([x, np.full_like(x, c)], axis=1), y, beta=0.05)
        values.append(cl.solve(problem, tol=1e-7).value)
    assert values[0] > values[1] > values[2] > mirrors * (1 - 1e-6)
    assert values[2] == pytest.approx(mirrors, rel=0.05)


@pytest.mark.parametrize(("activation", "depth"), [("relu", 3), ("abs", 3), ("relu", 4)])
def test_descent_from_many_starts_does_not_go_below(activation, depth):
    x, y = data(4, 6)
    problem = cl.Mirrors(x, y, beta=0.1, depth=depth, activation=activation)
    result = cl.solve(problem, tol=1e-9)
    generator = torch.Generator().manual_seed(0)
    shape = (40, depth - 1, 12)  # starts, layers, units
    draw = {"generator": generator, "dtype": torch.float64}
    weights, biases = torch.randn(shape, **draw), torch.randn(shape, **draw)
    alpha, bias = torch.randn(40, 12, **draw), torch.zeros(40, 1, dtype=torch.float64)
    parameters = [part.requires_grad_() for part in (weights, biases, alpha, bias)]
    descent = torch.optim.Adam(parameters, lr=0.03)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    best = math.inf
    for step in range(300):
        h = inputs[None, :, None]
        for layer in range(depth - 1):
            inner = h * weights[:, layer, None] + biases[:, layer, None]  # (starts, n, units)
            h = inner.abs() if activation == "abs" else torch.relu(inner)
        fitted = (h * alpha[:, None]).sum(2) + bias
        powers = (weights.abs() ** depth).sum((1, 2)) + (alpha.abs() ** depth).sum(1)
        values = 0.5 * ((fitted - targets) ** 2).sum(1) + 0.1 / depth * powers
        best = min(best, float(values.detach().min()))
        descent.zero_grad()
        values.sum().backward()
        descent.param_groups[0]["lr"] = 0.03 * (1 - step / 300)
        descent.step()
    assert result.value * (1 - 1e-9) <= best < 2 * result.value


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_constant_exactly_from_beta_max_on(kind):
    x, y = data(5, 4 if kind[:2] == ("abs", 4) else 6)
    for loss in ("squared", "quantile"):
        top = make(x, y, kind, beta=1.0, loss=loss, quantile=0.4).beta_max()
        for factor, constant in ((1.0001, True), (0.999, False)):
            problem = make(x, y, kind, beta=factor * top, loss=loss, quantile=0.4)
            weights = cl.solve(problem, tol=1e-9).weights
            assert bool(weights[:-1].abs().max() <= 1e-9) is constant
    assert make(x, y, kind, beta=1.0).beta_max() == pytest.approx(
        np.abs(columns(x, kind).T @ (y - y.mean())).max(), rel=1e-9
    )


def test_quantile_with_ties_has_the_right_beta_max():
    x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    problem = cl.Mirrors(x, y, beta=1.0, loss="quantile")
    top = problem.beta_max()
    above = cl.solve(problem.with_beta(1.001 * top), tol=1e-9)
    below = cl.solve(problem.with_beta(0.99 * top), tol=1e-9)
    assert above.value == pytest.approx(1.0)
    assert below.value < 1.0 - 1e-6


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_repeated_unsorted_few_and_constant_data(kind):
    x = np.array([2.0, -1.0, 2.0, 0.5, -1.0])
    y = np.array([1.0, 0.0, 2.0, -1.0, 0.5])
    problem = make(x[:, None], y, kind, beta=0.1)
    result = cl.solve(problem, tol=1e-9)
    assert list(problem.x) == [-1.0, 0.5, 2.0]
    assert result.value == pytest.approx(independent_value(x, y, kind, 0.1), rel=1e-6)
    shuffled = cl.solve(make(x[::-1].copy(), y[::-1].copy(), kind, beta=0.1), tol=1e-9)
    assert shuffled.value == pytest.approx(result.value, rel=1e-9)
    for points, targets in (([3.0], [2.0]), ([3.0, 3.0], [2.0, 2.0]), (x, np.full(5, 4.0))):
        problem = make(np.array(points), np.array(targets), kind, beta=0.1)
        result = cl.solve(problem)
        assert result.converged
        assert result.value == pytest.approx(0.0, abs=1e-12)
        output = problem.to_network(result)(problem.X).detach()
        assert float(output[0]) == pytest.approx(targets[0])


def test_scaling_laws():
    x, y = data(1, 7)
    value = cl.solve(cl.Mirrors(x, y, beta=0.05, depth=3)).value
    scaled = cl.solve(cl.Mirrors(x, 3 * y, beta=0.15, depth=3)).value
    assert scaled == pytest.approx(9 * value, rel=1e-9)
    stretched = cl.solve(cl.Mirrors(5 * x + 7, y, beta=0.25, depth=3)).value
    assert stretched == pytest.approx(value, rel=1e-9)
    mirrored = cl.solve(cl.Mirrors(-x, -y, beta=0.05, depth=3)).value
    assert mirrored == pytest.approx(value, rel=1e-9)


def test_features_describe_themselves():
    x = np.array([0.0, 1.0, 3.0, 7.0])
    ramps = cl.Mirrors(x, x, beta=1.0)
    names = [ramps.feature(j).describe() for j in range(ramps.n_features)]
    assert names[0] == "straight line" or "ramp at x_1" in names[0]
    assert "ramp at x_3, rising to the right" in names
    assert "ramp at x_3, rising to the left" in names
    folds = cl.Mirrors(x, x, beta=1.0, depth=3, activation="abs")
    text = [folds.feature(j).describe() for j in range(folds.n_features)]
    assert "W with kinks at reflection of x_3 about x_2, x_2 and x_3" in text
    assert any("midpoint of" in name for name in text)
    for j in range(folds.n_features):
        feature = folds.feature(j)
        # The kinks are where the slope changes, and nowhere else.
        for kink in feature.kinks:
            left, middle, right = feature(np.array([kink - 1e-4, kink, kink + 1e-4]))
            assert abs(left - 2 * middle + right) > 1e-5
        assert np.allclose(feature(folds.x), folds.dictionary.columns(np.array([j]))[:, 0])
    signs = cl.Mirrors(x, x, beta=1.0, activation="sign")
    assert signs.feature(1).describe() == "step between x_2 and x_3"
    pairs = cl.Mirrors(x, x, beta=1.0, activation="sign", depth=3)
    assert pairs.feature(3).describe() == "switches between x_1 and x_2, between x_2 and x_3"


def test_float32_and_other_inputs():
    x, y = data(1, 6)
    single = cl.Mirrors(torch.tensor(x).float(), torch.tensor(y).float(), beta=0.05, depth=3)
    result = cl.solve(single, tol=1e-5)
    assert result.weights.dtype == torch.float32
    network = single.to_network(result)
    assert network(single.X).dtype == torch.float32
    assert single.objective(network) == pytest.approx(result.value, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, r"depth is 1; expected an integer >= 2"),
        ({"depth": 2.5}, r"depth is 2.5; expected an integer"),
        ({"activation": "tanh"}, r"activation is 'tanh'; expected one of 'relu', 'abs'"),
        ({"activation": "leaky", "slope": 1.0}, r"slope is 1; expected 0 < slope < 1"),
        ({"widths": 2}, r"widths is 2 with activation='relu'.*Only sign and threshold"),
        ({"activation": "sign", "widths": 2}, r"depth=2; expected None"),
        ({"activation": "sign", "depth": 4, "widths": (2,)}, r"1 entries; expected depth - 2 = 2"),
        ({"activation": "sign", "depth": 3, "widths": 0}, r"widths is 0; expected an integer >= 1"),
        ({"reflections": True}, r"expected activation='relu' and depth >= 4"),
        ({"loss": "absolute"}, r"loss is 'absolute'; expected one of 'squared', 'quantile'"),
        ({"loss": "quantile", "quantile": 1.0}, r"quantile is 1; expected 0 < quantile < 1"),
        ({"beta": 0.0}, r"beta is 0; expected beta > 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    x, y = data(1, 5)
    with pytest.raises(InputError, match=message):
        cl.Mirrors(x, y, **{"beta": 0.1, **options})


def test_data_of_more_features_are_refused():
    with pytest.raises(InputError, match=r"x has shape \(5, 2\); expected \(n,\) or \(n, 1\)"):
        cl.Mirrors(np.zeros((5, 2)), np.zeros(5), beta=0.1)


@pytest.mark.parametrize(
    ("options", "n", "message"),
    [
        ({"depth": 5, "activation": "abs"}, 30, r"30 distinct inputs.*depth=5.*Round x.*depth"),
        ({"depth": 3}, 3000, r"up to 4.5e\+06 candidate features, more than max_features=2000000"),
        ({"depth": 8, "activation": "leaky"}, 20, r"lower depth, or raise max_features"),
        ({"depth": 3, "activation": "sign", "widths": 9}, 60, r"lower depth or widths"),
        ({"depth": 4, "reflections": True}, 200, r"leave reflections out"),
    ],
)
def test_dictionaries_that_do_not_fit_are_refused(options, n, message):
    with pytest.raises(ProblemError, match=message):
        cl.Mirrors(np.arange(float(n)), np.zeros(n), beta=0.1, **options)


def test_foreign_networks_and_weights_are_refused():
    x, y = data(1, 5)
    problem = cl.Mirrors(x, y, beta=0.1)
    with pytest.raises(InputError, match="network is Linear; expected ParallelUnits"):
        problem.objective(torch.nn.Linear(1, 1))
    deeper = cl.Mirrors(x, y, beta=0.1, depth=3)
    with pytest.raises(InputError, match=r"activation 'relu' and depth 3; expected 'relu' and 2"):
        problem.objective(deeper.to_network(cl.solve(deeper)))
    with pytest.raises(InputError, match="Do they belong to another problem"):
        problem.to_network(deeper.zeros())
    with pytest.raises(InputError, match="index is 99; expected one of the 7 features"):
        problem.feature(99)
