"""Batch normalisation: the program on whitened data and the PyTorch network agree."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from tests.helpers.batchnorm import instance, objective_by_hand, whitened
from tests.helpers.references import program_value
from tests.helpers.refusals import refused
from tests.helpers.searches import least_found


@pytest.mark.parametrize("seed", range(24))
def test_program_network_and_cvxpy_agree(seed):
    X, y = instance(seed, n=5 + seed % 2, d=1 + seed % 3)
    problem = cl.BatchNorm(X, y, beta=0.1)
    result = cl.solve(problem, tol=1e-9)
    network = problem.to_network(result)
    data = whitened(X)
    assert problem.arrangements.exhaustive
    masks = cl.enumerate_arrangements(data).masks.numpy()
    assert {*map(tuple, masks.tolist())} == {*map(tuple, problem.arrangements.masks.tolist())}
    assert result.value == pytest.approx(program_value(data, y, 0.1, masks), abs=1e-6)
    assert result.value == pytest.approx(objective_by_hand(network, X, y, 0.1), abs=1e-10)
    assert result.value == pytest.approx(problem.objective(network), abs=1e-10)
    assert result.dual <= result.value
    assert f"{len(masks)} patterns" in repr(problem)
    generated = cl.BatchNorm(X, y, beta=0.1, arrangements="generate")
    assert f"directions={data.shape[1] - 1}, generated, beta=0.1)" in repr(generated)
    constant = cl.BatchNorm(np.column_stack([X, np.full(len(X), 7.0)]), y, beta=0.1)
    assert cl.solve(constant).value == pytest.approx(result.value, rel=1e-6)  # centred away
    other = cl.solve(generated, tol=1e-9)
    assert other.scope == "network"
    assert other.value == pytest.approx(result.value, abs=1e-8)
    assert generated.objective(generated.to_network(other)) == pytest.approx(other.value, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_network_of_a_serious_search_is_below(seed):
    X, y = instance(seed, n=7, d=2)
    value = cl.solve(cl.BatchNorm(X, y, beta=0.1), tol=1e-10).value
    centred, targets = torch.from_numpy(X - X.mean(axis=0)), torch.from_numpy(y)

    def objective(W, gamma, delta, alpha):
        inner = centred @ W.mT  # (S, n, m)
        inner = inner / torch.linalg.vector_norm(inner, dim=1, keepdim=True)
        hidden = torch.relu(inner * gamma[:, None] + delta[:, None] / 7**0.5)
        residual = torch.einsum("snm,sm->sn", hidden, alpha) - targets
        decay = sum((part**2).sum(dim=1) for part in (gamma, delta, alpha))
        return 0.5 * (residual**2).sum(dim=1) + 0.05 * decay

    found = least_found(objective, [(10, 2), (10,), (10,), (10,)], seed=seed)
    # The search ends within 1e-4 of the optimum; 1 % is left to the luck of its starts.
    assert value * (1 - 1e-9) <= found <= value * 1.01


def test_patterns_are_those_of_the_whitened_data():
    # Positive samples on a line have two patterns, the whitened ones a kink between any two.
    X = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    y = np.array([1.0, 0.0, -1.0, 0.0, 1.0, 2.0])
    right = cl.BatchNorm(X, y, beta=0.05)
    of_X = cl.enumerate_arrangements(X)
    assert len(of_X) == 2
    assert len(right.arrangements) == cl.count_bound(6, 2) == 12
    value = cl.solve(right, tol=1e-9).value
    wrong = program_value(whitened(X), y, 0.05, of_X.masks.numpy())
    assert wrong > 2 * value
    for patterns in (of_X, cl.enumerate_arrangements(np.column_stack([X, 0.1 * y]))):
        with pytest.raises(InputError, match="not those of the whitened data, of shape"):
            cl.BatchNorm(X, y, beta=0.05, arrangements=patterns)
        with pytest.raises(InputError, match="not those of the whitened data"):
            right.with_arrangements(patterns)
    some = cl.sample_arrangements(right.X, 5)
    assert len(some) < 12
    assert cl.solve(right.with_arrangements(some), tol=1e-9).value >= value - 1e-9


def test_degenerate_data_are_enumerated_exactly():
    # A grid: whitening rounds it, and its triples of collinear points would look generic.
    grid = np.array([[a, b] for a in range(3) for b in range(3)], dtype=float)
    problem = cl.BatchNorm(grid, grid[:, 0] - grid[:, 1] ** 2, beta=0.1)
    listed = cl.enumerate_arrangements(np.column_stack([grid, np.ones(9)]))
    assert len(problem.arrangements) == len(listed) < cl.count_bound(9, 3)
    assert problem.arrangements.exhaustive
    assert 0 < problem.arrangements.perturbation < 1e-13
    result = cl.solve(problem, tol=1e-9)
    assert problem.objective(problem.to_network(result)) == pytest.approx(result.value, rel=1e-10)
    generated = cl.solve(
        cl.BatchNorm(grid, grid[:, 0] - grid[:, 1] ** 2, beta=0.1, arrangements="generate")
    )
    assert generated.value == pytest.approx(result.value, rel=2e-6)


def test_a_direction_of_the_size_of_rounding_is_left_out():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
    wide = X * [1e16, 1.0]  # beside the first column the second is rounding
    problem = cl.BatchNorm(wide, y, beta=0.3)
    alone = cl.BatchNorm(X[:, :1], y, beta=0.3)
    assert not problem.whitening.proven
    assert problem.X.shape == alone.X.shape
    np.testing.assert_allclose(cl.solve(problem).value, cl.solve(alone).value, rtol=1e-5)


def test_truncation_restricts_the_network_to_the_largest_directions():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((7, 3)) * [5.0, 1.0, 0.1]
    y = rng.standard_normal(7)
    values = []
    for k in (1, 2, 3):
        problem = cl.BatchNorm(X, y, beta=0.1, truncate=k)
        result = cl.solve(problem, tol=1e-8)
        network = problem.to_network(result)
        assert problem.X.shape == (7, k + 1)
        assert objective_by_hand(network, X, y, 0.1) == pytest.approx(result.value, abs=1e-9)
        right = np.linalg.svd(X - X.mean(axis=0))[2]
        np.testing.assert_allclose(network[0].weight.detach().numpy() @ right[k:].T, 0, atol=1e-8)
        values.append(result.value)
    assert values[0] > values[1] > values[2]
    full = cl.solve(cl.BatchNorm(X, y, beta=0.1), tol=1e-8).value
    assert values[2] == pytest.approx(full, rel=1e-8)


# --- The formula for many features, against programs, networks and dual points ---


@pytest.mark.parametrize("seed", range(24))
def test_closed_form_program_network_and_cvxpy_agree(seed):
    rng = np.random.default_rng(seed)
    X, y = instance(seed, n=4, d=3 + seed % 3)
    y[rng.integers(4)] *= seed % 2
    beta = 0.6 * rng.random() * max(np.linalg.norm(y.clip(0)), np.linalg.norm(y.clip(max=0)))
    form = cl.batchnorm_closed_form(X, y, beta=beta)
    problem = cl.BatchNorm(X, y, beta=beta)
    assert len(problem.arrangements) == 16  # of four orthogonal samples: all sign vectors
    value = cl.solve(problem, tol=1e-9).value
    assert form.value == pytest.approx(value, abs=1e-7)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, y, beta), abs=1e-10)
    assert form.value == pytest.approx(problem.objective(form.network), abs=1e-10)
    by_cvxpy = program_value(whitened(X), y, beta, problem.arrangements.masks.numpy())
    assert form.value == pytest.approx(by_cvxpy, abs=1e-6)
    # The dual point proves it: feasible, with the same value.
    assert problem.dual_norm(form.z) <= beta * (1 + 1e-9)
    assert problem.dual_value(form.z) == pytest.approx(form.value, abs=1e-10)


def test_closed_form_drops_short_and_missing_parts():
    X, _ = instance(0, n=4, d=4)
    y = np.array([1.0, 0.1, -0.05, -0.05])  # the negative part is shorter than beta
    form = cl.batchnorm_closed_form(X, y, beta=0.5)
    assert form.network[0].out_features == 1
    assert form.value == pytest.approx(0.5 * np.hypot(1, 0.1) - 0.125 + 0.5 * 2 * 0.05**2)
    positive = cl.batchnorm_closed_form(X, np.array([1.0, 2.0, 2.0, 0.0]), beta=1.0)
    assert positive.network[0].out_features == 1
    assert positive.value == pytest.approx(3 - 0.5)
    nothing = cl.batchnorm_closed_form(X, y, beta=5.0)
    assert nothing.value == pytest.approx(0.5 * y @ y)
    assert not nothing.network(torch.from_numpy(X)).any()
    # A constant part has gamma = 0, and any first layer.
    flat = cl.batchnorm_closed_form(X, np.ones(4), beta=1.0)
    assert abs(flat.network[1].weight[0].item()) < 1e-12
    assert flat.value == pytest.approx(objective_by_hand(flat.network, X, np.ones(4), 1.0))


def test_one_hot_labels_cost_what_the_theorem_says():
    X, _ = instance(0, n=9, d=8)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    Y = np.eye(3)[labels]
    form = cl.batchnorm_closed_form(X, Y, beta=0.3)
    assert form.value == pytest.approx(0.3 * (2 + 3**0.5 + 2**0.5) - 1.5 * 0.3**2)
    assert form.network[0].out_features == 3
    outputs = form.network(torch.from_numpy(X)).detach().numpy()
    assert (outputs.argmax(axis=1) == labels).all()
    np.testing.assert_allclose(form.z, Y - outputs, atol=1e-12)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, Y, 0.3), abs=1e-10)


def test_a_beta_whose_square_is_no_float():
    x = np.array([[1.4, 0.1], [1.1, 0.8]])
    assert cl.batchnorm_closed_form(x, np.ones(2), beta=1e300).value == pytest.approx(1.0)


def test_patterns_of_double_precision_serve_single_precision():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 2))).float()
    data = cl.BatchNorm(x, x[:, 0], beta=0.1).X
    assert data.dtype == torch.float32
    listed = cl.enumerate_arrangements(data.double())
    problem = cl.BatchNorm(x, x[:, 0], beta=0.1, arrangements=listed)
    assert len(problem.arrangements) == len(listed)


def refusals():
    X, y = instance(0)
    rng = np.random.default_rng(0)
    arguments = [
        ({"X": np.ones((6, 2))}, InputError, "all 2 columns of X are constant over its 6 rows"),
        ({"X": np.ones((1, 2)), "y": np.ones(1)}, InputError, "are constant over its 1 rows"),
        ({"truncate": 3}, InputError, "truncate is 3; expected at most 2, the rank"),
        ({"truncate": 0}, InputError, "truncate is 0; expected an integer >= 1"),
        ({"beta": 0.0}, InputError, "expected beta > 0"),
        ({"loss": "logistic"}, InputError, "loss is 'logistic'; expected one of 'squared'"),
        ({"arrangements": 7}, InputError, "arrangements is int"),
        (
            {"max_patterns": 5},
            TooManyArrangementsError,
            r"whitened data have shape \(6, 3\): up to 32 patterns, more than max_patterns=5",
        ),
        ({"y": np.full(6, np.nan)}, InputError, "y contains 6 non-finite values"),
        (
            {"X": rng.standard_normal((60, 8)), "y": np.arange(60)},
            TooManyArrangementsError,
            r"up to 5\.2e\+9 patterns.*generate.* truncate=k",
        ),
        (
            {"X": rng.standard_normal((1100, 1100)), "y": np.arange(1100)},
            TooManyArrangementsError,
            r"up to 1\.4e\+331 patterns.*generate",
        ),
    ]
    forms = [
        (np.eye(4)[:, :2], np.ones(4), ProblemError, "have rank 2; expected n - 1 = 3"),
        (np.eye(4), np.ones((4, 2, 1)), InputError, r"expected \(n,\) or \(n, K\)"),
        (np.eye(4), np.ones(3), InputError, "y has 3 entries; expected 4"),
        (np.eye(4), np.full((4, 1), np.inf), InputError, "Y contains 4 non-finite values"),
        (np.eye(3), np.ones((3, 2)), ProblemError, "row 0 of Y has more than one nonzero entry"),
    ]
    return [
        *((lambda options=options: cl.BatchNorm(**{"X": X, "y": y, "beta": 0.1} | options),
           error, message) for options, error, message in arguments),
        *((lambda X=X, Y=Y: cl.batchnorm_closed_form(X, Y, beta=0.3), error, message)
          for X, Y, error, message in forms),
    ]  # fmt: skip


test_refusals = refused(refusals())
