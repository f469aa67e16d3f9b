"""Semismooth Newton: starts, exact feasibility, and hard but legal programs."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.ssnal import ssnal
from tests.checks import check_result


def relu(n=15, d=4, seed=0, fraction=0.01, **options):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    patterns = cl.sample_arrangements(X, 60, seed=seed)
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, **options)
    return problem.with_beta(fraction * problem.beta_max())


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("fraction", [0.5, 0.01, 1e-4])
def test_optimality_conditions(gated, fraction):
    problem = relu(fraction=fraction, gated=gated)
    result = ssnal(problem, tol=1e-8)
    check_result(problem, result, tol=1e-8)
    assert result.converged


@pytest.mark.parametrize("seed", range(5))
def test_weights_lie_in_their_cones(seed):
    problem = relu(seed=seed, fraction=0.003)
    result = ssnal(problem)
    sizes = torch.linalg.vector_norm(result.weights, dim=2)
    assert int((sizes > 0).sum()) > 3
    assert problem.violation(result.weights) <= 1e-14 * float(sizes.max())


def test_starts_do_not_change_the_value_and_good_ones_save_steps():
    problem = relu()
    cold = ssnal(problem, tol=1e-9)
    warm = ssnal(problem, tol=1e-9, start=cold.weights, start_z=cold.z)
    assert warm.value == pytest.approx(cold.value, rel=2e-9)
    assert warm.n_iter < cold.n_iter
    rng = np.random.default_rng(1)
    wild = torch.from_numpy(rng.standard_normal(15)) * 100
    far = ssnal(problem, tol=1e-9, start_z=wild)
    assert far.converged
    assert far.value == pytest.approx(cold.value, rel=2e-9)


def test_a_start_from_another_beta():
    problem = relu(fraction=0.1)
    result = ssnal(problem)
    closer = problem.with_beta(problem.beta * 0.8)
    warm = ssnal(closer, tol=1e-8, start=result.weights, start_z=result.z)
    check_result(closer, warm, tol=1e-8)
    assert warm.value == pytest.approx(ssnal(closer, tol=1e-8).value, rel=2e-8)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("pattern", ["none", "all", "one"])
def test_a_single_pattern(pattern, gated):
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    if pattern != "one":
        X = np.abs(X)
    gate = {"none": -np.ones(2), "all": np.ones(2), "one": rng.standard_normal(2)}[pattern]
    arrangements = cl.Arrangements(torch.from_numpy(X @ gate >= 0)[None], torch.tensor(gate)[None])
    problem = cl.TwoLayer(X, y, beta=0.05, arrangements=arrangements, gated=gated)
    result = ssnal(problem)
    check_result(problem, result)
    assert result.converged
    assert bool(result.weights.any()) == (pattern != "none")
    assert cl.solve(problem, method="oracle").value == pytest.approx(result.value, rel=1e-6)


def test_many_samples_few_patterns_and_the_reverse():
    for n, d, count in ((300, 3, 5), (5, 12, 40)):
        rng = np.random.default_rng(3)
        X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
        patterns = cl.sample_arrangements(X, count, seed=0)
        problem = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns)
        problem = problem.with_beta(0.02 * problem.beta_max())
        result = ssnal(problem)
        check_result(problem, result)
        assert result.converged


def test_repeated_patterns_do_no_harm():
    problem = relu(fraction=0.05)
    twice = torch.arange(len(problem.arrangements)).repeat(2)
    doubled = problem.with_arrangements(problem.arrangements.select(twice))
    result = ssnal(doubled)
    check_result(doubled, result)
    assert result.converged
    assert result.value == pytest.approx(ssnal(problem).value, rel=2e-6)
