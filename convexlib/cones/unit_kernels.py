"""Compiled loops over the cones of units; `convexlib.cones.unit_cones` says what they compute."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrays import EPS
from convexlib.cones import project_one

_SMALLEST = 1e-26  # share of a leaf below which it counts as zero
_ROUNDS = 100  # projections for one maximum over the l2,1 ball


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def walls(directions, leaves, nodes, rows):  # type: ignore[no-untyped-def]  # numba infers
    """Write the walls of one unit as unit rows (R, m d); returns R."""
    n, d = directions.shape
    m = leaves.shape[0]
    count = 0
    for j in range(m):
        for i in range(n):
            rows[count] = 0.0
            sign = 1.0 if leaves[j, i] else -1.0
            for a in range(d):
                rows[count, j * d + a] = sign * directions[i, a]
            count += 1
    for q in range(nodes.shape[0]):
        for i in range(n):
            terms = 0
            for j in range(m):
                terms += nodes[q, i, j] * nodes[q, i, j]
            if terms == 0:
                continue
            scale = 1.0 / np.sqrt(terms)
            for j in range(m):
                for a in range(d):
                    rows[count, j * d + a] = scale * nodes[q, i, j] * directions[i, a]
            count += 1
    return count


@njit(cache=True, nogil=True)
def _group_maximum(rows, c, threshold, best):  # type: ignore[no-untyped-def]  # numba infers
    """Maximise c^T U over the cone and the Frobenius ball: (lower, upper), maximiser in best."""
    size = c.shape[0]
    active = np.zeros(size + 1, np.int64)
    multipliers = np.zeros(size + 1)
    basis = np.zeros((size + 1, size))
    signs = np.ones(rows.shape[0], np.int8)
    q = project_one(rows, signs, c, threshold, active, 0, multipliers, basis, best)
    lower = np.sqrt((best * best).sum())
    residual = c.copy()
    total = np.sqrt((c * c).sum())
    for k in range(q):
        total += multipliers[k]
        for a in range(size):
            residual[a] += multipliers[k] * rows[active[k], a]
    upper = np.sqrt((residual * residual).sum()) + 4.0 * EPS * (size + 4) * total
    if lower > 0.0:
        for a in range(size):
            best[a] /= lower
    return lower, upper


@njit(cache=True, nogil=True)
def _sum_maximum(rows, c, m, threshold, rtol, best):  # type: ignore[no-untyped-def]  # numba infers
    """Maximise c^T U over the cone and sum_j ||u_j|| <= 1: (lower, upper), maximiser in best."""
    size = c.shape[0]
    d = size // m
    active = np.zeros(size + 1, np.int64)
    multipliers = np.zeros(size + 1)
    basis = np.zeros((size + 1, size))
    signs = np.ones(rows.shape[0], np.int8)
    scaled = np.empty_like(rows)
    lengths = np.empty(rows.shape[0])
    point = np.empty(size)
    projection = np.empty(size)
    residual = np.empty(size)
    slope = np.empty(m)
    share = np.full(m, 1.0 / m)
    length_c = np.sqrt((c * c).sum())
    lower = 0.0
    upper = np.inf
    # Bracket of share[0] for two leaves, with the derivative at its ends.
    low, high, at_low, at_high = 0.0, 1.0, np.inf, -np.inf
    power = 1.0
    last = 0
    powers = np.ones(m)
    ways = np.zeros(m)
    # For fixed shares eta of the budget, sum_j ||u_j|| <= 1 is replaced by the smaller ball
    # sum_j ||u_j||^2 / eta_j <= 1: a projection solves that. Every multiplier gives a bound on
    # the true maximum, every projection a feasible point; the shares follow the slopes.
    for _ in range(_ROUNDS):
        for a in range(size):
            point[a] = np.sqrt(share[a // d]) * c[a]
        for k in range(rows.shape[0]):
            length = 0.0
            for a in range(size):
                scaled[k, a] = np.sqrt(share[a // d]) * rows[k, a]
                length += scaled[k, a] * scaled[k, a]
            lengths[k] = np.sqrt(length)
            for a in range(size):
                if lengths[k] > 0.0:
                    scaled[k, a] /= lengths[k]
        q = project_one(scaled, signs, point, 0.0, active, 0, multipliers, basis, projection)
        for a in range(size):
            residual[a] = c[a]
        total = length_c
        for k in range(q):
            weight = multipliers[k] / lengths[active[k]]
            total += weight
            for a in range(size):
                residual[a] += weight * rows[active[k], a]
        bound = 0.0
        reached = 0.0
        spent = 0.0
        for j in range(m):
            square = 0.0
            outside = 0.0
            for a in range(j * d, (j + 1) * d):
                square += projection[a] * projection[a]
                outside += residual[a] * residual[a]
            bound = max(bound, np.sqrt(outside))
            slope[j] = np.sqrt(square / share[j])
            spent += share[j] * slope[j]
            reached += square
        upper = min(upper, bound + 4.0 * EPS * (size + 4) * total)
        if spent > 0.0 and reached / spent > lower:
            lower = reached / spent
            for a in range(size):
                best[a] = np.sqrt(share[a // d]) * projection[a] / spent
        if upper <= max(threshold, lower) * (1.0 + rtol) or upper <= 1e-12 * length_c:
            break
        if threshold > 0.0 and lower > threshold * (1.0 + rtol):
            break  # known to exceed the threshold
        if m == 2:
            difference = slope[0] * slope[0] - slope[1] * slope[1]
            side = 1 if difference > 0.0 else -1
            if side > 0:
                low, at_low = share[0], difference
            else:
                high, at_high = share[0], difference
            if at_low < np.inf and at_high > -np.inf:
                # Regula falsi, halving the end that stays (Illinois).
                if side == last:
                    if side > 0:
                        at_high *= 0.5
                    else:
                        at_low *= 0.5
                share[0] = (low * at_high - high * at_low) / (at_high - at_low)
                if not low < share[0] < high:
                    share[0] = 0.5 * (low + high)
            else:
                power = min(2.0 * power, 64.0) if side == last else 1.0
                tiny = 1e-300
                ratio = (max(slope[1], tiny) / max(slope[0], tiny)) ** power
                share[0] = share[0] / (share[0] + share[1] * ratio)
            last = side
            share[0] = min(max(share[0], _SMALLEST), 1.0 - 1e-16)
            share[1] = max(1.0 - share[0], _SMALLEST)
        elif m > 2:
            # Shares move by powers of their slopes, larger ones while they keep their direction.
            if spent == 0.0:
                break
            mean = np.sqrt(reached)
            for j in range(m):
                ratio = slope[j] / mean
                way = 1.0 if ratio > 1.0 else -1.0
                powers[j] = min(1.5 * powers[j], 64.0) if way == ways[j] else 0.4 * powers[j]
                powers[j] = max(powers[j], 0.05)
                ways[j] = way
                share[j] *= min(max(ratio, 1e-3) ** powers[j], 1e3)
            share /= share.sum()
            for j in range(m):
                share[j] = max(share[j], _SMALLEST)
    return lower, upper


@njit(cache=True, nogil=True, parallel=True)
def maxima(  # type: ignore[no-untyped-def]  # numba infers
    X, directions, leaves, nodes, outputs, index, z, by_sum, threshold, rtol,
    lower, upper, best,
):  # fmt: skip
    """Bounds and maximisers for the units `index`, written in place."""
    n, d = X.shape
    m = leaves.shape[1]
    sizes = 0.0
    for i in range(n):
        square = 0.0
        for a in range(d):
            square += X[i, a] * X[i, a]
        sizes += abs(z[i]) * np.sqrt(square)
    # Rounding of the sums in c, whose terms are at most |z_i| |x_i| in each block.
    slack = 2.0 * (n + 4) * np.sqrt(m) * EPS * sizes
    for b in prange(index.shape[0]):
        k = index[b]
        c = np.zeros(m * d)
        for i in range(n):
            for j in range(m):
                if outputs[k, i, j] != 0:
                    for a in range(d):
                        c[j * d + a] += outputs[k, i, j] * z[i] * X[i, a]
        trivial = 0.0
        total = 0.0
        for j in range(m):
            square = 0.0
            for a in range(j * d, (j + 1) * d):
                square += c[a] * c[a]
            total += square
            trivial = max(trivial, square)
        trivial = np.sqrt(trivial if by_sum else total)
        if trivial + slack <= threshold:
            upper[b] = trivial + slack
            continue
        rows = np.empty((m * n + nodes.shape[1] * n, m * d))
        count = walls(directions, leaves[k], nodes[k], rows)
        if by_sum:
            low, high = _sum_maximum(rows[:count], c, m, threshold, rtol, best[b])
        else:
            low, high = _group_maximum(rows[:count], c, threshold, best[b])
        lower[b] = low
        upper[b] = high + slack


@njit(cache=True, nogil=True, parallel=True)
def projections(directions, leaves, nodes, index, points, results):  # type: ignore[no-untyped-def]  # numba infers
    """Projections of points (B, m d) onto the cones of the units `index`, written in place."""
    n = directions.shape[0]
    m = leaves.shape[1]
    size = points.shape[1]
    for b in prange(index.shape[0]):
        rows = np.empty((m * n + nodes.shape[1] * n, size))
        count = walls(directions, leaves[index[b]], nodes[index[b]], rows)
        signs = np.ones(count, np.int8)
        active = np.zeros(size + 1, np.int64)
        multipliers = np.zeros(size + 1)
        basis = np.zeros((size + 1, size))
        project_one(
            rows[:count], signs, points[b], 0.0, active, 0, multipliers, basis, results[b]
        )  # fmt: skip
