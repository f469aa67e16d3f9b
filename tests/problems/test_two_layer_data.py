"""Two layers on every kind of data: degenerate, badly scaled, of other dtypes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convexlib as cl
from tests.checks import check_result, small_instance
from tests.generators import EXACT, ROUNDED, degenerate_integers
from tests.two_layer_instances import at_fraction, reference_data

# --- degenerate data ----------------------------------------------------------------------------

SMALL = {name: case[0] for name, case in (EXACT | ROUNDED).items() if case[1] <= 400}


@pytest.mark.parametrize("name", SMALL)
def test_degenerate_data(name):
    X = SMALL[name]
    y = np.random.default_rng(4).standard_normal(len(X))
    problem = at_fraction(X, y, 0.02)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    assert problem.violation(result.weights) <= 1e-12
    generating = cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate")
    generated = cl.solve(generating)
    check_result(generating, generated)
    assert generated.converged
    assert generated.value == pytest.approx(result.value, rel=1e-6)


@given(
    case=degenerate_integers(max_n=6, max_d=3),
    seed=st.integers(0, 1000),
    fraction=st.sampled_from([1e-3, 0.1, 0.7]),
)
def test_bounds_bracket_the_optimum_on_integer_data(case, seed, fraction):
    X, _ = case
    y = np.random.default_rng(seed).integers(-3, 4, len(X)).astype(float)
    problem = at_fraction(X, y, fraction)
    result = cl.solve(problem)
    network = check_result(problem, result)
    assert result.converged
    generated = cl.solve(cl.TwoLayer(X, y, beta=problem.beta, arrangements="generate"))
    assert generated.value == pytest.approx(result.value, rel=1e-6, abs=1e-12)
    certificate = cl.certify(network, X, y, beta=problem.beta)
    bounds = result.dual, generated.dual, certificate.dual
    assert max(bounds) <= result.value * (1 + 1e-12)
    assert certificate.dual >= result.value * (1 - 2e-6) - 1e-12


@pytest.mark.parametrize("arrangements", [None, "generate"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 4), (2, 6), (4, 9), (12, 1)])
def test_extreme_shapes(n, d, arrangements):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    problem = at_fraction(X, y, 0.1, arrangements=arrangements)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged


@pytest.mark.parametrize("arrangements", [None, "generate"])
@pytest.mark.parametrize("empty", ["y", "X", "cancelling"])
def test_nothing_to_fit(empty, arrangements):
    X, y = reference_data(0)
    if empty == "y":
        y = 0 * y
    elif empty == "X":
        X = 0 * X
    else:  # X^T D y = 0 for every pattern
        X, y = np.ones((2, 1)), np.array([1.0, -1.0])
    problem = cl.TwoLayer(X, y, beta=0.1, arrangements=arrangements)
    assert problem.beta_max() <= 1e-12
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    assert result.value == pytest.approx(0.5 * y @ y, rel=1e-14, abs=0.0)
    assert problem.to_network(result).n_neurons == 0


@pytest.mark.parametrize("arrangements", [None, "generate"])
def test_tiny_beta_nearly_interpolates(arrangements):
    X, y = reference_data(1)
    problem = at_fraction(X, y, 1e-4, arrangements=arrangements)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    again = at_fraction(X, y, 1e-6)
    assert cl.solve(again, tol=1e-5).converged


@pytest.mark.parametrize("kind", ["rows", "columns", "data", "targets"])
def test_badly_scaled_data(kind):
    rng = np.random.default_rng(6)
    data = X, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    if kind == "rows":
        X = X * np.logspace(-4, 4, 8)[:, None]
    elif kind == "columns":
        X = X * [1e-4, 1.0, 1e4]
    elif kind == "data":
        X = 1e12 * X
    else:
        y = 1e-12 * y
    problem = at_fraction(X, y, 0.1)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.converged
    if kind == "rows":
        assert cl.solve(problem, method="oracle").value == pytest.approx(result.value, rel=2e-6)
    elif kind != "columns":  # the value scales with the targets and not with the data
        scale = 1e-24 if kind == "targets" else 1.0
        plain = cl.solve(at_fraction(*data, 0.1))
        assert result.value == pytest.approx(scale * plain.value, rel=2e-6)


# --- dtypes and devices -------------------------------------------------------------------------


def test_inputs_of_every_kind_give_the_same_problem():
    rng = np.random.default_rng(42)
    problem = at_fraction(rng.standard_normal((9, 3)), rng.standard_normal(9), 0.05)
    result = cl.solve(problem, tol=1e-9)
    X, y, beta = problem.X, problem.y, problem.beta
    for data, targets in (
        (X.numpy().tolist(), y.numpy().tolist()),
        (X.clone().requires_grad_(True), y.clone().requires_grad_(True)),
        (np.asfortranarray(X.numpy()), y.numpy()[::1]),
    ):
        same = cl.TwoLayer(data, targets, beta=np.float64(beta))
        # Not bit by bit: rows and columns in another order in memory are other kernels.
        assert cl.solve(same, tol=1e-9).value == pytest.approx(result.value, rel=2e-9)


def test_integers_are_data():
    problem = cl.TwoLayer(np.array([[1, 0], [2, -1], [0, 1]]), [1, -1, 2], beta=1)
    result = cl.solve(problem)
    check_result(problem, result)
    assert result.weights.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrangements", "gated"), [(None, False), (None, True), ("generate", False)]
)
def test_float32_stays_float32_and_reaches_its_precision(arrangements, gated):
    X, y, _ = small_instance(12)
    exact = at_fraction(X, y, 0.05, gated=gated)
    data, targets = torch.from_numpy(X).float(), torch.from_numpy(y).float()
    problem = cl.TwoLayer(data, targets, beta=exact.beta, arrangements=arrangements, gated=gated)
    result = cl.solve(problem, tol=1e-3)
    network = problem.to_network(result)
    assert result.converged
    assert result.weights.dtype == torch.float32
    assert result.z.dtype == torch.float64  # a proof is not rounded
    assert {p.dtype for p in network.state_dict().values()} == {torch.float32}
    assert network(data).dtype == torch.float32
    best = cl.solve(exact).value
    assert result.value == pytest.approx(best, rel=1.1e-3)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-5)


def test_problems_do_not_change_their_input():
    X, y = reference_data(0)
    data, targets = X.copy(), y.copy()
    problem = cl.TwoLayer(X, y, beta=0.1)
    network = problem.to_network(cl.solve(problem))
    problem.objective(network)
    np.testing.assert_array_equal(X, data)
    np.testing.assert_array_equal(y, targets)
