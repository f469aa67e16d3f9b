"""The best neuron for several outputs: against dense search, closed forms and one output."""

import math

import numpy as np
import pytest
import torch

from convexlib.pricing import price
from convexlib.pricing.joint import best_neurons, price_outputs


def drawn(n, d, c, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return X, torch.randn(n, c, generator=generator, dtype=torch.float64)


def heights(X, Z, U):
    return torch.linalg.vector_norm(torch.relu(X @ U.T).T @ Z, dim=1)


def circle(count=200_001):
    angles = torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


@pytest.mark.parametrize("c", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_maximum_in_the_plane_is_that_of_a_dense_search(c, seed):
    X, Z = drawn(12, 2, c, seed)
    found = price_outputs(X, Z)
    best = float(heights(X, Z, circle()).max())
    assert best <= found.upper
    assert found.complete
    assert found.upper <= best * (1 + 1.1e-4)
    assert heights(X, Z, found.direction[None])[0] == pytest.approx(found.lower, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_one_output_is_the_pricing_problem_of_one(seed):
    X, Z = drawn(25, 3, 1, seed)
    one = price(X, Z[:, 0])
    found = price_outputs(X, Z, rtol=1e-8)
    assert found.upper == pytest.approx(one.upper, rel=1e-7)
    assert found.lower <= one.upper


def test_rotated_outputs_have_the_same_maximum():
    X, Z = drawn(20, 3, 3)
    rotation = torch.linalg.qr(drawn(3, 3, 3, 1)[0]).Q
    ours, theirs = price_outputs(X, Z), price_outputs(X, Z @ rotation)
    assert ours.complete
    assert theirs.complete
    assert ours.upper == pytest.approx(theirs.upper, rel=3e-4)


def test_positive_features_have_a_closed_form():
    """One positive feature: every u > 0 is active everywhere, so the maximum is a norm."""
    x = torch.rand(9, 1, dtype=torch.float64) + 0.1
    _, Z = drawn(9, 1, 4)
    exact = float(torch.linalg.vector_norm(Z.T @ x))
    found = price_outputs(x, Z, rtol=1e-6)
    assert exact <= found.upper <= exact * (1 + 1e-5)


@pytest.mark.parametrize(("n", "d", "c"), [(30, 4, 3), (40, 7, 2), (40, 12, 3), (15, 3, 12)])
def test_no_neuron_is_above_the_bound_at_any_size(n, d, c):
    X, Z = drawn(n, d, c)
    found = price_outputs(X, Z, rtol=1e-2, max_nodes=20_000)
    values, units = best_neurons(X, Z)
    assert float(values.max()) <= found.upper
    assert torch.allclose(torch.linalg.vector_norm(units, dim=1), units.new_ones(len(units)))
    assert found.lower <= found.upper < 3 * found.lower


@pytest.mark.parametrize("c", [7, 10])
@pytest.mark.parametrize("seed", range(3))
def test_many_outputs_are_bounded_in_groups(c, seed):
    X, Z = drawn(40, 3, c, seed)
    found = price_outputs(X, Z, rtol=1e-2, max_nodes=200_000)
    W = Z @ torch.linalg.svd(Z, full_matrices=False).Vh.T
    first = math.hypot(*(price(X, column).upper for column in W.T))
    assert float(best_neurons(X, Z)[0].max()) <= found.upper < 0.95 * first


def test_a_target_that_is_not_reached_is_proven_cheaply():
    X, Z = drawn(30, 3, 3)
    tight = price_outputs(X, Z)
    loose = price_outputs(X, Z, target=1.2 * tight.upper)
    assert tight.lower <= loose.upper <= 1.2 * tight.upper * (1 + 1e-4)
    assert loose.complete
    assert loose.nodes < tight.nodes


def test_without_cones_the_bound_is_loose_and_valid():
    X, Z = drawn(30, 4, 3)
    tight, loose = price_outputs(X, Z), price_outputs(X, Z, max_nodes=0)
    assert tight.lower <= loose.upper
    assert not loose.complete
    assert loose.nodes == 0


@pytest.mark.parametrize("exponents", [(0, -400), (0, 300), (-200, -200), (200, 200)])
def test_powers_of_two_change_nothing(exponents):
    X, Z = drawn(12, 2, 3)
    plain = price_outputs(X, Z)
    scaled = price_outputs(X * 2.0 ** exponents[0], Z * 2.0 ** exponents[1])
    factor = 2.0 ** sum(exponents)
    assert scaled.upper == pytest.approx(plain.upper * factor, rel=1e-12)
    assert scaled.lower == pytest.approx(plain.lower * factor, rel=1e-12)


@pytest.mark.parametrize(
    ("X", "Z"),
    [
        (np.ones((3, 2)), np.zeros((3, 2))),
        (np.zeros((3, 2)), np.ones((3, 2))),
        (np.ones((4, 2)), np.ones((4, 3))),  # one direction, Z of rank one
        (np.vstack([np.eye(2), -np.eye(2)]), np.eye(4)),  # antipodal samples
        (np.eye(1), np.ones((1, 3))),
        (np.vstack([np.eye(2)] * 3), np.arange(18.0).reshape(6, 3)),  # duplicates
    ],
)
def test_degenerate_data(X, Z):
    X, Z = torch.from_numpy(X), torch.from_numpy(Z)
    units = circle(2001) if X.shape[1] == 2 else torch.tensor([[1.0], [-1.0]]).double()
    best = float(heights(X, Z, units).max())
    found = price_outputs(X, Z)
    assert best <= found.upper + 1e-280
    # In all directions alike: four outputs are then the most work that there is.
    assert found.upper <= best * (1 + 1e-2) + 1e-280
