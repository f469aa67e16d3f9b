"""Column generation: the global optimum without a list of patterns."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from convexlib.arrangements.patterns import patterns_of
from convexlib.errors import ConvergenceWarning, InputError
from convexlib.pricing import price
from convexlib.solvers import generate as merging
from convexlib.solvers import generate as rounds
from convexlib.solvers.generate import generate
from convexlib.training import train
from tests.checks import check_record, check_result, neuron_values, small_instance
from tests.generators import EXACT, ROUNDED


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


@pytest.mark.parametrize("seed", range(20))
def test_random_instances_against_enumeration(seed):
    X, y, fraction = small_instance(seed)
    listed = cl.TwoLayer(X, y, beta=1.0)
    listed = listed.with_beta(fraction * listed.beta_max())
    expected = cl.solve(listed, tol=1e-8).value
    result = generate(cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate"))
    check_result(cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate"), result)
    assert result.value == pytest.approx(expected, rel=1.1e-6)
    assert result.dual <= expected * (1 + 1e-8)


SMALL = [name for name, (X, count) in (EXACT | ROUNDED).items() if count <= 400 and X.any()]


@pytest.mark.parametrize("name", SMALL)
def test_degenerate_data_against_enumeration(name):
    X, _ = (EXACT | ROUNDED)[name]
    y = np.random.default_rng(3).standard_normal(len(X))
    listed = cl.TwoLayer(X, y, beta=1.0)
    listed = listed.with_beta(0.05 * listed.beta_max())
    expected = cl.solve(listed, tol=1e-8).value
    result = generate(cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate"), tol=1e-5)
    assert result.converged
    assert result.value == pytest.approx(expected, rel=1.1e-5)
    assert result.dual <= expected * (1 + 1e-8)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 200), st.sampled_from([1e-1, 1e-4]))
def test_bounds_bracket_the_optimum_whatever_the_budget(seed, max_iter, max_nodes, tol):
    X, y, fraction = small_instance(seed)
    listed = cl.TwoLayer(X, y, beta=1.0)
    listed = listed.with_beta(fraction * listed.beta_max())
    best = cl.solve(listed, tol=1e-7)
    problem = cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is cut short
        result = generate(problem, tol=tol, max_iter=max_iter, max_nodes=max_nodes)
    check_record(problem, result, tol)
    assert result.dual <= best.value * (1 + 1e-9)
    assert result.value >= best.dual * (1 - 1e-9)
    assert result.dual > 0


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
@pytest.mark.parametrize("seed", range(3))
def test_losses_of_classes_against_enumeration(loss, seed):
    X, y, _ = small_instance(seed + 50)
    y = np.where(y > 0, 1.0, -1.0)
    listed = cl.TwoLayer(X, y, beta=1.0, loss=loss)
    listed = listed.with_beta(0.1 * listed.beta_max())
    expected = cl.solve(listed, tol=1e-8).value
    problem = cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate", loss=loss)
    result = generate(problem)
    check_record(problem, result, 1e-6)
    assert result.converged
    assert result.value == pytest.approx(expected, rel=1.1e-6)
    assert problem.objective(problem.to_network(result)) == pytest.approx(result.value, rel=1e-9)
    directions = np.random.default_rng(0).standard_normal((2000, X.shape[1]))
    assert neuron_values(X, result.z, directions).max() <= problem.beta * (1 + 1e-12)


def test_merging_collinear_rows_changes_nothing(monkeypatch):
    problem = generating(15, 3, fraction=0.02)
    X = torch.cat([problem.X, 2 * problem.X, problem.X[:4] / 3, 0 * problem.X[:2]])
    y = torch.from_numpy(np.random.default_rng(5).standard_normal(len(X)))
    problem = cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate")
    merged = cl.solve(problem)
    assert check_result(problem, merged)
    monkeypatch.setattr(rounds, "merge_rows", merging.as_it_is)
    whole = cl.solve(problem)
    assert merged.value == pytest.approx(whole.value, rel=2e-6)


def test_trained_neurons_start_the_search_at_larger_ranks():
    problem = generating(60, 6, fraction=0.1)
    options = {"tol": 1e-2, "max_iter": 1, "max_nodes": 0}
    with pytest.warns(ConvergenceWarning):
        auto = generate(problem, **options)
    with pytest.warns(ConvergenceWarning):
        adam = generate(problem, seeding="adam", **options)
    with pytest.warns(ConvergenceWarning):
        none = generate(problem, seeding="none", **options)
    assert torch.equal(auto.weights, adam.weights)  # the seed decides
    assert auto.value < none.value
    with pytest.raises(InputError, match="seeding is 'sgd'"):
        generate(problem, seeding="sgd")


def test_never_above_a_sweep_of_adam():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 10))
    y = np.maximum(X @ rng.standard_normal((10, 5)), 0) @ rng.choice([-1.0, 1.0], 5)
    y += 0.1 * y.std() * rng.standard_normal(len(y))
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements="generate")
    problem = problem.with_beta(1e-2 * problem.beta_max())
    options = {"width": 100, "rates": (0.1, 0.03, 0.01, 0.003), "seeds": (0,), "n_steps": 800}
    sweep = train(X, y, beta=problem.beta, optimizer="adam-cosine", **options)
    with pytest.warns(ConvergenceWarning, match="Local search finds no neuron above"):
        result = generate(problem, max_iter=8)
    assert result.value < sweep.best_objective
    values = [record.primal for record in result.history]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert 0 < result.dual < result.value


def test_an_interrupt_keeps_the_best(monkeypatch):
    problem = generating(40, 3)
    calls = itertools.count()

    def interrupted(*args, **options):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return solver(*args, **options)

    solver = rounds.ssnal
    monkeypatch.setattr(rounds, "ssnal", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        result = generate(problem)
    check_record(problem, result, 1e-6)
    assert result.status is cl.Status.INTERRUPTED
    assert 0 < result.dual <= result.value < problem.value(problem.zeros())
    monkeypatch.undo()
    best = generate(problem)
    assert result.dual <= best.value
    assert result.value >= best.dual


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
    assert result.detail.startswith("Its bound over all networks is proven (")
    assert "rank 4" in result.detail
    assert "were that the maximum, the relative gap would be" in result.detail


def test_rounds_that_are_not_enough_have_a_bound():
    problem = generating(60, 4, fraction=0.02)
    with pytest.warns(ConvergenceWarning, match="stopped at max_iter"):
        result = generate(problem, max_iter=2)
    check_record(problem, result, 1e-6)
    assert result.dual > 0.5 * result.value


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
