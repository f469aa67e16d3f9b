"""The ECG comparison: right data, one objective for all, certified optimum below everything."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.errors import InputError
from convexlib.networks import outputs
from experiments.ecg import EXPERIMENT, METHODS, compute, configs, load_task, methods
from experiments.ecg.methods import stored_network
from experiments.ecg.tables import ORDER, excess, reference
from experiments.runner import measure

SMALL = {"n_train": 120, "n_test": 200, "width": 8, "ratio": 0.05}
PROVEN = {**configs("quick")[0], **SMALL, "factor": 2}
SAMPLED = {**configs("quick")[2], **SMALL, "patterns": 30, "gates": 40, "tol": 1e-4}


@pytest.fixture(scope="module")
def record():
    return measure(compute, PROVEN)


@pytest.fixture(scope="module")
def many():
    return measure(compute, SAMPLED)


def problem_of(record):
    config = record["config"]
    task = load_task(config["lags"], config["n_train"], config["n_test"])
    beta = record["result"]["beta"]
    return task, cl.TwoLayer(task.X, task.y, beta=beta, arrangements="generate")


@pytest.mark.parametrize(
    ("record", "load"), [(208, cl.datasets.load_ecg), (100, cl.datasets.load_ecg_beats)]
)
def test_task_is_the_signal_in_standard_units_of_the_training_part(record, load):
    signal, rate, *_ = load()
    task = load_task(2, n_train=100, n_test=50, record=record)
    assert task.rate == rate
    assert_allclose([task.mean, task.scale], [signal[:102].mean(), signal[:102].std()], rtol=1e-12)
    y, X = torch.cat([task.y, task.y_test]), torch.cat([task.X, task.X_test])
    for found, delay in ((y, 0), (X[:, 0], 1), (X[:, 1], 2)):
        assert_allclose(task.mean + task.scale * found, signal[2 - delay : 152 - delay], atol=1e-12)
    assert (X[:, 2] == 1).all()
    assert len(task.y) == 100


def test_other_records_are_refused():
    with pytest.raises(InputError, match=r"record is 101; expected one of \[100, 208\]"):
        load_task(3, record=101)


def test_optimum_is_certified_and_nothing_lies_below_it(record):
    runs = record["result"]["methods"]["generated"]
    assert len(runs) == len(PROVEN["seeds"])
    for convex in runs:
        assert convex["rigorous"] is True
        assert convex["gap"] <= PROVEN["tol"]
        assert_allclose(convex["gap"], 1 - convex["dual"] / convex["objective"], atol=1e-12)
    assert EXPERIMENT.missed(record) is None
    lowest = reference(record["result"]) * (1 - 1e-12)
    for name in METHODS:
        reached = [*record["result"]["methods"][name], record["result"]["longer"][name]]
        assert min(run_["objective"] for run_ in reached) >= lowest


def test_with_more_lags_the_bound_is_valid_but_not_called_rigorous(many):
    methods = many["result"]["methods"]
    assert many["result"]["rows"] == [120, 6]
    assert EXPERIMENT.missed(many) is None
    for convex in methods["generated"]:
        assert convex["rigorous"] is False
        assert 0 <= convex["search_gap"] <= 10 * SAMPLED["tol"]
        assert convex["search_gap"] <= convex["gap"] + 1e-12  # the estimate is the higher bound
    dual = max(run_["dual"] for run_ in methods["generated"])
    for name in ("generated", "sampled", *METHODS):
        assert min(run_["objective"] for run_ in methods[name]) >= dual * (1 - 1e-12)
    # Sampled patterns are some of all patterns; local search ends within its estimated gap.
    worst = max(run_["objective"] for run_ in methods["generated"])
    best = min(run_["objective"] for run_ in methods["sampled"])
    assert worst <= best * (1 + 10 * SAMPLED["tol"])
    for name in ("sampled", "gated"):
        assert all(run_["gap"] <= 1e-4 and run_["patterns"] <= 40 for run_ in methods[name])


@pytest.mark.parametrize("kind", ["record", "many"])
def test_the_network_kept_is_the_one_that_was_scored(kind, request):
    found = request.getfixturevalue(kind)
    task, problem = problem_of(found)
    convex, *others = found["result"]["methods"]["generated"]
    network = stored_network(convex)
    assert_allclose(problem.objective(network), convex["objective"], rtol=1e-12)
    errors = task.y_test - outputs(network, task.X_test)
    assert_allclose(float((errors**2).mean()), convex["test_mse"], rtol=1e-10)
    assert convex["neurons"] <= len(convex["alpha"])
    assert not any("U" in run_ for run_ in others)


def test_beta_is_a_part_of_its_largest_value(record):
    # Rank 2: the maximum over directions is found by going round the circle.
    task, _ = problem_of(record)
    angles = torch.linspace(0, 2 * np.pi, 200_001, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()])
    heights = torch.cat([task.y @ torch.relu(task.X @ part) for part in circle.split(20_000, 1)])
    assert_allclose(record["result"]["beta"], 0.05 * float(heights.abs().max()), rtol=1e-8)


@pytest.mark.parametrize("kind", ["record", "many"])
def test_all_methods_are_there_with_their_budgets(kind, request):
    found = request.getfixturevalue(kind)
    result, config = found["result"], found["config"]
    convex = result["methods"]["generated"]
    seconds = np.mean([run_["seconds"] for run_ in convex])
    assert_allclose(result["seconds"], seconds, atol=1e-3)
    assert set(result["methods"]) == {*METHODS, "generated", *(("sampled", "gated")
                                      if kind == "many" else ())}  # fmt: skip
    assert set(result["longer"]) == (set(METHODS) if config["factor"] else set())
    for name in METHODS:
        runs = result["methods"][name]
        assert [run_["seed"] for run_ in runs] == config["seeds"]
        rates = {run_["rate"] for run_ in runs}
        assert len(rates) == 1
        assert rates <= set(config["rates"].get(name, [1.0]))
        (curve,) = (run_["curve"] for run_ in runs if "curve" in run_)
        assert np.all(np.diff(curve["objective"]) <= 0)
        lowest = min(run_["objective"] for run_ in runs)
        assert_allclose(curve["objective"][-1], lowest, rtol=1e-6)
        if name != "lbfgs":  # which may end by itself
            assert all(run_["seconds"] >= 0.99 * seconds for run_ in runs)
    for name, run_ in result["longer"].items():
        assert name == "lbfgs" or run_["seconds"] >= 0.99 * config["factor"] * seconds


def test_the_rate_is_the_best_one_of_the_first_seed(monkeypatch):
    task, problem = problem_of({"config": PROVEN, "result": {"beta": 1.0}})
    tried = []
    real = methods._descend

    def watched(*arguments):
        run_ = real(*arguments)
        tried.append((arguments[3], arguments[4], run_.best_objective))
        return run_

    monkeypatch.setattr(methods, "_descend", watched)
    config = {**PROVEN, "seeds": [3, 5], "rates": {"adam": [0.03, 1e-6]}}
    methods.at_equal_time("adam", problem, task, config, 0.05)
    assert [part[:2] for part in tried] == [([0.03], [3]), ([1e-6], [3]), ([0.03], [5])]
    assert tried[0][2] < tried[1][2]


def altered(record, name, **changes):
    """A copy of a record with something else in the first run of a method."""
    other = copy.deepcopy(record)
    other["result"]["methods"][name][0] |= changes
    return other


@pytest.mark.parametrize(
    ("kind", "name", "change", "said"),
    [
        ("record", "generated", {"gap": 1e-3}, "relative gap 1.0e-03 > tol 1.0e-06"),
        ("record", "generated", {"rigorous": False}, "the certificate is not rigorous"),
        ("record", "sgd", {"objective": 1.0}, "sgd ends below the lower bound"),
        ("many", "generated", {"search_gap": 0.1}, "estimated gap 1.0e-01"),
        ("many", "generated", {"gap": 0.9}, None),
        ("many", "gated", {"objective": 1.0}, None),  # another model
    ],
)
def test_a_missed_tolerance_is_told(kind, name, change, said, request):
    missed = EXPERIMENT.missed(altered(request.getfixturevalue(kind), name, **change))
    assert missed is None if said is None else missed.startswith(said)


def test_excess_is_relative_to_the_bound_or_the_lowest_convex_value(record, many):
    proven, generated = record["result"], many["result"]
    assert reference(proven) == max(r["dual"] for r in proven["methods"]["generated"])
    assert min(excess(generated, "generated")) == 0.0
    doubled = altered(many, "sgd", objective=2 * reference(generated))["result"]
    assert excess(doubled, "sgd")[0] == pytest.approx(1.0)


def test_table_has_a_line_for_each_method(record, many):
    lines = EXPERIMENT.table([many, record]).splitlines()
    assert [line.split()[3] for line in lines[1:]] == [
        "generated", *METHODS, "linear", *ORDER, "linear",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 120
