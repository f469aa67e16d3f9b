"""The one door: choice of methods, refusals, and honest reports of solves that did not converge."""

import warnings

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, SolverError
from tests.checks import check_record, check_result

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((10, 3)), RNG.standard_normal(10)


def problem_of(fraction=0.01, **options):
    problem = cl.TwoLayer(X, Y, beta=1.0, **options)
    return problem.with_beta(fraction * problem.beta_max())


PROBLEMS = {
    "relu": {},
    "gated": {"gated": True},
    "generate": {"arrangements": "generate"},
}


@pytest.mark.parametrize(
    ("kind", "chosen"), [("relu", "ssnal"), ("gated", "ssnal"), ("generate", "generate")]
)
def test_auto_says_what_it_chose(kind, chosen):
    problem = problem_of(0.3, **PROBLEMS[kind])
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.method == chosen
    assert f"method='{chosen}'" in repr(result)
    assert "status=CONVERGED" in repr(result)
    assert str(result.status).startswith("converged")


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


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8, 1e-10])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_tolerances_are_met(kind, tol):
    problem = problem_of(0.05, **PROBLEMS[kind])
    result = cl.solve(problem, tol=tol)
    check_record(problem, result, tol)
    assert result.converged


@pytest.mark.parametrize("options", [{"max_iter": 1}, {"max_nodes": 1}])
def test_unfinished_generation_warns_once_and_says_so(options):
    problem = problem_of(1e-3, arrangements="generate")
    best = cl.solve(problem)
    with pytest.warns(ConvergenceWarning) as caught:
        result = cl.solve(problem, **options)
    assert len(caught) == 1
    assert str(caught[0].message).startswith("generate on TwoLayer")
    assert str(result.status) in str(caught[0].message)
    assert f"Relative gap {result.gap:.1e}" in str(caught[0].message)
    check_record(problem, result, 1e-6)
    # What it returns is still true: a feasible point, and a bound below the optimum.
    assert result.value >= best.dual
    assert result.dual <= best.value
    objective = problem.objective(problem.to_network(result))
    assert objective == pytest.approx(result.value, rel=1e-9)


def test_the_warning_points_at_the_caller():
    with pytest.warns(ConvergenceWarning) as caught:
        cl.solve(problem_of(1e-3), max_iter=1)
    assert caught[0].filename == __file__


def test_an_unreachable_tolerance_ends_with_a_valid_gap():
    problem = problem_of(0.3)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        result = cl.solve(problem, tol=1e-17)
    check_record(problem, result, 1e-17)
    assert result.gap < 1e-9


@pytest.mark.parametrize(
    ("tol", "message"),
    [
        (0, r"tol is 0; expected tol > 0, a relative duality gap"),
        (-1e-6, r"tol is -1e-06; expected tol > 0"),
        (float("nan"), "tol is nan; expected a finite number"),
        ("tight", "tol is 'tight'; expected a real number"),
        (True, "tol is True; expected a real number"),
    ],
)
def test_bad_tolerances_are_refused(tol, message):
    with pytest.raises(InputError, match=message):
        cl.solve(problem_of(), tol=tol)


def test_unknown_methods_are_refused_with_the_list():
    message = r"method is 'adam'; expected one of 'auto', 'oracle', 'fista', 'ssnal', 'generate'"
    with pytest.raises(InputError, match=message):
        cl.solve(problem_of(), method="adam")


def test_what_is_no_problem_is_refused():
    with pytest.raises(InputError, match=r"problem is ndarray; expected a problem such as"):
        cl.solve(X)


def test_generation_refuses_fixed_patterns():
    with pytest.raises(SolverError, match=r'generate needs TwoLayer .* arrangements="gen.*\'ssnal'):
        cl.solve(problem_of(), method="generate")


@pytest.mark.parametrize("max_iter", [0, -1, 2.5])
def test_bad_iteration_limits_are_refused(max_iter):
    with pytest.raises(InputError, match=rf"max_iter is {max_iter}; expected an integer >= 1"):
        cl.solve(problem_of(arrangements="generate"), max_iter=max_iter)
