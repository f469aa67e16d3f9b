"""The Newton equation of the augmented Lagrangian, by every road."""

import pytest
import torch

from convexlib.solvers.ssnal import newton
from convexlib.solvers.ssnal.blocks import GatedCurvature
from convexlib.solvers.ssnal.newton import NewtonSystem, Preconditioner, choose

BUILDERS = (newton.dense, newton.columns, newton.nystroem)


@pytest.mark.parametrize("build", [None, *BUILDERS])
def test_newton_equations_by_every_road(build, monkeypatch):
    """The direct formula and every preconditioner, new and reused, against a direct solve."""
    generator = torch.Generator().manual_seed(0)
    n, d, J = 400, 12, 60
    X = torch.randn(n, d, generator=generator, dtype=torch.float64) / n**0.5
    masks = (torch.randn(J, d, generator=generator, dtype=torch.float64) @ X.T > 0).double()
    w = torch.randn(J, d, generator=generator, dtype=torch.float64)
    w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    c = torch.rand(J, generator=generator, dtype=torch.float64)
    K = GatedCurvature(X, masks, w, c)
    design = (X[:, None, :] * masks.T[:, :, None]).flatten(1)
    eye = torch.eye(d, dtype=X.dtype)
    middle = torch.block_diag(
        *(eye + r * (torch.outer(u, u) - eye) for r, u in zip(c, w, strict=True))
    )
    expected = design @ middle @ design.T
    torch.testing.assert_close(K.dense(), expected)
    torch.testing.assert_close(K.columns() @ K.columns().T, expected)
    v = torch.randn(n, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(K.times(v), expected @ v)
    if build is not None:
        monkeypatch.setattr(newton, "_DIRECT", 0.0)
        best = Preconditioner(build, work=1e9, apply=1e5)
        monkeypatch.setattr(newton, "choose", lambda *_: best)
    system = NewtonSystem(J + d)
    h = 1.0 + torch.rand(n, generator=generator, dtype=torch.float64)
    h[:7] = torch.inf  # these stay
    for sigma in (1.0, 30.0, 300.0, 3000.0):
        step = system.solve(K, sigma, h, v, 1e-5)
        assert not step[:7].any()
        free = torch.linalg.solve(torch.diag(h[7:]) + sigma * expected[7:, 7:], -v[7:])
        assert float((step[7:] - free).norm()) <= 1e-3 * float(free.norm())


@pytest.mark.parametrize(
    ("n", "J", "n_columns", "expected"),
    [
        (1000, 100, 500, newton.dense),
        (8000, 100, 220, newton.columns),  # n^3 is more than n (J d)^2
        (20_000, 400, 420, newton.nystroem),  # neither matrix may be so large
    ],
)
def test_the_preconditioner_is_the_one_of_least_work(n, J, n_columns, expected):
    zeros = torch.zeros
    K = GatedCurvature(zeros(n, 20), zeros(J, n), zeros(J, 20), zeros(J))
    assert choose(K, n, n_columns).build is expected
