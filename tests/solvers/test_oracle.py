"""The interior-point referee."""

import cvxpy as cp
import pytest
import torch

import convexlib as cl
from convexlib.errors import SolverError
from convexlib.solvers.oracle import oracle
from tests.helpers.two_layer import gaussian


def test_large_problems_are_refused():
    X, y = gaussian(8, 3)
    problem = cl.TwoLayer(X, y, beta=0.1)
    with pytest.raises(SolverError, match=r"design of 2\.8e\+03 entries, more than max_design=1e"):
        cl.solve(problem, method="oracle", max_design=1000)


def test_a_status_that_is_not_optimal_raises(monkeypatch):
    X, y = gaussian(8, 3)
    problem = cl.TwoLayer(X, y, beta=0.1)
    monkeypatch.setattr(cp.Problem, "status", "infeasible")
    with pytest.raises(SolverError, match=r"Clarabel ended with status 'infeasible'; expected"):
        oracle(problem)


def test_a_failure_of_the_solver_raises(monkeypatch):
    def fail(*_, **__):
        raise cp.SolverError("numbers went wrong")

    X, y = gaussian(8, 3)
    monkeypatch.setattr(cp.Problem, "solve", fail)
    with pytest.raises(SolverError, match=r"Clarabel failed \(numbers went wrong\)\. Rescale"):
        oracle(cl.TwoLayer(X, y, beta=0.1))


def test_float32_problems_come_back_as_float32():
    X, y = gaussian(8, 3)
    problem = cl.TwoLayer(torch.from_numpy(X).float(), torch.from_numpy(y).float(), beta=0.1)
    result = oracle(problem, tol=1e-4)
    assert result.weights.dtype == torch.float32
    assert result.converged


@pytest.mark.parametrize("tol", [1e-9, 1e-11])
def test_strict_settings_give_no_foreign_warnings(tol):
    X, y = gaussian(8, 3)
    assert oracle(cl.TwoLayer(X, y, beta=0.1, gated=True), tol=tol).converged
