r"""The pricing problem in as few samples and dimensions as it has, at a size of about 1.

What :math:`g(u) = z^\top (Xu)_+` depends on: rows on one line count as one, only the row space
matters, and scales can be divided out. `condense` does all three and bounds what rounding may hide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements.rowspace import parallel_rows
from convexlib.arrays import EPS, Floats

_TINY = 1e-290  # more than n d of the smallest numbers, which exact scaling may lose


@dataclass(frozen=True, eq=False)
class Condensed:
    r"""The function :math:`2^e (t^\top v + w^\top (R v)_+)` of :math:`v = Q^\top u`.

    It differs from :math:`z^\top (Xu)_+` by at most :math:`2^e` times `hidden` on the unit ball.

    Attributes
    ----------
    rows : float64 array (m, r)
        R: no two on a line, none zero.
    weights : float64 array (m,)
        w, without zeros.
    tilt : float64 array (r,)
        t, from rows that point in opposite directions.
    basis : Tensor (d, r)
        Q, orthonormal.
    exponent : int
        e.
    hidden : float
    """

    rows: Floats
    weights: Floats
    tilt: Floats
    basis: Tensor
    exponent: int
    hidden: float

    @property
    def rank(self) -> int:
        """Dimensions, at least 1."""
        return self.rows.shape[1]


def condense(X: Tensor, z: Tensor) -> Condensed:
    """Scale, merge and project the samples X (n, d) with the weights z (n,)."""
    X, z, exponent = _balance(X, z)
    merged, weights, tilts, loss = merge_parallel(X, z)
    C, Q, snap = row_space(merged)
    # What merging and the change of coordinates may hide.
    hidden = loss + snap * float(
        torch.linalg.vector_norm(weights) + torch.linalg.vector_norm(tilts)
    )
    rows: Floats = np.ascontiguousarray(C.numpy())
    # Rows may cancel in a merged weight, and vanish in the row space.
    used = weights.numpy() != 0.0
    used &= rows.any(axis=1)
    return Condensed(
        rows=rows[used],
        weights=weights.numpy()[used],
        tilt=(tilts @ C).numpy(),
        basis=Q,
        exponent=exponent,
        hidden=hidden + _TINY if used.any() else 0.0,
    )


def _balance(X: Tensor, z: Tensor) -> tuple[Tensor, Tensor, int]:
    """Divide rows and weights by powers of two, so that the largest are about 1: nothing rounds."""
    rows, shift = torch.frexp(X.abs().amax(dim=1))
    weights, size = torch.frexp(z)
    total = torch.where((rows != 0) & (weights != 0), shift + size, -(10**6))
    exponent = int(total.max()) if len(total) and bool((total > -(10**6)).any()) else 0
    # numpy's are exact for every exponent; torch's multiply by a power that may be infinite.
    balanced = np.ldexp(X.numpy(), -shift.numpy()[:, None])
    scaled = np.ldexp(weights.numpy(), (total - exponent).clamp(min=-1070).numpy())
    return torch.from_numpy(balanced), torch.from_numpy(scaled), exponent


def row_space(X: Tensor) -> tuple[Tensor, Tensor, float]:
    """Coordinates (n, r) and an orthonormal basis (d, r) of the row space, and an error bound.

    Returns (C, Q, error) with ||X - C Q^T||_2 <= error; (X, I, 0) when X has full column rank,
    so that well-posed data are used as they are.
    """
    n, d = X.shape
    _, sizes, Vt = torch.linalg.svd(X, full_matrices=False)
    tolerance = 1e-12 * float(sizes[0])
    rank = max(int((sizes > tolerance).sum()), 1)
    if rank == d:
        return X, torch.eye(d, dtype=X.dtype, device=X.device), 0.0
    Q = Vt[:rank].T
    C = X @ Q
    rounding = 4.0 * (d + rank) * EPS * float(torch.linalg.matrix_norm(X))
    return C, Q, float(torch.linalg.matrix_norm(X - C @ Q.T)) + rounding


def merge_parallel(X: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    r"""One row for all samples on a line through 0: shorter sums, and kinks that are one-sided.

    With :math:`x_i = c_i x`, :math:`(c a)_+ = c (a)_+` for c > 0 and :math:`|c| ((a)_+ - a)` for
    c < 0. Returns rows (m, d), weights (m,), coefficients t (m,) and an error bound such that
    :math:`z^\top (Xu)_+` is the weights' sum over rows plus :math:`t^\top (\text{rows}\, u)`, to
    within the error for all unit u.
    """
    kept = X.any(dim=1)
    X, z = X[kept], z[kept]
    if not len(X):
        return X.new_zeros(1, X.shape[1]), z.new_zeros(1), z.new_zeros(1), 0.0
    first, owner = np.unique(parallel_rows(X.numpy())[0], return_inverse=True)
    rows, group, m = X[first], torch.from_numpy(owner), len(first)
    # Compared where the first row is largest: the ratios of exact multiples are exact.
    column = rows.abs().argmax(dim=1)[group]
    factors = X.gather(1, column[:, None])[:, 0] / rows[group, column]  # c_i
    shares = z * factors.abs()
    weights = z.new_zeros(m).index_add_(0, group, shares)
    tilts = z.new_zeros(m).index_add_(0, group, torch.where(factors < 0, -shares, 0.0))
    distances = torch.linalg.vector_norm(X - factors[:, None] * rows[group], dim=1)
    rounding = (len(X) + 8) * EPS * torch.linalg.vector_norm(X, dim=1)
    return rows, weights, tilts, float(z.abs() @ (distances + rounding))
