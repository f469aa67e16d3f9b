r"""The best neuron for a dual point: :math:`\max_{\|u\| \le 1} z^\top (Xu)_+` with a proof.

This one function decides everything: its value at :math:`\pm y` is ``beta_max``, its value at
:math:`\pm z` says whether z is dual feasible, and its maximiser is the neuron that column
generation adds. It is a nonconvex problem, hard in general but not for data of low rank r.

**Branch and bound over simplicial cones.** Directions are covered by cones with generators
:math:`r_1..r_r`, starting from the orthants. On a cone a sample whose :math:`x_i^\top r_k` have
one sign contributes a linear term, exactly. An undecided sample with :math:`z_i > 0` is convex
and lies below its chord through the generators; one with :math:`z_i < 0` is concave and lies below
every tangent. So at the generators there are numbers :math:`q_k`
with :math:`g(\sum \lambda_k r_k) \le \sum_k \lambda_k q_k` for all :math:`\lambda \ge 0`, and for
every unit vector e with :math:`r_k^\top e > 0`

.. math:: g(u) \le \max_k \frac{(q_k)_+}{r_k^\top e} \; (u^\top e)
               \le \max_k \frac{(q_k)_+}{r_k^\top e}, \qquad \|u\| \le 1.

The bound is too large by the square of the cone's angle times the density of hyperplanes, and
exact once no hyperplane crosses it, so cones shrink only near maxima that compete.

**Rounding is covered.** Generators are midpoints :math:`(a+b)/2` of points of the l1 sphere with
integer start: dyadic numbers that doubles hold exactly to depth 50, so the cones cover everything.
Signs that rounding could flip change the terms by at most what the error term allows for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_MAX_DEPTH = 50  # halvings of a unit coordinate that double precision represents exactly


@dataclass(frozen=True)
class Pricing:
    """What is known about the best neuron for a dual point.

    Attributes
    ----------
    lower, upper : float
        The maximum lies in [lower, upper]; `lower` is the value at `direction`.
    direction : Tensor (d,)
        A unit vector.
    sign : int
        +1 or -1: the best neuron has an output weight of this sign.
    complete : bool
        Whether upper <= max(target, lower) * (1 + rtol); otherwise the node budget ran out first
        and `upper` is valid but loose.
    nodes : int
        Cones examined.
    """

    lower: float
    upper: float
    direction: Tensor
    sign: int
    complete: bool
    nodes: int


@njit(cache=True, nogil=True)
def value_of(rows, z, direction):  # type: ignore[no-untyped-def]
    """z^T (rows @ direction)_+."""
    n, r = rows.shape
    total = 0.0
    for i in range(n):
        dot = 0.0
        for a in range(r):
            dot += rows[i, a] * direction[a]
        if dot > 0.0:
            total += z[i] * dot
    return total


@njit(cache=True, nogil=True)
def _branch_and_bound(  # type: ignore[no-untyped-def]
    rows, z, target, rtol, max_nodes, error, slack, start
):
    """Depth-first search; returns (lower, upper, direction, nodes, exhausted)."""
    n, r = rows.shape
    capacity = 2**r + r * (_MAX_DEPTH + 2) * r
    generators = np.empty((capacity, r, r))
    linear = np.zeros((capacity, r))
    starts = np.zeros(capacity, np.int64)
    ends = np.zeros(capacity, np.int64)
    bounds = np.empty(capacity)
    depths = np.zeros((capacity, r), np.int64)
    pool = np.empty(n * 4 + 16, np.int64)
    values = np.empty(r)
    q = np.empty(r)
    centre = np.empty(r)
    slope = np.empty(r)
    fixed = np.empty(r)
    tangents = np.empty(n)
    best = start.copy()
    lower = value_of(rows, z, start)
    upper = 0.0
    for i in range(n):
        pool[i] = i
    top = 0
    for orthant in range(2**r):
        generators[top] = 0.0
        for k in range(r):
            generators[top, k, k] = 1.0 - 2.0 * ((orthant >> k) & 1)
        ends[top] = n
        bounds[top] = np.inf
        top += 1
    nodes = 0
    while top > 0:
        if nodes >= max_nodes:
            for k in range(top):
                upper = max(upper, bounds[k])
            return lower, upper, best, nodes, True
        top -= 1
        if bounds[top] <= max(target, lower) * (1.0 + rtol):
            # The incumbent rose since this cone was put aside.
            upper = max(upper, bounds[top])
            continue
        nodes += 1
        R = generators[top].copy()
        depth = depths[top].copy()
        begin = starts[top]
        end = ends[top]
        parent = bounds[top]
        for a in range(r):
            fixed[a] = linear[top, a]
            centre[a] = 0.0
        for k in range(r):
            length = 0.0
            for a in range(r):
                length += R[k, a] * R[k, a]
            length = 1.0 / np.sqrt(length)
            for a in range(r):
                centre[a] += R[k, a] * length
        length = np.sqrt((centre * centre).sum())
        for a in range(r):
            centre[a] /= length
        # Split the parent's undecided samples into decided ones and the rest.
        if end + (end - begin) > pool.shape[0]:
            larger = np.empty(2 * pool.shape[0] + (end - begin), np.int64)
            larger[:end] = pool[:end]
            pool = larger
        last = end
        for k in range(r):
            q[k] = 0.0
        for a in range(r):
            slope[a] = 0.0
        at_centre = 0.0
        for index in range(begin, end):
            i = pool[index]
            lowest = np.inf
            highest = -np.inf
            for k in range(r):
                dot = 0.0
                for a in range(r):
                    dot += rows[i, a] * R[k, a]
                values[k] = dot
                lowest = min(lowest, dot)
                highest = max(highest, dot)
            if lowest >= -slack[i]:
                for a in range(r):
                    fixed[a] += z[i] * rows[i, a]
                continue
            if highest <= slack[i]:
                continue
            pool[last] = i
            last += 1
            middle = 0.0
            for a in range(r):
                middle += rows[i, a] * centre[a]
            if middle > 0.0:
                at_centre += z[i] * middle
                for a in range(r):
                    slope[a] += z[i] * rows[i, a]
            if z[i] > 0.0:
                for k in range(r):
                    if values[k] > 0.0:
                        q[k] += z[i] * values[k]
            else:
                tangents[i] = 1.0 if middle > 0.0 else 0.0
        for a in range(r):
            at_centre += fixed[a] * centre[a]
            slope[a] += fixed[a]
        # Any tangents t in [0, 1] bound the concave terms. Those that make the slope shortest
        # give the best bound where a maximum lies on their kinks: coordinate descent.
        for _ in range(4):
            for index in range(end, last):
                i = pool[index]
                if z[i] < 0.0:
                    dot = 0.0
                    length = 0.0
                    for a in range(r):
                        dot += rows[i, a] * slope[a]
                        length += rows[i, a] * rows[i, a]
                    t = min(max(tangents[i] - dot / (z[i] * length), 0.0), 1.0)
                    for a in range(r):
                        slope[a] += (t - tangents[i]) * z[i] * rows[i, a]
                    tangents[i] = t
        for k in range(r):
            for a in range(r):
                q[k] += fixed[a] * R[k, a]
        for index in range(end, last):
            i = pool[index]
            if z[i] < 0.0 and tangents[i] > 0.0:
                for k in range(r):
                    dot = 0.0
                    for a in range(r):
                        dot += rows[i, a] * R[k, a]
                    q[k] += tangents[i] * z[i] * dot
        # Two choices of e: the centre, and the gradient there (exact inside one cell).
        bound = np.inf
        length = np.sqrt((slope * slope).sum())
        for choice in range(2):
            ratio = 0.0
            for k in range(r):
                height = 0.0
                for a in range(r):
                    height += R[k, a] * (centre[a] if choice == 0 else slope[a] / length)
                if height <= 1e-8:
                    ratio = np.inf
                elif q[k] + error > 0.0:
                    ratio = max(ratio, (q[k] + error) / height)
            bound = min(bound, ratio * (1.0 + 8.0 * (r + 2.0) * _EPS))
            if length == 0.0:
                break
        bound = min(bound, parent)
        if at_centre > lower:
            value = value_of(rows, z, centre)
            if value > lower:
                lower = value
                best[:] = centre
        if bound <= max(target, lower) * (1.0 + rtol):
            upper = max(upper, bound)
            continue
        if length > lower:
            # The shortest slope points at the maximum that the bound foresees: try it.
            for a in range(r):
                slope[a] /= length
            value = value_of(rows, z, slope)
            if value > lower:
                lower = value
                best[:] = slope
        # Halve the longest edge.
        first = 0
        second = 0
        longest = -1.0
        for k in range(r):
            for m in range(k + 1, r):
                edge = 0.0
                for a in range(r):
                    edge += (R[k, a] - R[m, a]) ** 2
                if edge > longest:
                    longest = edge
                    first = k
                    second = m
        level = max(depth[first], depth[second]) + 1 if r > 1 else _MAX_DEPTH + 1
        if level > _MAX_DEPTH:
            upper = max(upper, bound)
            continue
        for child in range(2):
            replaced = first if child == 0 else second
            generators[top] = R
            for a in range(r):
                generators[top, replaced, a] = 0.5 * (R[first, a] + R[second, a])
            depths[top] = depth
            depths[top, replaced] = level
            linear[top] = fixed
            starts[top] = end
            ends[top] = last
            bounds[top] = bound
            top += 1
    return lower, upper, best, nodes, False


def spectral_bound(X: Tensor, z: Tensor) -> float:
    r"""A bound on :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` at any rank, usually loose.

    With :math:`(a)_+ = (a + |a|)/2` and Cauchy-Schwarz on the weights :math:`z_+`,

    .. math:: z^\top (Xu)_+ \le \tfrac12 \|X^\top z\|
              + \tfrac12 \sqrt{1^\top z_+ \; \lambda_{\max}(X^\top \mathrm{diag}(z_+) X)}.
    """
    X, z = X.double(), z.double()
    n, d = X.shape
    margin = 1.0 + 8.0 * (n + d) * _EPS
    absolute = float(z.abs() @ torch.linalg.vector_norm(X, dim=1))
    linear = float(torch.linalg.vector_norm(X.T @ z)) + 4.0 * (n + d) * _EPS * absolute
    worst = 0.0
    for part in (z.clamp(min=0), (-z).clamp(min=0)):
        gram = X.T @ (part[:, None] * X)
        # The largest eigenvalue plus the error of computing it (backward stable).
        size = float(torch.linalg.matrix_norm(gram))
        largest = float(torch.linalg.eigvalsh(gram)[-1]) + 8.0 * (n + d) * _EPS * size
        worst = max(worst, math.sqrt(max(float(part.sum()) * largest, 0.0)))
    return (0.5 * linear + 0.5 * worst) * margin


def row_space(X: Tensor) -> tuple[Tensor, Tensor, float]:
    """Coordinates (n, r) and an orthonormal basis (d, r) of the row space, and an error bound.

    Returns (C, Q, error) with ||X - C Q^T||_2 <= error; (X, I, 0) when X has full column rank,
    so that well-posed data are used as they are.
    """
    n, d = X.shape
    _, sizes, Vt = torch.linalg.svd(X, full_matrices=False)
    tolerance = 1e-12 * float(sizes[0])
    rank = max(int((sizes > tolerance).sum()), 1)
    if rank == d:
        return X, torch.eye(d, dtype=X.dtype, device=X.device), 0.0
    Q = Vt[:rank].T
    C = X @ Q
    rounding = 4.0 * (d + rank) * _EPS * float(torch.linalg.matrix_norm(X))
    return C, Q, float(torch.linalg.matrix_norm(X - C @ Q.T)) + rounding


def ascend(X: Tensor, z: Tensor, starts: Tensor, n_iter: int = 60) -> tuple[Tensor, Tensor]:
    """Local maxima of |z^T (Xu)_+| on the unit sphere, from starts (m, d).

    Returns signed values (m,), positive where z itself is followed and negative where -z is,
    and unit directions (m, d). Each start climbs the side on which it is already higher. A step
    moves towards the gradient of the present cell and is halved until it climbs.
    """
    U = starts / torch.linalg.vector_norm(starts, dim=1, keepdim=True).clamp(min=1e-300)
    heights = torch.relu(U @ X.T) @ z  # (m,)
    sides = torch.where(heights < 0, -1.0, 1.0).to(z)
    values = heights * sides
    steps = torch.ones_like(values)
    climbing = torch.arange(len(U), device=U.device)
    for _ in range(n_iter):
        here, side = U[climbing], sides[climbing]
        gradients = side[:, None] * (((here @ X.T > 0) * z) @ X)  # (m', d)
        lengths = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
        trial = here + steps[climbing, None] * gradients / lengths.clamp(min=1e-300)
        trial /= torch.linalg.vector_norm(trial, dim=1, keepdim=True).clamp(min=1e-300)
        climbed = side * (torch.relu(trial @ X.T) @ z)
        better = climbed > values[climbing]
        U[climbing[better]] = trial[better]
        values[climbing[better]] = climbed[better]
        steps[climbing] *= torch.where(better, 2.0, 0.5).to(steps)
        climbing = climbing[steps[climbing] > 1e-6]  # the others have arrived
        if not len(climbing):
            break
    return values * sides, U


def _starts(C: Tensor, z: Tensor) -> dict[int, Floats]:
    """The best direction of a short local ascent for z and for -z."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(64, C.shape[1], generator=generator, dtype=torch.float64)
    heights, directions = ascend(C, z, torch.cat([random, -random]))
    best = {1: heights.argmax(), -1: heights.argmin()}
    return {side: directions[index].numpy() for side, index in best.items()}


def price(
    X: Tensor,
    z: Tensor,
    target: float = 0.0,
    rtol: float = 1e-9,
    max_nodes: int = 2_000_000,
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le 1} |z^\top (Xu)_+|` from both sides.

    Parameters
    ----------
    X : Tensor (n, d)
        Data, float64. The work grows with the rank of X, not with d; ranks up to about 5 finish.
    z : Tensor (n,)
        The dual point.
    target : float
        Values up to ``target * (1 + rtol)`` need not be told apart: 0 computes the maximum to
        relative accuracy `rtol`, ``target=beta`` only decides whether z is feasible for beta.
    rtol : float
        Relative accuracy.
    max_nodes : int
        Cones to examine before giving up with a valid but loose upper bound.

    Returns
    -------
    Pricing
        `upper` is rigorous: floating-point error is included.

    Notes
    -----
    At most 8 coordinates are searched; data of higher rank get the spectral bound at once.
    Checked by ``tests/test_pricing.py``.
    """
    X, z = X.detach().double().cpu(), z.detach().double().cpu()
    C, Q, snap = row_space(X)
    n, r = C.shape
    norm_z = float(torch.linalg.vector_norm(z))
    fallback = spectral_bound(X, z)
    rows: Floats = np.ascontiguousarray(C.numpy())
    largest = np.abs(rows).max(axis=1)
    slack = 4.0 * (r + 1) * _EPS * largest
    # Sums of n terms, each at most |z_i| max_j |x_ij| because generators lie on the l1 sphere.
    error = float((2 * n + 12 * (r + 1)) * _EPS * (np.abs(z.numpy()) @ largest))
    if r > 8:
        max_nodes = 0
    lower, upper, sign, nodes, exhausted = 0.0, 0.0, 1, 0, False
    direction = np.zeros(r)
    start = _starts(C, z)
    # Less than what either side attains already, or than rounding, need not be told apart: a
    # side whose own maximum is 0 would otherwise be searched for ever.
    attained = max(side * value_of(rows, z.numpy(), start[side]) for side in (1, -1))
    target = max(target, attained, 2.0 * math.sqrt(r) * error)
    for side in (1, -1):
        if max_nodes == 0:
            exhausted, upper = True, math.inf
            break
        side_z = side * z.numpy()
        low, high, best, count, stopped = _branch_and_bound(
            rows, side_z, max(target, lower), rtol, max_nodes, error, slack, start[side]
        )
        nodes += count
        exhausted |= stopped
        upper = max(upper, high + norm_z * snap)
        if low > lower:
            lower, direction, sign = low, best, side
    upper = min(upper, fallback)
    return Pricing(
        lower=lower,
        upper=upper,
        direction=Q @ torch.from_numpy(direction),
        sign=sign,
        complete=not exhausted,
        nodes=nodes,
    )
