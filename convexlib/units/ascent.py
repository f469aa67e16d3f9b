r"""Local ascent for the best sub-network: many starts at once, cheap, and no proof.

The height of a sub-network at a dual point z,

.. math:: \phi(U) = \frac{z^\top \big(\sum_j s_j (X u_j)_+\big)_+}{\|U\|} ,

does not change with the size of U and is smooth inside of every cone. Each start follows its own
gradient with its own step, which is doubled while it climbs and halved when it does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-300


def ascend_units(
    X: Tensor, z: Tensor, starts: Tensor, signs: Tensor, by_sum: bool, n_iter: int = 60
) -> tuple[Tensor, Tensor]:
    r"""Climb from leaves `starts` (B, m, d) with the signs (B, m) at the dual points z (n, B).

    The norm is :math:`\sum_j \|u_j\|` if `by_sum`, else Frobenius. Returns heights (B,), never
    below those of the starts, and the leaves that have them, of norm one.
    """
    U = starts / _norms(starts, by_sum)[:, None, None].clamp(min=_TINY)
    heights, slopes = _heights(X, z, U, signs, by_sum)
    steps = torch.ones_like(heights)
    for _ in range(n_iter):
        lengths = torch.linalg.vector_norm(slopes, dim=(1, 2)).clamp(min=_TINY)
        trial = U + (steps / lengths)[:, None, None] * slopes
        trial = trial / _norms(trial, by_sum)[:, None, None].clamp(min=_TINY)
        ahead, next_slopes = _heights(X, z, trial, signs, by_sum)
        better = ahead > heights
        heights = torch.where(better, ahead, heights)
        U = torch.where(better[:, None, None], trial, U)
        slopes = torch.where(better[:, None, None], next_slopes, slopes)
        steps = torch.where(better, (2.0 * steps).clamp(max=1.0), 0.5 * steps)
    return heights, U


def _norms(U: Tensor, by_sum: bool) -> Tensor:
    """Norms (B,) of leaves (B, m, d)."""
    if by_sum:
        return torch.linalg.vector_norm(U, dim=2).sum(dim=1)
    return torch.linalg.vector_norm(U, dim=(1, 2))


def _heights(X: Tensor, z: Tensor, U: Tensor, signs: Tensor, by_sum: bool) -> tuple[Tensor, Tensor]:
    """Heights (B,) of leaves of norm one, and the gradients of the quotient (B, m, d)."""
    B, m, d = U.shape
    before = (X @ U.reshape(B * m, d).T).reshape(len(X), B, m)
    inner = (before.relu() * signs).sum(dim=2)  # (n, B)
    heights = (z * inner.relu()).sum(dim=0)
    back = (z * (inner > 0))[:, :, None] * signs * (before > 0)  # (n, B, m)
    slopes = (back.reshape(len(X), B * m).T @ X).reshape(B, m, d)
    sizes = torch.linalg.vector_norm(U, dim=2, keepdim=True).clamp(min=_TINY)
    along = U / sizes if by_sum else U
    return heights, slopes - heights[:, None, None] * along
