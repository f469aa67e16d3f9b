r"""Batch normalisation: the two-layer program on whitened data.

With at least as many features as samples its optimum has a formula, `batchnorm_closed_form`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements, count_bound, enumerate_arrangements
from convexlib.arrangements.patterns import are_patterns_of, check_arrangements, fingerprint
from convexlib.checks import (
    as_tensor,
    check_beta,
    check_choice,
    check_data,
    check_finite,
    check_same_device,
    check_same_kind,
    readable_count,
)
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from convexlib.networks import Neurons
from convexlib.networks.batchnorm import Whitening, batchnorm_network, read_batchnorm, whiten
from convexlib.problems.base import weights_of
from convexlib.problems.two_layer import GroupLasso
from convexlib.result import Result


class BatchNorm(GroupLasso):
    r"""Two-layer ReLU training with batch normalisation, as a convex program.

    The training problem, over networks of any width, with the centring matrix C and statistics of
    the full batch,

    .. math:: p^* = \min_{w_j, \gamma_j, \delta_j, \alpha_j} \tfrac12 \Big\|\sum_j \Big(\gamma_j
              \frac{CXw_j}{\|CXw_j\|} + \delta_j \frac{\mathbf 1}{\sqrt n}\Big)_+ \alpha_j - y
              \Big\|^2 + \tfrac\beta2 \sum_j \left(\gamma_j^2 + \delta_j^2 + \alpha_j^2\right)

    equals the two-layer program (see `TwoLayer`) on :math:`U' = [U, \mathbf 1/\sqrt n]`, where
    :math:`CX = U S V^\top` is the compact SVD, over the patterns **of U'**. The first layer is not
    decayed: it has no scale. ``torch.nn.BatchNorm1d`` divides by the standard deviation, so its
    scale and shift are :math:`\gamma/\sqrt n` and :math:`\delta/\sqrt n`, and `objective` counts
    them n-fold. There is no 1/n anywhere.

    Parameters
    ----------
    X : array (n, d)
        Data. A column of ones changes nothing.
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0. PyTorch's weight decay :math:`\lambda` on scale, shift and output
        weights is :math:`\beta = \lambda/\sqrt n` (with the loss :math:`\tfrac12\|\cdot\|^2`).
    arrangements : Arrangements, None or "generate"
        Patterns of U', which is ``problem.X``. None enumerates all of them or refuses with advice;
        ``"generate"`` keeps none: ``solve`` generates them and bounds the optimum over all
        networks.
    truncate : int, optional
        Keep this many columns of U, those of the largest singular values.
    loss : str
        ``"squared"``.
    max_patterns : int
        Limit of the enumeration.

    Attributes
    ----------
    X : Tensor (n, k + 1)
        The whitened data U'.
    inputs : Tensor (n, d)
        The data as given.
    whitening : Whitening
        U, S, V and the mean of the data.
    y, beta, loss, arrangements
        As given.

    Raises
    ------
    InputError
        For unusable data, data without any variation, or arrangements of other data.
    TooManyArrangementsError
        If arrangements=None and there are more than max_patterns.

    Notes
    -----
    ``weights`` has shape (2, P, k + 1), see `TwoLayer`. Source: Ergen et al. (2022).
    Checked by ``tests/problems/test_batchnorm.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.BatchNorm(X, y, beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 3)
    0.787
    >>> [type(layer).__name__ for layer in problem.to_network(result)]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """

    whitening: Whitening

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        arrangements: Arrangements | Literal["generate"] | None = None,
        truncate: int | None = None,
        loss: str = "squared",
        max_patterns: int = 100_000,
    ) -> None:
        inputs, y = check_data(X, y)
        check_choice(loss, ("squared",), "loss")
        whitening = whiten(inputs, truncate)
        features = whitening.features.to(inputs)
        if arrangements is None:
            arrangements = _enumerated(inputs, whitening, features, truncate, max_patterns)
        super().__init__(
            features, y, beta=beta, arrangements=arrangements, loss=loss, max_patterns=max_patterns
        )
        self._inputs, self.whitening = inputs, whitening

    def double(self) -> Self:
        """See `Problem`: with the U' of the data, of which X in float32 is rounded."""
        other = super().double()
        return other if other is self else other._changed(X=self.whitening.features)

    def _checked(self, arrangements: Arrangements) -> Arrangements:
        """Patterns that are those of U'."""
        check_arrangements(arrangements, self.X)
        _check_patterns(arrangements, self.X)
        return arrangements

    def to_network(self, result: Result | Tensor) -> nn.Sequential:
        r"""A plain ``nn.Sequential(Linear, BatchNorm1d, ReLU, Linear)`` in eval mode.

        It takes the original data and has their statistics; see `batchnorm_network`. Every nonzero
        block :math:`s = [a; b]` is a neuron with :math:`w = VS^{-1}a` (rescaled),
        :math:`\gamma = \|a\|/\sqrt{\|s\|}`, :math:`\delta = b/\sqrt{\|s\|}` and
        :math:`\alpha = \pm\sqrt{\|s\|}`.
        """
        weights = weights_of(result, None if self.arrangements is None else self.shape)
        neurons, _ = Neurons.of_blocks(weights)
        return batchnorm_network(self.inputs, self.whitening, *neurons.balanced())

    def objective(self, network: nn.Module) -> float:
        r"""Training objective of any ``Sequential(Linear, BatchNorm1d, ReLU, Linear)``, in float64.

        It is computed with the statistics of the data (as in train mode on the full batch),
        whatever the running statistics are; :math:`\gamma, \delta` and the output weights are
        penalised.
        """
        check_same_device(network, self.inputs)
        return read_batchnorm(network).objective(self.inputs, self.y, self.beta)

    def __repr__(self) -> str:
        n, d = self.inputs.shape
        patterns = "generated" if self.arrangements is None else f"{self.n_patterns} patterns"
        kept = self.X.shape[1] - 1
        return f"BatchNorm(n={n}, d={d}, directions={kept}, {patterns}, beta={self.beta:g})"


def _enumerated(
    inputs: Tensor, whitening: Whitening, features: Tensor, truncate: int | None, limit: int
) -> Arrangements:
    """All patterns of U'."""
    n, columns = features.shape
    try:
        # A direction that only rounding may have put there is left out, as one that is cut off.
        if truncate is not None or not whitening.proven:
            return enumerate_arrangements(features, max_patterns=limit)
        # U' and [X, 1] span the same space, so their patterns are the same. Those of [X, 1] are
        # listed from exact data: whitening would blur degenerate samples.
        ones = inputs.new_ones((n, 1))
        found = enumerate_arrangements(torch.cat([inputs, ones], dim=1), max_patterns=limit)
    except TooManyArrangementsError as error:
        count = readable_count(count_bound(n, columns))
        raise TooManyArrangementsError(
            f"the whitened data have shape ({n}, {columns}): up to {count} patterns, more than "
            f"max_patterns={limit}. Raise "
            'max_patterns, use arrangements="generate", or truncate=k to keep k directions.'
        ) from error
    gates = whitening.to_features(found.gates.double())
    lengths = torch.linalg.vector_norm(gates, dim=1, keepdim=True)
    # U' = [X, 1] M with a matrix M of at most this norm.
    size = 1.0 + float(torch.linalg.vector_norm(whitening.mean))
    stretch = size / float(whitening.singular[-1]) + 1.0 / sqrt(n)
    moved = whitening.rounding + stretch * found.perturbation
    return Arrangements(
        found.masks,
        (gates / lengths).to(inputs),
        found.exhaustive,
        moved,
        fingerprint(whitening.features),
    )


def _check_patterns(arrangements: Arrangements, features: Tensor) -> None:
    """Refuse patterns that are not those of U', such as those of X."""
    if not are_patterns_of(arrangements, features.double()):
        raise InputError(
            f"arrangements ({tuple(arrangements.masks.shape)} masks, "
            f"{tuple(arrangements.gates.shape)} gates) are not those of the whitened data, of "
            f"shape {tuple(features.shape)}. Batch normalisation uses the patterns of "
            'U\': make them from BatchNorm(X, y, beta=..., arrangements="generate").X.'
        )


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
    normalisation. Checked by ``tests/problems/test_batchnorm.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # one-hot
    >>> optimum = cl.batchnorm_closed_form(X, labels, beta=0.1)
    >>> round(optimum.value, 4)  # 0.1 (2^(1/2) + 1) - 0.01
    0.2314
    >>> [type(layer).__name__ for layer in optimum.network]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
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
