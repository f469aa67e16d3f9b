"""The interior-point referee."""

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import SolverError
from convexlib.solvers.oracle import oracle
from tests.helpers.two_layer import gaussian


def fail(*_, **__):
    raise cp.SolverError("numbers went wrong")


FAILURES = [
    ("status", "infeasible", r"Clarabel ended with status 'infeasible'; expected 'optimal'\. Use"),
    ("solve", fail, r"Clarabel failed \(numbers went wrong\)\. Use method='ssnal'\."),
]


@pytest.mark.parametrize(("name", "broken", "message"), FAILURES)
def test_large_problems_are_refused_and_failures_raised(name, broken, message, monkeypatch):
    problem = cl.TwoLayer(*gaussian(8, 3), beta=0.1)
    with pytest.raises(SolverError, match=r"design of 2\.8e\+03 entries, more than max_design=1e"):
        oracle(problem, max_design=1000)
    monkeypatch.setattr(cp.Problem, name, broken)
    with pytest.raises(SolverError, match=message):
        oracle(problem)
    many = cl.Convolution(np.ones((10_001, 1, 1)), np.ones(10_001), beta=0.1)
    with pytest.raises(SolverError, match=r"No other method solves it\."):
        oracle(many)


def test_float32_problems_come_back_as_float32():
    X, y = gaussian(8, 3)
    problem = cl.TwoLayer(torch.from_numpy(X).float(), torch.from_numpy(y).float(), beta=0.1)
    result = oracle(problem, tol=1e-4)
    assert result.weights.dtype == torch.float32
    assert result.converged


@pytest.mark.parametrize("tol", [1e-9, 1e-11])
def test_strict_settings_give_no_foreign_warnings(tol):
    assert oracle(cl.TwoLayer(*gaussian(8, 3), beta=0.1, gated=True), tol=tol).converged
