"""The ECG comparison: right data, one objective for all, certified optimum below everything."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.experiments.ecg import EXPERIMENT, METHODS, compare, configs, load_task, table
from convexlib.experiments.runner import digest, run

TINY = {
    **configs("quick")[0],
    "n_train": 120,
    "n_test": 200,
    "width": 8,
    "factor": 2,
    "ratio": 0.05,
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    (found,) = run("ecg", compare, [TINY], folder=tmp_path_factory.mktemp("results"))
    return found


def test_task_is_the_signal_in_standard_units():
    signal, rate = cl.datasets.load_ecg()
    task = load_task(2, n_train=100, n_test=50)
    assert task.rate == rate
    assert task.X.shape == (100, 3)
    assert task.X_test.shape == (50, 3)
    times = np.arange(2, 152)
    back = [task.mean + task.scale * torch.cat(part).numpy() for part in
            ((task.y, task.y_test), (task.X[:, 0], task.X_test[:, 0]),
             (task.X[:, 1], task.X_test[:, 1]))]  # fmt: skip
    for found, delay in zip(back, (0, 1, 2), strict=True):
        assert_allclose(found, signal[times - delay], atol=1e-12)
    assert (task.X[:, 2] == 1).all()


def test_task_is_standardised_by_the_training_part_only():
    task, longer = load_task(1, n_train=100, n_test=50), load_task(1, n_train=100, n_test=500)
    assert (task.mean, task.scale) == (longer.mean, longer.scale)
    seen = torch.cat([task.X[:1, 0], task.y])
    assert_allclose(float(seen.mean()), 0.0, atol=1e-12)
    assert_allclose(float(seen.std(correction=0)), 1.0, rtol=1e-12)


def test_optimum_is_certified_and_nothing_lies_below_it(record):
    convex = record["result"]["convex"]
    assert convex["rigorous"] is True
    assert convex["relative_gap"] <= TINY["tol"]
    assert EXPERIMENT.missed(record) is None
    for method in record["result"]["methods"].values():
        for run_ in method.values():
            assert run_["objective"] >= convex["dual"] * (1 - 1e-12)


def test_the_network_kept_is_the_one_that_was_scored(record):
    convex, task = record["result"]["convex"], load_task(1, n_train=120, n_test=200)
    parts = (torch.tensor(convex[name], dtype=torch.float64) for name in ("U", "alpha"))
    network = cl.TwoLayerReLU(*parts)
    problem = cl.TwoLayer(task.X, task.y, beta=record["result"]["beta"], arrangements="generate")
    assert_allclose(problem.objective(network), convex["objective"], rtol=1e-12)
    with torch.no_grad():
        errors = task.y_test - network(task.X_test)
    assert_allclose(float((errors**2).mean()), convex["test_mse"], rtol=1e-10)
    assert_allclose(record["result"]["beta"], 0.05 * problem.beta_max(), rtol=1e-8)
    assert convex["neurons"] <= len(convex["alpha"])


def test_all_methods_are_there_with_their_budgets(record):
    result = record["result"]
    seconds = result["convex"]["seconds"]
    assert set(result["methods"]) == set(METHODS)
    for name, method in result["methods"].items():
        alone, tuned = method["alone"], method["tuning"]
        assert alone["rate"] in ([1.0] if name == "lbfgs" else TINY["rates"][name])
        assert name == "lbfgs" or alone["seed"] == tuned["seed"]
        assert np.all(np.diff(alone["curve"]["objective"]) <= 0)
        assert len(tuned["curve"]["seconds"]) <= 200
        assert tuned["objective_at_equal_time"] >= tuned["objective"] * (1 - 1e-9)
        grid = (len(TINY["seeds"]), 1 if name == "lbfgs" else len(TINY["rates"][name]))
        assert np.shape(tuned["final"]) == grid
        if name != "lbfgs":  # which may end by itself
            assert alone["curve"]["seconds"][-1] >= 0.99 * seconds
            assert tuned["curve"]["seconds"][-1] >= 0.99 * 2 * seconds


def test_linear_is_least_squares(record):
    task, linear = load_task(1, n_train=120, n_test=200), record["result"]["linear"]
    expected, *_ = np.linalg.lstsq(task.X.numpy(), task.y.numpy(), rcond=None)
    assert_allclose(linear["coefficients"], expected, rtol=1e-9)
    assert linear["train_mse"] <= record["result"]["persistence"]["test_mse"] * 10


def test_a_missed_tolerance_is_told(record):
    def altered(**changes):
        convex = record["result"]["convex"] | changes
        return {**record, "result": record["result"] | {"convex": convex}}

    assert EXPERIMENT.missed(altered(relative_gap=1e-3)) == "relative gap 1.0e-03 > tol 1.0e-06"
    assert EXPERIMENT.missed(altered(rigorous=False)) == "the certificate is not rigorous"


def test_table_has_a_line_for_each_method(record):
    lines = table([record]).splitlines()
    assert len(lines) == 1 + 1 + len(METHODS) + 1
    assert [line.split()[2] for line in lines[1:]] == ["convex", *METHODS, "linear"]


def test_profiles():
    full, quick = configs("full"), configs("quick")
    assert {(config["lags"], config["ratio"]) for config in full} == {
        (lags, ratio) for lags in (1, 2) for ratio in (0.1, 0.01, 0.001)
    }
    assert all(config["n_train"] == 2000 and len(config["seeds"]) >= 3 for config in full)
    assert len({digest(config) for config in full + quick}) == len(full) + len(quick)
    assert configs("quick", seeds=(7, 8))[0]["seeds"] == [7, 8]
    assert configs("quick", device="cuda")[0]["device"] == "cuda"
