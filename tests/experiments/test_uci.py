"""The UCI experiment: the protocol of the paper, one referee for all, certified optima."""

from collections import Counter

import cvxpy as cp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import convexlib as cl
from convexlib.networks import TwoLayerReLU, squared_weights
from experiments import uci
from experiments.runner import digest
from experiments.uci import compute, configs, load_task, split
from experiments.uci.methods import METHODS, patterns, side_by_side

RUNS = {"rates": [1.0, 0.1], "seeds": [0, 1], "epochs": 5, "batches": 10, "records": 5}
OPTIONS = {
    "gated": {"patterns": 6, "tol": 1e-8},
    "relu": {"patterns": 6, "tol": 1e-8},
    "generated": {"rounds": 3, "tol": 1e-6, "certificate": 0.5},
    "by output": {k: v for k, v in RUNS.items() if k != "records"} | {"width": 6},
    "descent": {**RUNS, "width": 6, "match": False},
    "on gates": {**RUNS, "patterns": 6},
}


def options(method):
    """Small settings of a method."""
    if method in ("sgd", "adam"):
        return OPTIONS["by output"]
    if method.startswith(("sgd", "adam")):
        return OPTIONS["on gates" if "gated" in method else "descent"]
    return OPTIONS[method.removesuffix("-again")]


# The rows 0 to 12 as default_rng(1995) shuffles them.
SHUFFLED = [1, 9, 6, 0, 12, 3, 11, 5, 2, 8, 4, 10, 7]


def table(n_classes):
    """Forty rows of two features that matter and one that is constantly 0."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((40, 3)) * [1.0, 20.0, 0.0]
    return X, np.digitize(X[:, 0] + 0.05 * X[:, 1], [-0.5, 0.5][: n_classes - 1]) + 2


def config(method, value=1e-3):
    return {
        "data": "made-up",
        "lambda": value,
        "method": method,
        "device": "cpu",
        **options(method),
    }


@pytest.fixture(params=[2, 3], ids=["binary", "three classes"])
def task(request, monkeypatch):
    monkeypatch.setattr(uci.methods, "load_uci", lambda name: table(request.param))
    return load_task("made-up")


@pytest.fixture(scope="module")
def results():
    """The result of every method on the table of three classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uci.methods, "load_uci", lambda name: table(3))
        return {method: compute(config(method)) for method in METHODS}


def test_the_first_fifth_of_the_shuffled_rows_tests():
    train, test = split(13)
    assert test.tolist() == SHUFFLED[:2]
    assert train.tolist() == SHUFFLED[2:]
    assert len(split(14)[1]) == 2
    assert len(split(15)[1]) == 3


def test_columns_have_unit_length_on_the_training_rows(task):
    X, labels = table(3 if task.Y.shape[1] == 3 else 2)
    train, test = split(40)
    assert task.X.shape == (32, 3)
    assert_allclose(torch.linalg.vector_norm(task.X, dim=0).numpy(), [1, 1, 0], rtol=1e-12)
    for k in (0, 1):
        length = np.sqrt((X[train, k] ** 2).sum())
        assert_allclose(task.X[:, k].numpy(), X[train, k] / length, rtol=1e-12)
        assert_allclose(task.X_test[:, k].numpy(), X[test, k] / length, rtol=1e-12)
    assert not task.X_test[:, 2].any()
    assert_array_equal(task.labels.numpy(), labels[train] - 2)
    assert_array_equal(task.labels_test.numpy(), labels[test] - 2)


def test_targets_are_signs_or_one_hot(task):
    if task.Y.shape[1] == 1:
        assert_array_equal(task.Y[:, 0].numpy(), np.where(task.labels.numpy() == 1, 1.0, -1.0))
    else:
        assert task.Y.shape == (32, 3)
        assert_array_equal(task.Y.argmax(dim=1).numpy(), task.labels.numpy())
        assert_array_equal(task.Y.sum(dim=1).numpy(), np.ones(32))
        assert set(task.Y.unique().tolist()) == {0.0, 1.0}


def test_duplicates_and_the_pattern_of_zeros_are_left_out():
    X = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    assert patterns(X, 50).masks.tolist() == [[True, True, True]]
    assert len(cl.sample_arrangements(X, 50)) == 2


def test_there_are_438_problems_and_the_quick_ones_are_small():
    full = configs("full")
    assert len({(c["data"], c["lambda"]) for c in full}) == 438
    assert len({digest(c) for c in full}) == len(full)
    counts = Counter(c["method"] for c in full)
    assert set(counts) == set(METHODS)
    everywhere = "gated", "relu", "sgd", "adam", "generated", "sgd-relu", "adam-relu"
    assert {counts[name] for name in everywhere} == {438}
    assert counts["adam-gated"] == counts["sgd-gated"] == 43 * 6  # of at most 1,000 rows
    assert (
        counts["adam-relu-2000"] == counts["sgd-relu-2000"] == (43 + 10) * 6
    )  # and a third of the others
    assert {c["epochs"] for c in full if c["method"].endswith("-2000")} == {2000}
    assert_allclose(uci.LAMBDAS, [10**e for e in (-5, -4.2, -3.4, -2.6, -1.8, -1)], rtol=1e-9)
    assert [c["data"] for c in full[:36]] == ["monks-3"] * 36  # the smallest table
    catalogue = uci.datasets.catalogue()
    assert all(catalogue[c["data"]].shape[0] < 600 for c in configs("quick"))
    assert {c["device"] for c in configs("quick", device="cuda")} == {"cuda"}


@pytest.mark.parametrize("method", ["gated", "relu"])
def test_the_value_is_that_of_cvxpy_on_the_program_as_written(task, method):
    found = METHODS[method](config(method))
    X, Y = task.X.numpy(), task.Y.numpy()
    n, value = len(X), 1e-3
    masks = patterns(task.X, 6).masks.double().numpy()
    fitted, penalty, constraints = 0, 0, []
    for D in masks:
        signs = (1, -1) if method == "relu" else (1,)
        for sign in signs:
            block = cp.Variable((3, Y.shape[1]))
            fitted = fitted + sign * cp.multiply(D[:, None], X @ block)
            penalty = penalty + cp.sum(cp.norm(block, 2, axis=0))
            if method == "relu":
                constraints.append(cp.multiply(2 * D[:, None] - 1, X @ block) >= 0)
    objective = cp.sum_squares(fitted - Y) / (2 * n) + value * penalty
    optimum = cp.Problem(cp.Minimize(objective), constraints).solve(solver=cp.CLARABEL)
    assert_allclose(found["objective"], optimum, rtol=1e-6)
    assert found["dual"] <= optimum * (1 + 1e-7)
    assert found["relative_gap"] <= 1e-8
    assert found["patterns"] == len(masks)


def test_the_referee_agrees_with_the_solvers(results):
    for method in ("gated", "relu", "generated"):
        assert_allclose(results[method]["objective"], results[method]["program_value"], rtol=1e-9)
        assert results[method]["scope"] == ("network" if method == "generated" else "program")
    for method, result in results.items():
        assert_allclose(result["zero"], 0.5, rtol=1e-12)  # one-hot rows have length 1
        assert result["shape"] == [32, 3, 3]
        assert result["objective"] > 0, method


def test_no_network_lies_below_the_bound_of_its_class(results):
    for method in ("relu", "generated", "sgd", "adam-relu", "adam-separate"):
        assert results[method]["objective"] >= results["generated"]["dual"]
    for method in ("sgd-gated", "adam-gated"):
        assert results[method]["objective"] >= results["gated"]["dual"]
    assert results["generated"]["objective"] <= results["relu"]["objective"] * (1 + 1e-6)


def test_curves_fall_to_the_objective(results):
    for result in results.values():
        seconds, values = (np.array(result["curve"][k]) for k in ("seconds", "objective"))
        assert (np.diff(seconds) >= 0).all()
        assert (np.diff(values) <= 0).all()
        assert seconds[-1] <= result["seconds"] + 1e-3
        assert_allclose(values[-1], result["objective"], rtol=1e-6)  # descent is in float32


def test_the_objective_of_descent_is_that_of_a_run_made_again(results, monkeypatch):
    monkeypatch.setattr(uci.methods, "load_uci", lambda name: table(3))
    again = compute(config("sgd"))
    assert_allclose(again["objective"], results["sgd"]["objective"], rtol=1e-6)
    assert again["best_rates"] == results["sgd"]["best_rates"]
    for method in ("sgd-relu", "adam-relu"):  # the epochs are the configuration's, not the name's
        assert results[f"{method}-2000"]["objective"] == results[method]["objective"]
    assert again["runs"] == 4
    assert again["steps"] == 50
    assert len(results["sgd-gated"]["best_rates"]) == 1


def test_outputs_of_their_own_have_rates_of_their_own(task):
    method = "adam-separate"
    found = METHODS[method]({**config(method), "outputs": "separate"})
    assert len(found["best_rates"]) == task.Y.shape[1]
    assert found["neurons"] == 6 * task.Y.shape[1]


def test_descent_is_as_wide_as_the_network_of_the_program(task, monkeypatch):
    """From its record where there is one; else the program is solved."""
    matched = {**config("sgd-relu"), "width": 2, "match": True, "epochs": 1}
    monkeypatch.setitem(uci.methods.CONVEX, "relu", OPTIONS["relu"])
    monkeypatch.setattr(uci.methods, "find", lambda *_: None)
    solved = METHODS["relu"](config("relu"))["neurons"]
    assert METHODS["sgd-relu"](matched)["width"] == max(2, solved) > 2
    monkeypatch.setattr(uci.methods, "find", lambda *_: {"result": {"neurons": 9}})
    assert METHODS["sgd-relu"](matched)["width"] == 9


def test_networks_side_by_side_have_the_outputs_of_each():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    parts = [
        TwoLayerReLU(torch.randn(m, 3, generator=generator), torch.randn(m, generator=generator))
        for m in (4, 0, 2)
    ]
    both = side_by_side(parts)
    for k, part in enumerate(parts):
        assert_allclose(
            both(X)[:, k].detach().numpy(), part.double()(X).detach().numpy(), atol=1e-12
        )
    decay = sum(float(squared_weights(part)) for part in parts)
    assert_allclose(float(squared_weights(both)), decay, rtol=1e-12)


def test_a_large_penalty_leaves_the_network_of_no_neurons(task):
    for method in ("gated", "relu"):
        found = METHODS[method](config(method, value=1.0))
        assert found["neurons"] == 0
        assert found["objective"] == found["zero"] == found["dual"]


def test_a_record_says_whether_it_misses(results):
    record = {"config": config("gated"), "result": results["gated"]}
    assert uci.EXPERIMENT.missed(record) is None
    worse = {**record, "result": results["gated"] | {"relative_gap": 2e-8}}
    assert "gated on made-up, lambda 1.0e-03: relative gap 2.0e-08" in uci.EXPERIMENT.missed(worse)
