"""The one door: choice of methods, refusals, and honest reports of solves that did not converge."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, unwarned
from convexlib.result import Status
from convexlib.solvers.base import Tracker
from convexlib.solvers.lasso import solve_path
from tests.helpers.checks import check_record, check_result
from tests.helpers.interrupts import interrupt_after
from tests.helpers.two_layer import gaussian, random_problem

X, Y = gaussian(10, 3)


def problem_of(fraction=0.01, **options):
    return random_problem(10, 3, fraction=fraction, **options)


PROBLEMS = {"relu": {}, "gated": {"gated": True}, "generate": {"arrangements": "generate"}}


@pytest.mark.parametrize(("penalty", "chosen"), [("nuclear", "admm"), ("one-output", "ssnal")])
def test_auto_for_several_outputs(penalty, chosen, monkeypatch):
    options = {"beta": 1.0, "gated": True, "penalty": penalty}
    problem = cl.VectorOutput(X, np.stack([Y, Y**2], axis=1), **options)
    problem = problem.with_beta(0.5 * problem.beta_max())
    assert cl.solve(problem).method == chosen
    monkeypatch.setattr("convexlib.problems.base.MAX_SAMPLES", 9)
    assert cl.solve(problem).method == ("fista" if penalty == "nuclear" else "ssnal")


def test_results_repeat():
    for options in PROBLEMS.values():
        problem = problem_of(**options)
        first, second = cl.solve(problem), cl.solve(problem)
        assert first.value == second.value
        assert torch.equal(first.weights, second.weights)
        assert f"method='{problem.methods[0]}', n_iter={first.n_iter}" in repr(first)
        assert "status=CONVERGED" in repr(first)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8, 1e-10])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_tolerances_are_met(kind, tol):
    problem = problem_of(0.05, **PROBLEMS[kind])
    result = cl.solve(problem, tol=tol)
    check_record(problem, result, tol)
    assert result.converged


ENDS = [
    (1.0, Status.MAX_ITER, Status.CONVERGED),
    (0.99, Status.CONVERGED, Status.STALLED),
    (0.99, Status.MAX_ITER, Status.MAX_ITER),
]


@pytest.mark.parametrize(("share", "why", "status"), ENDS)
def test_the_gap_decides_whether_a_run_converged(share, why, status):
    problem = problem_of(0.3)
    loose = cl.solve(problem, tol=1e-2)
    tracker = Tracker(problem, "a method", tol=share * loose.gap)
    tracker.update(1, loose.weights, loose.z)
    with unwarned():
        assert tracker.result(why, n_iter=1).status is status


# --- Paths over beta: the values of cold solves, in any order, for every kind of problem ---


def path_problem(gated=False, n=20, d=3, loss="squared"):
    return random_problem(n, d, gated=gated, loss=loss, n_patterns=30)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_values_are_those_of_cold_solves(gated, loss):
    problem = path_problem(gated, loss=loss)
    betas = problem.beta_max() * np.array([0.02, 1.0, 0.3, 1e-3, 0.3, 2.0])
    results = cl.solution_path(problem, betas, tol=1e-8)
    assert len(results) == len(betas)
    for beta, result in zip(betas, results, strict=True):
        alone = problem.with_beta(float(beta))
        assert result.converged
        assert result.gap <= 1e-8
        assert result.value == pytest.approx(cl.solve(alone, tol=1e-8).value, rel=3e-8)
        if loss == "squared":
            check_result(alone, result, tol=1e-8)
    assert results[2].value == pytest.approx(results[4].value, rel=3e-8)
    assert not results[1].weights.any()
    assert not results[5].weights.any()


@pytest.mark.parametrize("gated", [True, False])
def test_a_fine_path_takes_fewer_steps_than_cold_solves(gated):
    """Over eight draws: one alone may take between 0.47 and 0.68 of the steps."""
    warm = cold = 0
    for seed in range(8):
        problem = random_problem(60, 5, seed, gated=gated, n_patterns=30)
        betas = problem.beta_max() * np.geomspace(1.0, 1e-2, 20)
        results = cl.solution_path(problem, betas)
        assert all(result.converged for result in results)
        values = [result.value for result in results]
        assert values == sorted(values, reverse=True)  # the optimum increases with beta
        warm += sum(result.n_iter for result in results)
        cold += sum(cl.solve(problem.with_beta(float(beta))).n_iter for beta in betas)
    assert warm <= 0.6 * cold


def path_kinds():
    """Problems, others with the same optima, and how to solve the first."""
    gated = path_problem(gated=True, n=8, d=2)
    X, y = gated.X, gated.y
    columns = cl.VectorOutput(X, y[:, None], beta=1.0, gated=True)
    relu, mirrors = cl.TwoLayer(X, y, beta=1.0), cl.Mirrors(X[:, 0], y, beta=1.0, depth=2)
    quantile = cl.Mirrors(X[:, 0], y, beta=1.0, loss="quantile")
    generated = cl.TwoLayer(X, y, beta=1.0, arrangements="generate")
    full = gated.with_arrangements(relu.arrangements)
    return {
        "generate": (generated, relu, cl.solution_path, {}),
        "mirrors": (mirrors, mirrors, cl.solution_path, {}),
        "lasso": (mirrors, mirrors, solve_path, {}),
        "quantile": (quantile, quantile, solve_path, {}),
        "columns": (columns, full, cl.solution_path, {}),
        "irls by columns": (columns, full, cl.solution_path, {"method": "irls"}),
        "fista": (full, full, cl.solution_path, {"method": "fista"}),
    }


@pytest.mark.parametrize("kind", path_kinds())
def test_every_kind_of_problem_has_a_path(kind):
    problem, same, path, options = path_kinds()[kind]
    betas = problem.beta_max() * np.array([0.1, 0.9, 0.03])
    for beta, result in zip(betas, path(problem, betas, **options), strict=True):
        assert result.converged
        assert result.scope == problem.scope
        assert "method" not in options or result.method == options["method"]
        alone = cl.solve(same.with_beta(float(beta)))
        assert result.value == pytest.approx(alone.value, rel=3e-6)


def test_an_interrupt_ends_the_path(monkeypatch):
    problem = path_problem()
    interrupt_after(monkeypatch, 6)
    with (
        pytest.warns(cl.errors.ConvergenceWarning, match="interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        cl.solution_path(problem, problem.beta_max() * np.array([0.5, 0.1, 0.01]))


@pytest.mark.parametrize("kind", PROBLEMS)
def test_progress_is_shown_on_a_terminal_only(kind, capsys):
    problem = problem_of(0.3, **PROBLEMS[kind])
    cl.solve(problem, progress=True)
    cl.solution_path(problem, [1.0], progress=True)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


NO_PROBLEM = "problem is {}; expected a problem such as"
REFUSED = [
    (cl.solve, [problem_of()], {"tol": 0}, "tol is 0; expected tol > 0, a relative duality gap"),
    (cl.solve, [problem_of()], {"tol": "tight"}, "tol is 'tight'; expected a real number"),
    (cl.solve, [problem_of()], {"method": "adam"},
     "method is 'adam'; expected one of 'auto', 'oracle', 'fista', 'ssnal', 'generate'"),
    (cl.solve, [X], {}, NO_PROBLEM.format("ndarray")),
    (cl.solution_path, [problem_of(), []], {}, "betas is empty; expected at least one beta > 0"),
    (cl.solution_path, [problem_of(), [1.0, 0.0]], {}, "beta is 0; expected beta > 0"),
    (cl.solution_path, [problem_of(), [np.nan]], {}, "beta is nan; expected a finite number"),
    (cl.solution_path, [problem_of(), ["a"]], {}, "beta is 'a'; expected a real number"),
    (cl.solution_path, [problem_of(), 0.5], {}, "betas is 0.5; expected a sequence"),
    (cl.solution_path, [3, [1.0]], {}, NO_PROBLEM.format("int")),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "options", "message"), REFUSED)
def test_refusals(function, arguments, options, message):
    with pytest.raises(InputError, match=message):
        function(*arguments, **options)


# --- A limit of time ---


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_limit_of_time_gives_back_a_valid_bracket(kind):
    problem = problem_of(**PROBLEMS[kind])
    with pytest.warns(ConvergenceWarning, match="stopped at max_seconds"):
        stopped = cl.solve(problem, tol=1e-12, max_seconds=0.0)
    assert stopped.status is Status.OUT_OF_TIME
    value = cl.solve(problem, tol=1e-6).value
    assert stopped.dual <= value * (1 + 1e-9)
    assert stopped.value >= value * (1 - 2e-6)


def test_every_output_has_its_share_of_the_time():
    problem = cl.VectorOutput(X, np.stack([Y, Y**2], axis=1), beta=0.1, gated=True)
    with pytest.warns(ConvergenceWarning, match="stopped at max_seconds"):
        stopped = cl.solve(problem, tol=1e-12, max_seconds=0.0)
    value = cl.solve(problem, tol=1e-6).value
    assert stopped.dual <= value * (1 + 1e-9)
    assert stopped.value >= value * (1 - 2e-6)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_more_than_enough_time_changes_nothing(kind):
    problem = problem_of(**PROBLEMS[kind])
    free, limited = cl.solve(problem), cl.solve(problem, max_seconds=1e6)
    assert limited.status is Status.CONVERGED
    assert limited.value == free.value


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), "soon", True])
def test_the_limit_is_a_number_of_seconds(seconds):
    with pytest.raises(InputError, match="max_seconds is"):
        cl.solve(problem_of(), max_seconds=seconds)
