r"""The Newton equation :math:`(\mathrm{diag}(h) + \sigma K)\,\Delta = -g`.

With few columns it is solved by the Woodbury formula. Otherwise by conjugate gradients, whose
preconditioner is the inverse of an earlier, similar matrix for as long as that costs less than a
new one. Products are in single precision until that turns out not to be enough, and
preconditioners for as long as they serve.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.solvers.ssnal.curvature import Curvature
from convexlib.solvers.ssnal.preconditioners import Solve, choose, columns

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
