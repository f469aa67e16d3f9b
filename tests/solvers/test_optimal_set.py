"""Optimal sets: every member is optimal, every optimum is a member, vertices are minimal."""

import dataclasses

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, SolverError
from tests.helpers.checks import network_objective
from tests.helpers.two_layer import random_problem


def hexagon(beta=0.2, height=1.0):
    angles = np.arange(6) * np.pi / 3
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return cl.TwoLayer(X, np.full(6, height), beta=beta * height)


def members(found, count=5, seed=0):
    """Vertices of random directions, and a point between them."""
    generator = torch.Generator().manual_seed(seed)
    costs = torch.randn(count, len(found), generator=generator, dtype=torch.float64)
    vertices = [found.vertex(c) for c in costs]
    return [*vertices, sum(vertices) / count]


@pytest.mark.parametrize("height", [1.0, 1e-12, 1e9])
def test_the_hexagon_has_a_segment_of_optima(height):
    """Three neurons of length a at every other corner give f = a: 3 (1 - a)^2 + 3 beta a."""
    problem = hexagon(height=height)
    result = cl.solve(problem, tol=1e-10)
    found = cl.optimal_set(problem, result)
    assert result.value == pytest.approx((3 * (0.1) ** 2 + 0.2 * 3 * 0.9) * height**2)
    assert len(found) == 6
    assert np.linalg.matrix_rank(found.images.numpy(), tol=1e-6) == 5
    atol = 1e-6 if height == 1.0 else 1e-4
    np.testing.assert_allclose(found.ranges() / height, [[0.0, 0.9]] * 6, atol=atol)
    assert not found.is_unique()
    assert found.slack > 0.1
    for alpha in members(found):
        network = problem.to_network(found.weights(alpha))
        value = network_objective(network, problem.X, problem.y, problem.beta)
        assert value == pytest.approx(result.value, rel=1e-8)
        assert problem.violation(found.weights(alpha)) < 1e-7
    if height == 1.0:
        vertex = problem.to_network(found.weights(found.vertex(torch.arange(6.0).double())))
        assert vertex.n_neurons == 3


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_optimum_is_a_member(seed, gated):
    problem = random_problem(8, 2, seed, gated=gated)
    result = cl.solve(problem, tol=1e-10)
    found = cl.optimal_set(problem, result)
    assert torch.linalg.vector_norm(found.neurons, dim=1).numpy() == pytest.approx(1.0)
    other = cl.solve(problem, method="oracle", tol=1e-8)  # another solver, another optimum
    norms = torch.linalg.vector_norm(other.weights, dim=2)
    for side, pattern in (norms > 1e-3 * norms.max()).nonzero().tolist():
        unit = other.weights[side, pattern] / norms[side, pattern]
        same = found.side == side
        distances = torch.linalg.vector_norm(found.neurons[same] - unit, dim=1)
        assert float(distances.min()) < 1e-3
    *vertices, middle = members(found)
    for alpha in (*vertices, middle):
        assert problem.value(found.weights(alpha)) == pytest.approx(result.value, rel=1e-6)
    for alpha in vertices:  # their images are independent
        active = found.images[:, alpha > 1e-7].numpy()
        assert np.linalg.matrix_rank(active, tol=1e-6) == active.shape[1] <= len(problem.y)


@pytest.mark.parametrize("problem", [random_problem(8, 2, 0), hexagon(beta=10.0)])
def test_generic_data_have_one_optimum_and_so_has_a_beta_above_the_largest(problem):
    found = cl.optimal_set(problem, cl.solve(problem, tol=1e-10))
    assert found.is_unique()
    assert np.linalg.matrix_rank(found.images.numpy(), tol=1e-6) == len(found)
    assert (len(found) == 0) == (problem.beta == 10.0)


def test_pruning_ends_at_a_vertex():
    problem = hexagon()
    found = cl.optimal_set(problem, cl.solve(problem, tol=1e-10))
    middle = problem.to_network(found.weights(torch.full((6,), 0.45, dtype=torch.float64)))
    assert middle.n_neurons == 6
    pruned = cl.prune_neurons(middle, problem.X)
    assert pruned.n_neurons <= 5
    assert problem.objective(pruned) == pytest.approx(problem.objective(middle), rel=1e-9)


def test_refusals():
    problem = random_problem(8, 2, 1)
    with pytest.raises(InputError, match="Solve with tol=1e-10"):
        cl.optimal_set(problem, cl.solve(problem, tol=1e-2))
    generated = cl.TwoLayer(problem.X, problem.y, beta=0.1, arrangements="generate")
    with pytest.raises(SolverError, match="optimal_set needs a program .* with given patterns"):
        cl.optimal_set(generated, cl.solve(problem))
    result = cl.solve(problem, tol=1e-10)
    for other in (result.weights, cl.solve(random_problem(8, 3, 1), tol=1e-10)):
        with pytest.raises(InputError, match=r"result is .*; expected what solve\(problem"):
            cl.optimal_set(problem, other)
    with pytest.raises(InputError, match="problem is str"):
        cl.optimal_set("x", result)
    found = cl.optimal_set(problem, result)
    for call, name in ((found.vertex, "costs"), (found.weights, "alpha")):
        with pytest.raises(InputError, match=rf"{name} has 99 entries; .* one per neuron"):
            call(np.ones(99))
        with pytest.raises(InputError, match=f"{name} has dtype"):
            call(None)


def test_costs_and_coefficients_may_be_arrays():
    found = cl.optimal_set(hexagon(), cl.solve(hexagon(), tol=1e-10))
    costs = np.arange(6.0)
    vertex = found.vertex(torch.from_numpy(costs))
    assert torch.equal(found.vertex(costs), vertex)
    assert torch.equal(found.weights(vertex.tolist()), found.weights(vertex))


def test_a_vertex_with_a_neuron_that_is_nearly_active_is_worth_so_much_more():
    rng = np.random.default_rng(59)
    X = rng.standard_normal((6, 2))
    X[5] = X[0]
    problem = cl.TwoLayer(X, rng.standard_normal(6), beta=1.0)
    problem = problem.with_beta(0.2 * problem.beta_max())
    result = cl.solve(problem, tol=1e-10)
    found = cl.optimal_set(problem, result)
    assert found.slack < 1e-5  # that of a neuron among those here
    for alpha in members(found, count=20):
        value = problem.value(found.weights(alpha))
        assert -1e-9 <= value / result.value - 1.0 <= found.slack


def test_a_loss_that_is_not_strictly_convex_is_refused():
    """Two optimal networks with different outputs beyond the margin of the fifth sample."""
    X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [3.0, 3.0]])
    problem = cl.TwoLayer(X, np.ones(5), beta=0.1, loss="squared_hinge")
    result = cl.solve(problem, tol=1e-10)
    with pytest.raises(InputError, match="squared_hinge, which is flat beyond the margin"):
        cl.optimal_set(problem, result)


@pytest.mark.parametrize("seed", range(12))
def test_no_converged_result_gives_an_empty_set(seed):
    """What counts as active follows from the gap: a fixed tolerance missed all neurons at times."""
    problem = random_problem(4, 2, seed, fraction=0.07)
    for tol in (1e-10, 1e-12):
        result = cl.solve(problem, tol=tol)
        found = cl.optimal_set(problem, result)
        assert len(found) > 0
        value = problem.value(found.weights(found.vertex(torch.ones(len(found)))))
        assert value == pytest.approx(result.value, rel=1e-6)


def test_a_gap_that_leaves_the_active_constraints_open_is_refused_with_one_that_does_not():
    rng = np.random.default_rng(0)
    problem = cl.TwoLayer(100.0 * rng.standard_normal((8, 2)), rng.standard_normal(8), beta=0.01)
    result = cl.solve(problem, tol=1e-10)

    def claiming(gap):
        return dataclasses.replace(result, dual=result.value * (1 - gap), gap=gap)

    with pytest.raises(InputError, match=r"uncertain by .* of beta.*Solve with tol=") as caught:
        cl.optimal_set(problem, claiming(9e-9))
    tol = float(str(caught.value).rsplit("tol=", 1)[1].rstrip("."))
    assert len(cl.optimal_set(problem, claiming(tol))) > 0
    # Where it would have to be below rounding no solver gets there.
    with pytest.raises(InputError, match=r"uncertain by .*No gap shows more: rescale the columns"):
        cl.optimal_set(problem.with_beta(1e-7), claiming(9e-9))


@pytest.mark.parametrize("unit", [1e2, 1e4, 1e5, 1e6])
def test_a_neuron_on_a_wall_is_one_in_all_units_of_the_columns(unit):
    """Unit vectors near (1, 0), of several cells, differ by 5e-4 in the column of ones alone."""
    X = np.column_stack([unit * np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]), np.ones(6)])
    problem = cl.TwoLayer(X, [1.0, -1.0, 1.0, -1.0, 1.0, -1.0], beta=1.0)
    problem = problem.with_beta(0.1 * problem.beta_max())
    found = cl.optimal_set(problem, cl.solve(problem, tol=1e-12))
    assert len(found) == 2
    assert found.is_unique()


@pytest.mark.parametrize("lack", [1e-1, 1e-3, 5e-6])
def test_slack_names_a_neuron_that_is_not_active_though_it_may_be_used(lack):
    """Two samples on two sides of zero have a neuron each: y - beta, and 0 up to beta."""
    problem = cl.TwoLayer([[1.0], [-1.0]], [1.0, 0.5 * (1 - lack)], beta=0.5)
    found = cl.optimal_set(problem, cl.solve(problem, tol=1e-13))
    assert len(found) == (1 if lack > 1e-5 else 2)
    assert found.slack == pytest.approx(lack, abs=1e-6)  # what the gap leaves open of z / beta


def test_float32_problems_have_optimal_sets_in_float64():
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.standard_normal((5, 2))).float()
    problem = cl.TwoLayer(X, torch.from_numpy(rng.standard_normal(5)).float(), beta=0.3)
    found = cl.optimal_set(problem, cl.solve(problem, tol=1e-9))
    assert found.images.dtype == torch.float64
    assert found.weights(found.vertex(torch.ones(len(found)))).dtype == torch.float32
