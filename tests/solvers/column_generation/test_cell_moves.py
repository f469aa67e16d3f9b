"""Moves from cell to cell: what they reach, and that they stop at maxima only."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.pricing.ascent import inside, move_cells
from tests.checks import best_in_cone, neuron_values
from tests.generators import integer_grid


def instance(n, d, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, d))), torch.from_numpy(rng.standard_normal(n))


def values_of_cells(X, z, masks):
    """The best value of z in every cell, by nonnegative least squares."""
    return [best_in_cone((X * mask[:, None]).T @ z, X, mask) for mask in masks]


@pytest.mark.parametrize("seed", range(10))
def test_climbs_from_every_cell_to_where_no_neighbour_is_higher(seed):
    X, z = instance(8, 3, seed)
    listed = cl.enumerate_arrangements(X)
    sides = torch.ones(len(listed), dtype=torch.float64)
    values, neurons, masks = move_cells(X, z, listed.masks, sides)
    X, z = X.numpy(), z.numpy()
    own = values_of_cells(X, z, listed.masks.numpy())
    np.testing.assert_array_less(np.array(own) - 1e-9, values.numpy() + 1e-12)
    # The value is attained: by the neuron, and as the maximum of the cell that is reported.
    live = values.numpy() > 0
    reached = neuron_values(X, z, neurons.numpy()[live])
    np.testing.assert_allclose(values.numpy()[live], reached, rtol=1e-9)
    ends = values_of_cells(X, z, masks.numpy()[live])
    np.testing.assert_allclose(values.numpy()[live], ends, rtol=1e-9)
    # Local optimality, by random steps that are small against the cells.
    rng = np.random.default_rng(seed)
    steps = 1e-6 * rng.standard_normal((live.sum(), 200, 3))
    around = (neurons.numpy()[live][:, None] + steps).reshape(-1, 3)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    heights = (np.maximum(around @ X.T, 0) @ z).reshape(-1, 200).max(axis=1)
    assert (heights <= values.numpy()[live] * (1 + 1e-9)).all()
    # One of all cells is the best.
    assert values.max() == pytest.approx(max(own), rel=1e-9)


def test_the_other_side_is_that_of_the_negative():
    X, z = instance(10, 3, 0)
    masks = cl.sample_arrangements(X, 20).masks
    ones = torch.ones(len(masks), dtype=torch.float64)
    below, neurons, _ = move_cells(X, z, masks, -ones)
    above, same, _ = move_cells(X, -z, masks, ones)
    torch.testing.assert_close(below, -above, rtol=1e-12, atol=0)
    torch.testing.assert_close(neurons, same, rtol=1e-9, atol=1e-12)


def test_low_cells_are_left_alone():
    X, z = instance(10, 3, 1)
    masks = cl.sample_arrangements(X, 20).masks
    sides = torch.ones(len(masks), dtype=torch.float64)
    first = torch.tensor(values_of_cells(X.numpy(), z.numpy(), masks.numpy()))
    everything, _, _ = move_cells(X, z, masks, sides)
    least = float(first.median())
    some, _, _ = move_cells(X, z, masks, sides, least)
    expected = torch.where(first > least * (1 + 1e-9), everything, 0.0)
    torch.testing.assert_close(some, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_neurons_are_moved_inside_their_cells(seed):
    X, z = instance(12, 4, seed)
    listed = cl.enumerate_arrangements(X)
    sides = torch.ones(len(listed), dtype=torch.float64)
    values, neurons, masks = move_cells(X, z, listed.masks, sides)
    live = values > 0
    moved = inside(X, masks[live], neurons[live])
    assert torch.equal((X @ moved.T >= 0).T, masks[live])
    products = (X @ moved.T).abs() / torch.linalg.vector_norm(X, dim=1)[:, None]
    assert products.min() > 1e-12
    torch.testing.assert_close(moved, neurons[live], rtol=0, atol=2e-3)


def test_on_degenerate_data_the_patterns_touch_the_neuron():
    X = torch.from_numpy(integer_grid(3)[0])
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(len(X)))
    listed = cl.enumerate_arrangements(X)
    sides = torch.ones(len(listed), dtype=torch.float64)
    values, neurons, masks = move_cells(X, z, listed.masks, sides)
    assert values.max() == pytest.approx(
        max(values_of_cells(X.numpy(), z.numpy(), listed.masks.numpy())), rel=1e-9
    )
    live = values > 0
    moved = inside(X, masks[live], neurons[live])
    signs = 2.0 * (X @ moved.T >= 0).T.double() - 1.0
    assert ((neurons[live] @ X.T) * signs >= -1e-9).all()
