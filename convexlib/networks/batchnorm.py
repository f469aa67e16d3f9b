r"""Networks with batch normalisation, made from neurons on whitened data and read back as such.

With the centred data :math:`CX = U S V^\top` (compact), full-batch normalisation of a neuron is
:math:`CXw / \|CXw\| = Uq` with :math:`q = SV^\top w / \|SV^\top w\|`, any unit vector. So

.. math:: \gamma \frac{CXw}{\|CXw\|} + \delta \frac{\mathbf 1}{\sqrt n} = U' s, \qquad
          U' = [U, \mathbf 1/\sqrt n], \quad s = [\gamma q; \delta] .

On the whitened data U', whose orthonormal columns span the same space as :math:`[X, \mathbf 1]`,
batch normalisation is an ordinary two-layer problem. ``torch.nn.BatchNorm1d`` divides by the
standard deviation :math:`\|CXw\|/\sqrt n` instead of the norm, so its scale and shift are
:math:`\gamma/\sqrt n` and :math:`\delta/\sqrt n`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements import exact
from convexlib.arrays import Floats
from convexlib.checks import check_positive_int
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks.two_layer import layers_of, linear

_ACCURATE = 1e-8  # relative error of a neuron's outputs above which they are computed in integers
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


def batchnorm_network(X: Tensor, whitening: Whitening, S: Tensor, alpha: Tensor) -> nn.Sequential:
    r"""Return ``Sequential(Linear, BatchNorm1d, ReLU, Linear)`` with the hidden neurons U's.

    Parameters
    ----------
    X : Tensor (n, d)
        The training data; its dtype and device are the network's.
    whitening : Whitening
        Of X.
    S : Tensor (m, k + 1)
        Neurons :math:`s = [a; b]`, as rows. The first layer is :math:`w = \sqrt n V S^{-1} a/\|a\|`
        (its outputs have variance 1), the scale :math:`\|a\|/\sqrt n` and the shift
        :math:`b/\sqrt n`. A neuron with a = 0 has scale 0 and any w.
    alpha : Tensor (m,) or (m, K)
        Output weights.

    Notes
    -----
    The network is in eval mode. Its running statistics are exactly those of X and are frozen
    (``momentum=0``), so train mode on all of X gives the same outputs. eps is the smallest normal
    number: PyTorch does not train with 0, and added to a variance of 1 it is lost in rounding.
    Without neurons there is one, with weights that are all zero.
    """
    S, alpha = S.double(), alpha.double()
    alpha = alpha[:, None] if alpha.ndim == 1 else alpha
    if not len(S):
        S, alpha = S.new_zeros((1, S.shape[1])), alpha.new_zeros((1, alpha.shape[1]))
    root = sqrt(len(X))
    a, shift = S[:, :-1], S[:, -1]
    scale = torch.linalg.vector_norm(a, dim=1)  # gamma >= 0
    first = torch.eye(1, a.shape[1]).to(a)  # any direction will do where gamma = 0
    q = torch.where(scale[:, None] > 0, a / scale.clamp(min=1e-300)[:, None], first)
    W = ((root * q / whitening.singular) @ whitening.V.T).to(X)
    norm = nn.BatchNorm1d(len(W), eps=torch.finfo(X.dtype).tiny, momentum=0.0).to(X)
    hidden = X.double() @ W.double().T
    with torch.no_grad():
        norm.weight.copy_(scale / root)
        norm.bias.copy_(shift / root)
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    norm.running_mean.copy_(hidden.mean(dim=0))
    norm.running_var.copy_(hidden.var(dim=0, unbiased=False))
    return nn.Sequential(linear(W), norm, nn.ReLU(), linear(alpha.T.to(X))).eval()


@dataclass(frozen=True, eq=False)
class BatchNormWeights:
    """A network ``Sequential(Linear, BatchNorm1d, ReLU, Linear)`` read into float64 tensors.

    Attributes
    ----------
    W : Tensor (m, d)
        First layer. Its bias is left out: centring removes it.
    scale, shift : Tensor (m,)
        Of ``BatchNorm1d``: gamma and delta divided by sqrt n.
    alpha : Tensor (K, m)
        Output layer.
    output_bias : Tensor (K,) or None
    eps : float
        Added to the variance.
    """

    W: Tensor
    scale: Tensor
    shift: Tensor
    alpha: Tensor
    output_bias: Tensor | None
    eps: float

    def normalised(self, X: Tensor) -> Tensor:
        """The full-batch normalised first layer before scale and shift, (n, m), of norm <= 1."""
        X = X.double()
        if X.shape[1] != self.W.shape[1]:
            raise InputError(
                f"the network takes {self.W.shape[1]} features but X has shape {tuple(X.shape)}; "
                f"expected (n, {self.W.shape[1]})."
            )
        inner = _centred_products(X, self.W)
        squares = (inner**2).sum(dim=0) + len(X) * self.eps
        if not bool((squares > 0).all()):
            raise NotCertifiableError(
                f"neuron {int((squares <= 0).nonzero()[0])} of the network is constant on X and "
                "eps is 0, so its normalisation is 0/0. Remove it, or give it other weights."
            )
        return inner / squares.sqrt()

    def outputs(self, X: Tensor) -> Tensor:
        """Outputs (n, K) with the statistics of X itself, as in train mode on all of X."""
        hidden = torch.relu(sqrt(len(X)) * self.scale * self.normalised(X) + self.shift)
        fitted = hidden @ self.alpha.T
        return fitted if self.output_bias is None else fitted + self.output_bias

    def decay(self, n: int) -> float:
        r""":math:`\sum (\gamma^2 + \delta^2 + \|\alpha\|^2)`, the squares that are penalised."""
        squares = n * float((self.scale**2 + self.shift**2).sum()) + float((self.alpha**2).sum())
        bias = 0.0 if self.output_bias is None else float((self.output_bias**2).sum())
        return squares + bias

    def objective(self, X: Tensor, Y: Tensor, beta: float) -> float:
        r""":math:`\tfrac12 \|f(X) - Y\|_F^2 + \tfrac\beta2` times `decay`, in float64."""
        Y = Y.double().reshape(len(X), -1)
        fitted = self.outputs(X)
        if fitted.shape != Y.shape:
            raise InputError(
                f"the network has {fitted.shape[1]} outputs; expected {Y.shape[1]}, as in y."
            )
        return 0.5 * float(((fitted - Y) ** 2).sum()) + 0.5 * beta * self.decay(len(X))


def _centred_products(X: Tensor, W: Tensor) -> Tensor:
    """CXW^T (n, m), every column to a relative error far below that of a certificate."""
    n, d = X.shape
    shifted = X - X[0]  # without rounding where a column hardly varies: zeros if it is constant
    inner = (shifted - shifted.mean(dim=0)) @ W.T
    # Where its terms cancel a neuron may be all rounding, which normalisation would magnify.
    terms = sqrt(n) * (W.abs() @ shifted.abs().amax(dim=0))
    rounding = 2 * (n + d) * torch.finfo(torch.float64).eps * terms
    lengths = torch.linalg.vector_norm(inner, dim=0)
    doubtful = (_ACCURATE * lengths < rounding).nonzero().ravel()
    if len(doubtful):
        precise = _exact_products(X.cpu().numpy(), W[doubtful].cpu().numpy())
        inner[:, doubtful] = torch.from_numpy(precise).to(inner)
    return inner


def _exact_products(X: Floats, W: Floats) -> Floats:
    """CXW^T, rounded once: computed in integers."""
    rows, shift = exact.integers(X)
    columns, more = exact.integers(W.T)
    products = rows @ columns
    totals = len(X) * products - products.sum(axis=0)  # n times the centred ones
    unit = Fraction(2) ** (shift + more).item() / len(X)
    return np.vectorize(lambda total: float(total * unit), otypes=[float])(totals)


def read_batchnorm(network: nn.Module) -> BatchNormWeights:
    """Read an ``nn.Sequential(Linear, BatchNorm1d, ReLU, Linear)``.

    Raises
    ------
    NotCertifiableError
        For every other network, for a BatchNorm1d without scale and shift, and for non-finite
        weights.
    """
    layers = layers_of(network)
    kinds = [type(layer).__name__ for layer in layers] or [type(network).__name__]
    if kinds != ["Linear", "BatchNorm1d", "ReLU", "Linear"]:
        raise NotCertifiableError(
            f"cannot read {' -> '.join(kinds)}; expected "
            "nn.Sequential(Linear, BatchNorm1d, ReLU, Linear)."
        )
    first, norm, _, last = layers
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(last, nn.Linear)
    if not norm.affine:
        raise NotCertifiableError(
            "the BatchNorm1d has affine=False; expected a scale and a shift, which the program "
            "optimises. Make it with affine=True."
        )
    tensors = [first.weight, norm.weight, norm.bias, last.weight]
    W, scale, shift, alpha = (tensor.detach().double() for tensor in tensors)
    bias = None if last.bias is None else last.bias.detach().double()
    values = [W, scale, shift, alpha] + ([] if bias is None else [bias])
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise NotCertifiableError(
            "the network has non-finite weights, so its objective is not a number. Train it again "
            "with a smaller learning rate."
        )
    return BatchNormWeights(W, scale, shift, alpha, bias, float(norm.eps))


def unnormalised(weights: BatchNormWeights, X: Tensor, whitening: Whitening) -> nn.Sequential:
    r"""Return the network on :math:`U'` (full) with the same outputs and no larger weights.

    ``Sequential(Linear, ReLU, Linear)`` with the neurons :math:`s = [\gamma q; \delta]`. The
    penalty is the same for eps = 0; otherwise :math:`\|q\| < 1` and it is smaller.
    """
    root = sqrt(len(X))
    q = weights.normalised(X).T @ whitening.U  # (m, k)
    S = root * torch.cat([weights.scale[:, None] * q, weights.shift[:, None]], dim=1)
    return nn.Sequential(linear(S), nn.ReLU(), linear(weights.alpha, weights.output_bias))
