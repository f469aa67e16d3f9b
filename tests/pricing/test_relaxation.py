"""Bounds by pairs and dual points chosen for them: never below what a search finds, and tighter."""

from functools import partial
from itertools import islice

import mpmath
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from convexlib.losses import get_loss
from convexlib.pricing import ascend, price, quadratic_bound, relaxation, relaxed_program
from convexlib.pricing.quadratic_bound import PairBound, Pairs, solved
from convexlib.pricing.relaxation import relaxed
from convexlib.pricing.relaxed_program import Program
from convexlib.runtime import time_limit
from tests.helpers.two_layer import tensors


def some_bound(seed):
    """A bound of random pairs and multipliers in two or three dimensions, and a dual point."""
    rng = np.random.default_rng(seed)
    n, d = 8 + seed % 13, 2 + seed % 2
    X, z = rng.standard_normal((n, d)), rng.standard_normal(n)
    i, j = np.triu_indices(n, 1)
    kept = rng.random(len(i)) < 0.3
    signs = rng.choice([-1.0, 1.0], int(kept.sum()))
    pairs = Pairs(i[kept], j[kept], signs, n)
    bound = PairBound(X, pairs, np.eye(d) / d, np.full(n, 0.5))
    return X, z, bound, rng.standard_normal(5 * n + len(signs)) - 1.0


@pytest.mark.parametrize("seed", range(40))
def test_any_multipliers_bound_the_best_neuron(seed):
    X, z, bound, point = some_bound(seed)
    u = np.random.default_rng(seed).standard_normal((20_000, X.shape[1]))
    u /= np.linalg.norm(u, axis=1)[:, None]
    assert bound.proven(point, z) >= (np.maximum(u @ X.T, 0.0) @ z).max()


def eighty_digits(X, z, bound, point):
    """The value of the bound at a point but for a digit or so of its ball, from below."""
    m = bound._read(point)
    near, mu, *_ = bound._parts(m, z)
    with mpmath.workdps(80):
        exact = partial(map, mpmath.mpf)
        n, d = X.shape
        near = mpmath.matrix(near.toarray().tolist())
        A = mpmath.diag(list(exact(mu))) - near
        w = mpmath.matrix([a + 2 * (b + c + e) for a, b, c, e in zip(
            *map(exact, (z, m.plus, m.minus, m.kappa)), strict=True)])  # fmt: skip
        rows, aims = mpmath.matrix(X.tolist()), mpmath.matrix(bound.aims.tolist())
        signs = mpmath.zeros(n)
        for i, j, sign in zip(bound.pairs.i, bound.pairs.j, bound.pairs.signs, strict=True):
            signs[int(i), int(j)] = signs[int(j), int(i)] = int(sign)
        middle = A.copy()
        for i in range(n):
            for j in range(n):
                if i != j:
                    middle[i, j] = -signs[i, j] * near[i, j]
        mixed = rows.T * mpmath.diag(list(exact(m.kappa))) * aims
        Q = rows.T * middle * rows - (mixed + mixed.T) / 2
        p = rows.T * mpmath.matrix(
            [a / 2 - b + c for a, b, c in zip(*map(exact, (z, m.plus, m.minus)), strict=True)]
        )
        free = (w.T * mpmath.lu_solve(A, w))[0] / 16
        low = max(max(mpmath.eigsy(Q, eigvals_only=True)), mpmath.mpf(0))
        high = low + mpmath.norm(p) + 1
        for _ in range(260):  # of the multiplier of the ball
            t = (low + high) / 2
            u = mpmath.lu_solve(t * mpmath.eye(d) - Q, p) / 2
            low, high = (t, high) if mpmath.norm(u) > 1 else (low, t)
        u = u / max(mpmath.norm(u), 1)
        return free + (p.T * u)[0] + (u.T * Q * u)[0]


@pytest.mark.parametrize("seed", range(20))
def test_eighty_digits_confirm_the_rounding(seed):
    X, z, bound, point = some_bound(seed)
    digits = eighty_digits(X, z, bound, point)
    proven = bound.proven(point, z)
    assert digits <= proven <= digits * (1 + mpmath.mpf("1e-8"))


def test_gradients_are_those_of_the_bound(monkeypatch):
    monkeypatch.setattr(quadratic_bound, "_SOLVE", 1e-13)  # its error is that of the gradient
    _, z, bound, point = some_bound(5)
    _, by_point, by_z = bound.smooth(point, z, 0.1)
    n, step = len(z), 1e-5
    # A mean of the first n is taken out: they are only known up to it.
    for k in range(0, len(point), 3):
        move = np.eye(len(point))[k] * step
        if k < n:
            move[:n] -= move[:n].mean()
        high, low = (bound.smooth(point + s * move, z, 0.1)[0] for s in (1, -1))
        assert by_point @ move == pytest.approx((high - low) / 2.0, rel=1e-5, abs=1e-11)
    for k in range(n):
        move = np.eye(n)[k] * step
        high, low = (bound.smooth(point, z + s * move, 0.1)[0] for s in (1, -1))
        assert by_z[k] * step == pytest.approx((high - low) / 2.0, rel=1e-5, abs=1e-11)


def is_gradient(function, point):
    """Compare with differences along each coordinate."""
    _, gradient = function(point)
    for k in range(len(point)):
        move = np.eye(len(point))[k] * 1e-6
        high, low = (function(point + sign * move)[0] for sign in (1, -1))
        error = abs((high - low) / 2e-6 - gradient[k])
        assert error < 1e-6 * (1.0 + abs(gradient[k])), k


@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("name", ["squared", "logistic", "squared_hinge"])
def test_gradients_are_those_of_the_relaxations(name, decay):
    X, y = tensors(9, 3, 4)
    y = y if name == "squared" else torch.where(y < 0.0, -1.0, 1.0).double()
    program = Program(X, y, 0.7, decay, get_loss(name))
    rng = np.random.default_rng(0)
    point = 0.5 * rng.standard_normal(relaxation._Factors.size(program))
    lengths = np.linalg.norm(X.numpy(), axis=1)
    for wanted in (y.numpy(), 9.0 * y.numpy()):  # inside of intervals and at their ends

        def fitted(x, wanted=wanted):
            factors = relaxation._Factors(x, program)
            return relaxation._interval(factors, wanted, 0.1 * lengths)[1:]

        is_gradient(fitted, point)
    i, j = np.triu_indices(9, 1)
    multipliers = [rng.random(len(i)) - 0.3 for _ in range(2)]
    sides = [relaxation._Side(i, j, each, each.copy()) for each in multipliers]
    lagrangian = relaxation._Lagrangian(program, sides, *rng.random((2, 2, 9)), penalty=2.0)
    is_gradient(lagrangian, np.append(point, rng.standard_normal(2 * 9 * relaxation._K)))


def dual_value(loss, z, y, beta, reach):
    return loss.dual_value(loss.best_scale(z, y, beta / reach) * z, y)


@pytest.mark.parametrize("name", ["squared", "logistic", "squared_hinge"])
def test_dual_points_are_proven_and_better_than_the_residual(name):
    X, y = tensors(60, 7, 0)
    loss = get_loss(name)
    y = y if name == "squared" else torch.where(y < 0.0, -1.0, 1.0).double()
    start = loss.dual_point(torch.zeros_like(y), y)
    beta = 0.2 * price(X, start, max_nodes=0).lower
    trivial = dual_value(loss, start, y, beta, price(X, start, max_nodes=0).upper)
    found = list(islice(relaxed(X, y, beta, loss, output_bias=False, max_seconds=np.inf), 2))
    assert [point.method for point in found] == ["moments", "pairs"]
    values = [dual_value(loss, point.z, y, beta, point.reach) for point in found]
    assert trivial < values[0] < values[1]
    starts = torch.randn(200, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for point in found:
        heights, _ = ascend(X, point.z, starts)
        assert float(heights.abs().max()) <= point.reach


@pytest.mark.parametrize(("of_rows", "of_targets"), [(1e-40, 1e30), (1e30, 1e-40)])
def test_scale_does_not_matter(of_rows, of_targets):
    X, y = tensors(30, 6, 1)
    loss, values = get_loss("squared"), []
    for rows, targets in ((1.0, 1.0), (of_rows, of_targets)):
        point = next(
            relaxed(
                rows * X, targets * y, rows * targets, loss, output_bias=False, max_seconds=1e-9
            )
        )
        reach = point.reach / (rows * targets)
        values.append(dual_value(loss, point.z / targets, y, 1.0, reach))
    assert values[1] == pytest.approx(values[0], rel=1e-2)


def test_no_time_no_points():
    X, y = tensors(10, 6, 0)
    assert not list(relaxed(X, y, 1.0, get_loss("squared"), output_bias=False, max_seconds=0.0))
    nothing = torch.zeros_like(X)
    assert not list(
        relaxed(nothing, y, 1.0, get_loss("squared"), output_bias=True, max_seconds=1.0)
    )


def test_a_linear_system_whose_products_underflow():
    near = csr_array(np.array([[0.0, 0.9999], [0.9999, 0.0]]))
    target = np.full(2, 1e-161)  # its square is just a number, and a part of that is none
    a, rest = solved(np.ones(2), near, target, np.zeros(2), 1e-13, 100)
    np.testing.assert_array_equal(rest, target - (a - near @ a))


def test_a_penalty_beyond_all_scales_is_left_to_other_bounds():
    """In units of such targets beta is no number any more."""
    rng = np.random.default_rng(0)
    X, y = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((10, 8), (10,)))
    loss = get_loss("squared")
    assert not list(relaxed(X, 1e-71 * y, 1e300, loss, output_bias=False, max_seconds=1.0))


@pytest.mark.parametrize("looks", [1, 5, 30])
def test_a_limit_on_the_wall_ends_the_first_point_too(looks, monkeypatch):
    X, y = tensors(40, 8, 0)
    seen, steps = [], []
    true = relaxation._interval

    def over():
        seen.append(None)
        return len(seen) > looks

    def counted(*arguments):
        steps.append(None)
        return true(*arguments)

    for module in (relaxation, relaxed_program):
        monkeypatch.setattr(module, "out_of_time", over)
    monkeypatch.setattr(relaxation, "_interval", counted)
    options = {"output_bias": False, "max_seconds": 1e6}
    points = list(relaxed(X, y, 0.5, get_loss("squared"), **options))
    assert 0 < len(steps) <= 3 * (looks + 10)  # of 150 and more in each of three minimisations
    for point in points:
        assert point.reach >= price(X, point.z, max_nodes=0).lower
    with time_limit(0.0):
        monkeypatch.undo()
        assert not list(relaxed(X, y, 0.5, get_loss("squared"), **options))
