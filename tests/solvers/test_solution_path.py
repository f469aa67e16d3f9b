"""Paths over beta: the values of cold solves, in any order, for every kind of problem."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.base import Tracker
from tests.checks import check_result


def problem_of(gated=False, n=20, d=3, seed=0, loss="squared"):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    y = y if loss == "squared" else np.sign(y)
    patterns = cl.sample_arrangements(X, 30, seed=seed)
    return cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, gated=gated, loss=loss)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_values_are_those_of_cold_solves(gated, loss):
    problem = problem_of(gated, loss=loss)
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
    problem = problem_of(gated, n=60, d=5)
    betas = problem.beta_max() * np.geomspace(1.0, 1e-2, 20)
    warm = cl.solution_path(problem, betas)
    cold = [cl.solve(problem.with_beta(float(beta))) for beta in betas]
    assert all(result.converged for result in warm)
    values = [result.value for result in warm]
    assert values == sorted(values, reverse=True)  # the optimum increases with beta
    assert sum(r.n_iter for r in warm) <= 0.6 * sum(r.n_iter for r in cold)


def test_generated_patterns():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements="generate")
    listed = cl.TwoLayer(X, y, beta=1.0)
    betas = [0.3, 0.1]
    for beta, result in zip(betas, cl.solution_path(problem, betas), strict=True):
        assert result.converged
        assert result.scope == "network"
        assert result.value == pytest.approx(cl.solve(listed.with_beta(beta)).value, rel=3e-6)


def test_mirrors():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(9), rng.standard_normal(9)
    problem = cl.Mirrors(x, y, beta=1.0, depth=2)
    betas = problem.beta_max() * np.array([0.1, 0.9, 0.01])
    for beta, result in zip(betas, cl.solution_path(problem, betas), strict=True):
        assert result.converged
        alone = cl.solve(problem.with_beta(float(beta)))
        assert result.value == pytest.approx(alone.value, rel=3e-6)


def test_float32_and_options():
    problem = problem_of(True)
    X, y = problem.X.float(), problem.y.float()
    patterns = cl.sample_arrangements(X, 20, seed=0)
    single = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, gated=True)
    results = cl.solution_path(single, single.beta_max() * np.array([0.5, 0.05]), max_iter=100)
    assert all(result.weights.dtype == torch.float32 for result in results)
    assert all(result.converged for result in results)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([], r"betas is empty; expected at least one beta > 0"),
        ([1.0, 0.0], r"beta is 0; expected beta > 0"),
        ([1.0, -2.0], r"beta is -2; expected beta > 0"),
        ([np.nan], r"beta is nan; expected a finite number"),
        (["a"], r"beta is 'a'; expected a real number"),
    ],
)
def test_bad_betas(betas, message):
    with pytest.raises(cl.errors.InputError, match=message):
        cl.solution_path(problem_of(), betas)


def test_something_else_than_a_problem():
    with pytest.raises(cl.errors.InputError, match=r"problem is int; expected a problem such as"):
        cl.solution_path(3, [1.0])


def test_an_interrupt_ends_the_path(monkeypatch):
    problem = problem_of()
    plain, calls = Tracker.update, []

    def update(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Tracker, "update", update)
    with (
        pytest.warns(cl.errors.ConvergenceWarning, match="interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        cl.solution_path(problem, problem.beta_max() * np.array([0.5, 0.1, 0.01]))


def test_progress_is_shown_on_a_terminal_only(capsys):
    cl.solution_path(problem_of(True), [1.0], progress=True)
    assert capsys.readouterr().err == ""
