"""Profiles, ranks and the table on records made by hand."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments.records import records
from experiments.uci.tables import (
    GATED,
    PLACE,
    POOLS,
    RELU,
    SHORT,
    TOLERANCES,
    by_problem,
    effects,
    panel,
    plot_profiles,
    profile,
    ranks,
    table,
    times_to,
    value_at,
)

# Objectives in time, seconds, test accuracy and number of runs. On "a" the best value is 1.0, on
# "b" it is 2.0.
CURVES = {
    ("a", "relu"): ([4.0, 1.5, 1.0], [1.0, 2.0, 3.0], 0.9, 1),
    ("a", "sgd"): ([1.8, 1.05], [10.0, 20.0], 0.8, 10),
    ("b", "relu"): ([9.0, 5.0], [1.0, 4.0], 0.5, 1),
    ("b", "sgd"): ([3.0, 2.0], [6.0, 8.0], 0.5, 10),
}
METHODS = ("relu", "sgd")


def record(data, method, values, seconds, accuracy, runs):
    result = {
        "objective": values[-1],
        "curve": {"objective": values, "seconds": seconds},
        "test_accuracy": accuracy,
        "seconds": seconds[-1],
    }
    if runs > 1:
        result["runs"] = runs
        result["grid"] = result["curve"]
        alone = [second / runs for second in seconds]
        result["curve"] = {"objective": values, "seconds": alone}
    else:
        result["relative_gap"] = 1e-7
    return {"config": {"data": data, "lambda": 0.1, "method": method}, "result": result}


@pytest.fixture
def found():
    return [record(*key, *curve) for key, curve in CURVES.items()]


def test_only_problems_with_all_methods_count(found):
    assert list(by_problem(found, METHODS)) == [("a", 0.1), ("b", 0.1)]
    assert list(by_problem(found[:3], METHODS)) == [("a", 0.1)]
    assert list(by_problem(found[:3], ("relu",))) == [("a", 0.1), ("b", 0.1)]


@pytest.mark.parametrize(
    ("tol", "relu", "sgd"),
    [
        (2.0, [2.0, 4.0], [1.0, 0.6]),  # at most 3.0 and 6.0
        (1.0, [2.0, np.inf], [1.0, 0.6]),  # at most 2.0 and 4.0
        (0.5, [2.0, np.inf], [2.0, 0.6]),  # at most 1.5 and 3.0
        (0.1, [3.0, np.inf], [2.0, 0.8]),
        (0.01, [3.0, np.inf], [np.inf, 0.8]),
    ],
)
def test_times_are_those_of_the_first_value_that_is_low_enough(found, tol, relu, sgd):
    problems = by_problem(found, METHODS)
    times = times_to(problems, METHODS, tol)
    assert_allclose(times["relu"], relu)
    assert_allclose(times["sgd"], sgd)  # a tenth: one of ten runs alone
    whole = times_to(problems, METHODS, tol, alone=False)
    assert_allclose([whole["relu"], whole["sgd"]], [relu, 10 * np.array(sgd)])
    # The best value is that of the methods compared.
    assert_allclose(times_to(by_problem(found, METHODS[:1]), METHODS[:1], 0.01)["relu"], [3.0, 4.0])


def test_the_value_at_a_moment_is_the_lowest_one_by_then():
    result = {"zero": 3.0, "curve": {"seconds": [1.0, 2.0], "objective": [4.0, 1.5]}}
    found = [value_at(result, seconds) for seconds in (0.5, 1.0, 1.9, 2.0, 9.0)]
    assert found == [3, 3, 3, 1.5, 1.5]


def test_a_profile_counts_what_is_solved_by_then():
    seconds, shares = profile(np.array([3.0, np.inf, 1.0, np.inf, 2.0]))
    assert_allclose(seconds, [1, 2, 3])
    assert_allclose(shares, [0.2, 0.4, 0.6])
    assert [len(part) for part in profile(np.array([np.inf]))] == [0, 0]


def test_ties_share_their_ranks(found):
    assert ranks(by_problem(found, METHODS), METHODS) == {"relu": 1.25, "sgd": 1.75}
    assert all(np.isnan(value) for value in ranks({}, METHODS).values())


def test_the_table_names_shares_and_gaps(found):
    for key in ("adam", "gated"):
        found += [record(data, key, [10.0], [1.0], 0.1, 1) for data in ("a", "b")]
    lines = table(found).splitlines()
    assert lines[0] == "0 problems with gated, sgd-gated, adam-gated"
    lines = lines[lines.index("2 problems with gated, relu, sgd, adam") :]
    assert lines[1].split() == ["solved", "to", *(f"{tol:g}" for tol in TOLERANCES)]
    assert lines[3].split() == ["relu", "0.500", "0.500", "0.500", "0.500", "0.500", "0.500"]
    assert lines[4].split() == ["sgd", "1.000", "1.000", "1.000", "0.500", "0.500", "0.500"]
    summary = next(line for line in lines[7:] if line.startswith("relu") and "e-07" in line)
    assert summary.split() == ["relu", "0.7000", "1.25", "3.5", "1.0e-07"]
    assert "0 problems with relu, generated, sgd-relu-2000, adam-relu-2000" in lines


def test_methods_without_rivals_have_a_line_for_each_record(found):
    alone = [record for record in found if record["config"]["method"] == "relu"]
    lines = [line.split() for line in table(alone).splitlines()]
    assert lines[0] == ["data", "lambda", "method", "objective", "test", "seconds"]
    values = [(r["config"]["data"], r["result"]["objective"]) for r in alone]
    assert [(line[0], float(line[3])) for line in lines[1:]] == values


def test_a_panel_leaves_out_the_problems_that_nobody_can_miss(found):
    for part in found:
        null = (part["config"]["data"], part["config"]["method"]) == ("b", "relu")
        part["result"]["neurons"] = 0 if null else 3
    counted = panel(found, METHODS, (1.0, 0.01))
    assert (counted.every, counted.live) == (2, 1)
    assert counted.shares == {"relu": {1.0: 1.0, 0.01: 1.0}, "sgd": {1.0: 1.0, 0.01: 0.0}}
    assert counted.leads() == [False, True]
    assert counted.seconds["sgd"] == {1.0: 1.0, 0.01: np.inf}
    assert counted.grid["sgd"] == {1.0: 10.0, 0.01: np.inf}


def test_a_method_all_of_whose_runs_have_failed_has_not_solved(found):
    for part in found:
        part["result"]["neurons"] = 1
        if part["config"]["method"] == "sgd":
            part["result"]["failed"] = 10
    assert panel(found, METHODS, (1.0,)).shares["sgd"] == {1.0: 0.0}


def test_effects_compare_a_variant_with_the_usual_setting(found):
    for part in found:
        part["result"]["neurons"] = 1
    for part in found:
        if part["config"]["method"] == "sgd":
            part["config"]["method"] = "sgd-relu"
    found.append(record("a", "sgd-he", [1.2], [5.0], 0.1, 10))
    found[-1]["result"]["neurons"] = 1
    usual, other, ratios = effects(found)["-he", "sgd"]
    assert usual.every == other.every == 1
    assert_allclose(ratios, [1.2 / 1.05])
    assert usual.shares["sgd-relu"] == {1.0: 1.0, 0.5: 1.0, 0.1: 1.0}
    assert other.shares["sgd-he"] == {1.0: 1.0, 0.5: 1.0, 0.1: 0.0}


@pytest.mark.parametrize("methods", [GATED, RELU, SHORT])
def test_shares_of_the_records_are_those_that_their_lines_give(methods):
    """Counted a second time: from the text of the files, by nothing of this project."""
    folder = Path(__file__).parents[2] / "results" / "uci"
    best = {}
    for method in methods:
        for line in (folder / f"{method}.jsonl").read_text(encoding="utf8").splitlines():
            record = json.loads(line)
            key = record["config"]["data"], record["config"]["lambda"]
            result = record["result"]
            best.setdefault(key, {})[method] = result["objective"], result["neurons"]
    whole = [part for part in best.values() if set(part) == set(methods)]
    live = [part for part in whole if part[methods[0]][1] > 0]
    counted = panel(records("uci"), methods)
    assert (counted.every, counted.live) == (len(whole), len(live))
    for method in methods:
        for tol, share in counted.shares[method].items():
            solved = [
                part[method][0] <= (1 + tol + 1e-9) * min(value for value, _ in part.values())
                for part in live
            ]
            assert share == pytest.approx(sum(solved) / len(live), abs=1e-12)


def test_the_picture_has_a_panel_for_each_tolerance_and_a_step_line_for_each_method(found):
    fig = plot_profiles(found, METHODS, (1.0, 0.5, 0.1, 0.01))
    assert [ax.get_title() for ax in fig.axes] == ["to 1", "to 0.5", "to 0.1", "to 0.01"]
    lines = {line.get_label(): line for line in fig.axes[0].lines}
    assert list(lines) == list(METHODS)
    # One problem of two is solved after 2 seconds, and that stays so.
    assert_array_equal(lines["relu"].get_xdata()[1:-1], [2.0])
    assert_array_equal(lines["relu"].get_ydata(), [0.0, 0.5, 0.5])
    assert_array_equal(fig.axes[3].lines[1].get_ydata(), [0.0, 0.5, 0.5])
    # A method has one colour in all pictures.
    alone = plot_profiles(found, METHODS[1:], (1.0,)).axes[0].lines[0].get_color()
    assert lines["sgd"].get_color() == alone != lines["relu"].get_color()
    for pool in POOLS:
        assert len({PLACE[method] for method in pool}) == len(pool)
    plt.close("all")
