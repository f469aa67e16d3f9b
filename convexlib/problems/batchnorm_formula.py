r"""Batch normalisation with at least as many features as samples: the optimum has a formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.errors import InputError, ProblemError
from convexlib.networks.batchnorm import batchnorm_network
from convexlib.validation import as_tensor, check_beta, check_data, check_finite, check_same_kind
from convexlib.whitening import whiten


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The optimum of batch-normalised training where it has a formula.

    Attributes
    ----------
    value : float
        The optimal value.
    network : nn.Sequential
        ``Sequential(Linear, BatchNorm1d, ReLU, Linear)`` that attains it.
    z : Tensor (n,) or (n, K)
        The dual solution: the residual of that network, with dual value `value`.
    """

    value: float
    network: nn.Sequential
    z: Tensor


def batchnorm_closed_form(X: Any, Y: Any, *, beta: float) -> ClosedForm:
    r"""Solve batch-normalised training by a formula, if the centred data have rank n - 1.

    Let every row of Y have at most one nonzero entry: a vector y, or one-hot labels, scaled and
    signed at will. Then with the positive and negative parts of its columns, :math:`Y_{k\pm}`,

    .. math:: p^* = \sum_{k, \pm} \begin{cases} \beta\|Y_{k\pm}\| - \tfrac12\beta^2 &
              \|Y_{k\pm}\| > \beta \\ \tfrac12 \|Y_{k\pm}\|^2 & \text{otherwise,} \end{cases}

    with one neuron for each part that is longer than beta:
    :math:`w = (CX)^\dagger Y_{k\pm}`, :math:`(\gamma, \delta)` in the ratio
    :math:`\|CY_{k\pm}\| : \mathbf 1^\top Y_{k\pm}/\sqrt n`, and the output weight
    :math:`\pm(\|Y_{k\pm}\| - \beta)^{1/2}` for output k.

    Parameters
    ----------
    X : array (n, d)
        Data with affinely independent rows: d >= n - 1 in general.
    Y : array (n,) or (n, K)
        Targets. The loss is :math:`\tfrac12\|f(X) - Y\|_F^2`.
    beta : float
        Weight of :math:`\tfrac12 \sum(\gamma^2 + \delta^2 + \|\alpha\|^2)`.

    Raises
    ------
    InputError
        For unusable data.
    ProblemError
        If the rank is less than n - 1, or a row of Y has two nonzero entries.

    Notes
    -----
    Source: Ergen et al. (2022); rederived, with the condition on Y, in the chapter on batch
    normalisation. Checked by ``tests/problems/test_batchnorm_formula.py``.
    """
    Y = as_tensor(Y, "Y")
    beta = check_beta(beta)
    if Y.ndim not in (1, 2) or 0 in Y.shape:
        raise InputError(f"Y has shape {tuple(Y.shape)}; expected (n,) or (n, K) with K >= 1.")
    check_finite(Y, "Y")
    targets = Y[:, None] if Y.ndim == 1 else Y
    X, _ = check_data(X, targets[:, 0])
    check_same_kind(X, Y, "Y")
    whitening = whiten(X)
    n, rank = whitening.U.shape
    if rank < n - 1:
        raise ProblemError(
            f"the centred data have rank {rank}; expected n - 1 = {n - 1}. There is no formula: "
            "solve BatchNorm(X, y, beta=...)."
        )
    crowded = ((targets != 0).sum(dim=1) > 1).nonzero().ravel()
    if len(crowded):
        raise ProblemError(
            f"row {int(crowded[0])} of Y has more than one nonzero entry; expected at most one, "
            "as in one-hot labels. Otherwise the outputs share neurons and there is no formula."
        )
    parts = torch.stack([targets.double(), -targets.double()]).clamp(min=0.0)  # (2, n, K)
    norms = torch.linalg.vector_norm(parts, dim=1)  # (2, K)
    long = norms > beta
    value = float(torch.where(long, beta * norms - 0.5 * beta * beta, 0.5 * norms**2).sum())
    side, output = long.nonzero(as_tuple=True)
    sizes = norms[side, output]
    roots = (sizes - beta).sqrt()  # |alpha|, and the norm of (gamma, delta)
    directions = parts[side, :, output] / sizes[:, None]  # (m, n)
    S = roots[:, None] * (directions @ whitening.features)
    alpha = S.new_zeros((len(S), targets.shape[1]))
    alpha[torch.arange(len(S), device=S.device), output] = (1.0 - 2.0 * side) * roots
    clipped = parts * torch.where(long, beta / norms, 1.0)[:, None, :]
    z = (clipped[0] - clipped[1]).to(Y).reshape(Y.shape)
    return ClosedForm(value, batchnorm_network(X, whitening, S, alpha), z)
