"""L-BFGS against closed forms and other minimisers, with intervals, infinities and limits."""

import math

import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize, rosen, rosen_der

from convexlib.pricing.lbfgs import minimised


def never():
    return False


def quadratic(n, seed, condition=1e3):
    """Value and gradient of half x' A x - b' x, with A and b."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (Q * np.geomspace(1.0, condition, n)) @ Q.T
    b = rng.standard_normal(n)
    return lambda x: (0.5 * x @ A @ x - b @ x, A @ x - b), A, b


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("memory", [1, 8, 40])
def test_the_minimum_of_a_quadratic(memory, seed):
    function, A, b = quadratic(30, seed)
    found = minimised(function, np.ones(30), 5000, never, memory=memory)
    assert function(found)[0] == pytest.approx(-0.5 * b @ np.linalg.solve(A, b), abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_intervals_against_an_active_set_method(seed):
    rng = np.random.default_rng(seed)
    M, c = rng.standard_normal((40, 25)), 3.0 * rng.standard_normal(40)
    low, high = -rng.random(25), rng.random(25)
    low[rng.random(25) < 0.2], high[rng.random(25) < 0.2] = -np.inf, np.inf

    def function(x):
        return 0.5 * np.sum((M @ x - c) ** 2), M.T @ (M @ x - c)

    found = minimised(function, np.zeros(25), 2000, never, (low, high))
    assert (low <= found).all()
    assert (found <= high).all()
    best = lsq_linear(M, c, (low, high), method="bvls", tol=1e-13).cost
    assert function(found)[0] == pytest.approx(best, rel=1e-6)


def test_a_curved_valley_in_about_as_many_evaluations_as_scipy():
    seen = []

    def function(x):
        seen.append(None)
        return rosen(x), rosen_der(x)

    start = np.full(60, -0.4)
    found = minimised(function, start, 2000, never)
    ours = len(seen)
    other = minimize(function, start, jac=True, method="L-BFGS-B", options={"maxcor": 8})
    assert rosen(found) < 1e-6
    assert ours < 1.5 * other.nfev


@pytest.mark.parametrize("start", [1e-3, 1.0, 50.0])
def test_values_that_are_no_numbers_are_too_large(start):
    """The minimum of x - log x is at 1; SciPy's goes on from NaN."""

    def function(x):
        with np.errstate(all="ignore"):
            return float(x[0] - np.log(x[0])), 1.0 - 1.0 / x

    found = minimised(function, np.array([start]), 200, never)
    assert found[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_without_a_value_is_given_back(value):
    start = np.ones(3)
    found = minimised(lambda x: (value, np.full(3, value)), start, 10, never)
    np.testing.assert_array_equal(found, start)


def test_a_gradient_that_is_wrong_ends_it():
    found = minimised(lambda x: (float(x @ x), -2.0 * x), np.ones(3), 1000, never)
    np.testing.assert_array_equal(found, np.ones(3))


def test_it_never_rises_and_keeps_its_limits():
    function, _, _ = quadratic(50, 0, 1e6)
    seen, values = [], []

    def counted(x):
        seen.append(None)
        return function(x)

    def over():
        values.append(len(seen))
        return len(values) == 7

    start = np.ones(50)
    last = function(start)[0]
    for steps in (1, 3, 10, 30):
        seen.clear()
        now = function(minimised(counted, start, steps, never))[0]
        assert now < last
        assert len(seen) < 2 * steps + 10
        last = now
    minimised(counted, start, 1000, over)
    assert len(values) == 7
    np.testing.assert_array_equal(start, np.ones(50))


def test_curvatures_far_apart():
    """A diagonal that follows the curvatures is worth more than a longer memory."""
    scales = np.geomspace(1e-4, 1e4, 300)

    def function(x):
        return 0.5 * float(scales @ x**2), scales * x

    start = 1.0 / np.sqrt(scales)  # whose value is 150
    ours = function(minimised(function, start, 300, never))[0]
    options = {"maxcor": 8, "maxiter": 300, "ftol": 0.0, "gtol": 0.0}
    other = minimize(function, start, jac=True, method="L-BFGS-B", options=options).fun
    assert ours < 0.6 * other
