r"""Preconditioners of the Newton equation: approximate inverses of :math:`I + \sigma S K S`.

Three of them, and the rule that chooses by the work: a Cholesky factorisation of the n x n matrix;
the Woodbury formula on the columns of K, where they are few; and, where n is too large for
both, the inverse of a randomised (Nyström) approximation of K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.solvers.ssnal.curvature import Curvature

_SMALL = 4096  # size up to which a dense matrix is always allowed
_RANK = 300  # of the Nyström approximation
_SLOW = 5.0  # a triangular solve reads memory; its flops take longer than a product's

Solve = Callable[[Tensor], Tensor]
Build = Callable[[Curvature, float, Tensor], Solve]


@dataclass(frozen=True)
class Preconditioner:
    """How to make one, and the flops of making it and of applying it."""

    build: Build
    work: float
    apply: float


def choose(K: Curvature, n: int, n_columns: int) -> Preconditioner:
    """The one that is least work to make, of those whose memory stays a multiple of n_columns n."""
    largest = max(_SMALL, 4 * n_columns)
    found = []
    if n <= largest:
        found.append(Preconditioner(dense, K.dense_work + n**3 / 3.0, _SLOW * 2.0 * n * n))
    if K.rank <= largest:
        work = 2.0 * n * K.rank**2 + K.rank**3 / 3.0
        found.append(Preconditioner(columns, work, 4.0 * n * K.rank))
    if not found:
        found.append(Preconditioner(nystroem, _RANK * K.work, 4.0 * n * _RANK))
    return min(found, key=lambda one: one.work)


def dense(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse by a Cholesky factorisation."""
    matrix = K.dense()
    matrix.mul_(sigma * scale).mul_(scale[:, None])
    matrix.diagonal().add_(1.0)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        factor = cholesky(matrix)

    def solve(v: Tensor) -> Tensor:
        # Two triangular solves: torch's cholesky_solve is several times slower for one column.
        half = torch.linalg.solve_triangular(factor, v.to(factor)[:, None], upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, 0].to(v)

    return solve


def columns(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse by the Woodbury formula."""
    B = scale[:, None] * K.columns()
    small = sigma * (B.T @ B)
    small.diagonal().add_(1.0)
    factor = cholesky(small)

    def solve(v: Tensor) -> Tensor:
        inner = torch.cholesky_solve((B.T @ v.to(B))[:, None], factor)[:, 0]
        return v - sigma * (B @ inner).to(v)

    return solve


def nystroem(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse with a randomised approximation of K, of rank r."""
    n = len(scale)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(n, min(_RANK, n), generator=generator, dtype=torch.float64).to(scale)
    probe, _ = torch.linalg.qr(probe)
    images = torch.stack([scale * K.times(scale * column) for column in probe.T], dim=1)
    shift = torch.finfo(images.dtype).eps * float(torch.linalg.matrix_norm(images))
    images = images + shift * probe
    core = cholesky((probe.T @ images + images.T @ probe) * 0.5)
    half = torch.linalg.solve_triangular(core, images.T, upper=False)  # (r, n)
    U, S, _ = torch.linalg.svd(half.T, full_matrices=False)
    values = sigma * (S**2 - shift).clamp(min=0.0)
    weights = (1.0 + values[-1]) / (1.0 + values)

    def solve(v: Tensor) -> Tensor:
        single = v.to(U)
        inner = U.T @ single
        return (single + U @ ((weights - 1.0) * inner)).to(v)

    return solve


def cholesky(matrix: Tensor) -> Tensor:
    """Cholesky factor of a matrix that only rounding can keep from being positive definite."""
    jitter = torch.finfo(matrix.dtype).eps * float(matrix.diagonal().max())
    for _ in range(16):
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return factor
        matrix.diagonal().add_(jitter)
        jitter *= 10.0
    raise SolverError(
        "the Newton matrix of ssnal cannot be factored: the data are too badly scaled. Divide the "
        "columns of X by their norms."
    )
