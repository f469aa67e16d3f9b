r"""The blocks of a two-layer program: their images, their proximal maps and their curvature.

Nothing here forms the design matrix with its n x P d entries: :math:`X^\top D_i z` for all
patterns is one product ``(X^T z) @ masks^T``, its adjoint a sum over rows of ``(U^T @ masks) X^T``,
and neither has a temporary larger than X. (In this order BLAS is up to twice as fast as in the
transposed one: the long side comes last.)

**Curvature**: the second-order part :math:`K = B B^\top` of the augmented Lagrangian, never larger
than it must be: products with it, its `rank` columns B, or some or all of its entries. Who asks
decides by size, and `work` and `dense_work` say what it costs. Rows of a gated K are cheap: d of
them cost as much as one product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.cones import ConeProjector
from convexlib.problems.two_layer import GroupLasso


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A proximal point and where it came from."""

    point: Tensor  # (S, P, d), the proximal point
    projected: Tensor  # (S, P, d), before the threshold is taken off
    norms: Tensor  # (S, P), of `projected`
    threshold: float


class Blocks:
    """The blocks of some patterns of a problem, in float64."""

    def __init__(
        self, problem: GroupLasso, kept: Tensor | None = None, whole: Blocks | None = None
    ) -> None:
        self.problem = problem
        self.kept = slice(None) if kept is None else kept  # which patterns
        self.masks = problem.masks if kept is None else problem.masks[kept]  # (P', n)
        # Parts share the projector of the whole, so that its warm starts outlive them.
        self.projector: ConeProjector | None = (
            problem.projector() if whole is None else whole.projector
        )
        numbers = torch.arange(len(problem.masks)) if kept is None else kept.cpu()
        self.numbers = torch.cat([numbers, numbers + len(problem.masks)]).numpy()  # of its blocks
        self.signs = (1.0,) if problem.gated else (1.0, -1.0)
        self._last: tuple[Tensor, Tensor] | None = None

    def correlations(self, z: Tensor) -> Tensor:
        """The adjoint of `images`, (S, P', d)."""
        positive = ((self.problem.X.T * z) @ self.masks.T).T.contiguous()  # (P, d)
        return positive[None] if self.problem.gated else torch.stack([positive, -positive])

    def images(self, blocks: Tensor) -> Tensor:
        """Outputs (n,) of blocks (S, P', d)."""
        signed = blocks[0] if self.problem.gated else blocks[0] - blocks[1]
        active = signed.any(dim=1).nonzero().ravel()
        return ((signed[active].T @ self.masks_of(active)) * self.problem.X.T).sum(dim=0)

    def shrink(self, blocks: Tensor, threshold: float) -> Shrunk:
        """Proximal map of threshold times the norm, on the cones where there are any."""
        projected = blocks
        if self.projector is not None:
            flat = blocks.reshape(-1, blocks.shape[-1])
            projected = self.projector(flat, threshold, self.numbers).reshape(blocks.shape)
        norms = torch.linalg.vector_norm(projected, dim=2)
        factors = (1.0 - threshold / norms.clamp(min=1e-300)).clamp(min=0.0)
        return Shrunk(projected * factors[..., None], projected, norms, threshold)

    def masks_of(self, active: Tensor) -> Tensor:
        """Rows of the masks, remembered because consecutive calls ask for the same ones."""
        if self._last is None or not torch.equal(self._last[0], active):
            self._last = active, self.masks[active]
        return self._last[1]


_FEW = 1000  # columns that are always allowed
_STRIPE = 256  # rows of a matrix that are made at a time
_TOGETHER = 16  # blocks that are multiplied at once, so that their normals stay in the cache


def stripes(n: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that cover the lower triangle of an n x n matrix, and little more.

    Symmetric products are made of them: BLAS does so in half the time, but torch does not call it.
    """
    for start in range(0, n, _STRIPE):
        stop = min(start + _STRIPE, n)
        yield slice(start, stop), slice(0, stop)


class Curvature(ABC):
    """K = B B^T of size n, with B (n, rank)."""

    n: int
    rank: int
    work: float  # flops of one product
    dense_work: float  # and of half of a dense K

    def times(self, v: Tensor) -> Tensor:
        return self.image(self.adjoint(v))

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Curvature: ...

    @abstractmethod
    def adjoint(self, v: Tensor) -> Tensor:
        """B^T v."""

    @abstractmethod
    def image(self, x: Tensor) -> Tensor:
        """B x."""

    @abstractmethod
    def columns(self) -> Tensor:
        """B."""

    @abstractmethod
    def rows(self, index: Tensor | slice, some: slice = slice(None)) -> Tensor:
        """K[index, some]."""

    @abstractmethod
    def diagonal(self) -> Tensor: ...

    def lower(self) -> Tensor:
        """K, of which only the lower triangle counts."""
        K = self.diagonal().new_zeros(self.n, self.n)
        for index, some in stripes(self.n):
            K[index, some] = self.rows(index, some)
        return K


class ColumnCurvature(Curvature):
    """K from its columns."""

    def __init__(self, B: Tensor) -> None:
        self.B = B
        self.n, self.rank = B.shape
        self.work = 4.0 * B.numel()
        self.dense_work = float(B.numel()) * len(B)

    def to(self, dtype: torch.dtype) -> ColumnCurvature:
        return ColumnCurvature(self.B.to(dtype))

    def adjoint(self, v: Tensor) -> Tensor:
        return self.B.T @ v

    def image(self, x: Tensor) -> Tensor:
        return self.B @ x

    def columns(self) -> Tensor:
        return self.B

    def rows(self, index: Tensor | slice, some: slice = slice(None)) -> Tensor:
        return self.B[index] @ self.B[some].T

    def diagonal(self) -> Tensor:
        return (self.B**2).sum(dim=1)


class GatedCurvature(Curvature):
    r"""K without cones: :math:`\sum_j D_j X ((1-c_j) I + c_j w_j w_j^\top) X^\top D_j`.

    Its columns are those of :math:`D_j X L_j`, where the root of the middle is
    :math:`L_j = r_j I + (1 - r_j) w_j w_j^\top` with :math:`r_j^2 = 1 - c_j`.
    """

    def __init__(self, X: Tensor, masks: Tensor, directions: Tensor, ratios: Tensor) -> None:
        self.X, self.masks, self.w, self.c = X, masks, directions, ratios  # (J, n), (J, d), (J,)
        self.rest = (1.0 - ratios).clamp(min=0.0)[:, None]
        self.root = self.rest.sqrt()
        self.n, self.rank = len(X), directions.numel()
        self.work = 4.0 * masks.numel() * X.shape[1]
        self.dense_work = float(len(X)) * (2 * masks.numel() + X.numel())

    def to(self, dtype: torch.dtype) -> GatedCurvature:
        parts = (part.to(dtype) for part in (self.X, self.masks, self.w, self.c))
        return GatedCurvature(*parts)

    def _middle(self, blocks: Tensor) -> Tensor:
        inner = (blocks * self.w).sum(dim=1, keepdim=True)
        return blocks * self.root + (inner * (1.0 - self.root)) * self.w

    def adjoint(self, v: Tensor) -> Tensor:
        return self._middle(((self.X.T * v) @ self.masks.T).T).flatten()

    def image(self, x: Tensor) -> Tensor:
        blocks = self._middle(x.view(self.w.shape))
        return ((blocks.T @ self.masks) * self.X.T).sum(dim=0)

    def columns(self) -> Tensor:
        root = self.root[:, 0]
        along = self.X @ self.w.T * (1.0 - root)  # (n, J)
        images = self.X[:, None, :] * root[:, None] + along[..., None] * self.w  # (n, J, d)
        return (images * self.masks.T[..., None]).flatten(1)

    @cached_property
    def _along(self) -> Tensor:
        """The part along the directions, (J, n)."""
        return (self.w * self.c.sqrt()[:, None]) @ self.X.T * self.masks

    def rows(self, index: Tensor | slice, some: slice = slice(None)) -> Tensor:
        weighted = self.masks[:, index] * self.rest
        K = (weighted.T @ self.masks[:, some]).mul_(self.X[index] @ self.X[some].T)
        return K.addmm_(self._along[:, index].T, self._along[:, some])

    def diagonal(self) -> Tensor:
        squares = (self.X**2).sum(dim=1)
        return (self.rest[:, 0] @ self.masks) * squares + (self._along**2).sum(dim=0)


class ConeCurvature(Curvature):
    r"""K on faces of cones: :math:`\sum_b D_b X ((1-c_b) P_b + c_b w_b w_b^\top) X^\top D_b`.

    P is the projection onto a face, :math:`I - Q^\top Q` with Q the normals of the walls that meet
    there, orthonormal: `sizes` rows of the projector's bases `index`, which are read when they are
    needed. Bases of the faces themselves take a factorisation each, so only columns make them.
    """

    def __init__(
        self, X: Tensor, masks: Tensor, directions: Tensor, ratios: Tensor,
        projector: ConeProjector, index: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.X, self.masks, self.w, self.c = X, masks, directions, ratios  # (J, n), (J, d), (J,)
        self.projector, self.index = projector, index
        self.sizes = torch.from_numpy(projector.sizes[index]).to(X.device)
        self.n, self.rank = len(X), int((X.shape[1] - self.sizes).clamp(min=1).sum())
        self.work = 4.0 * (masks.numel() + int(self.sizes.sum())) * X.shape[1]
        self.dense_work = float(len(X)) ** 2 * self.rank

    def to(self, dtype: torch.dtype) -> ConeCurvature:
        X, masks, w, c = (part.to(dtype) for part in (self.X, self.masks, self.w, self.c))
        return ConeCurvature(X, masks, w, c, self.projector, self.index)

    @cached_property
    def _normals(self) -> list[Tensor]:
        """The normals (b, k, d) of some blocks at a time, zeros below those that a block has."""
        parts = []
        for index in np.split(self.index, range(_TOGETHER, len(self.index), _TOGETHER)):
            sizes = self.projector.sizes[index]
            part = self.X.new_zeros(len(index), int(sizes.max()), self.X.shape[1])
            for own, b, size in zip(part, index, sizes, strict=True):
                own[:size] = torch.from_numpy(self.projector.bases[b, :size])
            parts.append(part)
        return parts

    def times(self, v: Tensor) -> Tensor:
        blocks = ((self.X.T * v) @ self.masks.T).T  # (J, d)
        along = (blocks * self.w).sum(dim=1, keepdim=True) * self.w
        onto = torch.cat(
            [
                torch.baddbmm(x[:, None], x[:, None] @ Q.mT, Q, alpha=-1.0)[:, 0]
                for x, Q in zip(blocks.split(_TOGETHER), self._normals, strict=True)
            ]
        )
        blocks = onto.lerp_(along, self.c[:, None])  # (1 - c) onto + c along
        return ((blocks.T @ self.masks) * self.X.T).sum(dim=0)

    @cached_property
    def _groups(self) -> list[tuple[Tensor, Tensor]]:
        r"""Matrices L with :math:`L L^\top` that of a block, for all blocks of one size at once."""
        d, groups = self.X.shape[1], []
        roots = (1.0 - self.c).clamp(min=0.0).sqrt()
        for size in self.sizes.unique().tolist():
            chosen = (self.sizes == size).nonzero().ravel()
            w, root = self.w[chosen], roots[chosen]
            if size >= d - 1:
                faces = w[:, :, None]
            elif size == 0:
                faces = torch.eye(d).to(w).expand(len(chosen), d, d)
            else:
                normals = self.projector.bases[self.index[chosen.cpu().numpy()], :size]
                faces = torch.linalg.qr(torch.from_numpy(normals).to(w).mT, mode="complete").Q
                faces = faces[:, :, size:]
            # L = V r + (1 - r) w (V^T w)^T has L L^T = (1-c) V V^T + c w w^T: w lies in the face.
            along = torch.einsum("bd,bdk->bk", w, faces)
            L = faces * root[:, None, None]
            L = L + (1.0 - root)[:, None, None] * w[:, :, None] * along[:, None, :]
            groups.append((chosen, L))
        return groups

    def adjoint(self, v: Tensor) -> Tensor:
        blocks = ((self.X.T * v) @ self.masks.T).T  # (J, d)
        inner = [torch.einsum("bdk,bd->bk", L, blocks[chosen]) for chosen, L in self._groups]
        return torch.cat([part.flatten() for part in inner])

    def image(self, x: Tensor) -> Tensor:
        blocks = x.new_zeros(len(self.masks), self.X.shape[1])
        parts = x.split([L[:, 0].numel() for _, L in self._groups])
        for (chosen, L), part in zip(self._groups, parts, strict=True):
            blocks[chosen] = torch.einsum("bdk,bk->bd", L, part.view(len(L), -1))
        return ((blocks.T @ self.masks) * self.X.T).sum(dim=0)

    def _pieces(self) -> Iterator[Tensor]:
        """The columns, a stripe of them at a time."""
        n, d = self.X.shape
        for chosen, L in self._groups:
            some = max(1, _STRIPE // L.shape[2])
            for index, part in zip(chosen.split(some), L.split(some), strict=True):
                images = (self.X @ part.permute(1, 0, 2).reshape(d, -1)).reshape(n, len(part), -1)
                yield (images * self.masks[index].T[:, :, None]).flatten(1)

    def columns(self) -> Tensor:
        return torch.cat(list(self._pieces()), dim=1)

    def rows(self, index: Tensor | slice, some: slice = slice(None)) -> Tensor:
        K = self.X.new_zeros(len(self.X[index]), len(self.X[some]))
        for B in self._pieces():
            K.addmm_(B[index], B[some].T)
        return K

    def lower(self) -> Tensor:
        K = self.X.new_zeros(self.n, self.n)
        for B in self._pieces():  # each made once
            for index, some in stripes(self.n):
                K[index, some].addmm_(B[index], B[some].T)
        return K

    def diagonal(self) -> Tensor:
        return torch.stack([(B**2).sum(dim=1) for B in self._pieces()]).sum(dim=0)


def curvature_of(blocks: Blocks, shrunk: Shrunk) -> Curvature | None:
    """K at a proximal point; None where no block is active."""
    d = shrunk.projected.shape[2]
    norms = shrunk.norms.reshape(-1)
    active = (norms > shrunk.threshold).nonzero().ravel()  # blocks, sign-major
    if not len(active):
        return None
    directions = shrunk.projected.reshape(-1, d)[active] / norms[active, None]
    ratios = shrunk.threshold / norms[active]
    masks = blocks.masks_of(active % len(blocks.masks))
    X = blocks.problem.X
    if blocks.projector is None:
        return GatedCurvature(X, masks, directions, ratios)
    index = blocks.numbers[active.cpu().numpy()]
    K = ConeCurvature(X, masks, directions, ratios, blocks.projector, index)
    # Columns make short work of products, as long as they take no more memory than the masks.
    return ColumnCurvature(K.columns()) if K.rank <= max(len(blocks.masks), _FEW) else K
