"""Column generation: the global optimum without a list of patterns."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.pricing import price
from convexlib.solvers.generate import generate, patterns_of
from tests.checks import check_record, check_result, neuron_values


def generating(n, d, seed=0, fraction=0.05, bias=False):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    if bias:
        X[:, -1] = 1.0
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements="generate")
    return problem.with_beta(fraction * problem.beta_max())


@pytest.mark.parametrize(("n", "d"), [(20, 1), (40, 2), (20, 3), (10, 4)])
@pytest.mark.parametrize("fraction", [0.3, 0.02])
def test_reaches_the_optimum_over_all_patterns(n, d, fraction):
    problem = generating(n, d, fraction=fraction)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    assert result.scope == "network"
    listed = cl.TwoLayer(problem.X, problem.y, beta=problem.beta)
    assert result.value == pytest.approx(cl.solve(listed).value, rel=2e-6)


def test_beyond_enumeration():
    problem = generating(300, 3, bias=True)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    # No neuron at all, found by brute force or by proof, exceeds beta.
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((20_000, 3))
    assert neuron_values(problem.X, result.z, directions).max() <= problem.beta
    assert price(problem.X, result.z, rtol=1e-7).lower <= problem.beta * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_patterns_belong_to_the_weights(seed):
    problem = generating(30, 3, seed=seed)
    for tol in (1e-2, 1e-6):
        result = cl.solve(problem, tol=tol)
        fixed = problem.with_arrangements(result.arrangements)
        assert tuple(result.weights.shape) == fixed.shape
        assert fixed.value(result.weights) == pytest.approx(result.value, rel=1e-12)
        assert fixed.violation(result.weights) <= 1e-12


def test_the_seed_and_given_directions_change_the_way_but_not_the_value():
    problem = generating(25, 3)
    first = generate(problem, seed=0)
    second = generate(problem, seed=1)
    assert second.value == pytest.approx(first.value, rel=2e-6)
    used = torch.linalg.vector_norm(first.weights, dim=2) > 0
    warm = generate(problem, directions=first.weights[used])
    assert warm.value == pytest.approx(first.value, rel=2e-6)
    assert warm.n_iter <= first.n_iter


def test_a_small_budget_is_unproven_and_valid():
    problem = generating(40, 4)
    best = cl.solve(problem, tol=1e-5)
    with pytest.warns(ConvergenceWarning, match="could not be bounded tightly enough"):
        result = cl.solve(problem, max_nodes=20)
    check_record(problem, result, 1e-6)
    assert result.status is cl.Status.UNPROVEN
    assert 0 < result.dual <= best.value
    assert result.value >= best.dual


def test_high_rank_gets_a_spectral_bound():
    problem = generating(25, 12, fraction=0.3)
    with pytest.warns(ConvergenceWarning, match="generate on TwoLayer"):
        result = cl.solve(problem)
    check_record(problem, result, 1e-6)
    assert result.status is cl.Status.UNPROVEN
    assert result.dual > 0


def test_progress_bar_is_silent_off_a_terminal(capsys):
    cl.solve(generating(10, 2), progress=True)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_patterns_of_neurons_are_distinct_and_match_their_gates():
    rng = np.random.default_rng(2)
    X = torch.from_numpy(rng.standard_normal((8, 2)))
    directions = torch.from_numpy(rng.standard_normal((100, 2)))
    arrangements = patterns_of(X, directions)
    assert len(arrangements) <= 16
    assert len({tuple(mask) for mask in arrangements.masks.tolist()}) == len(arrangements)
    assert torch.equal(arrangements.masks, (X @ arrangements.gates.T >= 0).T)
    assert not arrangements.exhaustive
    expected = {tuple(row) for row in (X @ directions.T >= 0).T.tolist()}
    assert {tuple(mask) for mask in arrangements.masks.tolist()} == expected
