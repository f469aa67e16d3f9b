"""Proximal gradient descent: its steps by hand, its rate, and its step size."""

import warnings

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.solvers.first_order import proximal_gradient
from tests.reference_losses import NAMES, targets_for


def gated(loss="squared", n=10, d=3, seed=0, fraction=0.1):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal(n))
    problem = cl.TwoLayer(X, y, beta=1.0, gated=True, loss=loss)
    return problem.with_beta(fraction * problem.beta_max())


def stopped(problem, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is cut short
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
    problem = gated(loss)
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


def test_the_step_of_each_output_alone_is_that_of_all():
    problem = gated(n=12)
    several = cl.VectorOutput(
        problem.X,
        torch.stack([problem.y, problem.y**2], dim=1),
        beta=1.0,
        gated=True,
        penalty="nuclear",
    )
    assert several.lipschitz() == pytest.approx(problem.lipschitz(), rel=0.02)
    largest = float(torch.linalg.eigvalsh(problem.gram())[-1])
    for one in (problem, several):
        assert largest <= one.lipschitz() <= 1.03 * largest
