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
from experiments.ecg.methods import HE, stored_network
from experiments.ecg.tables import (
    ORDER,
    brief,
    excess,
    gap,
    is_proven,
    loss_and_penalty,
    margins,
    reference,
    split,
    strip,
)
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


def test_with_more_lags_the_bound_is_that_of_certify(many):
    methods = many["result"]["methods"]
    bound = many["result"]["bound"]
    task, problem = problem_of(many)
    network = stored_network(methods["generated"][0])
    certificate = cl.certify(network, task.X, task.y, beta=problem.beta)
    assert_allclose(bound["dual"], certificate.dual, rtol=1e-3)  # its time is limited
    assert bound["rigorous"] is True
    assert bound["method"] == certificate.method
    assert many["result"]["rows"] == [120, 6]
    assert EXPERIMENT.missed(many) is None
    for convex in methods["generated"]:
        assert convex["rigorous"] is False
        assert 0 <= convex["search_gap"] <= 10 * SAMPLED["tol"]
        assert convex["search_gap"] <= convex["gap"] + 1e-12  # the estimate is the higher bound
    assert bound["dual"] >= max(run_["dual"] for run_ in methods["generated"]) * (1 - 1e-12)
    dual = bound["dual"]
    for name in ("generated", "sampled", *METHODS):
        assert min(run_["objective"] for run_ in methods[name]) >= dual * (1 - 1e-12)
    # Sampled patterns are some of all patterns; local search ends within its estimated gap.
    worst = max(run_["objective"] for run_ in methods["generated"])
    best = min(run_["objective"] for run_ in methods["sampled"])
    assert worst <= best * (1 + 10 * SAMPLED["tol"])
    for name in ("sampled", "gated"):
        assert all(run_["gap"] <= 1e-4 and run_["patterns"] <= 40 for run_ in methods[name])


def test_a_network_without_neurons_is_kept_and_bounded():
    task = load_task(2, 40, 20)
    free = cl.TwoLayer(task.X, task.y, beta=1.0, arrangements="generate")
    problem = free.with_beta(2.0 * free.beta_max())
    nothing = {"rigorous": False, "U": [], "alpha": []}
    assert (outputs(stored_network(nothing, 3), task.X_test) == 0).all()
    bound = methods.bound_of(problem, [nothing])
    assert_allclose(bound["dual"], 0.5 * float(task.y @ task.y), rtol=1e-9)


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


def test_rate_and_scale_are_the_best_ones_of_the_first_seed(monkeypatch):
    task, problem = problem_of({"config": PROVEN, "result": {"beta": 1.0}})
    tried = []
    real = methods._descend

    def watched(*arguments):
        run_ = real(*arguments)
        tried.append((*arguments[3:6], run_.best_objective))
        return run_

    monkeypatch.setattr(methods, "_descend", watched)
    config = {**PROVEN, "seeds": [3, 5], "rates": {"adam": [0.03, 1e-6]}, "scales": [HE, 0.1]}
    chosen, he, scales = methods.at_equal_time("adam", problem, task, config, 0.05)
    pairs = [(scale, [rate], [3]) for scale in (HE, 0.1) for rate in (0.03, 1e-6)]
    assert [part[:3] for part in tried[:4]] == pairs
    assert tried[0][3] < tried[1][3]
    best = min((0, 2), key=lambda place: tried[place][3])
    assert [part[:3] for part in tried[4:]] == [
        (scale, [0.03], [5]) for scale in dict.fromkeys((tried[best][0], HE))
    ]
    assert [run_["scale"] for run_ in chosen] == [tried[best][0]] * 2
    assert [run_["scale"] for run_ in he] == [HE] * 2
    assert [run_["objective"] for run_ in scales] == [
        pytest.approx(tried[place][3], rel=1e-9) for place in (0, 2)
    ]


@pytest.mark.parametrize("kind", ["record", "many"])
def test_no_scale_is_better_than_the_chosen_one_for_the_first_seed(kind, request):
    found = request.getfixturevalue(kind)
    result, config = found["result"], found["config"]
    for name in METHODS:
        assert [run_["scale"] for run_ in result["scales"][name]] == config["scales"]
        lowest = min(run_["objective"] for run_ in result["scales"][name])
        chosen = result["methods"][name]
        assert chosen[0]["objective"] == pytest.approx(lowest, rel=1e-12)
        (scale,) = {run_["scale"] for run_ in chosen}
        place = config["scales"].index(scale)
        assert chosen[0]["objective"] == result["scales"][name][place]["objective"]
        assert {run_["scale"] for run_ in result["he"][name]} == {HE}
        assert result["he"][name][0]["objective"] == result["scales"][name][0]["objective"]


def test_replay_makes_every_timed_run_again(record):
    made = EXPERIMENT.replay(record)
    for part in ("methods", "he"):
        for name in METHODS:
            runs = record["result"][part][name]
            assert len(made[part][name]) == len(runs)
            if name != "adam-cosine":  # whose schedule goes by the clock
                for one, run_ in zip(made[part][name], runs, strict=True):
                    assert_allclose(one["objective"], run_["objective"], rtol=0.02)


@pytest.mark.parametrize("kind", ["record", "many"])
def test_loss_and_penalty_are_those_of_the_network(kind, request):
    found = request.getfixturevalue(kind)
    task, problem = problem_of(found)
    convex = found["result"]["methods"]["generated"][0]
    network = stored_network(convex)
    loss, penalty = loss_and_penalty(found["result"], convex)
    with torch.no_grad():
        squares = float(((outputs(network, task.X) - task.y) ** 2).sum())
        weights = float((network.U**2).sum() + (network.alpha**2).sum())
    assert_allclose(loss, 0.5 * squares, rtol=1e-9)
    assert_allclose(penalty, 0.5 * problem.beta * weights, rtol=1e-8)


@pytest.mark.parametrize("kind", ["record", "many"])
@pytest.mark.parametrize("part", ["methods", "he"])
def test_the_split_of_an_excess_adds_up(kind, part, request):
    result = request.getfixturevalue(kind)["result"]
    own = min(excess(result, "generated"))  # of the convex network itself
    for name in METHODS:
        assert_allclose(sum(split(result, name, part)) + own, np.mean(excess(result, name, part)),
                        rtol=1e-9, atol=1e-12)  # fmt: skip


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
    proven, generated = record["result"], copy.deepcopy(many["result"])
    generated["bound"]["dual"] *= 0.9  # as where no proof is in reach
    assert is_proven(proven, 1e-6)
    assert reference(proven) == max(r["dual"] for r in proven["methods"]["generated"])
    assert not is_proven(generated, 1e-5)
    assert min(excess(generated, "generated")) == 0.0
    lowest = reference(generated)
    assert_allclose(gap(generated), 1 - generated["bound"]["dual"] / lowest, rtol=1e-12)
    doubled = altered(many, "sgd", objective=2 * reference(generated))["result"]
    doubled["bound"] = generated["bound"]
    assert excess(doubled, "sgd")[0] == pytest.approx(1.0)


def test_table_has_a_line_for_each_method(record, many):
    lines = EXPERIMENT.table([many, record]).splitlines()
    assert [line.split()[3] for line in lines[1:]] == [
        "generated", *METHODS, "linear", *ORDER, "linear",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 120


def test_the_strip_counts_settings_and_has_a_verdict_for_each_claim(record, many):
    for above, tol in margins([record, many]):
        assert above > -1e-4
        assert tol <= 1e-4
    lines = strip([record, many]).splitlines()
    assert len(lines) == 6
    assert all(line.count("|") == 5 for line in lines)
    ahead = altered(record, "sgd", objective=1.5 * reference(record["result"]))
    for run_ in ahead["result"]["methods"]["sgd"]:
        run_["objective"] = 1.5 * reference(record["result"])
    assert "| 1 of 1, best seeds by at most 50 % | holds |" in strip([ahead, many])


def test_differences_in_few_characters():
    assert [brief(value) for value in (2.1, 0.5, 0.0042, 3.2e-7)] == [
        "3.1 times", "50 %", "0.42 %", "3e-7",
    ]  # fmt: skip
