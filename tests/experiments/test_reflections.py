"""Reflections: exact bends against a dense grid, the rule by hand, chance against a simulation."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError
from convexlib.problems.mirrors.networks import ParallelUnits
from experiments import reflections, runner
from experiments.reflections import methods
from experiments.reflections.chance import MIRROR, hit_at_random, moved, tally
from experiments.reflections.kinks import (
    KINDS,
    PILE,
    Places,
    activate,
    bends,
    breakpoints,
    corners,
    slopes,
)
from experiments.reflections.tables import (
    around,
    bending_at,
    finding,
    holm,
    pooled,
    summary,
    table,
)

X4, Y4 = np.array([0.0, 1.0, 3.0, 7.0]), np.array([0.0, 2.0, 1.0, 1.0])


def random_network(seed, depth, width=6):
    draw = np.random.default_rng(seed)
    sizes = [1, *[width] * (depth - 1), 1]
    weights = [draw.standard_normal(shape) for shape in zip(sizes[:-1], sizes[1:], strict=True)]
    return weights, [draw.standard_normal(size) for size in sizes[1:]]


def forward(weights, biases, activation, points):
    hidden = points[:, None]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = activate(hidden @ weight + bias, activation)
    return (hidden @ weights[-1] + biases[-1])[:, 0]


@pytest.mark.parametrize("activation", ["abs", "relu"])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_breakpoints_are_those_of_a_dense_grid(depth, activation):
    """Second differences vanish but at the places found, where they add up to the changes."""
    for seed in range(10):
        network = random_network(seed, depth)
        low, high, step = -1.5, 2.0, 3.5 / 20_000
        places, changes = breakpoints(*network, activation, low, high)
        assert np.all(np.diff(places) > 0)
        assert np.all((places > low) & (places < high))
        grid = low + step * np.arange(20_001)
        values = forward(*network, activation, grid)
        second = np.diff(values, 2) / step
        # A bend shares its change between the two grid points around it, by its distance to them.
        expected = np.zeros(20_001)
        at = (places - low) / step
        left = np.floor(at).astype(int)
        np.add.at(expected, left, changes * (left + 1 - at))
        np.add.at(expected, left + 1, changes * (at - left))
        scale = np.abs(np.diff(values)).max() / step
        np.testing.assert_allclose(second, expected[1:-1], atol=1e-7 * scale)
        # And the function is found again from one value, one slope and its bends.
        first = slopes(*network, activation, np.array([0.5 * (low + places.min(initial=high))]))
        again = values[0] + first * (grid - low)
        again += np.maximum(grid[:, None] - places, 0.0) @ changes
        np.testing.assert_allclose(again, values, atol=1e-9 * max(scale, 1.0))


def test_a_network_without_bends_inside_has_none():
    """All of its neurons bend outside the interval, or are dead."""
    weights = [np.array([[1.0, 0.0]]), np.array([[1.0], [1.0]])]
    places, changes = breakpoints(weights, [np.array([5.0, -1.0]), np.zeros(1)], "relu", 0.0, 1.0)
    assert len(places) == len(changes) == 0
    assert all(len(part) == 0 for part in bends(places, changes, 0.05))


def test_piles_are_one_bend_and_small_ones_do_not_count():
    places = np.array([0.2, 0.2 + PILE / 2, 0.5, 0.8, 0.8 + PILE / 2])
    found, changes = bends(places, np.array([1.0, 3.0, 0.1, 2.0, -2.0]), 0.05)
    np.testing.assert_allclose(found, [0.2 + 3 / 8 * PILE])  # the last two cancel
    np.testing.assert_allclose(changes, [4.0])


def test_the_rule_on_a_feature_with_a_known_mirror():
    """||x - 1| - |3 - 1|| bends at 1, at 3 and at -1; | |x - 3| - |1 - 3| | at 3, 1 and 5."""
    places = Places.of(X4, Y4, 0.01)
    np.testing.assert_allclose(places.mirrors * 7, [2, 5, 6])  # 1 + 1 - 0, 3 + 3 - 1, 3 + 3 - 0
    for a, anchor, kinds in ((1.0, 3.0, ["data", "data"]), (3.0, 1.0, ["data", "data", "mirror"])):
        weights = [np.ones((1, 1))] * 3
        biases = [np.array([-a]), np.array([-abs(anchor - a)]), np.zeros(1)]
        found, _ = breakpoints(weights, biases, "abs", 0.0, 7.0)
        assert [KINDS[kind] for kind in places.kinds(found / 7)] == kinds
    at = np.array([1.05, 2.0, 2.05, 3.5, 0.5, 4.4]) / 7
    assert [KINDS[kind] for kind in places.kinds(at)] == [
        "data",  # within 0.07
        "mirror",
        "mirror",
        "midpoint",
        "midpoint",
        "other",
    ]


def test_two_relus_fold_and_are_seen():
    """(|x - 3| - 2)_+ by two ReLUs of the first layer and one of the second bends at 1 and 5."""
    weights = [np.array([[1.0, -1.0]]), np.ones((2, 1)), np.ones((1, 1))]
    biases = [np.array([-3.0, 3.0]), np.array([-2.0]), np.zeros(1)]
    found, changes = breakpoints(weights, biases, "relu", 0.0, 7.0)
    kept, _ = bends(found / 7, changes, 0.05)
    np.testing.assert_allclose(kept * 7, [1, 5])
    assert [KINDS[kind] for kind in Places.of(X4, Y4, 0.01).kinds(kept)] == ["data", "mirror"]


def test_corners_are_where_the_lines_on_both_sides_meet():
    found = {
        name: corners(*methods.samples(name, 0)) for name in ("step", "turn", "ramp", "W", "moved")
    }
    np.testing.assert_allclose(found["turn"], [5.25])
    np.testing.assert_allclose(found["ramp"], [8.0])  # a mirror: 4 + 4 - 0
    np.testing.assert_allclose(found["W"][0], -3.0)  # too: -1 - 1 - 1 and -3.5 - 3.5 + 4
    np.testing.assert_allclose(found["moved"][0], -2.6)
    assert len(found["step"]) == 0
    for name, first in (("ramp", True), ("W", True), ("moved", False), ("turn", False)):
        places = Places.of(*methods.samples(name, 0), 0.005)
        assert places.reflected[0] == first
        assert not np.any(np.abs(places.mirrors[:, None] - places.corners) <= 0.005)


@pytest.mark.parametrize("name", ["turn", "W", "drawn"])
def test_shares_are_those_of_points_thrown_at_random(name):
    places = Places.of(*methods.samples(name, 3), 0.01)
    points = np.random.default_rng(0).random(200_000)
    kinds = places.kinds(points)
    inside = kinds >= MIRROR
    for (low, high), share in zip(places.pieces, places.shares, strict=True):
        own = inside & (points > low) & (points < high)
        spread = max((share * (1 - share) / own.sum()) ** 0.5, 1e-3)
        assert np.mean(kinds[own] == MIRROR) == pytest.approx(share, abs=4 * spread)
    np.testing.assert_allclose(
        np.mean(places.chances(points[inside])), np.mean(kinds[inside] == MIRROR), atol=4e-3
    )
    lengths = np.diff(places.pieces, axis=1)[:, 0]
    assert lengths.sum() == pytest.approx(inside.mean(), abs=4e-3)


def test_seeds_with_a_hit_follow_their_law():
    misses = np.array([0.9, 0.5, 0.2, 1.0])
    hits = (np.random.default_rng(0).random((100_000, 4)) >= misses).sum(axis=1)
    np.testing.assert_allclose(
        hit_at_random(misses), np.bincount(hits, minlength=5) / 1e5, atol=5e-3
    )


def test_moved_mirrors_are_those_of_the_rule_moved_by_hand():
    places = Places.of(X4, Y4, 0.02)
    points = np.array([0.2, 0.31, 0.5, 0.6, 0.77, 0.9])
    points = points[places.kinds(points) >= MIRROR]
    none = moved(points, places, np.zeros((1, len(places.pieces))))
    assert none[0] == (places.kinds(points) == MIRROR).sum()
    draws = np.random.default_rng(0).random((50, len(places.pieces)))
    for draw, count in zip(draws, moved(points, places, draws), strict=True):
        by_hand = 0
        for shift, (low, high) in zip(draw, places.pieces, strict=True):
            length = high - low
            own = places.mirrors[(places.mirrors > low) & (places.mirrors < high)]
            there = low + (own - low + shift * length) % length
            for point in points[(points > low) & (points < high)]:
                apart = np.abs(point - there)
                by_hand += np.minimum(apart, length - apart).min(initial=1.0) <= places.reach
        assert count == by_hand


def test_a_tally_counts_bends_and_seeds():
    places = [Places.of(X4, Y4, 0.01)] * 3
    trained = [[[2 / 7, 1.0], [1 / 7, 2.0]], [[5 / 7, 1.0], [6 / 7, 1.0]], [[0.63, 1.0]]]
    found = tally(places, trained, [[], [[2 / 7, 1.0]], []], [[[2 / 7, 1.0]]])
    assert found["trained"] == {"data": 1, "corner": 0, "mirror": 3, "midpoint": 0, "other": 1}
    assert (found["seeds"], found["seeds_initial"], found["seeds_narrow"]) == (2, 1, 1)
    assert found["even"] < 1
    assert found["seeds_even"] <= found["even"]
    assert found["p_even"] < 0.05
    assert 1e-4 <= found["p_moved"] < 0.05
    # A bend at a corner that is a mirror is counted apart.
    W = Places.of(*methods.samples("W", 0), 0.005)
    (apart,) = W.corners[W.reflected]
    found = tally([W], [[[float(apart), 1.0]]], [[]], [[]])
    assert (found["seeds"], found["seeds_reflected"], found["trained"]["corner"]) == (0, 1, 1)
    assert found["p_even"] == 1.0


def test_the_start_is_that_of_torch_and_each_seed_has_its_own():
    nets = methods.Networks(3, 50, "relu", [3, 4], 2)
    for got, layer in zip(
        range(3),
        (torch.nn.Linear(1, 50), torch.nn.Linear(50, 50), torch.nn.Linear(50, 1)),
        strict=True,
    ):
        bound = layer.in_features**-0.5
        for part, own in ((nets.weights[got], layer.weight), (nets.weights[3 + got], layer.bias)):
            assert part.abs().max() <= bound
            assert own.abs().max() <= bound
        assert nets.weights[got].abs().max() > 0.85 * bound
    alone = methods.Networks(3, 50, "relu", [4], 1)
    for both, one in zip(nets.weights, alone.weights, strict=True):
        assert torch.equal(both[1, 1], one[0, 0])
        assert not torch.equal(both[0, 0], one[0, 0])


def test_parallel_units_stay_narrow():
    nets = methods.Networks(4, 5, "abs", [0], 1, parallel=True)
    x, y = (torch.from_numpy(methods.standardised(part))[None] for part in methods.samples("W", 0))
    config = {"optimizer": "adam", "part": "parallel", "depth": 4, "rates": [0.01], "seeds": [0]}
    methods.descended(nets, x, y, torch.ones(1, dtype=torch.float64), {**config, "steps": 20})
    for part in nets.weights[1:3]:
        assert torch.equal(part[0, 0], torch.diag(part[0, 0].diagonal()))
        assert (part[0, 0].diagonal() != 0).all()
    units = ParallelUnits(
        torch.stack([nets.weights[0][0, 0, 0], *(p[0, 0].diagonal() for p in nets.weights[1:3])]),
        torch.stack([p[0, 0, 0] for p in nets.weights[4:7]]),
        nets.weights[3][0, 0, :, 0],
        nets.weights[7][0, 0, 0, 0],
        "abs",
    )
    outputs = nets.outputs(nets.weights, x)[0, 0]
    np.testing.assert_allclose(units(x[0]).detach(), outputs, atol=1e-12)
    problem = cl.Mirrors(x[0], y[0], beta=1.0, depth=4, activation="abs")
    loss, price = nets.objectives(nets.weights, x, y, torch.ones(1, dtype=torch.float64), 4)
    assert (loss + price).item() == pytest.approx(problem.objective(units))


def test_slopes_of_torch_and_the_bends_of_a_narrow_optimum():
    x, y = map(methods.standardised, methods.samples("W", 0))
    problem = cl.Mirrors(x, y, beta=0.02, depth=4, activation="abs")
    result = cl.solve(problem)
    found = methods.narrow(problem, result, 0.01)
    kinks = np.unique(
        np.concatenate([feature.kinks for _, feature in problem.active_features(result)])
    )
    for place, _ in found:
        assert np.abs(x[0] + place * (x[-1] - x[0]) - kinks).min() < 1e-3 * (x[-1] - x[0])
    nets = methods.Networks(4, 5, "abs", [0], 1)
    points = torch.linspace(-1, 1, 21, dtype=torch.float64, requires_grad=True)
    beta = torch.ones(1, dtype=torch.float64)
    zero = torch.zeros(1, 21, dtype=torch.float64)
    loss, price = nets.objectives(nets.weights, points[None], zero, beta, 4)
    parts = [part[0, 0].numpy() for part in nets.weights]
    weights, biases = parts[:4], [part[0] for part in parts[4:]]
    outputs = forward(weights, biases, "abs", points.detach().numpy())
    assert loss.item() == pytest.approx(0.5 * np.sum(outputs**2))
    assert price.item() == pytest.approx(sum(np.sum(np.abs(w) ** 4) for w in weights) / 4)
    (own,) = torch.autograd.grad(loss.sum(), points)
    exact = outputs * slopes(weights, biases, "abs", points.detach().numpy())
    np.testing.assert_allclose(own, exact, atol=1e-9)


QUICK = reflections.configs("quick", seeds=[0, 1])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_is_determined_by_its_seeds(optimizer):
    config = next(c for c in QUICK if c["optimizer"] == optimizer and c["set"] == "drawn")
    config = {**config, "steps": 40}
    found = reflections.compute(config)
    assert found == reflections.compute(config)
    other = reflections.compute({**config, "seeds": [1, 0], "rates": [found["rate"]]})
    again = reflections.compute({**config, "rates": [found["rate"]]})
    assert other["bends"] == again["bends"][::-1]
    assert other["lasso"] == again["lasso"][::-1]
    assert reflections.missed({"result": found}) is None
    assert len(table([{"config": config, "result": found}]).splitlines()) == 2


def test_descent_lowers_the_objective_and_divergence_is_said():
    config = {**QUICK[0], "steps": 1}
    start, end = (reflections.compute({**config, "steps": steps}) for steps in (1, 300))
    x, y = map(methods.standardised, methods.samples("W", 0))
    place, value = np.array(reflections.compute({**config, "steps": 3000})["drawn"]).T
    fitted = np.interp((x - x[0]) / (x[-1] - x[0]), place, value)
    assert np.abs(fitted - y).max() < 0.1  # the polyline through the bends is the function
    assert np.median(end["objective"]) < 0.5 * np.median(start["objective"])
    wild = {**next(c for c in QUICK if c["optimizer"] == "sgd"), "rates": [1e6], "steps": 30}
    found = reflections.compute(wild)
    assert found["diverged"] == [2]
    assert found["bends"] == [[], []]
    assert "diverged" in reflections.missed({"result": found})
    record = runner.measure(reflections.compute, {**wild, "rates": [1e20]})
    assert record["result"]["drawn"] == [[0.0, None], [1.0, None]]


@pytest.mark.parametrize("name", ["W", "drawn"])
def test_a_beta_of_ones_own_is_a_part_of_beta_max_too(name):
    config = {**next(c for c in QUICK if c["set"] == name), "steps": 1}
    del config["ratio"]
    found = {
        "config": config | {"beta": 1.0},
        "result": reflections.compute(config | {"beta": 1.0}),
    }
    assert found["result"]["beta"] == [1.0] * (2 if name == "drawn" else 1)
    x, y = zip(*(methods.samples(name, seed) for seed in (0, 1)), strict=True)
    kind = {"depth": config["depth"], "activation": config["activation"]}
    largest = [
        cl.Mirrors(*map(methods.standardised, pair), beta=1.0, **kind).beta_max()
        for pair in zip(x, y, strict=True)
    ]
    expected = f"{np.median([1.0 / value for value in largest]):.2g}"
    assert table([found]).splitlines()[1].split()[6] == expected


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="reflections runs on the CPU"):
        reflections.configs(device="cuda")
    with pytest.raises(InputError, match="set is 'square'; expected one of"):
        reflections.compute({**QUICK[0], "set": "square"})


def test_holms_rule():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])


def cell(activation, p, mirrors=4, **settings):
    """A record of four runs with ten bends off data and corners, and a p-value."""
    counts = {"data": 5, "corner": 2, "mirror": mirrors, "midpoint": 1, "other": 9 - mirrors}
    tallies = {"trained": counts, "initial": counts | {"mirror": 0, "other": 9}}
    tallies |= {"even": 2.5, "seeds": 3, "seeds_even": 1.5, "p_even": p, "p_moved": 1.0}
    config = {"part": "matched", "activation": activation, "seeds": [0, 1, 2, 3], **settings}
    return {"config": config, "result": {"tallies": [{"reach": 0.005, **tallies}]}}


@pytest.mark.parametrize(
    ("absolute", "relu", "holds"),
    [
        ((1e-4, 1e-4, 0.5), (1e-4, 1e-4, 1e-4), (True, True, True)),
        ((1e-4, 0.5, 0.5), (1e-4, 1e-4, 1e-4), (False, True, True)),
        ((0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (False, False, False)),  # six cells: 0.12
    ],
)
def test_the_finding_counts_cells_beyond_chance(absolute, relu, holds):
    found = [cell("abs", p) for p in absolute] + [cell("relu", p) for p in relu]
    found.append(cell("abs", 1e-9, part="parallel"))  # is not of the claim
    text, verdict = finding(found)
    assert tuple(verdict[key] for key in ("abs", "relu", "some")) == holds
    assert "of 60 bends off data and corners 24 are at mirrors, by chance 15" in text
    assert "18 of 24 runs have one, by chance 9" in text
    one = pooled(found[:3])
    assert (one.cells, one.seeds, one.every, one.free, one.mirrors) == (3, 12, 51, 30, 12)
    assert one.start == 0.0
    lines = summary(found).splitlines()
    assert len(lines) == 5
    assert "| 40.0 % | 25.0 % | 0.0 % |" in lines[2]


def test_bends_at_mirrors_and_beside_them_are_told_apart():
    bends = [[[4 / 7, 1.0], [4 / 7 + 0.004, 1.0], [4 / 7 - 0.006, 1.0], [0.75, 1.0], [0.3, 1.0]]]
    record = {"config": {"set": "turn", "seeds": [0]}, "result": {"bends": bends}}
    assert around([record, record]) == (4, 2)  # 0.75 is a corner, 5.25


def test_runs_that_bend_at_a_place_of_the_inputs():
    record = {"config": {"set": "W"}, "result": {"bends": [[[1 / 6, 1.0]], [[0.9, 1.0]], []]}}
    assert bending_at(record, -3.0) == 1
    assert bending_at(record, -2.6) == 0
