r"""Projection onto the cones of activation patterns.

The cell of pattern i is the cone :math:`K = \{u : s_j x_j^\top u \ge 0,\ j = 1..n\}` with
:math:`s = 2\,\mathrm{mask} - 1`. A cone has one face for each hyperplane that bounds it, usually
a handful out of n, so a dual active-set method (Goldfarb & Idnani, 1983) that adds the most
violated constraint and drops those whose multiplier would turn negative ends after few steps, and
after almost none when it starts from the active set of a nearby point.

The multipliers are kept: for **every** :math:`\lambda \ge 0`

.. math:: \max\{c^\top u : u \in K, \|u\| \le 1\} \le \|c + N^\top \lambda\|,\qquad
          N = \mathrm{diag}(s) X,

with equality at the projection (Moreau), so a bound computed from them holds whatever the solver
did. That is what a certificate uses.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

# Relative sizes below which a violation or a component counts as rounding noise.
_VIOLATION = 1e-13
_DEPENDENT = 1e-11
_PARALLEL = 200_000  # entries of all constraints below which threads cost more than they save


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def _orthogonalise(normal, basis, q, coefficients):  # type: ignore[no-untyped-def]
    """Subtract from `normal` its components along basis[:q] (twice, for orthogonality)."""
    d = normal.shape[0]
    for k in range(q):
        coefficients[k] = 0.0
    for _ in range(2):
        for k in range(q):
            dot = 0.0
            for a in range(d):
                dot += basis[k, a] * normal[a]
            coefficients[k] += dot
            for a in range(d):
                normal[a] -= dot * basis[k, a]


@njit(cache=True, nogil=True)
def _factor(rows, signs, active, q, basis, triangle):  # type: ignore[no-untyped-def]
    """QR factors of the active normals; returns the first dependent position, or -1."""
    d = rows.shape[1]
    normal = np.empty(d)
    column = np.empty(d + 1)
    for k in range(q):
        for a in range(d):
            normal[a] = signs[active[k]] * rows[active[k], a]
        _orthogonalise(normal, basis, k, column)
        size = np.sqrt((normal * normal).sum())
        if size < _DEPENDENT:
            return k
        for m in range(k):
            triangle[m, k] = column[m]
        triangle[k, k] = size
        for a in range(d):
            basis[k, a] = normal[a] / size
    return -1


@njit(cache=True, nogil=True)
def _back_substitute(triangle, q, right, solution):  # type: ignore[no-untyped-def]
    for k in range(q - 1, -1, -1):
        value = right[k]
        for m in range(k + 1, q):
            value -= triangle[k, m] * solution[m]
        solution[k] = value / triangle[k, k]


@njit(cache=True, nogil=True)
def _remove(k, q, active, multipliers):  # type: ignore[no-untyped-def]
    for m in range(k, q - 1):
        active[m] = active[m + 1]
        multipliers[m] = multipliers[m + 1]


@njit(cache=True, nogil=True)
def project_one(  # type: ignore[no-untyped-def]
    rows, signs, point, threshold, active, q, multipliers, basis, projection
):
    """Project `point` onto {u : signs[j] rows[j]·u >= 0}; rows have unit length (or are zero).

    `active[:q]` is the starting active set. The arrays `active`, `multipliers`, `basis` (an
    orthonormal basis of the active normals) and `projection` are written in place; returns the
    size of the final active set. Distances only grow as constraints are added, so the norm of
    the iterate only falls: as soon as it is at most `threshold` the projection is reported as
    zero (the multipliers then prove that its norm is at most `threshold`).
    """
    n, d = rows.shape
    triangle = np.zeros((d + 1, d + 1))
    normal = np.empty(d)
    coefficients = np.zeros(d + 1)
    ratios = np.zeros(d + 1)
    size = np.sqrt((point * point).sum())

    # Warm start: drop dependent normals and negative multipliers until the rest is optimal for
    # the constraints it contains.
    q = min(q, d)
    while q > 0:
        drop = _factor(rows, signs, active, q, basis, triangle)
        if drop < 0:
            for k in range(q):
                dot = 0.0
                for a in range(d):
                    dot += basis[k, a] * point[a]
                coefficients[k] = -dot
            _back_substitute(triangle, q, coefficients, multipliers)
            lowest = 0.0
            for k in range(q):
                if multipliers[k] < lowest:
                    lowest = multipliers[k]
                    drop = k
        if drop < 0:
            break
        _remove(drop, q, active, multipliers)
        q -= 1
    for a in range(d):
        projection[a] = point[a]
    _orthogonalise(projection, basis, q, coefficients)

    for _ in range(50 * (n + d)):
        norm = np.sqrt((projection * projection).sum())
        if norm <= threshold or norm <= _VIOLATION * size:
            for a in range(d):
                projection[a] = 0.0
            break
        worst = -1
        violation = -_VIOLATION * size
        for j in range(n):
            dot = 0.0
            for a in range(d):
                dot += rows[j, a] * projection[a]
            if signs[j] * dot < violation:
                violation = signs[j] * dot
                worst = j
        if worst < 0:
            break
        multiplier = 0.0
        while True:
            for a in range(d):
                normal[a] = signs[worst] * rows[worst, a]
            slack = 0.0
            for a in range(d):
                slack += normal[a] * projection[a]
            _orthogonalise(normal, basis, q, coefficients)
            _back_substitute(triangle, q, coefficients, ratios)
            length = (normal * normal).sum()
            full = -slack / length if length > _DEPENDENT**2 else np.inf
            partial = np.inf
            blocking = -1
            for k in range(q):
                if ratios[k] > 0.0 and multipliers[k] < partial * ratios[k]:
                    partial = multipliers[k] / ratios[k]
                    blocking = k
            step = min(full, partial)
            if step == np.inf:
                # Only rounding brings us here (the origin is always feasible): the violated
                # normal is a nonnegative combination of active ones, hence satisfied exactly.
                multipliers[q] = 0.0
                break
            for k in range(q):
                multipliers[k] = max(multipliers[k] - step * ratios[k], 0.0)
            multiplier += step
            if full < np.inf:
                for a in range(d):
                    projection[a] += step * normal[a]
            if full <= partial:
                root = np.sqrt(length)
                for a in range(d):
                    basis[q, a] = normal[a] / root
                for k in range(q):
                    triangle[k, q] = coefficients[k]
                triangle[q, q] = root
                active[q] = worst
                multipliers[q] = multiplier
                q += 1
                break
            _remove(blocking, q, active, multipliers)
            q -= 1
            _factor(rows, signs, active, q, basis, triangle)
        if step == np.inf:
            break
        # Steps accumulate rounding; the projection is the point minus its active components.
        for a in range(d):
            projection[a] = point[a]
        _orthogonalise(projection, basis, q, coefficients)
    return q


@njit(cache=True, nogil=True, parallel=True)
def _project_many(  # type: ignore[no-untyped-def]
    rows, signs, blocks, points, threshold, active, sizes, multipliers, bases, projections
):
    patterns = signs.shape[0]
    for index in prange(blocks.shape[0]):
        b = blocks[index]
        sizes[b] = project_one(
            rows, signs[b % patterns], points[b], threshold,
            active[b], sizes[b], multipliers[b], bases[b], projections[b],
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _project_few(  # type: ignore[no-untyped-def]
    rows, signs, blocks, points, threshold, active, sizes, multipliers, bases, projections
):
    patterns = signs.shape[0]
    for b in blocks:
        sizes[b] = project_one(
            rows, signs[b % patterns], points[b], threshold,
            active[b], sizes[b], multipliers[b], bases[b], projections[b],
        )  # fmt: skip


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
    ``bases[b, :sizes[b]]`` and whose multipliers are in ``multipliers[b, :sizes[b]]``.
    """

    def __init__(self, X: Tensor, masks: Tensor, copies: int = 1) -> None:
        data = X.detach().cpu().numpy().astype(np.float64)
        lengths = np.linalg.norm(data, axis=1, keepdims=True)
        self.rows: Floats = np.ascontiguousarray(data / np.where(lengths > 0, lengths, 1.0))
        self.signs: NDArray[np.int8] = np.where(masks.cpu().numpy(), 1, -1).astype(np.int8)
        n_blocks, d = copies * len(self.signs), data.shape[1]
        self.active = np.zeros((n_blocks, d + 1), dtype=np.int64)
        self.sizes = np.zeros(n_blocks, dtype=np.int64)
        self.multipliers: Floats = np.zeros((n_blocks, d + 1))
        self.bases: Floats = np.zeros((n_blocks, d + 1, d))
        self._projections: Floats = np.zeros((n_blocks, d))

    def __call__(self, points: Tensor, threshold: float = 0.0) -> Tensor:
        """Project points (B, d); those found to have norm <= threshold are returned as 0."""
        array = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float64)
        result = np.zeros_like(array)
        # A projection is never longer than its point.
        blocks = np.flatnonzero(np.linalg.norm(array, axis=1) > threshold)
        if len(blocks):
            project = _project_many if len(blocks) * self.rows.size > _PARALLEL else _project_few
            project(
                self.rows, self.signs, blocks, array, threshold,
                self.active, self.sizes, self.multipliers, self.bases, self._projections,
            )  # fmt: skip
            result[blocks] = self._projections[blocks]
        return torch.from_numpy(result).to(points)

    def support_bounds(self, points: Tensor) -> Tensor:
        r"""Upper bounds (B,) on :math:`\max\{c_b^\top u : u \in K_b, \|u\| \le 1\}`.

        Valid for any multipliers (see the module's text); tight after projecting the same
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
