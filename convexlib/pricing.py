r"""The best neuron for a dual point: :math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` with a proof.

This one number decides everything: at :math:`z = y` it is ``beta_max``, at any z it says whether z
is dual feasible, and its maximiser is the neuron that column generation adds. The problem is
nonconvex, hard in general but not for data of low rank: `convexlib.branch_and_bound` finds the
maximum and proves it, started from a local one (`convexlib.ascent`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.ascent import ascend
from convexlib.branch_and_bound import search, value_of

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Pricing:
    """What is known about the best neuron for a dual point.

    Attributes
    ----------
    lower, upper : float
        The maximum lies in [lower, upper]; `lower` is the value at `direction`.
    direction : Tensor (d,)
        A unit vector.
    sign : int
        +1 or -1: the best neuron has an output weight of this sign.
    complete : bool
        Whether upper <= max(target, lower) * (1 + rtol); otherwise the node budget ran out first
        and `upper` is valid but loose.
    nodes : int
        Cones examined.
    """

    lower: float
    upper: float
    direction: Tensor
    sign: int
    complete: bool
    nodes: int


def spectral_bound(X: Tensor, z: Tensor) -> float:
    r"""A bound on :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` at any rank, usually loose.

    With :math:`(a)_+ = (a + |a|)/2` and Cauchy-Schwarz on the weights :math:`z_+`,

    .. math:: z^\top (Xu)_+ \le \tfrac12 \|X^\top z\|
              + \tfrac12 \sqrt{1^\top z_+ \; \lambda_{\max}(X^\top \mathrm{diag}(z_+) X)}.
    """
    X, z = X.double(), z.double()
    n, d = X.shape
    margin = 1.0 + 8.0 * (n + d) * _EPS
    absolute = float(z.abs() @ torch.linalg.vector_norm(X, dim=1))
    linear = float(torch.linalg.vector_norm(X.T @ z)) + 4.0 * (n + d) * _EPS * absolute
    worst = 0.0
    for part in (z.clamp(min=0), (-z).clamp(min=0)):
        gram = X.T @ (part[:, None] * X)
        # The largest eigenvalue plus the error of computing it (backward stable).
        size = float(torch.linalg.matrix_norm(gram))
        largest = float(torch.linalg.eigvalsh(gram)[-1]) + 8.0 * (n + d) * _EPS * size
        worst = max(worst, math.sqrt(max(float(part.sum()) * largest, 0.0)))
    return (0.5 * linear + 0.5 * worst) * margin


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
    rounding = 4.0 * (d + rank) * _EPS * float(torch.linalg.matrix_norm(X))
    return C, Q, float(torch.linalg.matrix_norm(X - C @ Q.T)) + rounding


def merge_parallel(X: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    r"""One row for all samples on a line through 0: shorter sums, and kinks that are one-sided.

    With :math:`x_i = c_i x`, :math:`(c a)_+ = c (a)_+` for c > 0 and :math:`|c| ((a)_+ - a)` for
    c < 0. Returns rows (m, d), weights (m,), coefficients t (m,) and an error bound such that
    :math:`z^\top (Xu)_+` is the weights' sum over rows plus :math:`t^\top (\text{rows}\, u)`, to
    within the error for all unit u.
    """
    columns = X.abs().argmax(dim=1)
    leading = X.gather(1, columns[:, None])[:, 0]  # the largest entry of each row, with its sign
    kept = leading != 0.0
    X, z, leading = X[kept], z[kept], leading[kept]
    if not len(X):
        return X.new_zeros(1, X.shape[1]), z.new_zeros(1), z.new_zeros(1), 0.0
    # The ratios of exact multiples round alike; others differ in the last digits.
    _, group = torch.unique((X / leading[:, None]).mul(2.0**40).round(), dim=0, return_inverse=True)
    m = int(group.max()) + 1
    first = torch.full((m,), len(X)).scatter_reduce(0, group, torch.arange(len(X)), "amin")
    rows = X[first]
    factors = leading / leading[first[group]]  # c_i
    shares = z * factors.abs()
    weights = z.new_zeros(m).index_add_(0, group, shares)
    tilts = z.new_zeros(m).index_add_(0, group, torch.where(factors < 0, -shares, 0.0))
    distances = torch.linalg.vector_norm(X - factors[:, None] * rows[group], dim=1)
    rounding = (len(X) + 8) * _EPS * torch.linalg.vector_norm(X, dim=1)
    return rows, weights, tilts, float(z.abs() @ (distances + rounding))


def _starts(X: Tensor, z: Tensor, Q: Tensor) -> dict[int, Floats]:
    """The best direction of a short local ascent for z and for -z, in the coordinates Q."""
    C = X @ Q
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(64, C.shape[1], generator=generator, dtype=torch.float64)
    heights, directions = ascend(C, z, torch.cat([random, -random]))
    best = {1: heights.argmax(), -1: heights.argmin()}
    return {side: directions[index].numpy() for side, index in best.items()}


def price(
    X: Tensor,
    z: Tensor,
    target: float = 0.0,
    rtol: float = 1e-9,
    max_nodes: int = 2_000_000,
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` from both sides.

    Parameters
    ----------
    X : Tensor (n, d)
        Data, float64. The work grows with the rank of X, not with d; ranks up to about 5 finish.
    z : Tensor (n,)
        The dual point.
    target : float
        Values up to ``target * (1 + rtol)`` need not be told apart: 0 computes the maximum to
        relative accuracy `rtol`, ``target=beta`` only decides whether z is feasible for beta.
    rtol : float
        Relative accuracy.
    max_nodes : int
        Cones to examine before giving up with a valid but loose upper bound.

    Returns
    -------
    Pricing
        `upper` is rigorous: floating-point error is included.

    Notes
    -----
    At most 8 coordinates are searched; data of higher rank get the spectral bound at once.
    Checked by ``tests/test_pricing.py``.
    """
    X, z = X.detach().double().cpu(), z.detach().double().cpu()
    merged, weights, tilts, loss = merge_parallel(X, z)
    C, Q, snap = row_space(merged)
    n, r = C.shape
    # What merging and the change of coordinates may hide.
    hidden = loss + snap * float(
        torch.linalg.vector_norm(weights) + torch.linalg.vector_norm(tilts)
    )
    fallback = spectral_bound(X, z)
    rows: Floats = np.ascontiguousarray(C.numpy())
    largest = np.abs(rows).max(axis=1)
    slack = 4.0 * (r + 1) * _EPS * largest
    # Sums of n terms, each at most |z_i| max_j |x_ij| because generators lie on the l1 sphere.
    sizes = (weights.abs() + tilts.abs()).numpy()
    error = float((2 * n + 12 * (r + 1)) * _EPS * (sizes @ largest))
    heights, tilt = weights.numpy(), (tilts @ C).numpy()
    if r > 8:
        max_nodes = 0
    lower, upper, sign, nodes, exhausted = 0.0, 0.0, 1, 0, False
    direction = np.zeros(r)
    start = _starts(X, z, Q)
    # Less than what either side attains already, or than rounding, need not be told apart: a
    # side whose own maximum is 0 would otherwise be searched for ever.
    attained = max(side * value_of(rows, heights, tilt, start[side]) for side in (1, -1))
    target = max(target, attained, 2.0 * math.sqrt(r) * error)
    for side in (1, -1):
        if max_nodes == 0:
            exhausted, upper = True, math.inf
            break
        goal, sided, sided_tilt = max(target, lower), side * heights, side * tilt
        low, high, best, count, stopped = search(
            rows, sided, sided_tilt, goal, rtol, max_nodes, error, slack, start[side]
        )
        nodes += count
        exhausted |= stopped
        accuracy = rtol
        while stopped and accuracy < 0.1:
            # A depth-first search that is cut short leaves large cones behind: one that asks for
            # less and ends has the tighter bound.
            accuracy = max(100.0 * accuracy, 1e-8)
            low, coarse, best, count, stopped = search(
                rows, sided, sided_tilt, goal, accuracy, max_nodes // 4, error, slack, best
            )
            nodes, high = nodes + count, min(high, coarse)
        upper = max(upper, high + hidden)
        if low > lower:
            lower, direction, sign = low, best, side
    upper = min(upper, fallback)
    return Pricing(
        lower=lower,
        upper=upper,
        direction=Q @ torch.from_numpy(direction),
        sign=sign,
        complete=not exhausted,
        nodes=nodes,
    )
