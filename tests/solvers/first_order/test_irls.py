"""Kernel learning ends at the group Lasso, starts at kernel ridge regression and never rises."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning, InputError, SolverError
from tests.checks import check_result


def instance(seed, n=10, d=2, fraction=0.1):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True)
    return problem.with_beta(fraction * problem.beta_max())


def kernels(problem):
    X, masks = problem.X.numpy(), problem.arrangements.masks.numpy().astype(float)
    return np.array([np.outer(m, m) * (X @ X.T) for m in masks])


@pytest.mark.parametrize("seed", range(4))
def test_it_ends_at_the_group_lasso(seed):
    problem = instance(seed)
    result = cl.solve(problem, method="irls", tol=1e-5)
    check_result(problem, result, tol=1e-5)
    assert result.value == pytest.approx(cl.solve(problem, tol=1e-9).value, rel=1e-5)


def test_it_starts_at_kernel_ridge_regression_with_the_best_multiple():
    problem = instance(4)
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
    problem = instance(5)
    with pytest.warns(ConvergenceWarning):
        results = [
            cl.solve(problem, method="irls", max_iter=k, check_every=k) for k in (1, 2, 4, 8, 16)
        ]
    values = [problem.value(result.weights) for result in results]
    assert values == sorted(values, reverse=True)
    start = torch.rand(problem.n_patterns, dtype=torch.float64) + 0.1
    other = cl.solve(problem, method="irls", tol=1e-4, start=start)
    assert other.value == pytest.approx(cl.solve(problem).value, rel=1e-4)


def test_refusals():
    problem = instance(6)
    with pytest.raises(SolverError, match="irls needs a gated program of TwoLayer with the sq"):
        cl.solve(cl.TwoLayer(problem.X, problem.y, beta=0.1), method="irls")
    labels = problem.y.sign()
    with pytest.raises(SolverError, match="squared loss"):
        cl.solve(
            cl.TwoLayer(problem.X, labels, beta=0.1, gated=True, loss="logistic"), method="irls"
        )
    with pytest.raises(InputError, match="all > 0"):
        cl.solve(problem, method="irls", start=torch.zeros(problem.n_patterns))
