"""The Newton equation of the augmented Lagrangian, by every road, and its preconditioners."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.ssnal import newton, ssnal
from convexlib.solvers.ssnal.blocks import ColumnCurvature, ConeCurvature, GatedCurvature
from convexlib.solvers.ssnal.newton import (
    NewtonSystem,
    Nystroem,
    Preconditioner,
    choose,
    conjugate_gradients,
)
from tests.helpers.checks import check_record, check_result
from tests.helpers.two_layer import random_problem

BUILDERS = (newton.dense, newton.columns, Nystroem)


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gated(n, d, J):
    """A random curvature without cones, and the same as a matrix."""
    X = normal(0, n, d) / n**0.5
    masks = (normal(1, J, d) @ X.T > 0).double()
    w = torch.nn.functional.normalize(normal(2, J, d))
    c = torch.rand(J, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    design = (X[:, None, :] * masks.T[:, :, None]).flatten(1)
    eye = torch.eye(d, dtype=X.dtype)
    middle = torch.block_diag(
        *(eye + r * (torch.outer(u, u) - eye) for r, u in zip(c, w, strict=True))
    )
    return GatedCurvature(X, masks, w, c), design @ middle @ design.T


def cones(n, d, J):
    """The same on faces of dimensions d, d - 1, 2 and 1."""
    K, _ = gated(n, d, J)
    sizes = np.resize([0, 1, d - 2, d - 1], J)
    bases = torch.linalg.qr(normal(4, J, d, d)).Q.mT  # rows are orthonormal
    onto = torch.stack(
        [torch.eye(d) - Q[:size].T @ Q[:size] for Q, size in zip(bases, sizes, strict=True)]
    )
    w = torch.nn.functional.normalize(torch.einsum("jde,je->jd", onto, K.w))
    along = torch.einsum("jd,je->jde", w, w)
    middle = onto + K.c[:, None, None] * (along - onto)
    design = (K.X[:, None, :] * K.masks.T[:, :, None]).flatten(1)
    projector = SimpleNamespace(sizes=sizes, bases=bases.numpy())
    made = ConeCurvature(K.X, K.masks, w, K.c, projector, np.arange(J))
    return made, design @ torch.block_diag(*middle) @ design.T


def from_columns(n, d, J):
    K, expected = gated(n, d, J)
    return ColumnCurvature(K.columns()), expected


@pytest.mark.parametrize("make", [gated, cones, from_columns])
def test_a_curvature_is_one_matrix_however_it_is_asked(make):
    n = 600  # more than a stripe
    K, expected = make(n, 7, 31)
    torch.testing.assert_close(K.lower().tril(), expected.tril())
    torch.testing.assert_close(K.diagonal(), expected.diagonal())
    index = torch.tensor([5, 599, 17, 300])
    torch.testing.assert_close(K.rows(index), expected[index])
    torch.testing.assert_close(K.rows(slice(9, 20), slice(0, 40)), expected[9:20, :40])
    B, v, x = K.columns(), normal(5, n), normal(6, K.rank)
    torch.testing.assert_close(B @ B.T, expected)
    torch.testing.assert_close(K.times(v), expected @ v)
    torch.testing.assert_close(K.adjoint(v), B.T @ v)
    torch.testing.assert_close(K.image(x), B @ x)


@pytest.mark.parametrize("build", [None, *BUILDERS])
def test_newton_equations_by_every_road(build, monkeypatch):
    """The direct formula and every preconditioner, new and reused, against a direct solve."""
    n, d, J = 400, 12, 60
    K, expected = gated(n, d, J)
    v = normal(7, n)
    if build is not None:
        monkeypatch.setattr(newton, "_DIRECT", 0.0)
        best = Preconditioner(build, work=1e9, each=1e7)
        monkeypatch.setattr(newton, "choose", lambda *_: best)
    system = NewtonSystem(J + d)
    h = 1.0 + torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h[:7] = torch.inf  # these stay
    for sigma in (1.0, 30.0, 300.0, 3000.0):
        step = system.solve(K, sigma, h, v, 1e-5)
        assert not step[:7].any()
        free = torch.linalg.solve(torch.diag(h[7:]) + sigma * expected[7:, 7:], -v[7:])
        assert float((step[7:] - free).norm()) <= 1e-3 * float(free.norm())
    h[:] = torch.inf  # nothing is left to approximate
    assert not system.solve(K, 1.0, h, v, 1e-5).any()


@pytest.mark.parametrize(
    ("n", "d", "J", "served", "expected"),
    [
        (1000, 20, 100, (256, 10), newton.dense),
        (8000, 5, 100, (2000, 40), newton.columns),  # n^3 is more than n (J d)^2
        (8000, 20, 100, (256, 10), Nystroem),  # a small rank has served, and may again
        (20_000, 20, 400, (2000, 100), Nystroem),  # neither matrix may be so large
    ],
)
def test_the_preconditioner_is_the_one_of_least_work(n, d, J, served, expected):
    zeros = torch.zeros
    K = GatedCurvature(zeros(n, d), zeros(J, n), zeros(J, d), zeros(J))
    assert choose(K, J + d, *served).build is expected


def spectrum(n, values):
    """A curvature with given eigenvalues along random directions."""
    Q, _ = torch.linalg.qr(normal(11, n, len(values)))
    return ColumnCurvature(Q * values.sqrt())


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 1e3, 1e6])
def test_the_approximation_is_below_the_matrix_and_near_it(sigma, twice):
    """Of A = I + sigma K and its approximation P, the eigenvalues of P^-1 A are between 1 and
    1 + sigma times the trace of what is left out."""
    n = 900
    K = spectrum(n, 0.5 ** torch.arange(120, dtype=torch.float64))
    if twice:  # every sample is there twice: pivots coincide
        K = ColumnCurvature(K.B[: n // 2].repeat(2, 1))
    scale = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale[:9] = 0.0  # infinite curvature of the loss
    approximation = Nystroem(K, sigma, scale)
    A = (
        torch.eye(n, dtype=torch.float64)
        + sigma * (scale[:, None] * K.B) @ (scale[:, None] * K.B).T
    )
    root = torch.linalg.cholesky(A)
    inverse = torch.stack([approximation(column) for column in root.T], dim=1)
    values = torch.linalg.eigvalsh(root.T @ inverse)
    F = approximation.F
    left = float((A.trace() - n) - sigma * (F**2).sum())
    assert approximation.rank <= n // 4
    assert not approximation.coarse
    assert left <= n
    assert float(values.min()) >= 1.0 - 1e-8
    assert float(values.max()) <= 1.0 + left + 1e-8
    # The geometric spectrum is nearly finite: what is left of it is the jitter of the pivots.
    right = normal(3, n)
    step, used = conjugate_gradients(lambda v: A @ v, right, None, approximation, 1e-6, 100)
    assert used <= 12
    assert float((A @ step - right).norm()) <= 2e-6 * float(right.norm())
    _, plain = conjugate_gradients(lambda v: A @ v, right, None, None, 1e-6, 100)
    assert used <= plain


def test_a_coarse_approximation_says_so_and_still_helps():
    n = 1200
    K = spectrum(n, 1.0 / torch.arange(1, n + 1, dtype=torch.float64))
    ones = torch.ones(n, dtype=torch.float64)
    approximation = Nystroem(K, 1e5, ones)
    assert approximation.coarse
    assert approximation.rank == n // 4

    def product(v):
        return v + 1e5 * K.times(v)

    right = normal(3, n)
    _, used = conjugate_gradients(product, right, None, approximation, 5e-3, 1000)
    _, plain = conjugate_gradients(product, right, None, None, 5e-3, 1000)
    assert used < plain / 2


def test_a_start_that_is_worse_than_zero_is_left():
    right = normal(3, 50)
    good, used = conjugate_gradients(lambda v: 2.0 * v, right, None, None, 1e-8, 9)
    assert used == 1
    for start in (1e9 * right, torch.nan * right):
        again, used = conjugate_gradients(lambda v: 2.0 * v, right, start, None, 1e-8, 9)
        assert used == 1
        torch.testing.assert_close(again, good)


def test_one_preconditioner_serves_as_long_as_it_costs_less_than_another(monkeypatch):
    """The CG steps beyond those with a new one add up to at most about its making."""
    made = []

    def build(K, sigma, scale):
        made.append(sigma)
        return newton.dense(K, sigma, scale)

    n = 300
    K, _ = gated(n, 12, 60)
    best = Preconditioner(build, work=2e9, each=1e8)
    monkeypatch.setattr(newton, "choose", lambda *_: best)
    system, h, v = NewtonSystem(100), torch.ones(n, dtype=torch.float64), normal(1, n)
    for _ in range(100):
        system.solve(K, 10.0, h, v, 1e-3)
    assert len(made) == 1  # it is exact, so there is nothing to gain from another
    for sigma in 10.0 * 1.1 ** torch.arange(60.0):
        system.solve(K, float(sigma), h, v, 1e-3)
    assert 2 <= len(made) <= 30


@pytest.mark.parametrize("gates", [True, False])
def test_reuse_and_approximation_do_not_change_the_optimum(monkeypatch, gates):
    problem = random_problem(120, 6, 0, 0.01, gated=gates, n_patterns=60)
    monkeypatch.setattr(newton, "_DIRECT", 0.0)
    values = {}
    for build in BUILDERS:
        for work in (0.0, 1e9, 1e15):  # a new one for every solve, now and then, never twice
            best = Preconditioner(build, work=work, each=1e7)
            monkeypatch.setattr(newton, "choose", lambda *_, best=best: best)
            result = ssnal(problem, tol=1e-8)
            check_record(problem, result, 1e-8)
            assert result.converged
            values[build, work] = result.value
    assert max(values.values()) <= min(values.values()) * (1 + 1e-8)


def large(kind, n=4500):
    """More samples than a dense matrix of them is always made for."""
    X = normal(0, n, 5)
    if kind == "rows":
        X = X[torch.arange(n) % 40]
    elif kind == "columns":
        X = torch.cat([X[:, :2], X[:, :2], X[:, :1] + 1e-9 * X[:, 4:]], dim=1)
    elif kind == "condition":
        X = X * torch.logspace(0, -7, 5, dtype=torch.float64)
    return X, torch.relu(X @ normal(1, 5, 3)).sum(dim=1) + 0.1 * normal(2, n)


@pytest.mark.parametrize("gates", [True, False])
@pytest.mark.parametrize("kind", ["normal", "rows", "columns", "condition"])
def test_many_samples_and_few_patterns(monkeypatch, kind, gates):
    monkeypatch.setattr(newton, "_DIRECT", 0.0)  # or 12 patterns need no preconditioner
    X, y = large(kind)
    patterns = cl.sample_arrangements(X, 12, seed=0)
    problem = cl.TwoLayer(X, y, beta=1.0, arrangements=patterns, gated=gates)
    problem = problem.with_beta(1e-3 * problem.beta_max())
    result = ssnal(problem)
    check_result(problem, result)
    assert result.converged
