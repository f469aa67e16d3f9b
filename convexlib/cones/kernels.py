"""Compiled projection onto one polyhedral cone, and onto many.

Reductions may be reordered by the compiler (`_FAST`), which changes rounding only; no kernel
relies on the order of a sum, and infinities and NaN keep their meaning.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

# Relative sizes below which a violation or a component counts as rounding noise.
_VIOLATION = 1e-13
_DEPENDENT = 1e-11
_REFRESH = 64  # updates of a factorisation after which it is made afresh
_STALE = 16  # steps of a projection after which it is computed afresh
_CHUNK = 64  # constraints that are looked through at once
_FAST = {"reassoc", "contract", "nsz"}


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True, fastmath=_FAST)
def _orthogonalise(normal, basis, q, coefficients):  # type: ignore[no-untyped-def]  # numba infers
    """Subtract from `normal` its components along basis[:q].

    A second time if little is left: what rounding left of them is then no longer small beside it.
    """
    d = normal.shape[0]
    for k in range(q):
        coefficients[k] = 0.0
    left = (normal * normal).sum()
    for _ in range(2):
        before = left
        for k in range(q):
            dot = 0.0
            for a in range(d):
                dot += basis[k, a] * normal[a]
            coefficients[k] += dot
            for a in range(d):
                normal[a] -= dot * basis[k, a]
        left = (normal * normal).sum()
        if left > 0.5 * before:
            break


@njit(cache=True, nogil=True, fastmath=_FAST)
def _factor(rows, signs, active, q, basis, triangle):  # type: ignore[no-untyped-def]  # numba infers
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


@njit(cache=True, nogil=True, fastmath=_FAST)
def _back_substitute(triangle, q, right, solution):  # type: ignore[no-untyped-def]  # numba infers
    for k in range(q - 1, -1, -1):
        value = right[k]
        for m in range(k + 1, q):
            value -= triangle[k, m] * solution[m]
        solution[k] = value / triangle[k, k]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _remove(k, q, active, multipliers, basis, triangle):  # type: ignore[no-untyped-def]  # numba infers
    """Drop the k-th active normal; Givens rotations make the factor triangular again."""
    d = basis.shape[1]
    for m in range(k, q - 1):
        active[m] = active[m + 1]
        multipliers[m] = multipliers[m + 1]
        for row in range(m + 2):
            triangle[row, m] = triangle[row, m + 1]
    for m in range(k, q - 1):
        root = np.hypot(triangle[m, m], triangle[m + 1, m])
        cosine, sine = triangle[m, m] / root, triangle[m + 1, m] / root
        triangle[m, m] = root
        triangle[m + 1, m] = 0.0
        for column in range(m + 1, q - 1):
            upper, lower = triangle[m, column], triangle[m + 1, column]
            triangle[m, column] = cosine * upper + sine * lower
            triangle[m + 1, column] = cosine * lower - sine * upper
        for a in range(d):
            upper, lower = basis[m, a], basis[m + 1, a]
            basis[m, a] = cosine * upper + sine * lower
            basis[m + 1, a] = cosine * lower - sine * upper


@njit(cache=True, nogil=True, fastmath=_FAST)
def _find_violated(columns, signs, projection, level, first, slacks):  # type: ignore[no-untyped-def]  # numba infers
    """A constraint with a slack below `level`, or -1, and the chunk in which the search ended.

    It is the most violated one of the first chunk that has any, from chunk `first` on: to look
    through all constraints every time would cost more than the better choice saves.
    """
    d, n = columns.shape
    chunks = (n + _CHUNK - 1) // _CHUNK
    for k in range(chunks):
        chunk = (first + k) % chunks
        low = chunk * _CHUNK
        size = min(_CHUNK, n - low)
        for j in range(size):
            slacks[j] = 0.0
        for a in range(d):
            component = projection[a]
            for j in range(size):
                slacks[j] += columns[a, low + j] * component
        worst = -1
        for j in range(size):
            slack = signs[low + j] * slacks[j]
            if slack < level:
                level = slack
                worst = low + j
        if worst >= 0:
            return worst, chunk
    return -1, first


@njit(cache=True, nogil=True, fastmath=_FAST)
def project_from(  # type: ignore[no-untyped-def]  # numba infers
    rows, columns, signs, point, threshold,
    active, q, age, multipliers, basis, triangle, projection,
):  # fmt: skip
    """Project `point` onto {u : signs[j] rows[j]·u >= 0}; rows have unit length (or are zero).

    `columns` is the transpose of `rows`, contiguous like it.

    `active[:q]` is the starting active set; unless `age` is negative, `basis` (orthonormal rows)
    and `triangle` hold the QR factors of its normals, updated that often. `active`,
    `multipliers`, `basis`, `triangle` and `projection` are written in place; returns the size of
    the final active set and the age of its factors. Distances only grow as constraints are added,
    so the norm of the iterate only falls: as soon as it is at most `threshold` the projection is
    reported as zero (the multipliers then prove that its norm is at most `threshold`).
    """
    n, d = rows.shape
    normal = np.empty(d)
    coefficients = np.zeros(d + 1)
    ratios = np.zeros(d + 1)
    slacks = np.empty(min(n, _CHUNK))
    chunk = 0
    size = np.sqrt((point * point).sum())

    # Warm start: drop dependent normals and negative multipliers until the rest is optimal for
    # the constraints it contains.
    q = min(q, d)
    while (age < 0 or age >= _REFRESH) and q > 0:
        drop = _factor(rows, signs, active, q, basis, triangle)
        if drop < 0:
            break
        for m in range(drop, q - 1):
            active[m] = active[m + 1]
        q -= 1
    if age < 0 or age >= _REFRESH:
        age = 0
    while q > 0:
        for k in range(q):
            dot = 0.0
            for a in range(d):
                dot += basis[k, a] * point[a]
            coefficients[k] = -dot
        _back_substitute(triangle, q, coefficients, multipliers)
        lowest = 0.0
        drop = -1
        for k in range(q):
            if multipliers[k] < lowest:
                lowest = multipliers[k]
                drop = k
        if drop < 0:
            break
        _remove(drop, q, active, multipliers, basis, triangle)
        q -= 1
        age += 1
    for a in range(d):
        projection[a] = point[a]
    _orthogonalise(projection, basis, q, coefficients)

    stale = 0
    for _ in range(50 * (n + d)):
        norm = np.sqrt((projection * projection).sum())
        short = norm <= threshold or norm <= _VIOLATION * size
        worst = -1
        if not short:
            level = -_VIOLATION * size
            worst, chunk = _find_violated(columns, signs, projection, level, chunk, slacks)
        if worst < 0 and stale == 0:
            if short:
                for a in range(d):
                    projection[a] = 0.0
            break
        if worst < 0 or stale >= _STALE:
            # Steps accumulate rounding; the projection is the point minus its active components.
            stale = 0
            for a in range(d):
                projection[a] = point[a]
            _orthogonalise(projection, basis, q, coefficients)
            continue
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
                age += 1
                break
            _remove(blocking, q, active, multipliers, basis, triangle)
            q -= 1
            age += 1
        if step == np.inf:
            break
        stale += 1
    return q, age


@njit(cache=True, nogil=True)
def project_one(  # type: ignore[no-untyped-def]  # numba infers
    rows, signs, point, threshold, active, q, multipliers, basis, projection
):
    """`project_from` without factors to start from; returns the size of the active set."""
    d = rows.shape[1]
    triangle = np.zeros((d + 1, d + 1))
    columns = np.ascontiguousarray(rows.T)
    q, _ = project_from(
        rows, columns, signs, point, threshold,
        active, q, -1, multipliers, basis, triangle, projection,
    )  # fmt: skip
    return q


@njit(cache=True, nogil=True)
def project_few(  # type: ignore[no-untyped-def]  # numba infers
    rows, columns, signs, blocks, points, threshold,
    active, sizes, ages, multipliers, bases, triangles, projections,
):  # fmt: skip
    """Project points[k] onto the cone signs[blocks[k] % P], one after the other."""
    patterns = signs.shape[0]
    for k in range(blocks.shape[0]):
        b = blocks[k]
        sizes[b], ages[b] = project_from(
            rows, columns, signs[b % patterns], points[k], threshold, active[b], sizes[b],
            ages[b], multipliers[b], bases[b], triangles[b], projections[b],
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True)
def project_many(  # type: ignore[no-untyped-def]  # numba infers
    rows, columns, signs, blocks, points, threshold,
    active, sizes, ages, multipliers, bases, triangles, projections,
):  # fmt: skip
    """`project_few` on all threads."""
    patterns = signs.shape[0]
    for k in prange(blocks.shape[0]):
        b = blocks[k]
        sizes[b], ages[b] = project_from(
            rows, columns, signs[b % patterns], points[k], threshold, active[b], sizes[b],
            ages[b], multipliers[b], bases[b], triangles[b], projections[b],
        )  # fmt: skip
