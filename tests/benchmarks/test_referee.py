"""The referee against CVXPY, non-negative least squares and loops."""

import cvxpy as cp
import numpy as np
import pytest

from benchmarks.instances import instance
from benchmarks.referee import Referee, excess, network_objective
from tests.helpers.checks import best_in_cone


@pytest.fixture(scope="module")
def data():
    return instance("30x3x12")


@pytest.fixture(scope="module")
def beta(data):
    return 0.05 * data.beta_max


def program(data, beta, gated):
    """Optimum, blocks (S, P, d) and z by CVXPY."""
    blocks = [cp.Variable(data.gates.shape) for _ in range(1 if gated else 2)]
    signed = blocks[0] if gated else blocks[0] - blocks[1]
    fitted = sum(
        cp.multiply(mask.astype(float), data.X @ signed[i]) for i, mask in enumerate(data.masks)
    )
    cones = []
    if not gated:
        for i, mask in enumerate(data.masks):
            cones += [cp.multiply(np.where(mask, 1.0, -1.0), data.X @ b[i]) >= 0 for b in blocks]
    norms = sum(cp.norm(b[i]) for b in blocks for i in range(len(data.masks)))
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(fitted - data.y) + beta * norms), cones)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return problem.value, np.stack([b.value for b in blocks]), data.y - fitted.value


@pytest.mark.parametrize("gated", [True, False])
def test_optimum_is_bracketed(data, beta, gated):
    optimum, weights, z = program(data, beta, gated)
    score = Referee(data.X, data.y, data.masks, beta, gated).score(weights, z)
    assert score.value == pytest.approx(optimum, rel=1e-7)
    assert score.lower <= optimum * (1 + 1e-9)
    assert score.gap < 1e-5
    assert score.violation < 1e-8


def test_lower_bound_is_below_the_optimum_for_any_point(data, beta):
    rng = np.random.default_rng(0)
    for gated in (True, False):
        optimum = program(data, beta, gated)[0]
        referee = Referee(data.X, data.y, data.masks, beta, gated)
        for _ in range(20):
            z = data.y + rng.standard_normal(len(data.y)) * rng.uniform(0, 2)
            assert 0.0 <= referee.bound(z) <= optimum * (1 + 1e-9)
        assert referee.bound(np.zeros_like(data.y)) == 0.0


def test_bound_against_nonnegative_least_squares(data, beta):
    z = data.y + np.random.default_rng(1).standard_normal(len(data.y))
    reach = max(
        best_in_cone(sign * data.X.T @ (mask * z), data.X, mask)
        for mask in data.masks
        for sign in (1, -1)
    )
    scale = min(beta / reach, data.y @ z / (z @ z))
    expected = scale * data.y @ z - 0.5 * scale**2 * z @ z
    bound = Referee(data.X, data.y, data.masks, beta, False).bound(z)
    assert bound == pytest.approx(expected, rel=1e-10)


def test_objective_and_violation_by_loops(data):
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((2, *data.gates.shape))
    weights[:, 3] = 0.0
    fitted, worst = np.zeros(len(data.y)), 0.0
    for i, mask in enumerate(data.masks):
        for x_index, x in enumerate(data.X):
            sign = 1.0 if mask[x_index] else -1.0
            for side in (0, 1):
                inner = x @ weights[side, i]
                worst = max(worst, -sign * inner / np.linalg.norm(x))
                fitted[x_index] += (1 - 2 * side) * mask[x_index] * inner
    norms = sum(np.linalg.norm(block) for side in weights for block in side)
    referee = Referee(data.X, data.y, data.masks, 0.7, False)
    assert referee.objective(weights) == pytest.approx(
        0.5 * np.sum((fitted - data.y) ** 2) + 0.7 * norms, rel=1e-12
    )
    assert referee.violation(weights) == pytest.approx(worst, rel=1e-12)


def test_infeasible_weights_pay_for_their_repair(data, beta):
    # Outside of the cones the objective may lie below the optimum; the referee's value may not.
    optimum = program(data, beta, False)[0]
    cheaper = program(data, beta, True)[1]
    weights = np.concatenate([cheaper, np.zeros_like(cheaper)])
    referee = Referee(data.X, data.y, data.masks, beta, False)
    assert referee.objective(weights) < optimum
    score = referee.score(weights)
    assert score.violation > 1e-3
    assert score.value > optimum
    repaired = referee.repaired(weights)
    assert referee.violation(repaired) < 1e-13
    assert np.allclose(referee.repaired(repaired), repaired, atol=1e-13)


def test_excess():
    assert excess(10.0, 9.0) == pytest.approx(0.1)
    assert excess(9.0, 10.0) == 0.0
    assert excess(0.0, 0.0) == 0.0


def test_network_objective_by_loops():
    rng = np.random.default_rng(3)
    X, y, U, alpha = map(rng.standard_normal, ((7, 2), 7, (3, 2), 3))
    total = 0.0
    for x, target in zip(X, y, strict=True):
        output = sum(max(x @ u, 0.0) * a for u, a in zip(U, alpha, strict=True))
        total += 0.5 * (output - target) ** 2
    total += 0.5 * 0.3 * (sum(u @ u for u in U) + sum(a * a for a in alpha))
    assert network_objective(X, y, U, alpha, 0.3) == pytest.approx(total, rel=1e-13)
