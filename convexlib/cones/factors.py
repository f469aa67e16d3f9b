"""Compiled updates of the QR factors of a cone's active normals.

Reductions may be reordered by the compiler (`FAST`), which changes rounding only; no kernel
relies on the order of a sum, and infinities and NaN keep their meaning.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
