"""The three-layer experiment: right data, proven optima, one objective, committed records."""

import os

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import convexlib as cl
from experiments import runner
from experiments.three_layer import (
    CLOSE,
    EXPERIMENT,
    SETS,
    compute,
    configs,
    instance,
    methods,
    table,
    tables,
)
from experiments.three_layer.methods import BASELINES, digits, load
from experiments.uci import split
from tests.helpers.three_layer import circle

INSTALLED = ("breast-cancer-wisc-diag",)  # made from the files of scikit-learn
LANDSCAPE = {**configs("quick")[0], "steps": 100, "seeds": [0, 1, 2], "K": 4}
DIGITS = {
    **configs("quick")[-1],
    "n_train": 60,
    "rounds": 1,
    "samples": 20,
    "K": 2,
    "seeds": [0, 1],
    "kinds": ["decay", "path"],
}


def test_instances() -> None:
    X, y, beta = instance("circle")
    for found, expected in zip((X, y, beta), circle(), strict=True):
        np.testing.assert_allclose(found, expected)
    X, y, _ = instance("ecg")
    assert X.shape == (12, 2)
    assert torch.equal(X[1:, 0], y[:-1])


def test_digits_are_split_without_overlap_and_labelled_by_parity() -> None:
    X, y, X_test, y_test = digits(1200)
    assert (X.shape, X_test.shape) == ((1200, 65), (597, 65))
    assert set(torch.cat([y, y_test]).tolist()) == {-1.0, 1.0}
    source = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    np.testing.assert_array_equal(torch.cat([X, X_test])[:, :-1] * 16, source.data[order])
    np.testing.assert_array_equal(torch.cat([y, y_test]) > 0, source.target[order] % 2 == 0)


@pytest.mark.parametrize("name", SETS[1:])
def test_tables_have_two_classes_and_keep_test_rows_apart(name: str) -> None:
    if name not in INSTALLED and not os.environ.get("CONVEXLIB_MIRROR"):
        pytest.skip("CONVEXLIB_MIRROR is not set: no mirror of the UCI tables")
    features, labels = cl.datasets.load_uci(name)
    X, y, X_test, y_test = load(name, 100)
    train, test = split(len(labels))
    assert len(X) == min(100, len(train))
    np.testing.assert_array_equal(X[:, :-1], features[train[:100]])
    np.testing.assert_array_equal(X_test[:, :-1], features[test])
    assert (X[:, -1] == 1).all()
    np.testing.assert_array_equal(y_test > 0, labels[test] == labels.max())
    assert set(y.tolist()) == {-1.0, 1.0}


def test_landscape_is_measured_from_the_proven_optimum() -> None:
    result = compute(LANDSCAPE)
    assert result["value"] == pytest.approx(0.07265342213, abs=1e-9)
    assert result["units"] == 1593
    excess = np.array(result["excess"])  # (R, S)
    assert excess.shape == (2, 3)
    assert (excess >= -1e-8).all()
    lowest = result["value"] * (1 + excess.min())
    assert lowest == pytest.approx(result["lowest"], rel=1e-5)
    np.testing.assert_allclose(result["reached"][0], [(excess[0] <= c).mean() for c in CLOSE])


@pytest.mark.slow
def test_methods_on_a_set_have_one_objective_and_their_budgets(tmp_path) -> None:
    (record,) = runner.run("three_layer", compute, [DIGITS], folder=tmp_path)
    result = record["result"]
    X, y, *_ = digits(60)
    free = cl.ThreeLayer(X, y, beta=1.0, units="generate")
    assert result["beta"] == pytest.approx(DIGITS["ratio"] * free.beta_max(), rel=1e-6)
    assert set(result["kinds"]) == {"decay", "path"}
    for made in result["kinds"].values():
        generated = made["generated"]
        assert generated["by_seed"][0] == pytest.approx(generated["objective"], rel=1e-5)
        seconds = generated["seconds"]
        for name in BASELINES:
            alone, tuned = made[name]["alone"], made[name]["tuned"]
            assert alone["curve"]["seconds"][-1] <= 2 * seconds + 0.2  # two seeds, side by side
            assert tuned["curve"]["seconds"][-1] == pytest.approx(seconds, abs=0.1)
            assert alone["objective"] <= min(alone["by_rate"]) * (1 + 1e-5)
            assert alone["objective"] <= min(alone["by_seed"]) * (1 + 1e-5)
            assert alone["rate"] in made[name]["rates"]
            for run in (alone, tuned):  # how far below its start it comes is the machine's
                start = run["curve"]["objective"][0]
                assert generated["dual"] <= run["objective"] <= start * (1 + 1e-5)
        for score in (generated, made["sampled"]):
            assert generated["dual"] <= score["objective"] <= 0.5 * float(y @ y)
    assert EXPERIMENT.missed(record) is None
    assert "path generated" in table([record])


def test_a_grid_is_widened_until_the_best_rate_is_inside(monkeypatch) -> None:
    class Run:
        best_network = None

        def __init__(self, rates, seeds) -> None:
            # The best rate is 2.7, far above the first grid.
            self.best_objective = abs(np.log(rates[0] / 2.7))
            self.best_rate, self.best_seed = rates[0], seeds[0]
            self.objective = np.full((len(seeds), 1, 1), self.best_objective)

    tried = []

    def train(problem, K, *, rates, seeds, **_):
        tried.append(tuple(rates))
        return Run(rates, seeds)

    monkeypatch.setattr(methods, "train_parallel", train)
    monkeypatch.setattr(methods, "run_scores", lambda problem, run, data: {})
    config = {**DIGITS, "rates": {"sgd": [0.1, 0.3]}, "widenings": 5}
    found = methods._descent(None, "sgd", 1.0, None, config)
    assert found["rates"] == [0.1, 0.3, 0.9, 2.7, 8.1]
    assert tried[-2:] == [(2.7,), (0.1, 0.3, 0.9, 2.7, 8.1)]


@pytest.mark.parametrize("beta", [0.5, 20.0, 1e4])
def test_linear_reference_is_the_optimum(beta: float) -> None:
    data = digits(60)
    found = methods._linear(data, beta)
    w = cp.Variable(65)
    program = cp.Minimize(
        0.5 * cp.sum_squares(data[0].numpy() @ w - data[1].numpy()) + beta * cp.norm(w, 2)
    )
    value = cp.Problem(program).solve(solver=cp.CLARABEL)
    assert found["objective"] == pytest.approx(value, rel=1e-6)


def test_a_run_below_the_bound_is_a_miss() -> None:
    record = {"config": {"part": "landscape"}, "result": {"lowest": 1.0, "dual": 2.0}}
    assert "below the proven bound" in EXPERIMENT.missed(record)
    runs = {name: {"alone": {"objective": end}} for name, end in (("sgd", 3.0), ("adam", 1.0))}
    kinds = {"path": {"generated": {"dual": 2.0}, **runs}}
    record = {"config": {"part": "sets"}, "result": {"kinds": kinds}}
    assert EXPERIMENT.missed(record) == "adam ends below the lower bound 2.0 (path)"


def made_up(name: str, ratio: float, ours: float, others: dict[str, float]) -> dict:
    """A record with given objectives, and accuracies 0.9 for the search and 0.8, 0.9, 1 beside."""
    generated = {"objective": ours, "test_accuracy": 0.9, "by_seed": [ours] * 2, "seconds": 1.0}
    runs = {
        name: {way: {"objective": value, "test_accuracy": 0.8} for way in ("alone", "tuned")}
        for name, value in others.items()
    }
    result = {
        "rows": [10, 2, 5],
        "beta": ratio,
        "kinds": {"decay": {"generated": generated, **runs}},
        "two_layers": {"test_accuracy": 0.9},
        "linear": {"test_accuracy": 1.0},
    }
    return {"config": {"part": "sets", "set": name, "ratio": ratio}, "result": result}


def test_the_verdict_counts_against_the_best_baseline() -> None:
    found = [
        made_up("a", 0.1, 10.0, {"sgd": 20.0, "adam": 11.0}),
        made_up("a", 0.2, 10.0, {"sgd": 9.0, "adam": 11.0}),
        made_up("b", 0.1, 10.0, {"sgd": 20.0, "adam": 10.002}),
        {"config": {"part": "landscape"}, "result": {}},
    ]
    verdict = tables.verdict(found, "decay")
    assert (verdict["settings"], verdict["sets"]) == (3, 2)
    assert verdict["objective"] == (1, 1, 1)
    np.testing.assert_allclose(sorted(verdict["above"]), [-0.1, 0.0002, 0.1])
    assert verdict["test"] == {"best": (3, 0, 0), "two layers": (0, 3, 0), "linear": (0, 0, 3)}
    summary = tables.summary(found, "decay")
    assert "| 1 | 1 | 1 | +0.0 (-10.0 to +10.0)% |" in summary
    assert "+10.0%" in tables.objectives(found, "decay")
    assert tables.comparison(found, "path") == []
    assert "100.0%" in tables.accuracies(found, "decay")


@pytest.mark.parametrize(
    ("wins", "losses", "verdict"),
    [
        (8, 0, "reproduced"),  # p = 0.008
        (10, 1, "reproduced"),  # p = 0.012
        (14, 3, "reproduced"),  # p = 0.013
        (5, 0, "not reproduced"),  # p = 0.063
        (4, 3, "not reproduced"),
        (2, 2, "not reproduced"),
        (0, 9, "not reproduced"),
        (0, 0, "not reproduced"),
    ],
)
def test_a_lead_needs_a_sign_test(wins, losses, verdict):
    assert tables.by_signs(wins, losses) == verdict


def test_a_set_is_won_if_it_is_ahead_somewhere_and_behind_nowhere() -> None:
    by_set = {
        "won": [0.01, 0.0],
        "won twice": [0.01, 0.002],
        "tied": [0.0005, -0.0005],
        "both": [0.01, -0.01],
        "lost": [0.0, -0.01],
    }
    assert tables.sets_won(by_set) == (2, 1)


def test_runs_that_arrive_are_those_of_the_best_rate() -> None:
    config = {"part": "landscape", "instance": "circle", "K": 4, "rates": [0.1, 0.3]}
    result = {"best_rate": 0.3, "excess": [[0.0, 0.0], [0.5, 0.005]]}
    found = [{"config": config, "result": result}, {"config": {"part": "sets"}, "result": {}}]
    assert tables.reached(found) == {"circle": {4: 0.5}}
