r"""Convolutional networks with average pooling: a group Lasso over the patterns of the patches."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from convexlib.arrangements import Arrangements
from convexlib.checks import as_tensor, check_beta, check_data, check_finite, check_positive_int
from convexlib.errors import InputError
from convexlib.losses import get_loss
from convexlib.networks import TwoLayerReLU
from convexlib.pricing import price
from convexlib.problems.base import CvxpyProgram, LinearProgram, ProximalMap
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result

SMALL_DESIGN = 1_000_000  # entries with which an interior-point solver is done in about a second


def image_patches(images: Any, size: int, stride: int = 1) -> Tensor:
    """The square patches (n, K, size * size) of images (n, height, width), row by row.

    Raises
    ------
    InputError
        For images without three axes, smaller than a patch, or with entries that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> cl.image_patches(np.zeros((5, 28, 28)), 7, stride=7).shape
    torch.Size([5, 16, 49])
    """
    values = as_tensor(images, "images")
    check_finite(values, "images")
    check_positive_int(size, "size")
    check_positive_int(stride, "stride")
    if values.ndim != 3 or min(values.shape[1:]) < size:
        raise InputError(
            f"images has shape {tuple(values.shape)}; expected (n, height, width) with sides of "
            f"at least size={size}."
        )
    stride = min(stride, max(values.shape))  # beyond the image it leaves one patch, however large
    windows = values.unfold(1, size, stride).unfold(2, size, stride)  # (n, a, b, size, size)
    return windows.flatten(3).flatten(1, 2).contiguous()


class PooledReLU(nn.Module):
    r"""The network :math:`f = \sum_j \alpha_j \frac1K \sum_k (x_k^\top u_j)_+` of K patches.

    `body` is the two-layer network that acts on every patch; its rows U are the filters. The same
    as ``Conv2d``, ``ReLU``, ``AdaptiveAvgPool2d(1)``, ``Linear`` without biases.
    """

    def __init__(self, body: TwoLayerReLU) -> None:
        super().__init__()
        self.body = body

    def forward(self, patches: Tensor) -> Tensor:
        """Outputs (n,) for patches (n, K, h)."""
        pooled: Tensor = self.body.hidden(patches).mean(dim=1)  # (n, m)
        return pooled @ self.body.alpha


class Convolution(LinearProgram):
    r"""Training of a convolutional network with average pooling, as a convex program.

    Sample i has K patches :math:`x_{ik} \in \mathbf R^h`; :math:`X_k` holds those at place k. The
    training problem, over any number of filters :math:`u_j`,

    .. math:: \min_{u_j, \alpha_j} L\Big(\sum_j \alpha_j \tfrac1K \sum_k (X_k u_j)_+\Big)
              + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + \alpha_j^2\right) ,

    equals the program over the patterns :math:`D_i = (D_i^1, \dots, D_i^K)` of all n K patches

    .. math:: \min_{v_i, w_i}\; & L\Big(\sum_i \tfrac1K \sum_k D_i^k X_k (v_i - w_i)\Big)
              + \beta \sum_i \left(\|v_i\| + \|w_i\|\right) \\
              \text{s.t.}\quad & (2D_i^k - I) X_k v_i \ge 0,\; (2D_i^k - I) X_k w_i \ge 0 .

    With ``gated=True`` the constraints are dropped and one block per pattern is left. There is no
    1/n anywhere.

    Parameters
    ----------
    patches : array (n, K, h)
        For instance ``image_patches(images, 3)``.
    y, beta, gated, loss, max_patterns
        As for `TwoLayer`.
    arrangements : Arrangements or None
        Patterns of the rows ``patches.reshape(n * K, h)``; None enumerates all of them.

    Attributes
    ----------
    X : Tensor (n, K, h)
        The patches.
    rows : TwoLayer
        The two-layer problem on the n K rows, which has the same blocks and cones.

    Raises
    ------
    InputError
        For unusable data, beta, targets or arrangements.
    TooManyArrangementsError
        If arrangements=None and there are more than max_patterns.

    Notes
    -----
    ``weights`` has shape (S, P, h) as for `TwoLayer`. Source: Ergen & Pilanci (2021), on CNN
    architectures. Checked by ``tests/problems/test_convolution.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> images = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # two of 2 x 2
    >>> problem = cl.Convolution(cl.image_patches(images, 1), np.array([1.0, -1.0]), beta=0.1)
    >>> round(cl.solve(problem).value, 3)  # patches of one pixel cannot tell these two apart
    1.0
    """

    def __init__(
        self,
        patches: Any,
        y: Any,
        *,
        beta: float,
        arrangements: Arrangements | None = None,
        gated: bool = False,
        loss: str = "squared",
        max_patterns: int = 100_000,
    ) -> None:
        values = as_tensor(patches, "patches")
        if values.ndim != 3 or 0 in values.shape:
            raise InputError(f"patches has shape {tuple(values.shape)}; expected (n, K, h).")
        if isinstance(arrangements, str):
            raise InputError(f"arrangements is {arrangements!r}; expected Arrangements or None.")
        n, K, h = values.shape
        _, self.y = check_data(values.reshape(n, K * h), y)
        self.X, self.beta, self.loss = values, check_beta(beta), get_loss(loss)
        self.loss.check_targets(self.y)
        self.rows = TwoLayer(
            values.reshape(n * K, h),
            values.new_zeros(n * K),
            beta=beta,
            arrangements=arrangements,
            gated=gated,
            max_patterns=max_patterns,
        )
        self.gated, self.arrangements = self.rows.gated, self.rows.arrangements

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Problem`: of a small program with cones, where admm takes long, the oracle first."""
        methods = super().methods
        small = self.zeros().numel() * len(self.rows.X) <= SMALL_DESIGN
        if self.constrained and small:
            return ("oracle", *(method for method in methods if method != "oracle"))
        return methods

    def with_beta(self, beta: float) -> Self:
        """The same problem with another regularisation, which its rows have, too."""
        rows = self.rows.with_beta(beta)
        return self._changed(beta=rows.beta, rows=rows)

    @cached_property
    def maps(self) -> Tensor:
        r"""The pooled maps :math:`A_i = \frac1K \sum_k D_i^k X_k`, (P, n, h)."""
        n, K, _ = self.X.shape
        masks = self.rows.masks.reshape(-1, n, K)
        return torch.einsum("pnk,nkh->pnh", masks, self.X) / K

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the weights, (S, P, h)."""
        return self.rows.shape

    def fitted(self, weights: Tensor) -> Tensor:
        r"""Outputs (n,): :math:`\sum_i A_i (v_i - w_i)`."""
        signed = weights[0] if self.gated else weights[0] - weights[1]  # (P, h)
        active = signed.abs().sum(dim=1).nonzero().ravel()
        return torch.einsum("pnh,ph->n", self.maps[active], signed[active])

    def correlations(self, z: Tensor) -> Tensor:
        r"""The adjoint (S, P, h) of `fitted`: :math:`A_i^\top z` and its negative."""
        positive = torch.einsum("pnh,n->ph", self.maps, z)
        return positive[None] if self.gated else torch.stack([positive, -positive])

    def gram(self) -> Tensor:
        r""":math:`S \sum_i A_i A_i^\top` (n, n)."""
        flat = self.maps.transpose(0, 1).flatten(1)  # (n, P * h)
        return self.shape[0] * (flat @ flat.T)

    def lift(self, z: Tensor) -> Tensor:
        r"""The dual point (n K,) of the rows: every patch has the share :math:`z_i/K`."""
        K = self.X.shape[1]
        return (z / K).repeat_interleave(K)

    def penalty(self, weights: Tensor) -> float:
        """Sum of the Euclidean norms of the blocks."""
        return self.rows.penalty(weights)

    def violation(self, weights: Tensor) -> float:
        return self.rows.violation(weights)

    def proximal_map(self) -> ProximalMap:
        return self.rows.proximal_map()

    def dual_norm(self, z: Tensor) -> float:
        r"""Largest :math:`\|\mathrm{Proj}_{K_i}(\pm A_i^\top z)\|` over the patterns."""
        return self.rows.dual_norm(self.lift(z))

    def network_bound(self, z: Tensor) -> float:
        r"""A lower bound on the optimum over all networks, whatever the patterns.

        z is scaled by a bound on :math:`\max_{\|u\| \le 1} |z^\top \frac1K \sum_k (X_k u)_+|`.
        """
        z = self.loss.restrict(z, self.y)
        norm = price(self.rows.X, self.lift(z)).upper
        limit = self.beta / norm if norm > 0 else float("inf")
        return self.dual_value(self.loss.best_scale(z, self.y, limit) * z)

    def to_network(self, result: Result | Tensor) -> PooledReLU:
        """The convolutional network of the weights; a gated problem keeps its gates."""
        return PooledReLU(self.rows.to_network(result))

    def to_cvxpy(self) -> CvxpyProgram:
        """The program for CVXPY, one variable (P, h) per sign."""
        import cvxpy as cp

        blocks, norms, cones = self.rows._cvxpy_blocks()
        signed = blocks[0] if self.gated else blocks[0] - blocks[1]
        # One product: CVXPY warns of a sum of hundreds.
        maps = self.maps.transpose(0, 1).flatten(1).cpu().numpy()  # (n, P h)
        outputs = maps @ cp.reshape(signed, (maps.shape[1],), order="C")
        return self._written(outputs, norms, cones, blocks)

    def __repr__(self) -> str:
        n, K, h = self.X.shape
        kind = "gated" if self.gated else "relu"
        count = self.rows.n_patterns
        return f"Convolution({kind}, n={n}, K={K}, h={h}, {count} patterns, beta={self.beta:g})"
