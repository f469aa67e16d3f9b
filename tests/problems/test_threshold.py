r"""Threshold networks: all binary patterns as columns of a Lasso, and the two sup-norms they make.

A network of threshold units with two hidden layers or more can put out every pattern of zeros and
ones on distinct samples, at the price of its output weight alone. Training is then a Lasso over all
2^n - 1 nonzero patterns, whose penalty is, as a function of the outputs d,

    min { sum_S |w_S| : sum_S w_S 1_S = d }  =  max_t (d_t)_+  +  max_t (-d_t)_+ .

Proof. At the largest entry, max_t (d_t)_+ is a sum of weights, so at most the sum of the positive
ones; likewise for the smallest entry and the negative ones: ">=". For "<=", cut d_+ into layers:
with its distinct values 0 = a_0 < a_1 < ... the patterns {d >= a_k} with weights a_k - a_{k-1} sum
to d_+ and cost its maximum. The same for -d, with negative weights.
"""

from itertools import product

import cvxpy as cp
import numpy as np
import pytest

import convexlib as cl

ACCURATE = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def draw(seed: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(seed)
    n = 2 + seed % 7
    return rng.standard_normal(n), 10 ** rng.uniform(-2, 0)


def sup_norms(y: np.ndarray, beta: float, free_constant: bool = False) -> tuple[float, np.ndarray]:
    """Optimal value and outputs d of the program with two sup-norms."""
    d, constant = cp.Variable(len(y)), cp.Variable() if free_constant else 0.0
    penalty = cp.max(cp.pos(d)) + cp.max(cp.pos(-d))
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(d + constant - y) + beta * penalty))
    return problem.solve(**ACCURATE), d.value


def lasso(y: np.ndarray, beta: float) -> tuple[float, np.ndarray]:
    """Optimal value and residual of the Lasso over all nonzero binary patterns."""
    patterns = np.array([p for p in product((0.0, 1.0), repeat=len(y)) if any(p)]).T
    w = cp.Variable(patterns.shape[1])
    fit = cp.sum_squares(patterns @ w - y)
    problem = cp.Problem(cp.Minimize(0.5 * fit + beta * cp.norm1(w)))
    return problem.solve(**ACCURATE), y - patterns @ w.value


def layers(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patterns (n, k) and weights (k,) of the proof."""
    columns, weights = [np.zeros((len(d), 0))], []
    for sign in (1.0, -1.0):
        levels = np.unique(np.append(np.maximum(sign * d, 0.0), 0.0))
        columns.append((sign * d[:, None] >= levels[1:]).astype(float))
        weights.append(sign * np.diff(levels))
    return np.concatenate(columns, axis=1), np.concatenate(weights)


@pytest.mark.parametrize("seed", range(21))
def test_the_sup_norm_program_is_the_lasso_over_all_patterns(seed: int) -> None:
    y, beta = draw(seed)
    value, d = sup_norms(y, beta)
    best, z = lasso(y, beta)
    assert value == pytest.approx(best, rel=1e-6, abs=1e-9)
    # The dual point of either is feasible for all patterns: the worst ones are the signs of z.
    assert max(np.maximum(z, 0).sum(), np.maximum(-z, 0).sum()) <= beta * (1 + 1e-5)
    assert y @ z - 0.5 * z @ z == pytest.approx(value, rel=1e-5, abs=1e-8)
    patterns, weights = layers(d)
    np.testing.assert_allclose(patterns @ weights, d, atol=1e-12)
    assert np.abs(weights).sum() == pytest.approx(max(d.max(), 0.0) + max(-d.min(), 0.0))


@pytest.mark.parametrize("seed", range(20))
def test_mirrors_with_enough_switches_have_all_patterns(seed: int) -> None:
    y, beta = draw(seed)
    x = np.random.default_rng(100 + seed).standard_normal(len(y))
    if len(y) < 3:
        x, y = np.append(x, 3.0), np.append(y, 0.5)
    problem = cl.Mirrors(x, y, beta=beta, depth=3, activation="threshold", widths=len(y))
    value = cl.solve(problem, tol=1e-8).value
    assert value == pytest.approx(sup_norms(y, beta, free_constant=True)[0], rel=1e-6, abs=1e-8)


def test_one_switch_is_enough_for_monotone_targets_only() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.standard_normal(7)), rng.standard_normal(7)
    for targets, equal in ((np.sort(y), True), (np.sort(y)[::-1].copy(), True), (y, False)):
        problem = cl.Mirrors(x, targets, beta=0.1, activation="threshold")
        shallow = cl.solve(problem, tol=1e-9).value
        deep = sup_norms(targets, 0.1, free_constant=True)[0]
        assert shallow >= deep * (1 - 1e-7)
        assert (shallow == pytest.approx(deep, rel=1e-6)) == equal
