r"""Parallel sub-networks as plain torch modules.

A parallel ReLU network is a sum of sub-networks with one output each,
:math:`f(X) = \sum_k \alpha_k\, h_k(X)`. Here every sub-network is a tree: leaves
:math:`(X u_{kj})_+`, and nodes :math:`(\sum_c w_c\, h_c)_+` with children of their own. With three
layers of weights every fully connected sub-network is such a tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convexlib.errors import InputError
from convexlib.validation import check_weights


class ParallelReLU(nn.Module):
    r"""The network :math:`f(X) = \sum_k (\cdots ((X W_{1k})_+ w_{2k})_+ \cdots)_+ \, \alpha_k`.

    Parameters
    ----------
    U : Tensor (K, m, d)
        First-layer weights of the K sub-networks, m neurons each: column j of :math:`W_{1k}` is
        ``U[k, j]``.
    inner : sequence of Tensor (K, parents, children)
        Weights of the layers above, from below. ``parents * children`` is the number of nodes of
        the level below (m for the first), and the last has one parent. Three layers of weights:
        one tensor (K, 1, m).
    alpha : Tensor (K,)
        Output weights.

    Raises
    ------
    InputError
        If the shapes do not form trees.
    """

    def __init__(self, U: Tensor, inner: Sequence[Tensor], alpha: Tensor) -> None:
        super().__init__()
        if not isinstance(inner, list | tuple | nn.ParameterList):
            raise InputError(
                f"inner is {type(inner).__name__}; expected a sequence of tensors (K, parents, "
                "children)."
            )
        levels = {f"inner[{level}]": weights for level, weights in enumerate(inner)}
        check_weights({"U": U, "alpha": alpha, **levels})
        shapes = [tuple(weights.shape) for weights in inner]
        nodes = U.shape[1] if U.ndim == 3 else 0
        fits = U.ndim == 3 and tuple(alpha.shape) == (len(U),)
        for shape in shapes:
            fits = fits and len(shape) == 3 and shape[0] == len(U) and shape[1] * shape[2] == nodes
            nodes = shape[1] if len(shape) == 3 else 0
        if not fits or nodes != 1:
            raise InputError(
                f"U has shape {tuple(U.shape)}, inner {shapes} and alpha {tuple(alpha.shape)}; "
                "expected (K, m, d), a (K, parents, children) per inner layer with parents * "
                "children nodes below and one parent at the top, and (K,)."
            )
        self.U = nn.Parameter(U.detach().clone())
        self.inner = nn.ParameterList(nn.Parameter(weights.detach().clone()) for weights in inner)
        self.alpha = nn.Parameter(alpha.detach().clone())

    @property
    def n_subnetworks(self) -> int:
        """Number of parallel sub-networks."""
        return len(self.alpha)

    def hidden(self, X: Tensor) -> Tensor:
        """Outputs of the sub-networks before their output weights, (n, K)."""
        values = torch.relu(torch.einsum("td,kjd->tkj", X, self.U))  # (n, K, m)
        for weights in self.inner:
            values = values.reshape(len(X), *weights.shape)
            values = torch.relu((values * weights).sum(dim=3))  # (n, K, parents)
        return values[..., 0]

    def forward(self, X: Tensor) -> Tensor:
        """Outputs (n,) for inputs (n, d)."""
        return self.hidden(X) @ self.alpha

    def path_norms(self) -> Tensor:
        r"""Root of the sum of squared products over the paths of each sub-network, (K,)."""
        squares = (self.U**2).sum(dim=2)  # (K, m)
        for weights in self.inner:
            squares = (weights**2 * squares.reshape(weights.shape)).sum(dim=2)
        return self.alpha.abs() * squares[:, 0].sqrt()

    def balanced(self) -> ParallelReLU:
        r"""The same function with inner weights of -1, 0 or 1 and :math:`\|U_k\|_F = |\alpha_k|`.

        Its path norm is unchanged and equals :math:`\tfrac12 \sum_k (\alpha_k^2 + \|U_k\|_F^2)`:
        the form to train, which has no root at zero.
        """
        with torch.no_grad():
            scale = self.U.new_ones(self.n_subnetworks, 1)  # of the nodes, from the root down
            for weights in reversed(list(self.inner)):
                scale = (scale[:, :, None] * weights.abs()).reshape(len(scale), -1)
            U = self.U * scale[:, :, None]
            sizes = torch.linalg.vector_norm(U, dim=(1, 2))
            nonzero = torch.where(sizes > 0, sizes, 1.0)
            factor = torch.where(sizes > 0, (self.alpha.abs() / nonzero).sqrt(), 0.0)
            alpha = self.alpha.sign() * sizes * factor
            U = U * factor[:, None, None]
            return ParallelReLU(U, [weights.sign() for weights in self.inner], alpha)

    def extra_repr(self) -> str:
        """Sizes for printing."""
        widths = [weights.shape[2] for weights in self.inner]
        return f"d={self.U.shape[2]}, subnetworks={self.n_subnetworks}, widths={widths}"
