"""The bound of all outputs together: never below what a search finds, and dual points for it."""

from itertools import islice

import cvxpy as cp
import mpmath
import numpy as np
import pytest
import torch

from convexlib.losses import get_loss
from convexlib.pricing import joint_relaxation
from convexlib.pricing.joint import best_neurons, price_outputs
from convexlib.pricing.joint_relaxation import JointBound, jointly_relaxed
from convexlib.pricing.lbfgs import minimised
from convexlib.pricing.quadratic_bound import Pairs
from convexlib.pricing.relaxed_program import Clock
from convexlib.runtime import time_limit


def some_bound(seed):
    """A bound of random pairs in two or three dimensions, a dual point and multipliers."""
    rng = np.random.default_rng(seed)
    n, d, c = 6 + seed % 7, 2 + seed % 2, 1 + seed % 4
    X, Z = rng.standard_normal((n, d)), rng.standard_normal((n, c))
    i, j = np.triu_indices(n, 1)
    kept = rng.random(len(i)) < 0.5
    signs = rng.choice([-1.0, 1.0], int(kept.sum()))
    bound = JointBound(X, Pairs(i[kept], j[kept], signs, n), c)
    return X, Z, bound, rng.standard_normal(bound.size) - 1.0


def highest(X, Z, count=20_000):
    """The largest of the heights of random directions and of the local maxima."""
    U = torch.randn(count, X.shape[1], generator=torch.Generator().manual_seed(0)).double()
    U /= torch.linalg.vector_norm(U, dim=1, keepdim=True)
    heights = torch.linalg.vector_norm(torch.relu(X @ U.T).T @ Z, dim=1)
    return max(float(heights.max()), float(best_neurons(X, Z)[0].max()))


@pytest.mark.parametrize("seed", range(40))
def test_any_multipliers_bound_the_best_neuron(seed):
    X, Z, bound, point = some_bound(seed)
    best = highest(torch.from_numpy(X), torch.from_numpy(Z))
    assert bound.proven(point, Z) >= best
    better = minimised(lambda x: bound.smooth(x, Z, 1e-3)[:2], point, 500, Clock(10.0).over)
    assert best <= bound.proven(better, Z) < bound.proven(point, Z)


def eighty_digits(X, Z, bound, point):
    """Twice the largest eigenvalue of H for the very multipliers, in many digits."""
    r, delta, products = bound._read(point)
    near, mu, gamma, _, middle = bound._parts(r, delta, products, Z)
    with mpmath.workdps(80):
        A, X_, Z_, turned, middle = (
            mpmath.matrix(part.tolist()) for part in (np.diag(mu) - near, X, Z, gamma, middle)
        )
        c, d = Z.shape[1], X.shape[1]
        parts, H = [Z_ / 2, 2 * turned * X_], mpmath.zeros(c + d)
        solved = [mpmath.matrix(part.rows, part.cols) for part in parts]
        for part, found in zip(parts, solved, strict=True):
            for k in range(part.cols):
                found[:, k] = mpmath.lu_solve(A, part[:, k])
        offsets = (0, c)
        for a in range(2):
            for b in range(2):
                block = parts[a].T * solved[b] / 4
                if a != b:
                    block += (Z_.T * X_ if a == 0 else X_.T * Z_) / 4
                elif a == 1:
                    block += X_.T * middle * X_
                for k in range(block.rows):
                    for m in range(block.cols):
                        H[offsets[a] + k, offsets[b] + m] = block[k, m]
        return 2 * max(mpmath.eigsy((H + H.T) / 2, eigvals_only=True))


@pytest.mark.parametrize("seed", range(20))
def test_eighty_digits_confirm_the_rounding(seed):
    X, Z, bound, point = some_bound(seed)
    digits = eighty_digits(X, Z, bound, point)
    proven = bound.proven(point, Z)
    assert digits <= proven <= digits * (1 + 1e-9)


def test_rounding_is_covered_where_the_matrix_is_nearly_singular():
    X, Z, bound, point = some_bound(3)
    point[bound.n : 2 * bound.n] = -60.0  # no delta at all
    digits = eighty_digits(X, Z, bound, point)
    assert digits <= bound.proven(point, Z) < np.inf


@pytest.mark.parametrize("seed", range(60))
def test_rounding_is_covered_where_terms_cancel(seed):
    """Opposite rows and large multipliers: H is small beside the terms that it is a sum of."""
    rng = np.random.default_rng(seed)
    m, d, c = rng.integers(2, 6), rng.integers(1, 3), rng.integers(1, 3)
    half = rng.standard_normal((m, d))
    apart = 1.0 + 10.0 ** rng.uniform(-16, -6) * rng.standard_normal((m, 1))
    X = np.concatenate([half, -half * apart])
    Z = rng.standard_normal((2 * m, c)) * 10.0 ** rng.choice([0, -4, -8, -12, -16, -20])
    pairs = Pairs(np.arange(m), np.arange(m) + m, np.full(m, -1.0), 2 * m)
    bound = JointBound(X, pairs, c)
    point = rng.standard_normal(bound.size)
    point[2 * m : 4 * m] = rng.choice([-60, -30, -10, 0])  # delta
    point[4 * m :] = rng.choice([0, 10, 30])  # pairs
    if rng.random() < 0.5:
        point[: 2 * m] = 0.0
    assert eighty_digits(X, Z, bound, point) <= bound.proven(point, Z)


@pytest.mark.parametrize("seed", range(6))
def test_slopes_are_those_of_differences(seed):
    X, Z, bound, point = some_bound(seed)
    _, slope, by_Z = bound.smooth(point, Z, 0.1)
    step = 1e-6

    def rate(change, turn):
        ends = [bound.smooth(point + s * change, Z + s * turn, 0.1)[0] for s in (step, -step)]
        return (ends[0] - ends[1]) / (2 * step)

    rates = [rate(unit, 0.0) for unit in np.eye(bound.size)]
    assert np.allclose(slope, rates, atol=1e-6 * np.abs(slope).max())
    units = np.eye(Z.size).reshape(-1, *Z.shape)
    assert np.allclose(by_Z.ravel(), [rate(0.0, unit) for unit in units], atol=1e-6)


def classes(n=60, d=9, c=8, seed=0):
    """Gaussian rows, and the class of each by the nearest of as many random directions."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    label = (X @ torch.randn(d, c, generator=generator, dtype=torch.float64)).argmax(dim=1)
    return X, torch.nn.functional.one_hot(label, c).double()


def points(X, Y, beta, loss="squared", *, seconds=60.0, count=2, output_bias=False):
    """The first dual points for the residual of the zero network."""
    kind = get_loss(loss)
    Z = kind.dual_point(torch.zeros_like(Y), Y)
    found = jointly_relaxed(
        X, Y, beta, kind, Z, torch.eye(X.shape[1]).double(), output_bias=output_bias,
        max_seconds=seconds,
    )  # fmt: skip
    return list(islice(found, count))


def semidefinite(X, Y, beta):
    """The largest dual value of which the bound on all pairs is at most beta, by CVXPY."""
    n, d, c = *X.shape, Y.shape[1]
    rows = X / np.linalg.norm(X, axis=1)[:, None]
    theta = np.where(rows @ rows.T < 0, -1.0, 1.0)
    Z, mu = cp.Variable((n, c)), cp.Variable(n)
    first, second = (cp.Variable((n, n), nonneg=True) for _ in range(2))  # (Lambda +- nu) / 2
    above = np.triu(np.ones((n, n)), 1)
    upper, nu = cp.multiply(above, first + second), cp.multiply(above, first - second)
    near, turned = upper + upper.T, nu.T - cp.multiply(theta, nu)
    N = cp.hstack([0.5 * Z, 2 * turned @ X])
    middle = X.T @ (cp.diag(mu) - cp.multiply(theta, near)) @ X
    K = cp.bmat([[np.zeros((c, c)), 0.25 * Z.T @ X], [0.25 * X.T @ Z, middle]])
    whole = cp.bmat([[0.5 * beta * np.eye(c + d) - K, 0.5 * N.T], [0.5 * N, cp.diag(mu) - near]])
    dual = cp.sum(cp.multiply(Y, Z)) - 0.5 * cp.sum_squares(Z)
    return cp.Problem(cp.Maximize(dual), [0.5 * (whole + whole.T) >> 0]).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_point_is_that_of_a_semidefinite_program(seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    beta = 0.3 * highest(X, Y)
    best = semidefinite(X.numpy(), Y.numpy(), beta)
    found = []
    for point in points(X, Y, beta, count=9):
        scale = get_loss("squared").best_scale(point.z, Y, beta / point.reach)
        found.append(get_loss("squared").dual_value(scale * point.z, Y))
    assert max(found) <= best * (1 + 1e-6)
    assert max(found) >= best * (1 - 3e-2)  # how far the minimisation comes in its steps


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
@pytest.mark.parametrize("output_bias", [False, True])
def test_points_of_every_loss_are_bounded_and_get_better(loss, output_bias):
    X, Y = classes()
    Y = Y if loss == "squared" else 2 * Y - 1
    kind = get_loss(loss)
    beta = 0.3 * highest(X, kind.dual_point(torch.zeros_like(Y), Y))
    first, second = points(X, Y, beta, loss, output_bias=output_bias)
    for point in (first, second):
        assert point.method == "joint"
        assert highest(X, point.z) <= point.reach
        assert torch.equal(kind.restrict(point.z, Y), point.z)
    values = []
    for point in (first, second):
        scale = min(beta / point.reach, 1.0)
        bias = float(((scale * point.z).sum(dim=0) ** 2).sum()) / (2 * beta) if output_bias else 0
        values.append(kind.dual_value(scale * point.z, Y) - bias)
    assert values[1] > values[0]


def test_the_bound_of_many_outputs_is_tighter_than_that_of_groups():
    X, Y = classes()
    groups = price_outputs(X, Y).upper
    together = points(X, Y, 0.3 * groups, count=1)[0]
    assert torch.equal(together.z, Y)
    assert highest(X, Y) <= together.reach < 0.9 * groups


def test_powers_of_two_change_nothing():
    X, Y = classes(20, 6, 3)
    plain = points(X, Y, 1.0)[1]
    scaled = points(X * 2.0**-20, Y * 2.0**9, 2.0**-11)[1]
    assert torch.equal(scaled.z, plain.z * 2.0**9)
    assert scaled.reach == pytest.approx(plain.reach * 2.0**-11, rel=1e-12)


@pytest.mark.parametrize(
    ("X", "Y"),
    [
        (np.ones((5, 2)), np.eye(5)[:, :3]),  # one direction
        (np.vstack([np.eye(2), -np.eye(2)]), np.eye(4)),  # antipodal samples
        (np.vstack([np.eye(2)] * 3), np.arange(18.0).reshape(6, 3)),  # duplicates
        (np.vstack([np.eye(3), np.zeros((2, 3))]), np.ones((5, 2))),  # samples at the origin
        (np.vander(np.linspace(-1, 1, 6), 9), np.eye(6)),  # more columns than rows
        (np.array([[1e9, 1.0], [1.0, 1e-9], [3.0, 4.0]]), np.eye(3)),  # far apart
    ],
)
def test_degenerate_data(X, Y):
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    beta = 0.3 * highest(X, Y)
    for point in points(X, Y, beta, seconds=2.0):
        assert highest(X, point.z) <= point.reach * (1 + 1e-12)


def test_without_time_rows_or_room_there_are_no_points(monkeypatch):
    X, Y = classes(20, 6, 3)
    assert points(X, Y, 1.0, seconds=0.0) == []
    assert points(torch.zeros_like(X), Y, 1.0) == []
    with time_limit(-1.0):
        assert points(X, Y, 1.0) == []
    monkeypatch.setattr(joint_relaxation, "_LARGEST", 19)
    assert points(X, Y, 1.0) == []


def test_the_time_is_kept():
    X, Y = classes(200, 20, 10)
    clock = Clock(3.0)
    assert len(points(X, Y, 0.1, seconds=0.5, count=9)) >= 1
    assert not clock.over()
