r"""The maximum of a linear function over a simplicial cone and the unit ball, for compiled loops.

A function that is :math:`q_k` at the generators :math:`r_k` and linear between them is, for
**every** w and every unit vector c with :math:`r_k^\top c > 0`, at most

.. math:: \lambda^\top q = w^\top u + \sum_k \lambda_k (q_k - r_k^\top w)
          \le \|w\| + \max_k \frac{(q_k - r_k^\top w)_+}{r_k^\top c},
          \qquad u = \sum_k \lambda_k r_k, \; \lambda \ge 0, \; \|u\| \le 1,

because :math:`\sum \lambda_k r_k^\top c = u^\top c \le 1`. The shortest w with
:math:`r_k^\top w \ge q_k` attains the maximum; a w that is not quite the shortest is a bound too.
"""

from __future__ import annotations

import numpy as np
from numba import njit


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def shortest_slope(  # type: ignore[no-untyped-def]  # numba infers
    R, q, centre, Q, L, used, multipliers, w, best
):
    """Bound max q^T lambda over the cone and the ball; `best` holds the w behind the bound.

    An active-set method with equalities at the `used` generators, solved by Gram-Schmidt (R = L Q)
    so that thin cones are no worse than fat ones. On return `multipliers` @ R is
    the last w tried.
    """
    r = len(q)
    # A cone as thin as rounding has no other w.
    bound = 0.0
    for k in range(r):
        span = 0.0
        for a in range(r):
            span += R[k, a] * centre[a]
        bound = max(bound, q[k] / span)
    best[:] = bound * centre
    used[:] = True
    for _ in range(2 * r + 1):
        for a in range(r):
            w[a] = 0.0
        for k in range(r):
            multipliers[k] = 0.0
            if not used[k]:
                continue
            Q[k] = R[k]
            for _ in range(2):  # twice is enough for orthogonality
                for m in range(k):
                    if used[m]:
                        dot = 0.0
                        for a in range(r):
                            dot += Q[k, a] * Q[m, a]
                        for a in range(r):
                            Q[k, a] -= dot * Q[m, a]
            length = 0.0
            for a in range(r):
                length += Q[k, a] * Q[k, a]
            length = np.sqrt(length)
            if length == 0.0:
                used[k] = False
                continue
            for a in range(r):
                Q[k, a] /= length
            height = q[k]
            for m in range(k):
                L[k, m] = 0.0
                if used[m]:
                    for a in range(r):
                        L[k, m] += R[k, a] * Q[m, a]
                    height -= L[k, m] * multipliers[m]
            L[k, k] = 0.0
            for a in range(r):
                L[k, k] += R[k, a] * Q[k, a]
            multipliers[k] = height / L[k, k]  # coordinates of w in terms of Q
            for a in range(r):
                w[a] += multipliers[k] * Q[k, a]
        excess = 0.0
        most = 0.0
        worst = -1
        length = 0.0
        for a in range(r):
            length += w[a] * w[a]
        for k in range(r):
            short = q[k]
            span = 0.0
            for a in range(r):
                short -= R[k, a] * w[a]
                span += R[k, a] * centre[a]
            excess = max(excess, short / span)
            if not used[k] and short / span > most:
                most = short / span
                worst = k
        if np.sqrt(length) + excess < bound:
            bound = np.sqrt(length) + excess
            best[:] = w
        # w = sum mu_k r_k; a negative mu_k means that the equality at k makes w longer.
        least = 0.0
        drop = -1
        for k in range(r - 1, -1, -1):
            if used[k]:
                for m in range(k + 1, r):
                    if used[m]:
                        multipliers[k] -= L[m, k] * multipliers[m]
                multipliers[k] /= L[k, k]
                if multipliers[k] < least:
                    least = multipliers[k]
                    drop = k
        if drop >= 0:
            used[drop] = False
        elif worst >= 0 and most > 1e-12 * bound:
            used[worst] = True
        else:
            break
    return bound


@njit(cache=True, nogil=True)
def edge_to_halve(R):  # type: ignore[no-untyped-def]  # numba infers
    """Two generators: the longest edge."""
    r = len(R)
    longest = -1.0
    first = 0
    second = 0
    for k in range(r):
        for m in range(k + 1, r):
            edge = 0.0
            for a in range(r):
                edge += (R[k, a] - R[m, a]) ** 2
            if edge > longest:
                longest = edge
                first = k
                second = m
    return first, second
