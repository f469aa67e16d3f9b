"""First-order methods: their steps, matrices, rates and limits, and kernel learning."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, SolverError, unwarned
from convexlib.solvers.first_order import admm, fista, proximal_gradient
from tests.helpers.checks import check_record, check_result
from tests.helpers.references import NAMES
from tests.helpers.refusals import refused
from tests.helpers.two_layer import at_fraction, gaussian, random_problem


def gated(seed=0, n=12, d=3, fraction=0.1, **options):
    return random_problem(n, d, seed, fraction, gated=True, **options)


# --- admm ---


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])  # exact, so that the steps are the same
def test_no_scale_of_the_data_is_hard(gated, scale):
    X, y = gaussian(15, 3, 3)
    patterns = cl.sample_arrangements(X, 20, seed=0)
    options = {"gated": gated, "arrangements": patterns}
    problem = at_fraction(X, y, 0.2, **options)
    result = admm(problem)
    scaled = cl.TwoLayer(scale * X, y / scale, beta=problem.beta, **options)
    same = admm(scaled)
    check_result(scaled, same)
    assert same.n_iter == result.n_iter
    assert same.value == pytest.approx(result.value / scale**2, rel=1e-9)


def test_too_many_samples_are_refused(monkeypatch):
    X, y = gaussian(15, 3)
    monkeypatch.setattr("convexlib.problems.base.MAX_SAMPLES", 10)
    message = r"admm needs .* of at most 10000 samples; got TwoLayer.*n=15.*method='ssnal', 'fista'"
    with pytest.raises(SolverError, match=message):
        admm(cl.TwoLayer(X, y, beta=0.1, gated=True))


# --- fista ---


@pytest.mark.parametrize("seed", range(4))
def test_step_is_the_largest_eigenvalue(seed):
    problem = gated(seed)
    blocks = problem.masks[:, :, None] * problem.X  # (P, n, d)
    design = blocks.permute(1, 0, 2).reshape(len(problem.y), -1)
    largest = float(torch.linalg.matrix_norm(design, ord=2)) ** 2
    Y = torch.stack([problem.y, problem.y**2], dim=1)
    several = cl.VectorOutput(problem.X, Y, beta=1.0, gated=True, penalty="nuclear")
    for one in (problem, several):  # the step of each output alone is that of all
        assert largest <= one.lipschitz() <= 1.03 * largest


def test_the_gap_is_measured_as_often_as_asked():
    problem = gated()
    result = fista(problem, tol=1e-3, check_every=3)
    iterations = [record.iteration for record in result.history]
    assert iterations[:2] == [0, 1]
    assert all(iteration % 3 == 0 for iteration in iterations[2:])
    assert result.n_iter == iterations[-1]
    seconds = [record.seconds for record in result.history]
    assert seconds == sorted(seconds)
    check_record(problem, result, 1e-3)


# --- proximal gradient ---


def stopped(problem, **options):
    with unwarned():  # it is cut short
        return proximal_gradient(problem, **options)


def test_iterations_are_those_of_the_formula():
    problem = gated()
    X, y, beta = problem.X.numpy(), problem.y.numpy(), problem.beta
    design = np.hstack([X * mask[:, None] for mask in problem.masks.numpy()])  # (n, P d)
    step = 1.0 / problem.lipschitz()
    w = np.zeros(design.shape[1])
    for _ in range(7):
        w = (w - step * design.T @ (design @ w - y)).reshape(-1, 3)
        norms = np.linalg.norm(w, axis=1, keepdims=True)
        w = (w * np.maximum(1.0 - step * beta / norms, 0.0)).ravel()
    result = stopped(problem, max_iter=7, check_every=1)
    np.testing.assert_allclose(result.weights.numpy().ravel(), w, atol=1e-13)


@pytest.mark.parametrize("loss", NAMES)
def test_every_step_descends_and_the_rate_holds(loss):
    problem = gated(loss=loss)
    best = cl.solve(problem, method="oracle", tol=1e-8)
    steepness = problem.loss.gradient_lipschitz * problem.lipschitz()
    reach = float((best.weights**2).sum())
    weights = problem.zeros()
    before = problem.value(weights)
    for k in range(1, 40):
        result = stopped(problem, max_iter=k, check_every=1)
        value = problem.value(result.weights)
        assert value <= before * (1 + 1e-14)
        # Beck & Teboulle, Theorem 3.1
        assert value - best.value <= steepness * reach / (2 * k)
        before = value


# --- kernel learning ends at the group Lasso, starts at kernel ridge regression and never rises ---


def kernels(problem):
    X, masks = problem.X.numpy(), problem.arrangements.masks.numpy().astype(float)
    return np.array([np.outer(m, m) * (X @ X.T) for m in masks])


def test_it_ends_at_the_group_lasso_from_any_start():
    problem = gated(5, n=10, d=2)
    start = torch.rand(problem.n_patterns, dtype=torch.float64) + 0.1
    for options in ({}, {"start": start}):
        result = cl.solve(problem, method="irls", tol=1e-5, **options)
        check_result(problem, result, tol=1e-5)
        assert result.value == pytest.approx(cl.solve(problem, tol=1e-9).value, rel=1e-5)


def test_it_starts_at_kernel_ridge_regression_with_the_best_multiple():
    problem = gated(4, n=10, d=2)
    with pytest.warns(ConvergenceWarning):
        first = cl.solve(problem, method="irls", max_iter=1)
    K, y, beta = kernels(problem), problem.y.numpy(), problem.beta

    def majorant(t):
        system = t * K.sum(axis=0) + beta * np.eye(len(y))
        return 0.5 * beta * (y @ np.linalg.solve(system, y) + t * len(K))

    times = np.geomspace(1e-5, 1e3, 4001)
    best = min(times, key=majorant)
    alpha = np.linalg.solve(best * K.sum(axis=0) + beta * np.eye(len(y)), y)
    fitted = best * K.sum(axis=0) @ alpha
    reached = problem.fitted(first.weights).numpy()
    np.testing.assert_allclose(reached, fitted, atol=1e-2 * np.abs(fitted).max())
    # Half the penalty is the kernel's norm, half its weights: the majorant is above the value.
    assert first.value <= majorant(best) * (1 + 1e-6)


def test_the_value_never_rises():
    problem = gated(5, n=10, d=2)
    with pytest.warns(ConvergenceWarning):
        results = [
            cl.solve(problem, method="irls", max_iter=k, check_every=k) for k in (1, 2, 4, 8, 16)
        ]
    values = [problem.value(result.weights) for result in results]
    assert values == sorted(values, reverse=True)


def refusals():
    gates = torch.zeros(gated().n_patterns)
    return [
        (lambda: cl.solve(random_problem(6, 2), method="irls"),
         SolverError, "irls needs a gated program of TwoLayer with"),
        (lambda: cl.solve(gated(loss="logistic"), method="irls"), SolverError, "squared loss"),
        (lambda: cl.solve(gated(), method="irls", start=gates), InputError, "all > 0"),
    ]  # fmt: skip


test_refusals = refused(refusals())
