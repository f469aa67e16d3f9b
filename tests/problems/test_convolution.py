"""Convolutional networks: the program by CVXPY, networks by torch's own layers, bounds."""

import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError
from convexlib.problems.convolution import PooledReLU
from tests.helpers.references import cvxpy_loss, targets_for
from tests.helpers.refusals import refused
from tests.helpers.searches import least_found


def instance(seed, *, n=5, K=3, h=2, gated=False, loss="squared", fraction=0.1):
    rng = np.random.default_rng(seed)
    patches, y = rng.standard_normal((n, K, h)), targets_for(loss, rng.standard_normal(n))
    problem = cl.Convolution(patches, y, beta=1.0, gated=gated, loss=loss)
    return problem.with_beta(fraction * problem.beta_max())


def written_out(problem):
    """The optimum by CVXPY, patch by patch."""
    patches, y = problem.X.numpy(), problem.y.numpy()
    n, K, h = patches.shape
    fitted, size, cones = np.zeros(n), 0, []
    for mask in problem.arrangements.masks.numpy().reshape(-1, n, K):
        for sign in (1,) if problem.gated else (1, -1):
            v = cp.Variable(h)
            for k in range(K):
                image = patches[:, k] @ v
                fitted = fitted + sign / K * cp.multiply(mask[:, k].astype(float), image)
                if not problem.gated:
                    cones.append(cp.multiply(2.0 * mask[:, k] - 1.0, image) >= 0)
            size = size + cp.norm(v)
    program = cp.Problem(
        cp.Minimize(cvxpy_loss(problem.loss.name, fitted, y) + problem.beta * size), cones
    )
    program.solve(solver=cp.CLARABEL)
    assert program.status == "optimal"
    return program.value


@pytest.mark.parametrize(
    ("seed", "gated", "loss"),
    [(seed, gated, "squared") for seed in range(3) for gated in (False, True)]
    + [(4, False, "logistic"), (4, False, "squared_hinge")],
)
def test_value_is_that_of_the_program_written_out(seed, gated, loss):
    problem = instance(seed, gated=gated, loss=loss)
    result = cl.solve(problem, tol=1e-7)
    assert result.converged
    assert result.method == ("admm" if gated else "oracle")
    assert result.value == pytest.approx(written_out(problem), rel=1e-6)
    assert problem.violation(result.weights) <= 1e-12
    network = problem.to_network(result)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-9)


@pytest.mark.parametrize(("size", "height"), [(1e-8, 1.0), (1.0, 1e-12), (1.0, 1e10)])
def test_data_of_any_size_are_solved(size, height):
    """The interior-point solver, with its absolute tolerances, would fail on these as they are."""
    problem = instance(0)
    value = cl.solve(problem).value
    X, y, beta = size * problem.X, height * problem.y, size * height * problem.beta
    result = cl.solve(cl.Convolution(X, y, beta=beta))
    assert result.converged
    assert result.method == "oracle"
    assert result.value == pytest.approx(height**2 * value, rel=2e-6)


@pytest.mark.parametrize("seed", range(2))
def test_training_reaches_the_optimum_and_never_passes_it(seed):
    problem = instance(seed, n=4, K=2, fraction=0.2)
    result = cl.solve(problem, tol=1e-8)
    X, y, beta = problem.X, problem.y, problem.beta

    def objective(U, alpha):
        pooled = torch.relu(torch.einsum("nkh,rmh->rnkm", X, U)).mean(dim=2)
        fitted = torch.einsum("rnm,rm->rn", pooled, alpha)
        decay = (U**2).sum(dim=(1, 2)) + (alpha**2).sum(dim=1)
        return 0.5 * ((fitted - y) ** 2).sum(dim=1) + 0.5 * beta * decay

    least = least_found(objective, [(8, 2), (8,)], starts=12, steps=300, polished=3)
    assert least >= result.dual * (1 - 1e-12)
    assert least == pytest.approx(result.value, rel=1e-4)  # measured 1e-11


def test_the_dual_bound_holds_for_all_networks():
    problem = instance(7, n=6)
    result = cl.solve(problem, tol=1e-9)
    # All patterns are in the program, so pricing over all neurons finds nothing better.
    assert problem.network_bound(result.z) == pytest.approx(result.value, rel=1e-6)
    some = cl.Convolution(
        problem.X, problem.y, beta=problem.beta, arrangements=problem.arrangements.select([0, 5])
    )
    partial = cl.solve(some, tol=1e-8)
    assert some.network_bound(partial.z) <= result.value <= partial.value


def test_one_patch_is_the_two_layer_network():
    problem = instance(8, n=7, K=1)
    plain = cl.TwoLayer(problem.X[:, 0], problem.y, beta=problem.beta)
    assert problem.beta_max() == pytest.approx(plain.beta_max(), rel=1e-12)
    assert cl.solve(problem, tol=1e-8).value == pytest.approx(cl.solve(plain).value, rel=2e-6)


@pytest.mark.parametrize("gated", [False, True])
def test_the_correlations_are_those_of_the_rows(gated):
    problem = instance(10, gated=gated)
    z = torch.linspace(-1.0, 2.0, len(problem.y), dtype=torch.float64)
    by_rows = problem.rows.correlations(problem.lift(z))
    torch.testing.assert_close(problem.correlations(z), by_rows)


def test_a_program_of_thousands_of_patterns_is_written_without_a_warning():
    rng = np.random.default_rng(0)
    problem = cl.Convolution(rng.standard_normal((6, 4, 4)), np.ones(6), beta=0.1)
    assert problem.rows.n_patterns > 4000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem.to_cvxpy().problem.is_dcp()


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (2, 2), (2, 1)])
def test_patches_and_network_are_those_of_torch(size, stride):
    rng = np.random.default_rng(11)
    images = torch.from_numpy(rng.standard_normal((4, 6, 5)))
    patches = cl.image_patches(images, size, stride)
    first = images[0, :size, stride : stride + size].ravel()
    torch.testing.assert_close(patches[0, 1], first)
    U = torch.from_numpy(rng.standard_normal((3, size**2)))
    network = PooledReLU(cl.TwoLayerReLU(U, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)))
    conv = nn.Conv2d(1, 3, size, stride, bias=False).double()
    conv.weight.data = U.reshape(3, 1, size, size)
    plain = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    expected = plain(images[:, None]) @ network.body.alpha
    torch.testing.assert_close(network(patches), expected)
    assert cl.image_patches(images, size, stride=10**30).shape == (4, 1, size**2)


REFUSALS = [
    (lambda: cl.Convolution(np.ones((3, 2)), np.ones(3), beta=0.1),
     InputError, r"expected \(n, K, h\)"),
    (lambda: cl.Convolution(np.ones((3, 2, 1)), np.ones(3), beta=0.1, arrangements="generate"),
     InputError, "expected Arrangements or None"),
    (lambda: cl.Convolution(np.ones((3, 2, 1)), np.ones(2), beta=0.1),
     InputError, "y has 2 entries; expected 3"),
    (lambda: cl.image_patches(np.ones((2, 3, 5)), 4), InputError, r"sides of at least size=4"),
    (lambda: cl.image_patches([[[1.0, np.nan]]], 1),
     InputError, "images contains 1 non-finite value"),
    (lambda: cl.image_patches(-1, 3), InputError, "images has shape ..; expected .n, he"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
