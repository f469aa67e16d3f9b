"""The alternating direction method: its matrix, its size limit, cones and several outputs."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import SolverError
from convexlib.solvers.first_order import admm
from tests.checks import check_result


def data(seed=0, n=15, d=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


@pytest.mark.parametrize("kind", ["gated", "relu", "nuclear"])
def test_gram_is_the_design_times_its_transpose(kind):
    X, y = data()
    if kind == "nuclear":
        options = {"gated": True, "penalty": "nuclear"}
        problem = cl.VectorOutput(X, np.stack([y, y], axis=1), beta=1.0, **options)
    else:
        problem = cl.TwoLayer(X, y, beta=1.0, gated=kind == "gated")
    z = torch.from_numpy(np.random.default_rng(1).standard_normal(problem.y.shape))
    torch.testing.assert_close(problem.gram() @ z, problem.fitted(problem.correlations(z)))
    w = torch.from_numpy(np.random.default_rng(2).standard_normal(problem.shape))
    adjoint = float((problem.correlations(z) * w).sum())
    assert float((problem.fitted(w) * z).sum()) == pytest.approx(adjoint, rel=1e-12)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])  # exact, so that the steps are the same
def test_no_scale_of_the_data_is_hard(gated, scale):
    X, y = data(seed=3)
    patterns = cl.sample_arrangements(X, 20, seed=0)
    options = {"gated": gated, "arrangements": patterns}
    problem = cl.TwoLayer(X, y, beta=1.0, **options)
    problem = problem.with_beta(0.2 * problem.beta_max())
    result = admm(problem)
    scaled = cl.TwoLayer(scale * X, y / scale, beta=problem.beta, **options)
    same = admm(scaled)
    check_result(scaled, same)
    assert same.n_iter == result.n_iter
    assert same.value == pytest.approx(result.value / scale**2, rel=1e-9)


def test_too_many_samples_are_refused(monkeypatch):
    X, y = data()
    monkeypatch.setattr("convexlib.problems.base.MAX_SAMPLES", 10)
    message = r"admm needs .* of at most 10000 samples; got TwoLayer.*n=15.*method='ssnal', 'fista'"
    with pytest.raises(SolverError, match=message):
        admm(cl.TwoLayer(X, y, beta=0.1, gated=True))


def test_small_beta_with_cones():
    X, y = data(seed=4, n=10, d=2)
    problem = cl.TwoLayer(X, y, beta=1.0)
    problem = problem.with_beta(0.02 * problem.beta_max())
    result = admm(problem)
    check_result(problem, result)
    assert result.converged
    assert problem.violation(result.weights) <= 1e-14


def test_the_joint_network_of_a_medium_problem():
    rng = np.random.default_rng(5)
    X, labels = rng.standard_normal((150, 6)), rng.integers(0, 4, 150)
    patterns = cl.sample_arrangements(X, 60, seed=0)
    options = {"gated": True, "penalty": "nuclear", "arrangements": patterns}
    problem = cl.VectorOutput(X, np.eye(4)[labels], beta=1.0, **options)
    problem = problem.with_beta(0.01 * problem.beta_max())
    result = cl.solve(problem)
    assert result.method == "admm"
    assert result.gap <= 1e-6
    network = problem.to_network(result)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-10)
