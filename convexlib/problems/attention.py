r"""Self-attention: all heads together are one matrix, and weight decay is its nuclear norm."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements
from convexlib.arrangements.patterns import check_arrangements, check_gates
from convexlib.checks import as_tensor, check_beta, check_finite, check_outputs, check_scale
from convexlib.cones.projector import shrink_singular_values
from convexlib.errors import InputError
from convexlib.losses import get_loss
from convexlib.networks.two_layer import called
from convexlib.problems.base import (
    CvxpyProgram,
    LinearProgram,
    ProximalMap,
    singular_triples,
    weights_of,
)
from convexlib.result import Result


def token_pairs(tokens: Any) -> Tensor:
    r"""The rows :math:`x_a \otimes x_b` (n s s, d d) of all pairs of tokens of every sample.

    A head with the matrix Q has the attention :math:`x_a^\top Q x_b`: that of the row with vec(Q).

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> cl.token_pairs(np.zeros((4, 3, 2))).shape  # 4 * 3 * 3 pairs of tokens in R^2
    torch.Size([36, 4])
    """
    X = _tokens(tokens)
    return torch.einsum("nak,nbl->nabkl", X, X).reshape(-1, X.shape[2] ** 2)


class AttentionHeads(nn.Module):
    r"""The heads :math:`f(X) = \sum_j \phi_j(X Q_j X^\top) X V_j`.

    Parameters
    ----------
    Q : Tensor (m, d, d)
        Products of query and key weights.
    V : Tensor (m, d, c)
        Products of value and output weights.
    gates : Tensor (m, d, d)
        Head j keeps the pairs with :math:`x_a^\top H_j x_b \ge 0`; H = 0 keeps all (linear).
    """

    gates: Tensor

    def __init__(self, Q: Tensor, V: Tensor, gates: Tensor) -> None:
        super().__init__()
        self.Q = nn.Parameter(Q.detach().clone())
        self.V = nn.Parameter(V.detach().clone())
        self.register_buffer("gates", gates.detach().clone())

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs (n, s, c) for tokens (n, s, d)."""
        kept = torch.einsum("nak,mkl,nbl->mnab", tokens, self.gates, tokens) >= 0
        scores = torch.einsum("nak,mkl,nbl->mnab", tokens, self.Q, tokens)
        return torch.einsum("mnab,nbd,mdc->nac", kept * scores, tokens, self.V)


class Attention(LinearProgram):
    r"""Training of linear or gated ReLU self-attention with weight decay, as a convex program.

    Sample i is a matrix :math:`X_i \in \mathbf R^{s \times d}` of s tokens. The training problem,
    over any number of heads,

    .. math:: \min_{Q_j, V_j} \sum_i L\Big(\sum_j (M_{ij} \circ X_i Q_j X_i^\top) X_i V_j\Big)
              + \tfrac\beta2 \sum_j \left(\|Q_j\|_F^2 + \|V_j\|_F^2\right) ,

    has fixed masks :math:`M_{ij}`: ones everywhere (linear attention), or
    :math:`1[X_i H_j X_i^\top \ge 0]` with the gate H_j from a list. It equals

    .. math:: \min_{Z_p \in \mathbf R^{d^2 \times dc}} L\Big(\sum_p \mathcal A_p(Z_p)\Big)
              + \beta \sum_p \|Z_p\|_* , \qquad
              \mathcal A_p(Z)_{i,ac} = \sum_{klm} x_{ak} \Big(\sum_b M_{p,iab} x_{bl} x_{bm}\Big)
              Z_{(kl),(mc)} .

    Parameters
    ----------
    tokens : array (n, s, d)
        Samples of s tokens each.
    Y : array (n, s, c)
        Targets for every token.
    beta : float
        Regularisation, > 0. There is no 1/n.
    arrangements : Arrangements or None
        Patterns of ``token_pairs(tokens)``, the gates vec(H_p); None is linear attention.
    loss : str
        As for `TwoLayer`.

    Attributes
    ----------
    X, y : Tensor (n, s, d), (n s, c)
        Tokens, and the targets of all tokens.

    Raises
    ------
    InputError
        For unusable data, beta, targets or arrangements.

    Notes
    -----
    ``weights`` has shape (1, P, d d, d c). *Exact*, by the argument of `VectorOutput`: heads of one
    gate enter by :math:`Z = \sum_j \mathrm{vec}(Q_j) \mathrm{vec}(V_j)^\top` only, and the least
    weight decay for Z is its nuclear norm, reached with one head per singular value. Softmax
    attention is not covered. Source: Sahiner, Ergen, Ozturkler, Pauly, Mardani & Pilanci (2022).
    Checked by ``tests/problems/test_attention.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> tokens = np.array([[[1.0], [2.0]], [[0.0], [1.0]]])  # two samples of two tokens
    >>> problem = cl.Attention(tokens, tokens, beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), result.gap <= 1e-6
    (0.3381, True)
    """

    constrained = False
    _degree = 3
    arrangements: Arrangements

    def __init__(
        self,
        tokens: Any,
        Y: Any,
        *,
        beta: float,
        arrangements: Arrangements | None = None,
        loss: str = "squared",
    ) -> None:
        self.X, targets = _tokens(tokens), as_tensor(Y, "Y")
        n, s, d = self.X.shape
        if targets.ndim != 3 or targets.shape[:2] != (n, s):
            raise InputError(f"Y has shape {tuple(targets.shape)}; expected ({n}, {s}, c).")
        flat = targets.reshape(n * s, targets.shape[2])
        _, self.y = check_outputs(self.X.reshape(n * s, d), flat)
        self.beta, self.loss = check_beta(beta), get_loss(loss)
        self.loss.check_targets(self.y)
        if arrangements is None:
            ones = torch.ones(1, n * s * s, dtype=torch.bool, device=self.X.device)
            arrangements = Arrangements(ones, self.X.new_zeros(1, d * d))
        pairs = token_pairs(self.X)
        self.arrangements = check_arrangements(arrangements, pairs)
        check_gates(arrangements, pairs)

    @cached_property
    def maps(self) -> Tensor:
        r"""The coefficients of :math:`\mathcal A_p` over k, l, m, (P, n s, d, d, d)."""
        n, s, _ = self.X.shape
        masks = self.arrangements.masks.to(self.X).reshape(-1, n, s, s)
        maps = torch.einsum("nak,pnab,nbl,nbm->pnaklm", self.X, masks, self.X, self.X)
        return maps.flatten(1, 2)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights, (1, P, d d, d c)."""
        d = self.X.shape[2]
        return 1, len(self.maps), d * d, d * self.y.shape[1]

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Outputs (n s, c): :math:`\sum_p \mathcal A_p(Z_p)`."""
        d, c = self.X.shape[2], self.y.shape[1]
        blocks = weights[0].reshape(-1, d, d, d, c)
        return torch.einsum("pnklm,pklmc->nc", self.maps, blocks)

    def correlations(self, z: Tensor) -> Tensor:
        """The adjoint (1, P, d d, d c) of `fitted`."""
        return torch.einsum("pnklm,nc->pklmc", self.maps, z).reshape(self.shape)

    def gram(self) -> Tensor:
        """The matrix (n s, n s), the same for every output."""
        flat = self.maps.transpose(0, 1).flatten(1)  # (n s, P d d d)
        return flat @ flat.T

    def penalty(self, weights: Tensor) -> float:
        """Sum of the nuclear norms of the blocks."""
        return float(torch.linalg.svdvals(weights[0]).sum())

    def proximal_map(self) -> ProximalMap:
        """Soft-thresholds singular values."""
        return shrink_singular_values

    def dual_norm(self, z: Tensor) -> float:
        r"""Largest singular value of any :math:`\mathcal A_p^*(z)`."""
        return float(torch.linalg.matrix_norm(self.correlations(z)[0], ord=2).max())

    def to_network(self, result: Result | Tensor) -> AttentionHeads:
        r"""One head :math:`\sqrt\sigma\,p, \sqrt\sigma\,q`, reshaped, for every singular triple."""
        weights = weights_of(result, self.shape)
        d, c = self.X.shape[2], self.y.shape[1]
        block, Q, V = singular_triples(weights[0])
        gates = self.arrangements.gates[block]
        return AttentionHeads(
            Q.reshape(-1, d, d), V.reshape(-1, d, c), gates.reshape(-1, d, d).to(Q)
        )

    def _outputs(self, network: nn.Module) -> Tensor:
        """Outputs of all tokens, (n s, c)."""
        fitted = called(network, self.X.double())
        fitted = fitted.flatten(0, 1) if fitted.ndim == 3 else fitted
        if fitted.shape != self.y.shape:
            raise InputError(
                f"the network returns {tuple(fitted.shape)} over all tokens; expected "
                f"{tuple(self.y.shape)}."
            )
        return fitted

    def to_cvxpy(self) -> CvxpyProgram:
        """The program for CVXPY, one variable (d d, d c) per gate."""
        import cvxpy as cp

        maps = self.maps.flatten(2).cpu().numpy()  # (P, n s, d d d)
        d, c = self.X.shape[2], self.y.shape[1]
        blocks = [cp.Variable(self.shape[2:]) for _ in maps]
        outputs = sum(
            A @ cp.reshape(Z, (d**3, c), order="C") for A, Z in zip(maps, blocks, strict=True)
        )
        return self._written(outputs, sum(cp.normNuc(Z) for Z in blocks), [], blocks)

    def __repr__(self) -> str:
        n, s, d = self.X.shape
        return (
            f"Attention(n={n}, s={s}, d={d}, c={self.y.shape[1]}, {len(self.maps)} gates, "
            f"beta={self.beta:g})"
        )


def _tokens(tokens: Any) -> Tensor:
    """Tokens (n, s, d) as a tensor."""
    X = as_tensor(tokens, "tokens")
    if X.ndim != 3 or 0 in X.shape:
        raise InputError(f"tokens has shape {tuple(X.shape)}; expected (n, s, d).")
    check_finite(X, "tokens")
    check_scale(X, "tokens", power=8)  # the outputs are cubic in them, and are squared
    return X
