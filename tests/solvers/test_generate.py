"""Column generation: the global optimum without a list of patterns."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from convexlib.arrangements.patterns import patterns_of
from convexlib.errors import ConvergenceWarning, InputError, unwarned
from convexlib.pricing import price
from convexlib.solvers import generate as rounds
from convexlib.solvers.generate import generate, merge_rows, placed, trained_network
from convexlib.training import train
from tests.helpers.checks import check_record, check_result
from tests.helpers.patterns import integer_grid, parallel_rows, zero_rows
from tests.helpers.references import as_numpy, targets_for
from tests.helpers.two_layer import at_fraction, gaussian, small_instance


def generating(n, d, seed=0, fraction=0.05, bias=False):
    X, y = gaussian(n, d, seed)
    if bias:
        X[:, -1] = 1.0
    return at_fraction(X, y, fraction, arrangements="generate")


@pytest.mark.parametrize(("n", "d"), [(20, 1), (40, 2), (20, 3), (10, 4)])
@pytest.mark.parametrize("fraction", [0.3, 0.02])
def test_reaches_the_optimum_over_all_patterns(n, d, fraction):
    problem = generating(n, d, fraction=fraction)
    listed = cl.TwoLayer(problem.X, problem.y, beta=problem.beta)
    best = cl.solve(listed).value
    for tol in (1e-2, 1e-6):
        result = cl.solve(problem, tol=tol)
        check_result(problem, result, tol)
        assert result.converged
        assert result.value == pytest.approx(best, rel=2 * tol)
        fixed = problem.with_arrangements(result.arrangements)
        assert fixed.value(result.weights) == pytest.approx(result.value, rel=1e-12)
        assert fixed.violation(result.weights) <= 1e-12


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 200), st.sampled_from([1e-1, 1e-4]))
def test_bounds_bracket_the_optimum_whatever_the_budget(seed, max_iter, max_nodes, tol):
    X, y, fraction = small_instance(seed)
    listed = at_fraction(X, y, fraction)
    best = cl.solve(listed, tol=1e-7)
    problem = cl.TwoLayer(X, y, beta=listed.beta, arrangements="generate")
    with unwarned():  # it is cut short
        result = generate(problem, tol=tol, max_iter=max_iter, max_nodes=max_nodes)
    check_record(problem, result, tol)
    assert result.dual <= best.value * (1 + 1e-9)
    assert result.value >= best.dual * (1 - 1e-9)
    assert result.dual > 0


def test_trained_neurons_start_the_search_at_larger_ranks():
    problem = generating(60, 6, fraction=0.1)
    found = {}
    for seeding in ("auto", "adam", "none"):
        with pytest.warns(ConvergenceWarning):
            found[seeding] = generate(problem, tol=1e-2, max_iter=1, max_nodes=0, seeding=seeding)
    assert torch.equal(found["auto"].weights, found["adam"].weights)  # the seed decides
    assert found["auto"].value < found["none"].value
    with pytest.raises(InputError, match="seeding is 'sgd'"):
        generate(problem, seeding="sgd")


def test_never_above_a_sweep_of_adam():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 10))
    y = np.maximum(X @ rng.standard_normal((10, 5)), 0) @ rng.choice([-1.0, 1.0], 5)
    y += 0.1 * y.std() * rng.standard_normal(len(y))
    problem = at_fraction(X, y, 1e-2, arrangements="generate")
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
    assert price(problem.X, result.z, rtol=1e-7).lower <= problem.beta * (1 + 1e-12)


def test_the_seed_and_given_directions_change_the_way_but_not_the_value():
    problem = generating(25, 3)
    first = generate(problem, seed=0)
    second = generate(problem, seed=1)
    assert second.value == pytest.approx(first.value, rel=2e-6)
    used = torch.linalg.vector_norm(first.weights, dim=2) > 0
    warm = generate(problem, directions=first.weights[used])
    assert warm.value == pytest.approx(first.value, rel=2e-6)
    assert warm.n_iter <= first.n_iter


UNFINISHED = {
    "too few cones": ((40, 4), {"max_nodes": 20}, "could not be bounded tightly enough", 0.0),
    "too few rounds": ((60, 4, 0, 0.02), {"max_iter": 2}, "stopped at max_iter", 0.5),
    "spectral bound": ((25, 12, 0, 0.3), {}, "could not be bounded tightly enough", 0.0),
}


@pytest.mark.parametrize("why", UNFINISHED)
def test_an_unfinished_run_has_a_valid_bound_and_says_what_it_is(why):
    data, limits, message, share = UNFINISHED[why]
    problem = generating(*data)
    with pytest.warns(ConvergenceWarning, match=message):
        result = cl.solve(problem, **limits)
    check_record(problem, result, 1e-6)
    assert result.dual > share * result.value
    assert result.detail.startswith("Its bound over all networks is proven (")
    assert f"rank {data[1]}" in result.detail
    if why == "too few cones":
        best = cl.solve(problem, tol=1e-5)
        assert result.dual <= best.value
        assert result.value >= best.dual
        assert "were that the maximum, the relative gap would be" in result.detail


# --- The short training that seeds column generation ---


def planted(n=80, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.maximum(X @ rng.standard_normal((d, 4)), 0) @ np.array([1.0, -1.0, 1.0, -1.0])
    return X, y + 0.1 * rng.standard_normal(n)


def problem_of(X, y, beta=0.5, **options):
    return cl.TwoLayer(X, y, beta=beta, arrangements="generate", **options)


def test_the_seed_decides():
    problem = problem_of(*planted())
    first = trained_network(problem, 0).vectors
    assert torch.equal(first, trained_network(problem, 0).vectors)
    assert not torch.equal(first[:5], trained_network(problem, 1).vectors[:5])
    assert first.dtype == problem.X.dtype
    assert bool(torch.isfinite(first).all())


def objective(problem, network):
    fitted = torch.relu(problem.X @ network.vectors.T) @ network.signs
    penalty = problem.beta * float(torch.linalg.vector_norm(network.vectors, dim=1).sum())
    return problem.loss.value(fitted, problem.y) + penalty


@pytest.mark.parametrize(
    ("loss", "beta"), [("squared", 0.5), ("logistic", 0.1), ("squared_hinge", 0.1)]
)
def test_the_first_round_is_no_worse_than_the_trained_network(loss, beta):
    X, y = planted()
    problem = problem_of(X * np.geomspace(1, 30, 6), targets_for(loss, y), beta=beta, loss=loss)
    network = trained_network(problem)
    patterns = patterns_of(problem.X, network.vectors)
    weights = placed(problem.X, network, patterns)
    assert len(patterns) < len(network)  # or nothing would be merged
    program = problem.with_arrangements(patterns)
    # Neurons in one cell are one: the same outputs, for no more.
    value = program.value(weights)
    fitted = (patterns.masks.T * (problem.X @ (weights[0] - weights[1]).T)).sum(dim=1)
    assert torch.allclose(fitted, torch.relu(problem.X @ network.vectors.T) @ network.signs)
    assert value <= objective(problem, network) * (1 + 1e-12)
    with pytest.warns(ConvergenceWarning):
        result = generate(problem, seeding="adam", max_iter=1, max_steps=1, max_nodes=0)
    assert result.value <= value * (1 + 1e-12)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_above_beta_max_nothing_is_left_of_the_trained_network(loss):
    X, y = planted()
    free = problem_of(X, targets_for(loss, y), beta=1.0, loss=loss)
    problem = free.with_beta(1.1 * free.beta_max())
    assert not len(trained_network(problem))
    result = generate(problem, seeding="adam", max_nodes=0)
    assert not result.weights.any()


def test_the_trained_network_is_a_good_one():
    problem = problem_of(*planted())
    found = objective(problem, trained_network(problem))
    with pytest.warns(ConvergenceWarning):
        best = generate(problem, max_iter=10, max_nodes=0).value
    assert best <= found <= 1.05 * best


@pytest.mark.parametrize(
    ("loss", "beta", "share"),
    [("squared", 0.5, 0.9), ("logistic", 0.1, 1), ("squared_hinge", 0.1, 1)],
)
def test_patterns_beat_as_many_random_ones(loss, beta, share):
    X, y = planted()
    problem = problem_of(X, targets_for(loss, y), beta=beta, loss=loss)
    patterns = patterns_of(problem.X, trained_network(problem).vectors)
    seeded = cl.solve(problem.with_arrangements(patterns), tol=1e-3).value
    drawn = cl.sample_arrangements(problem.X, len(patterns))
    random = cl.solve(problem.with_arrangements(drawn), tol=1e-3).value
    assert seeded < share * random


@pytest.mark.parametrize(("c", "s"), [(100.0, 1.0), (1.0, 0.01), (2.0**-10, 2.0**7)])
def test_units_do_not_matter(c, s):
    X, y = planted()
    plain = trained_network(problem_of(X, y, beta=0.5)).vectors
    scaled = trained_network(problem_of(c * X, s * y, beta=0.5 * c * s)).vectors
    X = torch.from_numpy(X)
    plain, scaled = (set(map(tuple, patterns_of(X, U).masks.tolist())) for U in (plain, scaled))
    # Single precision ends up on the other side of a hyperplane now and then.
    assert len(plain & scaled) >= 0.8 * len(plain)


@pytest.mark.parametrize(("x", "target"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_to_learn_gives_no_neurons(x, target):
    problem = problem_of(np.full((3, 2), x), np.full(3, target))
    assert trained_network(problem).vectors.shape == (0, 2)


# --- Merging collinear samples changes the problem's size and nothing else ---


DATA = {  # and how many samples are left
    "duplicates": (parallel_rows(7, 3, (1.0, 1.0))[0], 7),
    "multiples": (parallel_rows(7, 3, (2.0, 0.125, 3.0))[0], 7),
    "antipodal": (parallel_rows(7, 3, (-1.0, -4.0))[0], 14),
    "rounded multiples": (parallel_rows(7, 3, (np.pi, 0.1))[0], 7),
    "zero rows": (np.vstack([zero_rows(6, 3, zeros=3)[0]] * 2), 6),
    "grid": (np.vstack([integer_grid(4)[0]] * 3), 16),
    "two rows": (np.array([[1.0, 2.0], [3.0, 6.0]]), 1),
}


def free(X):
    return problem_of(X, np.random.default_rng(0).standard_normal(len(X)))


@pytest.mark.parametrize("kind", DATA)
def test_objectives_differ_by_a_constant_and_dual_points_are_lifted(kind):
    problem = free(DATA[kind][0])
    merged = merge_rows(problem)
    small, d = merged.problem, problem.X.shape[1]
    assert len(small.y) == DATA[kind][1]
    listed = cl.enumerate_arrangements(small.X)
    assert torch.equal(merged.expand(listed).masks, (problem.X @ listed.gates.T >= 0).T)
    rng = np.random.default_rng(1)
    zero = torch.zeros(2, 4, d, dtype=torch.float64)
    constant = problem.value(zero) - small.value(zero)
    assert constant >= -1e-12
    for _ in range(5):
        weights = torch.from_numpy(rng.standard_normal((2, 4, d)))
        expected = small.value(weights) + constant
        assert problem.value(weights) == pytest.approx(expected, rel=1e-11, abs=1e-11)
        z = torch.from_numpy(rng.standard_normal(len(small.y)))
        lifted = merged.lift(z)
        expected = small.dual_value(z) + constant
        assert problem.dual_value(lifted) == pytest.approx(expected, rel=1e-11, abs=1e-11)
        U = rng.standard_normal((20, d))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        seen = np.maximum(as_numpy(problem.X) @ U.T, 0).T @ as_numpy(lifted)
        few = np.maximum(as_numpy(small.X) @ U.T, 0).T @ as_numpy(z)
        np.testing.assert_allclose(seen, few, atol=merged.rounding(z) + 1e-13)
        assert merged.rounding(z) <= 1e-11


@pytest.mark.parametrize("kind", DATA)
def test_the_merged_program_has_the_same_optimum(kind):
    problem = free(DATA[kind][0])
    small = merge_rows(problem).problem
    best = [cl.solve(cl.TwoLayer(p.X, p.y, beta=p.beta), tol=1e-9) for p in (problem, small)]
    constant = problem.value(best[0].weights) - small.value(best[0].weights)
    assert best[0].value == pytest.approx(best[1].value + constant, rel=1e-7)


def test_nothing_is_merged_without_need_or_for_other_losses():
    problem = free(np.random.default_rng(0).standard_normal((9, 3)))
    assert merge_rows(problem).problem is problem
    silent = free(np.zeros((4, 2)))
    assert merge_rows(silent).problem is silent
    X = DATA["duplicates"][0]
    y = np.sign(np.random.default_rng(0).standard_normal(len(X)))
    labels = problem_of(X, y, loss="logistic")
    merged = merge_rows(labels)
    assert merged.problem is labels
    z = torch.linspace(0.0, 1.0, len(X), dtype=torch.float64)
    assert torch.equal(merged.lift(z), z)
    assert merged.rounding(z) == 0.0


def test_nearly_collinear_rows_stay_apart():
    X = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-12], [1.0, 1.0 + 1e-9], [2.0, 2.0]])
    merged = merge_rows(free(X))
    assert len(merged.problem.y) == 3
    assert merged.group[0] == merged.group[3]


@pytest.mark.parametrize("tol", [1e-13, 1e-300])
def test_a_tolerance_below_rounding_ends_at_rounding(tol):
    """It once took hundreds of rounds, and five million cones in each."""
    problem = cl.TwoLayer(*gaussian(7, 3), beta=0.1, arrangements="generate")
    with pytest.warns(ConvergenceWarning, match="rounding allows no further progress"):
        result = cl.solve(problem, tol=tol)
    assert result.status is cl.Status.STALLED
    assert result.n_iter < 20
    assert 0.0 < result.gap < 1e-10
