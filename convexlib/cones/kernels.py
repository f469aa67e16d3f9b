"""Compiled steps of projections onto polyhedral cones, one or many.

First the updates of the QR factors of a cone's active normals, then the projections. Reductions may
be reordered by the compiler (`FAST`), which changes rounding only; no kernel relies on the order of
a sum, and infinities and NaN keep their meaning.
"""

from __future__ import annotations

from types import FunctionType

import numpy as np
from numba import njit, prange

import convexlib.runtime  # noqa: F401  # a place for the kernels

DEPENDENT = 1e-11  # what is left of a unit normal below which it counts as dependent
FAST = {"reassoc", "contract", "nsz"}


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True, fastmath=FAST)
def orthogonalise(normal, basis, q, coefficients):  # type: ignore[no-untyped-def]  # numba infers
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


@njit(cache=True, nogil=True, fastmath=FAST)
def factor(rows, signs, active, q, basis, triangle):  # type: ignore[no-untyped-def]  # numba infers
    """QR factors of the active normals; returns the first dependent position, or -1."""
    d = rows.shape[1]
    normal = np.empty(d)
    column = np.empty(d + 1)
    for k in range(q):
        for a in range(d):
            normal[a] = signs[active[k]] * rows[active[k], a]
        orthogonalise(normal, basis, k, column)
        size = np.sqrt((normal * normal).sum())
        if size < DEPENDENT:
            return k
        for m in range(k):
            triangle[m, k] = column[m]
        triangle[k, k] = size
        for a in range(d):
            basis[k, a] = normal[a] / size
    return -1


@njit(cache=True, nogil=True, fastmath=FAST)
def back_substitute(triangle, q, right, solution):  # type: ignore[no-untyped-def]  # numba infers
    """Solve triangle[:q, :q] x = right[:q] into `solution`."""
    for k in range(q - 1, -1, -1):
        value = right[k]
        for m in range(k + 1, q):
            value -= triangle[k, m] * solution[m]
        solution[k] = value / triangle[k, k]


@njit(cache=True, nogil=True, fastmath=FAST)
def remove(k, q, active, multipliers, basis, triangle):  # type: ignore[no-untyped-def]  # numba infers
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


_VIOLATION = 1e-13  # relative size below which a violation counts as rounding noise
_REFRESH = 64  # updates of a factorisation, or d, after which it is computed from scratch
_STALE = 16  # steps of a projection after which it is computed from scratch
_PICKED = 16  # violated constraints that are dealt with between two looks at all


@njit(cache=True, nogil=True, fastmath=FAST)
def _pick(slacks, signs, level, picked):  # type: ignore[no-untyped-def]  # numba infers
    """Put the most violated constraints, slack below `level`, into `picked`; return their count."""
    most = picked.shape[0]
    count = 0
    worst = np.empty(most)
    last = 0  # the place of the least violated one, once all places are taken
    for j in range(slacks.shape[0]):
        slack = signs[j] * slacks[j]
        if slack < level:
            if count < most:
                place = count
                count += 1
            else:
                place = last
            picked[place] = j
            worst[place] = slack
            if count == most:
                last = 0
                for k in range(most):
                    if worst[k] > worst[last]:
                        last = k
                level = worst[last]
    return count


@njit(cache=True, nogil=True, fastmath=FAST)
def _start(  # type: ignore[no-untyped-def]  # numba infers
    rows, signs, point, active, q, age, multipliers, basis, triangle, projection
):
    """Project onto the active constraints, without those that are dependent or pull.

    The first steps of a warm start: what is left of the active set is optimal for itself. Unless
    `age` is negative, `basis` (orthonormal rows) and `triangle` hold the QR factors of its
    normals, updated that often. Returns the size of the active set and the age of its factors.
    """
    d = rows.shape[1]
    coefficients = np.zeros(d + 1)
    q = min(q, d)
    if age >= max(_REFRESH, d):  # a factorisation costs as much as some d updates
        age = -1
    # Normals that depend on those before them go, until the rest can be factored.
    while age < 0 and q > 0:
        drop = factor(rows, signs, active, q, basis, triangle)
        if drop < 0:
            break
        for m in range(drop, q - 1):
            active[m] = active[m + 1]
        q -= 1
    age = max(age, 0)
    # A negative multiplier says that the projection onto the cone is off this constraint. One
    # leaves at a time, the most negative first, since the others change with it.
    first = 0  # coefficients before it are known
    while q > 0:
        for k in range(first, q):
            dot = 0.0
            for a in range(d):
                dot += basis[k, a] * point[a]
            coefficients[k] = -dot
        back_substitute(triangle, q, coefficients, multipliers)
        lowest = 0.0
        drop = q  # none; a literal would have `remove` compiled for it, too
        for k in range(q):
            if multipliers[k] < lowest:
                lowest = multipliers[k]
                drop = k
        if drop == q:
            break
        first = drop
        remove(drop, q, active, multipliers, basis, triangle)
        q -= 1
        age += 1
    for a in range(d):
        projection[a] = point[a]
    orthogonalise(projection, basis, q, coefficients)
    return q, age


@njit(cache=True, nogil=True, fastmath=FAST)
def _advance(  # type: ignore[no-untyped-def]  # numba infers
    rows, signs, picked, point, threshold,
    active, q, age, multipliers, basis, triangle, projection,
):  # fmt: skip
    """Make constraints active, the most violated of `picked` first, until it has none.

    Distances only grow as constraints are added, so the norm of the iterate only falls: as soon as
    it is at most `threshold` the search ends (the multipliers then prove that the projection's norm
    is at most `threshold`). What is mere rounding is zero. Returns the size of the active set, the
    age of its factors, and whether the projection has ended.
    """
    n, d = rows.shape
    normal = np.empty(d)
    coefficients = np.zeros(d + 1)
    ratios = np.zeros(d + 1)
    size = np.sqrt((point * point).sum())
    stale = 0
    for _ in range(50 * (n + d)):
        norm = np.sqrt((projection * projection).sum())
        nothing = norm <= _VIOLATION * size
        short = norm <= threshold or nothing
        worst = -1
        slack = -_VIOLATION * norm
        if not short:
            for j in picked:
                dot = 0.0
                for a in range(d):
                    dot += rows[j, a] * projection[a]
                if signs[j] * dot < slack:
                    slack = signs[j] * dot
                    worst = j
        if stale > 0 and (worst < 0 or stale >= _STALE):
            # Steps accumulate rounding; the projection is the point minus its active components.
            stale = 0
            for a in range(d):
                projection[a] = point[a]
            orthogonalise(projection, basis, q, coefficients)
            continue
        if nothing:
            for a in range(d):
                projection[a] = 0.0
        if worst < 0:
            return q, age, short
        # The violated constraint enters by dual steps: its multiplier grows, those of the active
        # ones change along, and one that reaches zero first leaves before the step goes on.
        multiplier = 0.0
        while True:
            for a in range(d):
                normal[a] = signs[worst] * rows[worst, a]
            slack = 0.0
            for a in range(d):
                slack += normal[a] * projection[a]
            orthogonalise(normal, basis, q, coefficients)
            back_substitute(triangle, q, coefficients, ratios)
            length = (normal * normal).sum()
            # A full step satisfies the constraint, a partial one ends where an active multiplier is
            # zero. If the normal is in the span of the active ones, only multipliers move.
            full = -slack / length if length > DEPENDENT**2 else np.inf
            partial = np.inf
            blocking = q
            for k in range(q):
                if ratios[k] > 0.0 and multipliers[k] < partial * ratios[k]:
                    partial = multipliers[k] / ratios[k]
                    blocking = k
            step = min(full, partial)
            if step == np.inf:
                # Only rounding brings us here (the origin is always feasible): the violated
                # normal is a nonnegative combination of active ones, hence satisfied exactly.
                multipliers[q] = 0.0
                return q, age, True
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
            remove(blocking, q, active, multipliers, basis, triangle)
            q -= 1
            age += 1
        stale += 1
    return q, age, True


@njit(cache=True, nogil=True)
def project_one(  # type: ignore[no-untyped-def]  # numba infers
    rows, signs, point, threshold, active, q, multipliers, basis, projection
):
    """Project `point` onto {u : signs[j] rows[j]·u >= 0}; rows have unit length (or are zero).

    If its norm is at most `threshold` it is zero instead. `active[:q]` is the active set to start
    from. `active`, `multipliers`, `basis` and `projection` are written in place; returns the size
    of the final active set.
    """
    n, d = rows.shape
    triangle = np.zeros((d + 1, d + 1))
    picked = np.empty(_PICKED, dtype=np.int64)
    q, age = _start(rows, signs, point, active, q, -1, multipliers, basis, triangle, projection)
    count = 0
    for _ in range(50 * (n + d)):
        q, age, ended = _advance(
            rows, signs, picked[:count], point, threshold,
            active, q, age, multipliers, basis, triangle, projection,
        )  # fmt: skip
        if ended:
            break
        level = -_VIOLATION * np.sqrt((projection * projection).sum())
        count = _pick(rows @ projection, signs, level, picked)
        if count == 0:
            break
    if np.sqrt((projection * projection).sum()) <= threshold:
        projection[:] = 0.0
    return q


def _project_all(  # type: ignore[no-untyped-def]  # numba infers
    rows, signs, blocks, points, threshold,
    active, sizes, ages, multipliers, bases, triangles, projections, ended, slacks, fresh,
):  # fmt: skip
    """Project points[k] onto the cones signs[blocks[k] % P], one round of it.

    Fresh points are first projected onto what is active in their blocks. In later rounds the most
    violated constraints are dealt with, of which `slacks` (k, n), without signs, tell.
    """
    patterns = signs.shape[0]
    for k in prange(blocks.shape[0]):
        b = blocks[k]
        own = signs[b % patterns]
        picked = np.empty(_PICKED, dtype=np.int64)
        count = 0
        if fresh:
            sizes[b], ages[b] = _start(
                rows, own, points[k], active[b], sizes[b], ages[b], multipliers[b], bases[b],
                triangles[b], projections[b],
            )  # fmt: skip
        else:
            level = -_VIOLATION * np.sqrt((projections[b] * projections[b]).sum())
            count = _pick(slacks[k], own, level, picked)
        if count == 0 and not fresh:
            ended[k] = True
        else:
            sizes[b], ages[b], ended[k] = _advance(
                rows, own, picked[:count], points[k], threshold, active[b], sizes[b], ages[b],
                multipliers[b], bases[b], triangles[b], projections[b],
            )  # fmt: skip


def _named(name: str) -> FunctionType:
    """That function under another name, by which numba's cache tells its two kernels apart."""
    copy = FunctionType(_project_all.__code__, _project_all.__globals__, name)
    copy.__qualname__ = name
    return copy


# On one thread and on all.
project_few = njit(cache=True, nogil=True)(_named("project_few"))
project_many = njit(cache=True, nogil=True, parallel=True)(_named("project_many"))
