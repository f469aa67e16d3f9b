"""Merging collinear samples changes the problem's size and nothing else."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.generate import merge_rows
from tests.checks import as_numpy
from tests.generators import integer_grid, parallel_rows, zero_rows

DATA = {
    "duplicates": parallel_rows(7, 3, (1.0, 1.0))[0],
    "multiples": parallel_rows(7, 3, (2.0, 0.125, 3.0))[0],
    "antipodal": parallel_rows(7, 3, (-1.0, -4.0))[0],
    "rounded multiples": parallel_rows(7, 3, (np.pi, 0.1))[0],
    "zero rows": np.vstack([zero_rows(6, 3, zeros=3)[0]] * 2),
    "grid": np.vstack([integer_grid(4)[0]] * 3),
    "two rows": np.array([[1.0, 2.0], [3.0, 6.0]]),
}
MERGED = {
    "duplicates": 7,
    "multiples": 7,
    "antipodal": 14,
    "rounded multiples": 7,
    "zero rows": 6,
    "grid": 16,
    "two rows": 1,
}


def free(X, seed=0, beta=0.3, **options):
    y = np.random.default_rng(seed).standard_normal(len(X))
    return cl.TwoLayer(X, y, beta=beta, arrangements="generate", **options)


@pytest.mark.parametrize("kind", DATA)
def test_objectives_differ_by_a_constant_for_every_network(kind):
    problem = free(DATA[kind])
    merged = merge_rows(problem)
    assert len(merged.problem.y) == MERGED[kind]
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(5):
        weights = torch.from_numpy(rng.standard_normal((2, 4, problem.X.shape[1])))
        differences.append(problem.value(weights) - merged.problem.value(weights))
    np.testing.assert_allclose(differences, differences[0], rtol=1e-11, atol=1e-11)
    assert differences[0] >= -1e-12


@pytest.mark.parametrize("kind", DATA)
def test_dual_points_are_lifted(kind):
    problem = free(DATA[kind])
    merged = merge_rows(problem)
    rng = np.random.default_rng(2)
    zero = torch.zeros(2, 1, problem.X.shape[1], dtype=torch.float64)
    constant = problem.value(zero) - merged.problem.value(zero)
    for _ in range(5):
        z = torch.from_numpy(rng.standard_normal(len(merged.problem.y)))
        lifted = merged.lift(z)
        expected = merged.problem.dual_value(z) + constant
        assert problem.dual_value(lifted) == pytest.approx(expected, rel=1e-11, abs=1e-11)
        U = rng.standard_normal((20, problem.X.shape[1]))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        seen = np.maximum(as_numpy(problem.X) @ U.T, 0).T @ as_numpy(lifted)
        small = np.maximum(as_numpy(merged.problem.X) @ U.T, 0).T @ as_numpy(z)
        np.testing.assert_allclose(seen, small, atol=merged.rounding(z) + 1e-13)
        assert merged.rounding(z) <= 1e-11


@pytest.mark.parametrize("kind", DATA)
def test_patterns_are_those_of_all_samples(kind):
    problem = free(DATA[kind])
    merged = merge_rows(problem)
    listed = cl.enumerate_arrangements(merged.problem.X)
    expanded = merged.expand(listed)
    assert torch.equal(expanded.masks, (problem.X @ listed.gates.T >= 0).T)


@pytest.mark.parametrize("kind", DATA)
def test_the_merged_program_has_the_same_optimum(kind):
    problem = free(DATA[kind])
    merged = merge_rows(problem)
    options = {"beta": problem.beta, "arrangements": None}
    whole = cl.solve(cl.TwoLayer(problem.X, problem.y, **options), tol=1e-9)
    small = cl.solve(cl.TwoLayer(merged.problem.X, merged.problem.y, **options), tol=1e-9)
    constant = problem.value(whole.weights) - merged.problem.value(whole.weights)
    assert whole.value == pytest.approx(small.value + constant, rel=1e-7)


def test_nothing_is_merged_without_need_or_for_other_losses():
    problem = free(np.random.default_rng(0).standard_normal((9, 3)))
    assert merge_rows(problem).problem is problem
    silent = free(np.zeros((4, 2)))
    assert merge_rows(silent).problem is silent
    X = DATA["duplicates"]
    y = np.sign(np.random.default_rng(0).standard_normal(len(X)))
    labels = cl.TwoLayer(X, y, beta=0.3, arrangements="generate", loss="logistic")
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
