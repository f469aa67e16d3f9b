"""Dictionaries of one-dimensional networks: complete, not too large, and self-explaining."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, ProblemError
from tests.helpers.mirrors import SWITCHING, data, make
from tests.helpers.refusals import EYE, refused


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


def test_a_fourth_layer_of_absolute_values_reflects_reflections():
    x = np.array([0.0, 1.0, 3.2, 7.5])
    folds = [cl.Mirrors(x, x, beta=1.0, depth=L, activation="abs") for L in (3, 4)]
    three, four = ([one.feature(j) for j in range(one.n_features)] for one in folds)
    # | | |x - a| - b | - c |: b is the distance of 0 from a, c the value of the first fold at 1
    a, b = 3.2, 3.2
    c = abs(abs(1.0 - a) - b)
    expected = sorted({a + s * b + t * c for s in (-1, 1) for t in (-1, 0, 1)} | {a})
    assert any(np.allclose(feature.kinks, expected) for feature in four if len(feature.kinks) == 7)
    assert max(len(feature.kinks) for feature in three) == 3
    inputs, targets = np.random.default_rng(6).standard_normal((2, 6))
    values = [
        cl.solve(cl.Mirrors(inputs, targets, beta=0.05, depth=L, activation="abs")).value
        for L in (3, 4)
    ]
    assert values[1] < 0.99 * values[0]


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
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):  # random weights: the architecture allows no more switches
        for part in (*network.weights, *network.biases):
            part.data.normal_(generator=generator)
        values = network.hidden(line)
        assert int((values.diff(dim=0) != 0).sum()) <= problem.switches


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


def test_kinks_between_small_slopes_are_told():
    x = np.array([-2.0, -1.0, 0.5, 3.0])
    problem = cl.Mirrors(x, x, beta=1.0, activation="leaky", slope=1e-3, depth=4)
    for j in range(problem.n_features):
        feature = problem.feature(j)
        ends = np.concatenate([[-9.0], feature.kinks, [9.0]])
        slopes = []
        for low, high in zip(ends[:-1], ends[1:], strict=True):
            points = low + (high - low) * np.array([0.1, 0.3, 0.5, 0.7, 0.9])
            pieces = np.diff(feature(points)) / np.diff(points)
            # Straight between the kinks, up to the rounding of values of about one.
            assert np.ptp(pieces) <= 1e-6 * np.abs(pieces).max() + 1e-14
            slopes.append(pieces[0])
        sizes = np.maximum(np.abs(slopes[:-1]), np.abs(slopes[1:]))
        assert (np.abs(np.diff(slopes)) > 0.5 * sizes).all()


@pytest.mark.parametrize("activation", ["relu", "abs", "leaky", "sign", "threshold"])
def test_one_distinct_input_needs_no_features_at_any_depth(activation):
    problem = cl.Mirrors([1.0, 1.0], [2.0, 4.0], beta=0.1, depth=200, activation=activation)
    assert problem.n_features == 0
    assert cl.solve(problem).value == pytest.approx(1.0)


def refusals():
    x, y = data(1, 5)
    problem, deeper = cl.Mirrors(x, y, beta=0.1), cl.Mirrors(x, y, beta=0.1, depth=3)
    arguments = [
        ({"depth": 1}, r"depth is 1; expected an integer >= 2"),
        ({"depth": 2.5}, r"depth is 2.5; expected an integer"),
        ({"activation": "tanh"}, r"activation is 'tanh'; expected one of 'relu', 'abs'"),
        ({"activation": "leaky", "slope": 1.0}, r"slope is 1; expected 0 < slope < 1"),
        ({"widths": 2}, r"widths is 2 with activation='relu'.*Only sign and threshold"),
        ({"activation": "sign", "widths": 2}, r"depth=2; expected None"),
        ({"activation": "sign", "depth": 4, "widths": (2,)}, r"1 entries; expected depth - 2 = 2"),
        ({"activation": "sign", "depth": 3, "widths": 0}, r"widths is 0; expected an integer >= 1"),
        ({"reflections": True}, r"expected activation='relu' and depth >= 4"),
        ({"depth": 4, "reflections": EYE}, r"reflections is .*True or False"),
        ({"loss": "absolute"}, r"loss is 'absolute'; expected one of 'squared', 'quantile'"),
        ({"activation": "relu", "slope": -1.0}, r"slope is -1; expected 0 < slope < 1"),
        ({"activation": "abs", "slope": np.nan}, r"slope is nan; expected a finite number"),
        ({"loss": "squared", "quantile": 1e-7}, r"quantile is 1e-07; expected it between 1e-06"),
        ({"loss": "quantile", "quantile": 1.0}, r"quantile is 1; expected 0 < quantile < 1"),
        ({"loss": "quantile", "quantile": 1e-7}, r"quantile is 1e-07; expected it between 1e-06"),
        ({"loss": "quantile", "quantile": 1 - 1e-16}, r"is 0\.9999999999999999; expected it bet"),
        ({"beta": 0.0}, r"beta is 0; expected beta > 0"),
        ({"x": np.zeros((5, 2))}, r"x has shape \(5, 2\); expected \(n,\) or \(n, 1\)"),
    ]
    too_large = [
        ({"depth": 5, "activation": "abs"}, 30, r"30 distinct inputs.*depth=5.*Round x.*depth"),
        ({"depth": 3}, 3000, r"up to 4498500 candidate features, more than max_features=2000000"),
        ({"depth": 8, "activation": "leaky"}, 20, r"lower depth, or raise max_features"),
        ({"depth": 3, "activation": "sign", "widths": 9}, 60, r"lower depth or widths"),
        ({"depth": 4, "reflections": True}, 200, r"leave reflections out"),
        # Counts beyond the largest float.
        ({"depth": 100_000, "activation": "abs"}, 20, r"up to \d\.\de\+\d{3} candidate features"),
        ({"depth": 100_000, "activation": "leaky"}, 20, r"up to 3\.0e\+62 candidate features"),
        ({"depth": 3, "activation": "sign", "widths": 2999}, 3000, r"up to 6\.\de\+902 candidate"),
    ]
    return [
        *((lambda options=options: cl.Mirrors(**{"x": x, "y": y, "beta": 0.1} | options),
           InputError, message) for options, message in arguments),
        *((lambda options=options, n=n: cl.Mirrors(np.arange(n), np.zeros(n), beta=1.0, **options),
           ProblemError, message) for options, n, message in too_large),
        (lambda: problem.objective(torch.nn.Linear(1, 1)),
         InputError, "network is Linear; expected ParallelUnits"),
        (lambda: problem.objective(deeper.to_network(deeper.zeros())),
         InputError, r"activation 'relu' and depth 3; expected 'relu' and 2"),
        (lambda: problem.to_network(deeper.zeros()), InputError, "Do they belong to another prob"),
        (lambda: problem.feature(99), InputError, "index is 99; expected one of the 7 features"),
    ]  # fmt: skip


test_refusals = refused(refusals())
