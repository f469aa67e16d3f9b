r"""Projection onto the cones of many patterns, and the proximal maps of the group norm.

The proximal map of :math:`t\|v\| + \iota_K(v)` for a cone K is the group soft-threshold of the
projection: the cone's projection may be taken first because shrinking stays inside a cone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.cones.kernels import project_few, project_many

# Entries of all constraints, which take one thread some 2 ms: for less, threads are not worth what
# the compilation of their kernel takes.
_PARALLEL = 1_000_000
_SLACKS = 1 << 18  # slacks that are computed at once: 2 MiB
_BATCHES = 8, 128  # projections between two looks at the longest ones, at first and at most


class ConeProjector:
    """Projects points onto the cones of many patterns at once, each warm-started.

    Parameters
    ----------
    X : Tensor (n, d)
        The data, float64.
    masks : bool Tensor (P, n)
        The patterns. Block b of a projection belongs to pattern ``b % P``, so 2 P blocks carry
        the positive and the negative neurons of every pattern.
    copies : int
        Number of blocks per pattern.

    Notes
    -----
    The projection is CPU work (a compiled loop over blocks); points on another device travel to
    the CPU and back. State kept between calls: the active sets, whose orthonormal bases are in
    ``bases[b, :sizes[b]]`` and whose multipliers are in ``multipliers[b, :sizes[b]]``, and their
    triangular factors: 2 (d + 1)^2 numbers a block. Also the direction of what the last projection
    took away, which often proves at once that a later point's projection is short.
    """

    def __init__(self, X: Tensor, masks: Tensor, copies: int = 1) -> None:
        data = X.detach().cpu().numpy().astype(np.float64)
        lengths = np.linalg.norm(data, axis=1, keepdims=True)
        self.rows: Floats = np.ascontiguousarray(data / np.where(lengths > 0, lengths, 1.0))
        self._columns: Floats = np.ascontiguousarray(self.rows.T)
        # One memory layout, so that the kernels are compiled once.
        signs = np.where(masks.cpu().numpy(), np.int8(1), np.int8(-1))
        self.signs: NDArray[np.int8] = np.ascontiguousarray(signs)
        n_blocks, d = copies * len(self.signs), data.shape[1]
        self.active = np.zeros((n_blocks, d + 1), dtype=np.int64)
        self.sizes = np.zeros(n_blocks, dtype=np.int64)
        self.ages = np.full(n_blocks, -1, dtype=np.int64)
        self.multipliers: Floats = np.zeros((n_blocks, d + 1))
        # Of torch, since numpy asks for huge pages, of which a few entries take up a whole one.
        self.bases: Floats = torch.empty(n_blocks, d + 1, d, dtype=torch.float64).numpy()
        self._triangles: Floats = torch.empty(n_blocks, d + 1, d + 1, dtype=torch.float64).numpy()
        self._projections: Floats = np.zeros((n_blocks, d))
        self._polars: Floats = np.zeros((n_blocks, d))

    def __call__(
        self, points: Tensor, threshold: float = 0.0, blocks: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Project points (B, d); those found to have norm <= threshold are returned as 0.

        They belong to all blocks in their order, or to those whose numbers are `blocks` (B,).
        """
        array = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float64)
        result = np.zeros_like(array)
        own = np.arange(len(array)) if blocks is None else blocks
        long = np.flatnonzero(np.linalg.norm(array, axis=1) > threshold)
        long = long[self._bounds(array[long], own[long]) >= threshold]
        if len(long):
            self._project(array[long], threshold, own[long])
            projected = self._projections[own[long]]
            projected[np.linalg.norm(projected, axis=1) <= threshold] = 0.0
            result[long] = projected
        return torch.from_numpy(result).to(points)

    def _bounds(self, points: Floats, blocks: NDArray[np.int64]) -> Floats:
        r"""Upper bounds (k,) on the norms of the projections of points (k, d).

        The distance from a point to any point of the polar cone is a bound (Moreau); here it is the
        nearest one in the direction of what the block's last projection took away.
        """
        polars = self._polars[blocks]
        multiples = np.maximum(np.einsum("kd,kd->k", polars, points), 0.0)
        return np.linalg.norm(points - multiples[:, None] * polars, axis=1)

    def _project(self, points: Floats, threshold: float, blocks: NDArray[np.int64]) -> None:
        """Project points (k, d), which belong to blocks (k,), in place.

        The slacks of all constraints are a product of matrices, which for many blocks at once is
        an order of magnitude quicker than one by one.
        """
        state = (
            self.active, self.sizes, self.ages, self.multipliers, self.bases, self._triangles,
            self._projections,
        )  # fmt: skip
        # Where torch has been given one thread, numba's pool would be a second one.
        wide = len(blocks) * self.rows.size > _PARALLEL and torch.get_num_threads() > 1
        project = project_many if wide else project_few
        ended = np.zeros(len(blocks), dtype=np.bool_)
        none = np.empty((0, len(self.rows)))
        project(self.rows, self.signs, blocks, points, threshold, *state, ended, none, True)
        at_once = max(1, _SLACKS // len(self.rows))
        while not ended.all():
            left = np.flatnonzero(~ended)
            for part in np.split(left, range(at_once, len(left), at_once)):
                own, done = blocks[part], ended[part]
                slacks = self._projections[own] @ self._columns
                project(
                    *(self.rows, self.signs, own, points[part], threshold),
                    *(*state, done, slacks, False),
                )
                ended[part] = done
        taken = points - self._projections[blocks]
        sizes = np.linalg.norm(taken, axis=1, keepdims=True)
        self._polars[blocks] = np.divide(taken, sizes, out=np.zeros_like(taken), where=sizes > 0.0)

    def longest(self, points: Tensor, floor: float = 0.0) -> float:
        """The largest norm of the projections of points (B, d), or `floor` if that is larger."""
        return max(floor, float(self.lengths(points, floor).max()))

    def lengths(
        self, points: Tensor, floor: float, count: int = 1, blocks: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Norms (B,) of the projections of points (B, d), at least of the `count` longest.

        Only of those above `floor`: the others are 0. Most projections are cut short, as soon as
        they are known not to be among the longest ones. `blocks` is that of a call.
        """
        sizes = torch.linalg.vector_norm(points, dim=1)
        order = torch.argsort(sizes, descending=True)  # the long ones first: they raise the floor
        array = points.detach().cpu().numpy().astype(np.float64)
        own = np.arange(len(array)) if blocks is None else blocks
        bounds = torch.from_numpy(self._bounds(array, own)).to(points)
        found = torch.zeros_like(sizes)
        begin, batch = 0, _BATCHES[0]
        while begin < len(order):
            part = order[begin : begin + batch]
            begin, batch = begin + batch, min(2 * batch, _BATCHES[1])
            part = part[sizes[part] > floor]
            if not len(part):
                break
            part = part[bounds[part] > floor]
            numbers = part.cpu().numpy()
            projected = self(points[part], floor, numbers if blocks is None else blocks[numbers])
            found[part] = torch.linalg.vector_norm(projected, dim=1)
            if begin >= count:
                floor = max(floor, float(found.topk(min(count, len(found))).values[-1]))
        return found

    def support_bounds(self, points: Tensor) -> Tensor:
        r"""Upper bounds (B,) on :math:`\max\{c_b^\top u : u \in K_b, \|u\| \le 1\}`.

        Valid for any multipliers (see the package's text); tight after projecting the same
        points with threshold 0. Rounding of the bound itself is covered: each entry is inflated
        by the error bound of the sums that it is made of.
        """
        array = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float64)
        active = self.active[: len(array)]
        kept = np.arange(active.shape[1]) < self.sizes[: len(array), None]  # (B, d + 1)
        patterns = np.arange(len(array)) % len(self.signs)
        weights = np.where(kept, self.multipliers[: len(array)], 0.0)
        weights = weights * self.signs[patterns[:, None], active]
        residuals = array + np.einsum("bk,bkd->bd", weights, self.rows[active])
        # The rows are the rounded unit rows; the true normals are parallel to the data rows up
        # to a few eps, which the same inflation covers.
        unit = np.finfo(np.float64).eps * 4 * (array.shape[1] + 4)
        inflation = np.abs(weights).sum(axis=1) + np.linalg.norm(array, axis=1)
        bounds = np.linalg.norm(residuals, axis=1) + unit * inflation
        return torch.from_numpy(bounds).to(points)


def group_soft_threshold(blocks: Tensor, threshold: float) -> Tensor:
    r""":math:`v \mapsto (1 - t/\|v\|)_+ v` along the last axis."""
    norms = torch.linalg.vector_norm(blocks, dim=-1, keepdim=True)
    factors = (1.0 - threshold / norms.clamp(min=1e-300)).clamp(min=0.0)
    return blocks * factors


def shrink_into_cones(
    blocks: Tensor, projector: ConeProjector | None, threshold: float = 0.0
) -> Tensor:
    """Project blocks (S, P, d) onto their cones (if any), then soft-threshold them."""
    if projector is not None:
        flat = blocks.reshape(-1, blocks.shape[-1])
        blocks = projector(flat, threshold).reshape(blocks.shape)
    return group_soft_threshold(blocks, threshold) if threshold > 0 else blocks


def shrink_singular_values(blocks: Tensor, threshold: float) -> Tensor:
    r"""Soft-threshold the singular values of blocks (..., d, c).

    The proximal map of :math:`t \|Z\|_*`.
    """
    # A block whose Frobenius norm is below the threshold has no larger singular value.
    large = torch.linalg.matrix_norm(blocks) > threshold
    result = torch.zeros_like(blocks)
    if bool(large.any()):
        left, values, right = torch.linalg.svd(blocks[large], full_matrices=False)
        values = (values - threshold).clamp(min=0.0)
        result[large] = (left * values[:, None, :]) @ right
    return result
