"""Local ascent: it climbs, and what it ends in are local maxima, kinks and crossings included."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.pricing.ascent import ascend, climb, inside, move_cells, search
from convexlib.runtime import OutOfTime, time_limit
from tests.helpers.checks import best_in_cone, best_over_cells, neuron_values
from tests.helpers.patterns import integer_grid
from tests.helpers.two_layer import tensors


def starts(m, d, seed=19):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((m, d)))


@pytest.mark.parametrize("n_iter", [1, 5, 60])
def test_ascend_climbs_and_reports_signs(n_iter):
    X, z = tensors(30, 4, 18)
    U = starts(50, 4)
    before = (torch.relu(U @ X.T) @ z) / torch.linalg.vector_norm(U, dim=1)
    values, directions = ascend(X, z, U, n_iter=n_iter)
    assert (values * before >= before.abs() * before.abs() * (1 - 1e-12)).all()
    assert (values.sign() == before.sign()).all()
    torch.testing.assert_close(torch.relu(directions @ X.T) @ z, values)
    torch.testing.assert_close(torch.linalg.vector_norm(directions, dim=1), values**0)


@pytest.mark.parametrize(("n", "d"), [(40, 2), (60, 3), (60, 5), (100, 12)])
def test_ends_are_local_maxima(n, d):
    X, z = tensors(n, d, 20)
    values, directions = ascend(X, z, starts(60, d), n_iter=300)
    rng = np.random.default_rng(21)
    heights = (directions @ X.T).abs()
    kinks = 0
    for value, u, height in zip(values, directions, heights, strict=True):
        on = height < 1e-7
        kinks += int(on.any())
        # Farther than the next hyperplane is another valley; nearer there is nothing higher.
        radius = 0.5 * float((height / torch.linalg.vector_norm(X, dim=1))[~on].min())
        steps = rng.standard_normal((500, d))
        steps *= radius * rng.random((500, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
        around = u.numpy() + steps
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        near = np.sign(float(value)) * np.maximum(around @ X.numpy().T, 0) @ z.numpy()
        assert near.max() <= abs(float(value)) * (1 + 1e-12)
    assert kinks > 10  # many of the maxima are not inside of cells


def test_a_maximum_at_a_crossing():
    # g = u_3 - |u_1| - |u_2|, largest where two hyperplanes cross.
    X = torch.tensor([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]).double()
    z = torch.tensor([1.0, -1, -1, -1, -1]).double()
    values, directions = ascend(X, z, torch.tensor([[0.2, -0.1, 1.0]]).double())
    assert float(values[0]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(directions[0], [0, 0, 1], atol=1e-12)


def test_a_maximum_on_an_arc():
    # g = u_1 + 2 u_2 + 3 u_3 - 9 |u_1| is largest at (0, 2, 3) / sqrt(13).
    X = torch.tensor([[1.0, 2, 3], [-1, -2, -3], [1, 0, 0], [-1, 0, 0]]).double()
    z = torch.tensor([1.0, -1, -9, -9]).double()
    values, directions = ascend(X, z, torch.tensor([[0.01, 0.3, 0.2]]).double())
    assert float(values[0]) == pytest.approx(13**0.5, rel=1e-12)
    np.testing.assert_allclose(directions[0], np.array([0, 2, 3]) / 13**0.5, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(20, 3), (12, 4)])
def test_many_starts_find_the_maximum(n, d):
    X, z = tensors(n, d, 22)
    values, _ = ascend(X, z, starts(200, d))
    assert float(values.abs().max()) == pytest.approx(best_over_cells(X, z), rel=1e-9)


def test_zero_starts_and_zero_data():
    X, z = tensors(5, 3, 23)
    values, _ = ascend(X, 0 * z, starts(3, 3))
    assert (values == 0).all()
    values, directions = ascend(X, z, torch.zeros(2, 3, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert torch.isfinite(directions).all()


@pytest.mark.parametrize("z", [[5e-324, -5e-324, -5e-324], [-1.0, -1.0, -5e-324]])
def test_weights_of_the_smallest_float(z):
    X = torch.tensor([[0.5, 1.0], [2.0, 0.1], [0.1, 0.1]]).double()
    values, directions = ascend(X, torch.tensor(z, dtype=torch.float64), starts(50, 2))
    assert float(values.abs().max()) > 0.0
    np.testing.assert_allclose(torch.linalg.vector_norm(directions, dim=1), 1.0, rtol=1e-12)


# --- Moves from cell to cell: what they reach, and that they stop at maxima only ---


def values_of_cells(X, z, masks):
    """The best value of z in every cell, by nonnegative least squares."""
    return [best_in_cone((X * mask[:, None]).T @ z, X, mask) for mask in masks]


@pytest.mark.parametrize("seed", range(10))
def test_climbs_from_every_cell_to_where_no_neighbour_is_higher(seed):
    X, z = tensors(8, 3, seed)
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
    X, z = tensors(10, 3, 0)
    masks = cl.sample_arrangements(X, 20).masks
    ones = torch.ones(len(masks), dtype=torch.float64)
    below, neurons, _ = move_cells(X, z, masks, -ones)
    above, same, _ = move_cells(X, -z, masks, ones)
    torch.testing.assert_close(below, -above, rtol=1e-12, atol=0)
    torch.testing.assert_close(neurons, same, rtol=1e-9, atol=1e-12)


def test_low_cells_are_left_alone():
    X, z = tensors(10, 3, 1)
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
    X, z = tensors(12, 4, seed)
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


# --- A limit of time ---


def test_climbs_under_a_limit_are_the_same_and_stay_where_time_is_over():
    X, z = tensors(30, 4, 18)
    given = X.numpy(), z.numpy(), np.zeros(4), starts(50, 4).numpy()
    values, directions = climb(*given)
    with time_limit(1e6):
        again = climb(*given)
    assert (again[0] == values).all()
    assert (again[1] == directions).all()
    with time_limit(0.0):
        heights, units = climb(*given)
    np.testing.assert_allclose(np.maximum(units @ X.numpy().T, 0.0) @ z.numpy(), heights)
    assert (np.abs(heights) <= np.abs(values)).all()
    assert (np.abs(heights) < np.abs(values)).any()


def test_a_search_ends_at_the_limit_and_is_the_same_below_it():
    X, z = tensors(60, 12, 18)

    def found():
        return search(X, z, 0.0, torch.Generator().manual_seed(0))

    free = found()
    with time_limit(1e6):
        limited = found()
    assert torch.equal(limited.neurons, free.neurons)
    assert limited.highest == free.highest
    with time_limit(0.0), pytest.raises(OutOfTime):
        found()
