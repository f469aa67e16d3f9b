r"""Newton's method for the augmented Lagrangian at fixed multipliers and penalty.

**The Newton equation** is :math:`(\mathrm{diag}(h) + \sigma K)\,\Delta = -g`. With few columns it
is solved by the Woodbury formula. Otherwise by conjugate gradients, whose preconditioner is the
inverse of an earlier, similar matrix for as long as that costs less than a new one. Products are in
single precision until that turns out not to be enough, and preconditioners for as long as they
serve.

**Preconditioners** are approximate inverses of :math:`I + \sigma S K S`: there are three, and a
rule that chooses by the work. They are a Cholesky factorisation of the n x n matrix; the Woodbury
formula on the columns of K, where they are few; and, where n is too large for both, the inverse of
a randomised (Nyström) approximation of K.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.solvers.ssnal.blocks import Blocks, Curvature, Shrunk, curvature_of

_STEPS = 50
_TRIALS = 30  # points tried on a line
_INSIDE = 0.99  # share of the way to an open domain's boundary that a step may go
_FORCING = 5e-3  # relative residual of the Newton equation
_ROUNDING = 1e-14
_SLOW = 3  # full steps in a row that gain little before the arithmetic is doubted


@dataclass(frozen=True, eq=False)
class State:
    """A point z with all that is known there."""

    z: Tensor  # (n,)
    correlations: Tensor  # (S, P, d)
    shrunk: Shrunk  # its point are the next multipliers
    value: float
    gradient: Tensor  # (n,), 0 where stuck
    stuck: Tensor  # (n,), on the boundary of the domain and held there


class Subproblem:
    """The augmented Lagrangian at multipliers u and penalty sigma."""

    def __init__(self, blocks: Blocks, system: NewtonSystem, u: Tensor, sigma: float) -> None:
        self.blocks, self.system, self.u, self.sigma = blocks, system, u, sigma
        self.threshold = sigma * blocks.problem.beta
        self.loss, self.y = blocks.problem.loss, blocks.problem.y

    def evaluate(self, z: Tensor, correlations: Tensor) -> State:
        """Value and gradient."""
        shrunk = self.blocks.shrink(self.u + self.sigma * correlations, self.threshold)
        square = float((shrunk.point**2).sum())
        value = 0.5 * square / self.sigma - self.loss.dual_value(z, self.y)
        gradient = self.loss.conjugate_gradient(z, self.y) + self.blocks.images(shrunk.point)
        # A coordinate on the boundary of the domain which the gradient presses outwards.
        stuck = (self.loss.restrict(z - gradient, self.y) == z) & (gradient != 0.0)
        return State(z, correlations, shrunk, value, gradient.masked_fill(stuck, 0.0), stuck)

    def direction(self, state: State) -> Tensor:
        """Newton's step; coordinates that are stuck stay."""
        h = self.loss.conjugate_curvature(state.z, self.y).masked_fill(state.stuck, math.inf)
        curvature = curvature_of(self.blocks, state.shrunk)
        rtol = min(_FORCING, float(torch.linalg.vector_norm(state.gradient)))
        return self.system.solve(curvature, self.sigma, h, state.gradient, rtol)

    def search(self, state: State, step: Tensor) -> tuple[State, float] | None:
        """A point of sufficient decrease along the step, and its length; None if there is none.

        The derivative along the step increases, so that a secant of it finds where it vanishes.
        """
        change = self.blocks.correlations(step)
        slope = float(state.gradient @ step)
        if not slope < 0.0:
            return None
        length, loss = 1.0, self.loss
        ahead = loss.conjugate_gradient(loss.restrict(state.z + step, self.y), self.y)
        if not bool(torch.isfinite(ahead).all()):
            length = min(1.0, _INSIDE * loss.max_step(state.z, step, self.y))
        for _ in range(_TRIALS):
            z, moved = state.z + length * step, state.correlations + length * change
            inside = loss.restrict(z, self.y)
            if not torch.equal(inside, z):
                z, moved = inside, self.blocks.correlations(inside)
            trial = self.evaluate(z, moved)
            expected = 1e-4 * float(state.gradient @ (z - state.z))
            if trial.value <= state.value + expected + _ROUNDING * abs(state.value):
                return trial, length
            uphill = float(trial.gradient @ step)
            share = slope / (slope - uphill) if uphill > 0.0 else 0.5
            length *= min(max(share, 0.1), 0.5)
        return None


def minimise(sub: Subproblem, state: State, floor: float, most: float) -> tuple[State, int]:
    """Newton's method until the gradient is small against the move of the multipliers.

    Takes at most so many steps; returns the last state and their number.
    """
    slow, limit = 0, int(min(_STEPS, most))
    for steps in range(limit):
        size = float(torch.linalg.vector_norm(state.gradient))
        moved = float(torch.linalg.vector_norm(state.shrunk.point - sub.u)) / math.sqrt(sub.sigma)
        if size <= floor or (steps > 0 and size <= moved):
            return state, steps
        found = sub.search(state, sub.direction(state))
        # No descent along the step: single precision has spoilt it, so once more in double.
        if found is None and sub.system.sharpen(factors=True):
            found = sub.search(state, sub.direction(state))
        if found is None:  # rounding hides all descent
            return state, steps
        state, length = found
        left = float(torch.linalg.vector_norm(state.gradient))
        # Full steps that hardly shrink the gradient: products in single precision are too rough.
        slow = slow + 1 if length == 1.0 and left > 0.5 * size else 0
        if slow >= _SLOW:
            sub.system.sharpen()
    return state, limit


_DIRECT = 5e9  # flops up to which few columns are factored in every step, in double precision
_PATIENCE = 60  # CG iterations before the preconditioner is held to be useless
_LATENCY = 5e6  # flops that the calls of one CG iteration cost beside their own
_REUSE = 0.2  # share of the work of a factorisation that CG may cost with an old one


class NewtonSystem:
    """Solves one Newton equation after the other."""

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns
        self.dtype = self._factor_dtype = torch.float32
        self._last = 0  # CG iterations of the last solve
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
        if 3 * K.rank <= n and n * K.rank**2 <= _DIRECT:
            return scale * columns(K, sigma, scale)(right)
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
        best = choose(K, n, self.n_columns)
        each = K.work + _LATENCY + best.apply
        fresh = self._last * each > _REUSE * best.work
        while True:
            cheap, rough = K.to(self.dtype), scale.to(self.dtype)
            if fresh:
                dtype = self._factor_dtype
                self._precondition = best.build(K.to(dtype), sigma, scale.to(dtype))

            def product(v: Tensor, cheap: Curvature = cheap, rough: Tensor = rough) -> Tensor:
                return v + sigma * (rough * cheap.times(rough * v.to(rough))).to(v)

            # An old preconditioner may cost as much in iterations as a new one would to make.
            patience = _PATIENCE if fresh else min(_PATIENCE, int(best.work / each) + 2)
            step, used = conjugate_gradients(product, right, self._precondition, rtol, patience)
            self._last = used
            if used < patience or (fresh and not self.sharpen(factors=True)):
                return step
            fresh = True


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
        curvature = float(direction @ image)
        if inner == 0.0 or curvature == 0.0:  # products of what is left underflow
            return x, iteration
        length = inner / curvature
        x = x + length * direction
        residual = residual - length * image
        if float(torch.linalg.vector_norm(residual)) <= target:
            return x, iteration
        z = residual if precondition is None else precondition(residual)
        inner, previous = float(residual @ z), inner
        direction = z + (inner / previous) * direction
    return x, max_iter


_SMALL = 4096  # size up to which a dense matrix is always allowed
_RANK = 300  # of the Nyström approximation
_READING = 5.0  # a triangular solve reads memory; its flops take longer than a product's

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
        found.append(Preconditioner(dense, K.dense_work + n**3 / 3.0, _READING * 2.0 * n * n))
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
