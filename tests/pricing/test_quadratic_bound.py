"""The quadratic bound against the semidefinite program and a concave program, both for CVXPY."""

import cvxpy as cp
import numpy as np
import pytest

from convexlib.pricing.quadratic_bound import quadratic_bound
from convexlib.runtime import time_limit
from tests.helpers.two_layer import tensors


def best_of_relaxation(X, z):
    """The semidefinite relaxation over moments E[u], E[u u^T], for one sign."""
    n, d = X.shape
    moments = cp.Variable((d + 1, d + 1), PSD=True)
    mean, second = moments[0, 1:], moments[1:, 1:]
    square = cp.hstack([x @ second @ x for x in X])
    length = np.linalg.norm(X, axis=1)
    first = X @ mean
    gain = cp.sum(cp.multiply(np.maximum(z, 0), first + cp.sqrt(square)))
    loss = cp.maximum(cp.abs(first), cp.multiply(1 / length, square)) + first
    objective = 0.5 * (gain - cp.sum(cp.multiply(np.maximum(-z, 0), loss)))
    program = cp.Problem(
        cp.Maximize(objective), [moments[0, 0] == 1, cp.trace(second) <= 1, square >= 0]
    )
    program.solve(solver=cp.CLARABEL)
    assert program.status == cp.OPTIMAL
    return float(program.value)


@pytest.mark.parametrize(("n", "d", "seed"), [(12, 3, 0), (40, 6, 1), (60, 10, 2)])
def test_quadratic_bound_is_the_semidefinite_relaxation(n, d, seed):
    X, z = (part.numpy() for part in tensors(n, d, seed))
    for sign in (1, -1):
        expected = max(best_of_relaxation(X, sign * z), 0.0)
        bound = quadratic_bound(X, sign * z, np.zeros(d))
        assert expected * (1 - 1e-6) - 1e-6 <= bound <= expected * 1.01 + 1e-3


def test_quadratic_bound_of_a_concave_function_is_its_maximum():
    X, z = tensors(25, 6, 3)
    tilt = np.random.default_rng(4).standard_normal(6) * 5
    u = cp.Variable(6)
    program = cp.Problem(
        cp.Maximize(tilt @ u - z.abs().numpy() @ cp.pos(X.numpy() @ u)), [cp.norm(u) <= 1]
    )
    expected = program.solve(solver=cp.CLARABEL)
    bound = quadratic_bound(X.numpy(), -z.abs().numpy(), tilt)
    assert expected * (1 - 1e-7) <= bound <= expected * 1.01


def test_a_goal_saves_the_minimisation():
    X, z = (part.numpy() for part in tensors(60, 10, 2))
    loose = quadratic_bound(X, z, np.zeros(10), goal=np.inf)
    tight = quadratic_bound(X, z, np.zeros(10))
    assert tight < loose < np.inf


def test_where_time_is_over_the_bound_is_looser_and_still_one():
    X, z = (part.numpy() for part in tensors(60, 10, 2))
    free = quadratic_bound(X, z, np.zeros(10))
    with time_limit(0.0):
        cut = quadratic_bound(X, z, np.zeros(10))
    with time_limit(1e6):
        assert quadratic_bound(X, z, np.zeros(10)) == free
    assert free < cut < np.inf
