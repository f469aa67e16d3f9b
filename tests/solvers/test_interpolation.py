"""Minimum-norm interpolation over gates: against CVXPY, the limit of small beta, refusals."""

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.arrangements import Arrangements
from convexlib.errors import InputError, ProblemError, SolverError
from convexlib.result import Status
from convexlib.solvers.interpolation import interpolate, interpolation_norm, pursue
from tests.helpers.refusals import COUNT, EYE, refused


def random_problem(n, d, n_gates, seed, skip=False):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    gates = rng.standard_normal((n_gates, d))
    if skip:
        gates[0] = 0.0
    X, y, gates = (torch.from_numpy(part) for part in (X, y, gates))
    arrangements = Arrangements((X @ gates.T >= 0).T, gates)
    return cl.TwoLayer(X, y, beta=1.0, arrangements=arrangements, gated=True)


def reference(problem):
    """The program, written down a second time."""
    X, y = problem.X.numpy(), problem.y.numpy()
    masks = problem.masks.numpy()
    blocks = [cp.Variable(X.shape[1]) for _ in masks]
    outputs = sum(np.diag(mask) @ X @ u for mask, u in zip(masks, blocks, strict=True))
    program = cp.Problem(cp.Minimize(sum(cp.norm(u) for u in blocks)), [outputs == y])
    program.solve(solver="CLARABEL")
    assert program.status == "optimal"
    return program.value


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("n", "d", "n_gates"), [(8, 3, 12), (15, 4, 20), (5, 6, 8)])
def test_value_is_that_of_cvxpy(n, d, n_gates, skip):
    problem = random_problem(n, d, n_gates, seed=n, skip=skip)
    result = pursue(problem, tol=1e-7)
    assert result.converged
    value = reference(problem)
    assert result.value == pytest.approx(value, rel=1e-6)
    assert result.dual <= value * (1 + 1e-7)
    # Both bounds from scratch: feasible weights, feasible dual point.
    X, masks = problem.X.numpy(), problem.masks.numpy()
    weights, z = result.weights[0].numpy(), result.z.numpy()
    np.testing.assert_allclose((masks.T * (X @ weights.T)).sum(axis=1), problem.y, atol=1e-9)
    assert np.linalg.norm(weights, axis=1).sum() == pytest.approx(result.value)
    assert np.linalg.norm((masks * z) @ X, axis=1).max() <= 1 + 1e-12
    assert problem.y.numpy() @ z == pytest.approx(result.dual)


def test_is_the_limit_of_small_beta():
    problem = random_problem(10, 3, 15, seed=3)
    least = pursue(problem, tol=1e-9)
    for beta in (1e-3, 1e-4):
        result = cl.solve(problem.with_beta(beta), tol=1e-10)
        # beta ||.|| <= value <= beta least: the regularised weights are never longer.
        assert problem.penalty(result.weights) <= least.value * (1 + 1e-8)
        assert result.value / beta == pytest.approx(least.value, rel=100 * beta)


def test_stops_at_the_first_interpolant_that_is_short_enough_or_out_of_iterations():
    problem = random_problem(10, 3, 15, seed=3)
    least = pursue(problem, tol=1e-9)
    early = pursue(problem, tol=1e-9, below=1.05 * least.value)
    assert early.n_iter < least.n_iter
    assert least.value <= early.value < 1.05 * least.value
    assert early.status is Status.INTERRUPTED
    cut = pursue(problem, tol=1e-12, max_iter=3)
    assert cut.status is Status.MAX_ITER
    assert cut.dual <= least.value <= cut.value


def refusals():
    relu = cl.TwoLayer(EYE, COUNT, beta=1.0)
    gated = cl.TwoLayer(EYE, COUNT, beta=1.0, gated=True)
    mirrors = cl.Mirrors(COUNT, COUNT, beta=0.1)
    few = random_problem(9, 2, 2, seed=0)
    return [
        (lambda: pursue(few), ProblemError, "span fewer than 9 dimensions"),
        (lambda: pursue(relu), SolverError, "pursue needs a gated TwoLayer"),
        (lambda: pursue(mirrors), SolverError, "pursue needs a gated TwoLayer"),
        (lambda: interpolation_norm(gated), InputError, "problem is TwoLayer; expected a Mirrors"),
        (lambda: interpolate(mirrors, tol="a"), InputError, "tol is 'a'; expected a real"),
        (lambda: pursue(gated, max_iter="a"), InputError, "max_iter is 'a'; expected an int"),
    ]  # fmt: skip


test_refusals = refused(refusals())
