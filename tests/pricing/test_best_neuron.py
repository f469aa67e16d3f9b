"""The best neuron for a dual point: bounds against brute force and against enumeration."""

import numpy as np
import pytest
import torch

from convexlib.pricing import price, spectral_bound
from convexlib.pricing.ascent import ascend
from convexlib.pricing.condense import row_space
from convexlib.runtime import time_limit
from tests.helpers.checks import best_over_cells, check_pricing, neuron_values
from tests.helpers.patterns import EXACT, ROUNDED
from tests.helpers.two_layer import tensors

DEGENERATE = {name: case[0] for name, case in (EXACT | ROUNDED).items()}


@pytest.mark.parametrize(
    ("n", "r"), [(1, 1), (9, 1), (12, 2), (60, 2), (12, 3), (25, 3), (10, 4), (9, 5)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_price_is_the_maximum_over_all_cells(n, r, seed):
    X, z = tensors(n, r, seed)
    priced = price(X, z)
    check_pricing(X, z, priced)
    assert priced.complete
    expected = best_over_cells(X, z)
    assert priced.upper == pytest.approx(expected, rel=3e-9)
    assert priced.upper >= expected * (1 - 1e-14)
    assert priced.lower == pytest.approx(expected, rel=3e-9)


@pytest.mark.parametrize("name", DEGENERATE)
def test_price_on_degenerate_data(name):
    X = torch.from_numpy(DEGENERATE[name])
    z = tensors(len(X), 1, 5)[1]
    priced = price(X, z, rtol=1e-8)
    check_pricing(X, z, priced)
    expected = best_over_cells(X, z)
    assert priced.complete
    assert priced.upper == pytest.approx(expected, rel=3e-8, abs=1e-12)
    assert priced.upper >= expected * (1 - 1e-14)


@pytest.mark.parametrize(("n", "r"), [(300, 2), (80, 3), (30, 4)])
def test_no_ascent_beats_the_upper_bound(n, r):
    X, z = tensors(n, r, 2)
    priced = price(X, z, rtol=1e-7)
    starts = torch.from_numpy(np.random.default_rng(3).standard_normal((400, r)))
    # The hardest starts: at the reported maximum, and on the kinks next to it.
    starts = torch.cat([starts, priced.direction + 1e-3 * starts[:200]])
    values, directions = ascend(X, z, starts, n_iter=200)
    assert float(values.abs().max()) <= priced.upper * (1 + 1e-14)
    assert float(values.abs().max()) >= priced.upper * (1 - 1e-6)
    np.testing.assert_allclose(neuron_values(X, z, directions), values.abs(), rtol=1e-10)


def test_both_signs_are_searched():
    X, z = tensors(15, 3, 4)
    positive, negative = price(X, z), price(X, -z)
    assert positive.upper == pytest.approx(negative.upper, rel=1e-8)
    assert positive.sign == -negative.sign
    # One-sided data: only one of the signs has a positive value.
    X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    z = torch.tensor([-1.0, -3.0], dtype=torch.float64)
    assert price(X, z).sign == -1
    assert price(X, z).upper == pytest.approx(7.0)


@pytest.mark.parametrize("max_nodes", [0, 1, 5, 40, 300])
def test_a_spent_budget_leaves_a_valid_bound(max_nodes):
    X, z = tensors(40, 4, 6)
    exact = price(X, z, rtol=1e-6)
    assert exact.nodes > 300
    priced = price(X, z, max_nodes=max_nodes)
    check_pricing(X, z, priced)
    assert not priced.complete
    assert priced.nodes <= 4 * max_nodes
    assert exact.lower <= priced.upper < float("inf")
    assert priced.upper <= spectral_bound(X, z)


@pytest.mark.parametrize("rtol", [1e-15, 1e-300])
def test_asking_for_more_than_rounding_allows_ends_at_rounding(rtol):
    X, z = tensors(40, 4, 6)
    exact = price(X, z, rtol=1e-6)
    greedy = price(X, z, rtol=rtol, max_nodes=20 * exact.nodes)
    check_pricing(X, z, greedy)
    assert greedy.complete
    assert greedy.nodes <= 2 * exact.nodes
    assert greedy.upper <= (1 + 1e-11) * greedy.lower


def test_a_target_settles_feasibility_early():
    X, z = tensors(40, 3, 7)
    exact = price(X, z)
    feasible = price(X, z, target=1.2 * exact.upper)
    assert feasible.complete
    assert exact.lower <= feasible.upper <= 1.2 * exact.upper * (1 + 1e-9)
    assert feasible.nodes < exact.nodes
    infeasible = price(X, z, target=0.8 * exact.lower, rtol=1e-6)
    assert infeasible.lower > 0.8 * exact.lower
    assert infeasible.upper >= exact.lower


def test_zero_dual_point_and_zero_data():
    X, z = tensors(6, 3, 8)
    assert price(X, 0 * z).upper == 0.0
    assert price(0 * X, z).upper <= 1e-15
    assert spectral_bound(X, 0 * z) == 0.0


def test_badly_scaled_columns_and_rows():
    X, z = tensors(10, 3, 10)
    for scaled in (
        X * torch.tensor([1e-3, 1.0, 1e3]),
        X * torch.logspace(-4, 4, 10, dtype=torch.float64)[:, None],
    ):
        priced = price(scaled, z, rtol=1e-7)
        check_pricing(scaled, z, priced)
        assert priced.upper == pytest.approx(best_over_cells(scaled, z), rel=3e-7)


@pytest.mark.parametrize("d", [3, 6, 20])
def test_rank_counts_not_columns(d):
    X, z = tensors(12, 3, 11)
    basis = np.linalg.qr(np.random.default_rng(12).standard_normal((d, d)))[0][:3]
    wide = X @ torch.from_numpy(basis)
    priced = price(wide, z)
    check_pricing(wide, z, priced)
    assert priced.complete
    assert priced.upper == pytest.approx(price(X, z).upper, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(5, 2), (30, 5), (20, 40), (200, 12)])
def test_spectral_bound_holds(n, d):
    X, z = tensors(n, d, 13)
    bound = spectral_bound(X, z)
    starts = torch.from_numpy(np.random.default_rng(14).standard_normal((100, d)))
    values, _ = ascend(X, z, starts)
    reached = float(values.abs().max())
    assert reached <= bound
    assert bound <= 4 * reached  # loose, but not useless


def test_spectral_bound_is_tight_for_one_active_sample():
    X = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert spectral_bound(X, torch.ones(1, dtype=torch.float64)) == pytest.approx(5.0)


def test_high_rank_gets_the_quadratic_bound_at_once():
    X, z = tensors(30, 12, 15)
    priced = price(X, z)
    check_pricing(X, z, priced)
    assert not priced.complete
    assert priced.nodes == 0
    assert priced.method == "quadratic"
    assert priced.upper <= 1.1 * priced.lower
    assert priced.upper <= 0.7 * spectral_bound(X, z)


def test_row_space_reproduces_the_data():
    X, _ = tensors(10, 3, 16)
    same, basis, error = row_space(X)
    assert same is X
    assert error == 0.0
    assert torch.equal(basis, torch.eye(3, dtype=torch.float64))
    wide = X @ torch.from_numpy(np.random.default_rng(17).standard_normal((3, 7)))
    small, basis, error = row_space(wide)
    assert small.shape == (10, 3)
    assert float(torch.linalg.matrix_norm(wide - small @ basis.T, ord=2)) <= error <= 1e-12


@pytest.mark.parametrize("r", [3, 12])
def test_where_time_is_over_both_bounds_are_loose_and_valid(r):
    X, z = tensors(25, r, 0)
    free = price(X, z)
    with time_limit(0.0):
        cut = price(X, z)
    check_pricing(X, z, cut)
    assert not cut.complete
    assert cut.nodes <= 2**r
    assert cut.lower <= free.upper
    assert free.upper < cut.upper < np.inf
