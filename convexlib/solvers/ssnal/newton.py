r"""Newton's method for the augmented Lagrangian at fixed multipliers and penalty.

**The Newton equation** is :math:`(\mathrm{diag}(h) + \sigma K)\,\Delta = -g`. With few columns it
is solved by the Woodbury formula. Otherwise by conjugate gradients, whose preconditioner is the
inverse of an earlier, similar matrix until the iterations that a new one would have saved have cost
as much as making it. (If they grow by as many in each solve, that is the best moment.) Products are
in single precision until that turns out not to be enough, and preconditioners for as long as they
serve.

**Preconditioners** are approximate inverses of :math:`I + \sigma S K S`: there are three, and a
rule that chooses by the work. They are a Cholesky factorisation of the n x n matrix; the Woodbury
formula on the columns of K, where they are few; and the inverse with a (Nyström) approximation of K
from some of its rows, of a rank that does not depend on n but on how fast the eigenvalues decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.errors import SolverError
from convexlib.runtime import time_left
from convexlib.solvers.ssnal.blocks import Blocks, Curvature, Shrunk, curvature_of, stripes

_STEPS = 50
_TRIALS = 30  # points tried on a line
_INSIDE = 0.99  # share of the way to an open domain's boundary that a step may go
_FORCING = 3e-2  # relative residual of the Newton equation, at most
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
        # More precise as the gradient shrinks, measured against y so that no units matter.
        size = max(float(torch.linalg.vector_norm(self.y)), 1e-300)
        rtol = min(_FORCING, math.sqrt(float(torch.linalg.vector_norm(state.gradient)) / size))
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

    Takes at most so many steps, and the time there is; returns the last state and their number.
    """
    slow, limit = 0, int(min(_STEPS, most))
    for steps in range(limit):
        if time_left() < 0.0:  # the state is worth a look before the solver is stopped
            return state, steps
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
_PATIENCE = 150  # CG iterations before the preconditioner is held to be useless
_LATENCY, _MAKING = 5e6, 3e7  # flops that calls cost beside their own: of a CG iteration, a factor


class NewtonSystem:
    """Solves one Newton equation after the other."""

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns
        self.dtype = self._factor_dtype = torch.float32
        self._precondition: Solve | None = None
        self._served = _FIRST, 15  # rank of the last approximation, and CG iterations with it
        self._last = 0.0  # flops of CG beyond those that a new preconditioner would have saved
        self._lost = 0.0  # the same in all solves since the last one was made

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
            new, self._factor_dtype, self._last = True, torch.float64, math.inf
        return new

    def _iterate(
        self, K: Curvature, sigma: float, scale: Tensor, right: Tensor, rtol: float
    ) -> Tensor:
        """Conjugate gradients, with the old preconditioner if that pays."""
        best = choose(K, self.n_columns, *self._served)
        # A solve loses about as much as the one before.
        fresh = self._lost + self._last > best.work
        step = None
        while True:
            cheap, rough = K.to(self.dtype), scale.to(self.dtype)
            if fresh:
                dtype, self._lost = self._factor_dtype, 0.0
                self._precondition = best.build(K.to(dtype), sigma, scale.to(dtype))

            def product(v: Tensor, cheap: Curvature = cheap, rough: Tensor = rough) -> Tensor:
                return v + sigma * (rough * cheap.times(rough * v.to(rough))).to(v)

            # An old preconditioner may cost as much in iterations as a new one would to make.
            enough = best.steps + int(best.work / best.each)
            patience = _PATIENCE if fresh else min(_PATIENCE, enough)
            step, used = conjugate_gradients(
                product, right, step, self._precondition, rtol, patience
            )
            made, expected, coarse = self._precondition, best.steps, False
            if isinstance(made, Nystroem):
                coarse = made.coarse
                if fresh:
                    self._served, expected = (made.rank, used), used
            self._last = max(0, used - expected) * best.each
            self._lost += self._last
            # Where an approximation is coarse, that its rank is small is worse than its precision.
            if used < patience or (fresh and not self.sharpen(factors=not coarse)):
                return step
            fresh = not (fresh and coarse)


def conjugate_gradients(
    product: Solve,
    right: Tensor,
    x: Tensor | None,
    precondition: Solve | None,
    rtol: float,
    max_iter: int,
) -> tuple[Tensor, int]:
    """Solve product(x) = right to a relative residual, from x if that is a gain over zero.

    Returns x and the iterations used.
    """
    size = float(torch.linalg.vector_norm(right))
    target = rtol * size
    residual = right if x is None else right - product(x)
    if x is None or not float(torch.linalg.vector_norm(residual)) < size:
        x, residual = torch.zeros_like(right), right
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
_LARGE = 8192  # the same for n x n, where single precision takes 256 MB
_FIRST, _RANK = 256, 2000  # of the Nyström approximation, to begin with and at most
_ROUGHLY = 1e-5  # part of the pivots' mean that is added to them, against rounding
_SOLVES = 3  # that one preconditioner is expected to serve
_READING = 5.0  # a triangular solve reads memory; its flops take longer than a product's

Solve = Callable[[Tensor], Tensor]
Build = Callable[[Curvature, float, Tensor], Solve]


@dataclass(frozen=True)
class Preconditioner:
    """How to make one, the flops of that and of a CG iteration, and the iterations it leaves."""

    build: Build
    work: float
    each: float
    steps: int = 2


def choose(K: Curvature, n_columns: int, rank: int, steps: int) -> Preconditioner:
    """The one of least work, of those whose memory stays a multiple of n_columns n.

    An approximation is expected to take as large a rank and as many steps as the last one did.
    """
    n, largest = K.n, max(_SMALL, 4 * n_columns)
    each = K.work + _LATENCY
    found = []
    if n <= max(_LARGE, largest):
        work = _MAKING + K.dense_work + n**3 / 3.0
        found.append(Preconditioner(dense, work, each + _READING * 2.0 * n * n))
    if K.rank <= min(largest, n):
        work = _MAKING + float(n) * K.rank**2 + K.rank**3 / 3.0
        found.append(Preconditioner(columns, work, each + K.work + _READING * 2.0 * K.rank**2))
    rank = min(rank, _most(n))
    work = _MAKING + 2.0 * K.dense_work * rank / n + 2.5 * n * float(rank) ** 2
    found.append(Preconditioner(Nystroem, work, each + _READING * 4.0 * n * rank, steps))
    return min(found, key=lambda one: one.work + _SOLVES * one.steps * one.each)


def dense(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse by a Cholesky factorisation."""
    matrix = K.lower()
    matrix.mul_(sigma * scale).mul_(scale[:, None])
    matrix.diagonal().add_(1.0)
    return _factored(matrix)


def columns(K: Curvature, sigma: float, scale: Tensor) -> Solve:
    """The inverse by the Woodbury formula; only its small matrix is kept."""
    inner = _factored(_gram(scale[:, None] * K.columns(), sigma))

    def solve(v: Tensor) -> Tensor:
        small = inner(K.adjoint(scale * v.to(scale)))
        return v - sigma * (scale * K.image(small)).to(v)

    return solve


def _most(n: int) -> int:
    """The largest rank of an approximation, which takes no more memory than a dense matrix may."""
    return min(_RANK, n // 4, max(_FIRST, _LARGE**2 // n))


class Nystroem:
    r"""The inverse with a partial Cholesky factorisation :math:`F^\top F \preceq SKS` in its place.

    Its pivots are drawn in rounds, with probabilities in proportion to the diagonal of what is left
    then, until that is no larger than I on average, after the factor sigma. Source: Chen, Epperly,
    Tropp & Webber (2025).
    """

    def __init__(self, K: Curvature, sigma: float, scale: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        most = _most(K.n)
        self.F = scale.new_empty(0, K.n)
        left = K.diagonal() * scale**2  # the diagonal of what is left
        self.coarse = True
        while self.coarse and self.rank < most and left.any():
            weights = left.double().cpu()
            count = min(max(self.rank, _FIRST), most - self.rank, int(weights.count_nonzero()))
            pivots = torch.multinomial(weights, count, generator=generator).to(scale.device)
            G = K.rows(pivots).mul_(scale).mul_(scale[pivots, None])
            G.addmm_(self.F[:, pivots].T, self.F, alpha=-1.0)
            core = G[:, pivots]
            core.diagonal().add_(_ROUGHLY * float(core.diagonal().mean()))
            rows = torch.linalg.solve_triangular(cholesky(core), G, upper=False)
            self.F = torch.cat([self.F, rows])
            left = (left - (rows**2).sum(dim=0)).clamp(min=0.0)
            left[pivots] = 0.0
            self.coarse = sigma * float(left.mean()) > 1.0
        self.sigma = sigma
        self._inner = _factored(_gram(self.F.T, sigma)) if self.rank else None

    @property
    def rank(self) -> int:
        return len(self.F)

    def __call__(self, v: Tensor) -> Tensor:
        """The product with the inverse."""
        if self._inner is None:
            return v
        single = v.to(self.F)
        return (single - self.sigma * (self._inner(self.F @ single) @ self.F)).to(v)


def _gram(B: Tensor, sigma: float) -> Tensor:
    r"""The lower triangle of :math:`I + \sigma B^\top B`."""
    gram = B.new_zeros(B.shape[1], B.shape[1])
    for index, some in stripes(len(gram)):
        gram[index, some] = B[:, index].T @ B[:, some]
    gram.mul_(sigma).diagonal().add_(1.0)
    return gram


def _factored(matrix: Tensor) -> Solve:
    """The inverse of a matrix from its lower triangle."""
    factor = cholesky(matrix)

    def solve(v: Tensor) -> Tensor:
        # Two triangular solves: torch's cholesky_solve is several times slower for one column.
        half = torch.linalg.solve_triangular(factor, v.to(factor)[:, None], upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, 0].to(v)

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
