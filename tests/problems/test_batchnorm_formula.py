"""The formula for many features, against programs, networks and dual points."""

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, ProblemError
from tests.batchnorm_instances import cvxpy_value, instance, objective_by_hand, whitened


@pytest.mark.parametrize("seed", range(24))
def test_closed_form_program_network_and_cvxpy_agree(seed):
    rng = np.random.default_rng(seed)
    X, y = instance(seed, n=4, d=3 + seed % 3)
    y[rng.integers(4)] *= seed % 2
    beta = 0.6 * rng.random() * max(np.linalg.norm(y.clip(0)), np.linalg.norm(y.clip(max=0)))
    form = cl.batchnorm_closed_form(X, y, beta=beta)
    problem = cl.BatchNorm(X, y, beta=beta)
    assert len(problem.arrangements) == 16  # of four orthogonal samples: all sign vectors
    value = cl.solve(problem, tol=1e-9).value
    assert form.value == pytest.approx(value, abs=1e-7)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, y, beta), abs=1e-10)
    assert form.value == pytest.approx(problem.objective(form.network), abs=1e-10)
    by_cvxpy = cvxpy_value(whitened(X), y, beta, problem.arrangements.masks.numpy())
    assert form.value == pytest.approx(by_cvxpy, abs=1e-6)
    # The dual point proves it: feasible, with the same value.
    assert problem.dual_norm(form.z) <= beta * (1 + 1e-9)
    assert problem.dual_value(form.z) == pytest.approx(form.value, abs=1e-10)


def test_closed_form_drops_short_and_missing_parts():
    X, _ = instance(0, n=4, d=4)
    y = np.array([1.0, 0.1, -0.05, -0.05])  # the negative part is shorter than beta
    form = cl.batchnorm_closed_form(X, y, beta=0.5)
    assert form.network[0].out_features == 1
    assert form.value == pytest.approx(0.5 * np.hypot(1, 0.1) - 0.125 + 0.5 * 2 * 0.05**2)
    positive = cl.batchnorm_closed_form(X, np.array([1.0, 2.0, 2.0, 0.0]), beta=1.0)
    assert positive.network[0].out_features == 1
    assert positive.value == pytest.approx(3 - 0.5)
    nothing = cl.batchnorm_closed_form(X, y, beta=5.0)
    assert nothing.value == pytest.approx(0.5 * y @ y)
    assert not nothing.network(torch.from_numpy(X)).any()
    # A constant part has gamma = 0, and any first layer.
    flat = cl.batchnorm_closed_form(X, np.ones(4), beta=1.0)
    assert abs(flat.network[1].weight[0].item()) < 1e-12
    assert flat.value == pytest.approx(objective_by_hand(flat.network, X, np.ones(4), 1.0))


def vector_value(Y, beta):
    """The dual of vector training on four samples in general position, exactly, by CVXPY.

    max <Z, Y> - ||Z||^2 / 2 with ||Z^T p|| <= beta ||p|| for all p >= 0, that is, with
    beta^2 I - Z Z^T copositive. Up to order four that means: positive semidefinite plus entrywise
    nonnegative (Diananda, 1962).
    """
    n, K = Y.shape
    assert n <= 4
    Z, N = cp.Variable((n, K)), cp.Variable((n, n), symmetric=True)
    schur = cp.bmat([[beta**2 * np.eye(n) - N, Z], [Z.T, np.eye(K)]])
    constraints = [N >= 0, schur >> 0]
    goal = cp.Maximize(cp.sum(cp.multiply(Z, Y)) - cp.sum_squares(Z) / 2)
    accuracy = {"tol_gap_abs": 1e-8, "tol_gap_rel": 1e-8, "tol_feas": 1e-8}
    return cp.Problem(goal, constraints).solve(solver=cp.CLARABEL, **accuracy)


def one_entry_per_row(seed):
    """Four samples, two or three outputs: one-hot labels, or one signed entry in each row."""
    rng = np.random.default_rng(seed)
    K = 2 + seed % 2
    Y = np.eye(K)[rng.integers(K, size=4)]
    return Y * rng.standard_normal((4, 1)) if seed % 4 > 1 else Y


@pytest.mark.parametrize("seed", range(24))
def test_vector_outputs_agree_with_a_semidefinite_program(seed):
    X, _ = instance(seed, n=4, d=3 + seed % 3)
    Y = one_entry_per_row(seed)
    beta = (0.1 + 0.03 * seed) * np.linalg.norm(Y, axis=0).max()
    form = cl.batchnorm_closed_form(X, Y, beta=beta)
    assert form.value == pytest.approx(vector_value(Y, beta), abs=1e-6)
    assert form.value == pytest.approx(objective_by_hand(form.network, X, Y, beta), abs=1e-10)
    outputs = form.network(torch.from_numpy(X)).detach().numpy()
    assert outputs.shape == Y.shape
    np.testing.assert_allclose(form.z, Y - outputs, atol=1e-12)


def test_one_hot_labels_cost_what_the_theorem_says():
    X, _ = instance(0, n=9, d=8)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    form = cl.batchnorm_closed_form(X, np.eye(3)[labels], beta=0.3)
    assert form.value == pytest.approx(0.3 * (2 + 3**0.5 + 2**0.5) - 1.5 * 0.3**2)
    assert form.network[0].out_features == 3
    assert (form.network(torch.from_numpy(X)).argmax(dim=1).numpy() == labels).all()


def test_where_outputs_share_neurons_the_formula_is_refused_because_it_would_be_wrong():
    X, Y = instance(0, n=3, d=3)[0], np.ones((3, 2))
    separate = 2 * (0.3 * 3**0.5 - 0.3**2 / 2)
    assert vector_value(Y, 0.3) == pytest.approx(0.3 * 6**0.5 - 0.3**2 / 2, abs=1e-6)
    assert vector_value(Y, 0.3) < separate - 0.1
    with pytest.raises(ProblemError, match="row 0 of Y has more than one nonzero entry"):
        cl.batchnorm_closed_form(X, Y, beta=0.3)


@pytest.mark.parametrize(
    ("X", "Y", "error", "message"),
    [
        (np.eye(4)[:, :2], np.ones(4), ProblemError, "have rank 2; expected n - 1 = 3"),
        (np.eye(4), np.ones((4, 2, 1)), InputError, r"expected \(n,\) or \(n, K\)"),
        (np.eye(4), np.ones(3), InputError, "y has 3 entries; expected 4"),
        (np.eye(4), np.full((4, 1), np.inf), InputError, "Y contains 4 non-finite values"),
    ],
)
def test_the_closed_form_refuses_what_it_cannot_solve(X, Y, error, message):
    with pytest.raises(error, match=message):
        cl.batchnorm_closed_form(X, Y, beta=0.1)
