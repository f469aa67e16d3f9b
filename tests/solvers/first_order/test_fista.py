"""Accelerated proximal gradient: what it refuses, its step and its rate."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.first_order import fista
from tests.checks import check_record, check_result


def gated(n=12, d=3, seed=0, fraction=0.05):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True)
    return problem.with_beta(fraction * problem.beta_max())


@pytest.mark.parametrize("seed", range(4))
def test_step_is_the_largest_eigenvalue(seed):
    problem = gated(seed=seed)
    blocks = problem.masks[:, :, None] * problem.X  # (P, n, d)
    design = blocks.permute(1, 0, 2).reshape(len(problem.y), -1)
    largest = float(torch.linalg.matrix_norm(design, ord=2)) ** 2
    assert largest <= problem.lipschitz() <= 1.03 * largest


@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.2])
def test_solves_to_its_tolerance(fraction):
    problem = gated(fraction=fraction)
    result = fista(problem, tol=1e-7)
    check_result(problem, result, tol=1e-7)
    assert result.converged
    assert result.value == pytest.approx(cl.solve(problem, tol=1e-9).value, rel=2e-7)


def test_the_gap_is_measured_as_often_as_asked():
    problem = gated()
    result = fista(problem, tol=1e-3, check_every=3)
    iterations = [record.iteration for record in result.history]
    assert iterations[0] == 1
    assert all(iteration % 3 == 0 for iteration in iterations[1:])
    assert result.n_iter == iterations[-1]
    seconds = [record.seconds for record in result.history]
    assert seconds == sorted(seconds)
    check_record(problem, result, 1e-3)


def test_zero_data():
    problem = cl.TwoLayer(np.zeros((3, 2)), np.ones(3), beta=0.1, gated=True)
    result = fista(problem)
    assert result.converged
    assert result.value == 1.5
    assert result.n_iter == 0
