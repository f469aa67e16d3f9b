"""The three-layer experiment: right data, proven optima, one objective, committed records."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import convexlib as cl
from convexlib.experiments import runner
from convexlib.experiments.three_layer import (
    CLOSE,
    EXPERIMENT,
    compute,
    configs,
    digits,
    instance,
    table,
)
from convexlib.solvers.parallel_descent import OPTIMIZERS
from tests.problems.unit_programs import circle

LANDSCAPE = {**configs("quick")[0], "steps": 100, "seeds": [0, 1, 2], "K": 4}
DIGITS = {**configs("quick")[-1], "n_train": 60, "rounds": 1, "samples": 20, "K": 2, "seeds": [0]}


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


def test_digits_methods_have_one_objective_and_their_budgets(tmp_path) -> None:
    (record,) = runner.run("three_layer", compute, [DIGITS], folder=tmp_path)
    result = record["result"]
    methods = result["methods"]
    assert set(methods) == {"generated", "sampled", *OPTIMIZERS}
    seconds = methods["generated"]["seconds"]
    for name in OPTIMIZERS:
        assert methods[name]["alone"]["curve"]["seconds"][-1] == pytest.approx(seconds, abs=0.1)
        assert methods[name]["tuned"]["curve"]["seconds"][-1] == pytest.approx(2 * seconds, abs=0.1)
    scores = [methods["generated"], methods["sampled"]]
    scores += [methods[name][label] for name in OPTIMIZERS for label in ("alone", "tuned")]
    for score in scores:
        assert methods["generated"]["dual"] <= score["objective"]
    X, y, *_ = digits(60)
    free = cl.ThreeLayer(X, y, beta=1.0, units="generate")
    assert result["beta"] == pytest.approx(DIGITS["ratio"] * free.beta_max(), rel=1e-6)
    assert EXPERIMENT.missed(record) is None
    assert "generated" in table([record])


def test_a_run_below_the_bound_is_a_miss() -> None:
    record = {"config": {"part": "landscape"}, "result": {"lowest": 1.0, "dual": 2.0}}
    assert "below the proven bound" in EXPERIMENT.missed(record)


def test_committed_records_are_the_full_profile() -> None:
    wanted = {runner.file_name(config) for config in configs("full")}
    found = {runner.file_name(record["config"]) for record in runner.records("three_layer")}
    assert found == wanted
