r"""The whitened data U' on which batch normalisation becomes an ordinary two-layer problem.

With the centred data :math:`CX = U S V^\top` (compact), :math:`U' = [U, \mathbf 1/\sqrt n]` has
orthonormal columns which span the same space as :math:`[X, \mathbf 1]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements import exact
from convexlib.errors import InputError
from convexlib.validation import check_positive_int

__all__ = ["Whitening", "whiten"]

_EXACT_RANK = 200_000  # entries times steps of an elimination in integers that is worth its time


@dataclass(frozen=True, eq=False)
class Whitening:
    r"""The compact SVD of the centred data, in float64.

    Attributes
    ----------
    U, singular, V : Tensor (n, k), (k,), (d, k)
        :math:`CX = U S V^\top`, or its k largest singular values.
    mean : Tensor (d,)
        Mean of the rows of X.
    proven : bool
        Whether k is the rank of CX beyond doubt: false if directions were left out, by truncation
        or because their singular values are of the size of rounding (unless integer arithmetic
        shows that they vanish).
    rounding : float
        Bounds :math:`\|U' - U'_s\|_2` for some :math:`U'_s` with exactly orthonormal columns in the
        span of :math:`[X, \mathbf 1]`.
    """

    U: Tensor
    singular: Tensor
    V: Tensor
    mean: Tensor
    proven: bool
    rounding: float

    @property
    def features(self) -> Tensor:
        r"""The whitened data :math:`U' = [U, \mathbf 1/\sqrt n]`, (n, k + 1)."""
        n = len(self.U)
        return torch.cat([self.U, self.U.new_full((n, 1), 1 / sqrt(n))], dim=1)

    def to_features(self, gates: Tensor) -> Tensor:
        r"""Rows s with :math:`U's = Xw + c\mathbf 1` for the rows [w, c] of gates (P, d + 1)."""
        w, c = gates[:, :-1], gates[:, -1]
        shift = sqrt(len(self.U)) * (c + w @ self.mean)
        return torch.cat([(w @ self.V) * self.singular, shift[:, None]], dim=1)


def whiten(X: Tensor, truncate: int | None = None) -> Whitening:
    r"""Return the compact SVD of the centred data, or its `truncate` largest directions.

    Singular values of at most :math:`\max(n, d)\,\epsilon\,\|X\|_F` count as zero, where
    :math:`\epsilon` is that of the dtype of X. Every singular vector has the sign that makes its
    largest entry positive.

    Raises
    ------
    InputError
        If all columns are constant, or truncate is not between 1 and the rank.
    """
    data = X.double()
    n, d = data.shape
    mean = data.mean(dim=0)
    centred = data - mean
    U, singular, Vt = torch.linalg.svd(centred, full_matrices=False)
    size = float(torch.linalg.vector_norm(data))
    rank = int((singular > max(n, d) * torch.finfo(X.dtype).eps * size).sum())
    if rank == 0:
        raise InputError(
            f"all {d} columns of X are constant over its {n} rows; batch normalisation would be "
            "0/0. Give data that vary."
        )
    kept = rank
    if truncate is not None:
        kept = check_positive_int(truncate, "truncate")
        if kept > rank:
            raise InputError(
                f"truncate is {kept}; expected at most {rank}, the rank of the centred data."
            )
    U, singular, V = U[:, :kept], singular[:kept], Vt[:kept].T
    largest = U.abs().argmax(dim=0, keepdim=True)
    signs = U.gather(0, largest)[0].sign()  # (k,)
    U, V = U * signs, V * signs
    proven = kept == min(n - 1, d) or (kept == rank and _has_rank(data, rank))
    return Whitening(U, singular, V, mean, proven, _rounding(data, centred, U, singular, V))


def _rounding(data: Tensor, centred: Tensor, U: Tensor, singular: Tensor, V: Tensor) -> float:
    """An a-posteriori bound on the distance of U' from an exact one."""
    n, d = data.shape
    eps = torch.finfo(torch.float64).eps
    size = float(torch.linalg.vector_norm(data))
    # What is left outside of the kept directions belongs to truncation, not to rounding.
    residual = centred @ V - U * singular
    error = float(torch.linalg.vector_norm(residual)) + 4 * (n + d) * eps * size
    gram = U.T @ U - torch.eye(U.shape[1]).to(U)
    skew = float(torch.linalg.vector_norm(gram)) + 4 * n * eps * U.shape[1]
    return 2.0 * error / float(singular[-1]) + skew


def _has_rank(data: Tensor, rank: int) -> bool:
    """Whether the rank of the centred data is proven to be at most `rank`, in integers."""
    n, d = data.shape
    if n * (d + 1) * (rank + 1) > _EXACT_RANK:
        return False
    # The span of [X, 1] is that of [CX, 1], and 1 is orthogonal to CX.
    whole = np.column_stack([data.cpu().numpy(), np.ones(n)])
    return not exact.rank_exceeds(exact.integer_rows(whole), rank + 1)
