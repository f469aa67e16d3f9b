r"""Branch and bound for :math:`g(u) = t^\top u + z^\top (Xu)_+` on the unit ball, with rounding.

Directions are covered by simplicial cones with generators :math:`r_1..r_r`, starting from the
orthants. On a cone a sample whose :math:`x_i^\top r_k` have one sign contributes a linear term,
exactly. An undecided sample with :math:`z_i > 0` is convex and lies below its chord through the
generators; one with :math:`z_i < 0` is concave and lies below every tangent. So there are numbers
:math:`q_k` with :math:`g(\sum \lambda_k r_k) \le \sum_k \lambda_k q_k` for all
:math:`\lambda \ge 0`, and for every unit vector e with :math:`r_k^\top e > 0`

.. math:: g(u) \le \max_k \frac{(q_k)_+}{r_k^\top e} \; (u^\top e)
               \le \max_k \frac{(q_k)_+}{r_k^\top e}, \qquad \|u\| \le 1.

The bound is too large by the square of the cone's angle times the density of hyperplanes, and
exact once no hyperplane crosses it, so cones shrink only near maxima that compete. Samples with one
hyperplane must be merged first (the tilt t is what antipodal ones leave): a convex and a concave
term on a common kink have a bound that is too large by the angle itself.

**Rounding is covered.** Generators are midpoints :math:`(a+b)/2` of points of the l1 sphere with
integer start: dyadic numbers that doubles hold exactly to depth 50, so the cones cover everything.
Signs that rounding could flip change the terms by at most what the error term allows for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_EPS = float(np.finfo(np.float64).eps)
_MAX_DEPTH = 50  # halvings of a unit coordinate that double precision represents exactly


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def value_of(rows, z, tilt, direction):  # type: ignore[no-untyped-def]
    """Value of g, tilt @ direction + z^T (rows @ direction)_+."""
    n, r = rows.shape
    total = 0.0
    for a in range(r):
        total += tilt[a] * direction[a]
    for i in range(n):
        dot = 0.0
        for a in range(r):
            dot += rows[i, a] * direction[a]
        if dot > 0.0:
            total += z[i] * dot
    return total


@njit(cache=True, nogil=True)
def search(  # type: ignore[no-untyped-def]
    rows, z, tilt, target, rtol, max_nodes, error, slack, start
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
    lower = value_of(rows, z, tilt, start)
    upper = 0.0
    for i in range(n):
        pool[i] = i
    top = 0
    for orthant in range(2**r):
        generators[top] = 0.0
        for k in range(r):
            generators[top, k, k] = 1.0 - 2.0 * ((orthant >> k) & 1)
        linear[top] = tilt
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
            value = value_of(rows, z, tilt, centre)
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
            value = value_of(rows, z, tilt, slope)
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
