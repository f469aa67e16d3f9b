r"""The Newton equation :math:`(\mathrm{diag}(h) + \sigma K)\,\Delta = -g`.

With few columns it is solved by the Woodbury formula. Otherwise by conjugate gradients, whose
preconditioner is a Cholesky factorisation of an earlier, similar matrix for as long as that costs
less than a new one. Products are in single precision until that turns out not to be enough, and
factors for as long as they precondition well. Where even an n x n matrix is too large, the
preconditioner is a randomised (Nyström) approximation of K.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.solvers.ssnal.curvature import Curvature

_SMALL = 4096  # n up to which a dense matrix is always allowed
_RANK = 300  # of the Nyström approximation
_PATIENCE = 60  # CG iterations before the preconditioner is held to be useless
_LATENCY = 5e6  # flops that the calls of one CG iteration cost beside their own
_REUSE = 0.2  # share of the work of a factorisation that CG may cost with an old one
_SLOW = 5.0  # a triangular solve reads memory; its flops take longer than a product's

Solve = Callable[[Tensor], Tensor]


class NewtonSystem:
    """Solves one Newton equation after the other."""

    def __init__(self, n: int, n_columns: int) -> None:
        self.dense_allowed = n <= max(_SMALL, 4 * n_columns)
        self.dtype = self._factor_dtype = torch.float32
        self.iterations = 0  # of CG, in all
        self._last = 0  # iterations of the last solve
        self._precondition: Solve | None = None

    def solve(
        self, K: Curvature | None, sigma: float, h: Tensor, gradient: Tensor, rtol: float
    ) -> Tensor:
        """The step (n,); coordinates with infinite h stay."""
        scale = h.rsqrt()
        right = -scale * gradient
        if K is None:
            return scale * right
        n = len(right)
        if 3 * K.rank <= n or (not self.dense_allowed and K.rank <= _SMALL):
            return scale * woodbury(scale[:, None] * K.columns(), sigma)(right)
        return scale * self._iterate(K, sigma, scale, right, rtol)

    def sharpen(self, factors: bool = False) -> bool:
        """Multiply (and factor) in double precision from now on; whether that is new."""
        new = self.dtype is torch.float32
        self.dtype = torch.float64
        if factors and self._factor_dtype is torch.float32:
            new, self._factor_dtype, self._precondition = True, torch.float64, None
        return new

    def _iterate(
        self, K: Curvature, sigma: float, scale: Tensor, right: Tensor, rtol: float
    ) -> Tensor:
        """Conjugate gradients, with the old preconditioner if that pays."""
        n = len(right)
        each = K.work + _LATENCY + (_SLOW * 2.0 * n * n if self.dense_allowed else 0.0)
        build = K.dense_work + n**3 / 3.0 if self.dense_allowed else _RANK * K.work
        fresh = self._last * each > _REUSE * build
        while True:
            cheap, rough = K.to(self.dtype), scale.to(self.dtype)
            if fresh:
                self._factor(K.to(self._factor_dtype), sigma, scale.to(self._factor_dtype))

            def product(v: Tensor, cheap: Curvature = cheap, rough: Tensor = rough) -> Tensor:
                return v + sigma * (rough * cheap.times(rough * v.to(rough))).to(v)

            patience = _PATIENCE if fresh else min(_PATIENCE, int(build / each) + 2)
            step, used = conjugate_gradients(product, right, self._precondition, rtol, patience)
            self.iterations += used
            self._last = used
            if used < patience or (fresh and not self.sharpen(factors=True)):
                return step
            fresh = True

    def _factor(self, K: Curvature, sigma: float, scale: Tensor) -> None:
        if not self.dense_allowed:
            self._precondition = nystroem(K, sigma, scale)
            return
        matrix = K.dense()
        matrix.mul_(sigma * scale).mul_(scale[:, None])
        matrix.diagonal().add_(1.0)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed):
            factor = cholesky(matrix)
        dtype = factor.dtype

        def solve(v: Tensor) -> Tensor:
            # Two triangular solves: torch's cholesky_solve is several times slower for one column.
            half = torch.linalg.solve_triangular(factor, v.to(dtype)[:, None], upper=False)
            return torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, 0].to(v)

        self._precondition = solve


def woodbury(B: Tensor, sigma: float) -> Solve:
    """The inverse of I + sigma B B^T for few columns."""
    small = sigma * (B.T @ B)
    small.diagonal().add_(1.0)
    factor = cholesky(small)

    def solve(v: Tensor) -> Tensor:
        inner = torch.cholesky_solve((B.T @ v)[:, None], factor)[:, 0]
        return v - sigma * (B @ inner)

    return solve


def nystroem(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse of I + sigma K_r, K_r a randomised approximation of rank r."""
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


def conjugate_gradients(
    product: Solve, right: Tensor, precondition: Solve | None, rtol: float, max_iter: int
) -> tuple[Tensor, int]:
    """Solve product(x) = right to a relative residual; the iterations used."""
    x = torch.zeros_like(right)
    residual = right.clone()
    target = rtol * float(torch.linalg.vector_norm(right))
    z = residual if precondition is None else precondition(residual)
    direction = z
    inner = float(residual @ z)
    for iteration in range(1, max_iter + 1):
        image = product(direction)
        length = inner / float(direction @ image)
        x = x + length * direction
        residual = residual - length * image
        if float(torch.linalg.vector_norm(residual)) <= target:
            return x, iteration
        z = residual if precondition is None else precondition(residual)
        inner, previous = float(residual @ z), inner
        direction = z + (inner / previous) * direction
    return x, max_iter


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
