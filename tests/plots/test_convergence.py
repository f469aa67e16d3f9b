"""Curves of values, gaps and training runs."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from convexlib import plots
from convexlib.errors import InputError
from convexlib.result import Record, Result, Status
from tests.helpers.refusals import COUNT, EYE, refused

HISTORY = [
    Record(0, 0.0, 4.0, -np.inf),
    Record(1, 0.5, 2.0, 0.5),
    Record(2, 1.0, 1.5, 1.2),
    Record(3, 1.5, 1.25, 1.25),
]


def curve(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def test_values_against_iterations_or_seconds(drawn):
    ax = drawn(plots.plot_convergence(HISTORY, optimum=1.25))
    primal, dual = curve(ax, "primal value"), curve(ax, "dual bound")
    assert primal.get_xdata().tolist() == [0, 1, 2, 3]
    assert primal.get_ydata().tolist() == [4.0, 2.0, 1.5, 1.25]
    np.testing.assert_array_equal(dual.get_ydata(), [np.nan, 0.5, 1.2, 1.25])
    assert set(curve(ax, "optimum").get_ydata()) == {1.25}
    ax = drawn(plots.plot_convergence(HISTORY, x="seconds"))
    assert curve(ax, "primal value").get_xdata().tolist() == [0, 0.5, 1.0, 1.5]
    assert not ax.get_legend().get_frame_on()
    assert {to_hex(text.get_color()) for text in ax.get_legend().get_texts()} == {plots.GREY}
    assert ax.get_xlabel() == "seconds"


def test_gap_is_relative_and_on_a_log_axis(drawn):
    ax = drawn(plots.plot_convergence(HISTORY, optimum=1.25, gap=True))
    assert ax.get_yscale() == "log"
    np.testing.assert_allclose(
        curve(ax, "duality gap").get_ydata(), [np.nan, 0.75, 0.2, np.nan], atol=1e-15
    )
    np.testing.assert_allclose(
        curve(ax, "true error").get_ydata(), [2.75 / 4, 0.375, 0.25 / 1.5, np.nan]
    )


def test_a_result_is_read_by_its_history_and_drawn_on_given_axes():
    result = Result(
        *(torch.zeros(1), 1.25, 1.25, 0.0, torch.zeros(1), Status.CONVERGED, "fista", 3, 1.5),
        history=tuple(HISTORY),
    )
    _, given = plt.subplots()
    assert plots.plot_convergence(result, ax=given) is given
    assert len(plt.get_fignums()) == 1
    assert curve(given, "primal value").get_ydata().tolist() == [4.0, 2.0, 1.5, 1.25]


def test_band_is_minimum_median_maximum_over_seeds():
    times, band = plots.seed_band([1, 2], [[3, 1], [5, 4], [4, np.nan]])
    assert times.tolist() == [1, 2]
    assert band.tolist() == [[3, 1], [4, 4], [5, np.inf]]


def test_runs_with_their_own_clocks_count_with_their_latest_value():
    times, band = plots.seed_band([[0, 2, 4], [1, 3, 5]], [[9, 5, 1], [8, 4, 0]])
    assert times.tolist() == [1, 2, 3, 4]
    assert band[0].tolist() == [8, 5, 4, 1]
    assert band[2].tolist() == [9, 8, 5, 4]


def test_training_is_measured_from_the_dual_bound(drawn):
    curves = {"SGD": ([1, 2], [[12.0, 11.0], [16.0, 13.0]]), "convex": ([1, 2], [11.0, 10.0])}
    ax = drawn(plots.plot_training(curves, optimum=10.1, dual=10.0))
    assert (ax.get_yscale(), ax.get_xscale()) == ("log", "linear")
    np.testing.assert_allclose(curve(ax, "SGD").get_ydata(), [0.4, 0.2])
    np.testing.assert_allclose(curve(ax, "convex").get_ydata(), [0.1, np.nan])
    np.testing.assert_allclose(curve(ax, "certified optimum").get_ydata(), 0.01)
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.1, 0.6))


def test_training_without_a_bound_shows_the_objective(drawn):
    curves = {"Adam": ([1, 2], [3.0, 2.0])}
    ax = drawn(plots.plot_training(curves, 1.0, log_time=True, legend=False))
    assert curve(ax, "Adam").get_ydata().tolist() == [3.0, 2.0]
    assert set(curve(ax, "certified optimum").get_ydata()) == {1.0}
    assert ax.get_xscale() == "log"
    assert ax.get_legend() is None


def test_methods_differ_in_colour_and_dash():
    curves = {str(index): ([1, 2], [3.0, 2.0]) for index in range(5)}
    ax = plots.plot_training(curves, 1.0)
    assert len({line.get_color() for line in ax.lines[:5]}) == 5
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines[:5]}) == 5


def test_diverged_runs_leave_the_axes(drawn):
    values = [[1.0, 1e308, np.inf], [2.0, 1e308, np.nan]]
    ax = drawn(plots.plot_training({"a": (COUNT, values)}, optimum=0.5, dual=-1e307))
    assert np.isfinite(ax.lines[0].get_ydata()).sum() == 1


REFUSALS = [
    (lambda: plots.plot_convergence([]), InputError, "history is empty"),
    (lambda: plots.plot_convergence(HISTORY, x="epoch"),
     InputError, "x is 'epoch'; expected one of 'iteration', 'seconds'"),
    (lambda: plots.plot_training({"SGD": ([1], [0.9])}, 1.0, dual=1.0),
     InputError, "SGD reaches 0.9, below the dual bound 1;"),
    (lambda: plots.plot_training({"SGD": ([1], [1.0])}, 0.5, dual=1.0),
     InputError, "the optimum reaches 0.5, below"),
    (lambda: plots.plot_training({}, 1.0), InputError, "curves is empty"),
    (lambda: plots.plot_training([COUNT], 1.0), InputError, "curves is list; expected at least"),
    (lambda: plots.plot_training({"SGD": COUNT}, 1.0),
     InputError, r"the curve 'SGD' is ndarray; expected a pair \(seconds, values\)"),
    (lambda: plots.plot_training({"SGD": 1.0}, 1.0), InputError, "the curve 'SGD' is float"),
    (lambda: plots.plot_convergence("ab"), InputError, "history is str; expected a R"),
    (lambda: plots.plot_convergence(HISTORY, optimum=EYE), InputError, "optimum is"),
    (lambda: plots.plot_convergence(HISTORY, gap=EYE), InputError, "gap is .*True or False"),
    (lambda: plots.seed_band([1, 2, 3], [1, 2]),
     InputError, r"seconds has shape \(3,\) and objective \(2,\)"),
    (lambda: plots.seed_band([[1, 2]], [1, 2, 3]), InputError, r"seconds has shape \(1, 2\)"),
    (lambda: plots.seed_band([], []), InputError, "T >= 1"),
    (lambda: plots.seed_band([[0, 1], [2, 3]], np.ones((2, 2))), InputError, "share no time"),
    (lambda: plots.seed_band(COUNT + 0j, COUNT), InputError, "seconds has dtype complex128"),
    (lambda: plots.seed_band(COUNT, torch.ones(2, 3, device="meta")),
     InputError, "objective is on device meta"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
