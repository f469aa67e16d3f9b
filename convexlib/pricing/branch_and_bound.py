r"""Branch and bound for :math:`g(u) = t^\top u + z^\top (Xu)_+` on the unit ball, with rounding.

Directions are covered by simplicial cones with generators :math:`r_1..r_r`, starting from the
orthants. On a cone a sample whose :math:`x_i^\top r_k` have one sign contributes a linear term,
exactly. An undecided sample with :math:`z_i > 0` is convex and lies below its chord through the
generators; one with :math:`z_i < 0` is concave and lies below every tangent. So there are numbers
:math:`q_k` with :math:`g(\sum \lambda_k r_k) \le \sum_k \lambda_k q_k` for all
:math:`\lambda \ge 0`; the maximum of that over the cone and the ball is the length of the shortest
w with :math:`r_k^\top w \ge q_k` (`simplicial`), and the tangents are chosen to make w shorter
still. The bound's excess is of the order of the square of the cone's angle, and 0 once no
hyperplane crosses the cone. Samples with one hyperplane must be merged first (the tilt t is what
antipodal ones leave): a convex and a concave term on a common kink have an excess of the order of
the angle itself.

A child inherits its parent's undecided samples, and their heights: halving an edge
computes one new height per sample, the mean of two.

**Rounding is covered.** Generators are midpoints :math:`(a+b)/2` of points of the l1 sphere with
integer start: dyadic numbers that doubles hold exactly to depth 50, so the cones cover everything.
Signs that rounding could flip change the terms by at most what the error term allows for.
"""

from __future__ import annotations

from time import monotonic

import numpy as np

from convexlib.arrays import EPS, Floats
from convexlib.pricing.kernels import MAX_DEPTH, expand, value_of


def rounding(rows: Floats, z: Floats, tilt: Floats) -> tuple[Floats, float]:
    """What a height may be off by (n,), and what a bound may be: the errors of `search`."""
    n, r = rows.shape
    largest = np.abs(rows).max(axis=1)
    # A height is exact at the axes; every halving rounds once, on the l1 sphere.
    slack = (MAX_DEPTH + 2) * EPS * largest
    # Sums of n terms, each with the error of its height; the l1 norm of u is at most sqrt(r), and
    # R w >= q is checked to r^3 roundings because r_k^T c >= r^(-3/2).
    weight = float(np.abs(z) @ largest + np.abs(tilt).max())
    terms = 2 * n + 4 * MAX_DEPTH + 32 * (r + 1) ** 2
    return slack, r**0.5 * terms * EPS * weight


def search(
    rows: Floats,
    z: Floats,
    tilt: Floats,
    goal: float,
    rtol: float,
    max_nodes: int,
    start: Floats,
    deadline: float = np.inf,
) -> tuple[float, float, Floats, int, bool]:
    """Depth-first search for max g over the unit ball; `z` has no zeros.

    Stops when the maximum is known to be at most ``max(goal, lower) * (1 + rtol)``, or early, after
    `max_nodes` cones or at the `deadline` (of `time.monotonic`). Returns lower and upper bound,
    the direction of the lower one, the number of cones, and whether it stopped early.
    """
    n, r = rows.shape
    slack, error = rounding(rows, z, tilt)
    best = start.copy()
    state = np.array([value_of(rows, z, tilt, start), 0.0])
    orthants = 2**r
    capacity = orthants + MAX_DEPTH * r + 2
    generators = np.zeros((capacity, r, r))
    for orthant in range(orthants):
        np.fill_diagonal(generators[orthant], 1 - 2 * ((orthant >> np.arange(r)) & 1))
    stack = (
        generators,
        np.repeat(tilt[None], capacity, axis=0),
        np.tile(np.array([0, n]), (capacity, 1)),
        np.full(capacity, np.inf),
        np.zeros((capacity, r), np.int64),
        np.full((capacity, 2), -1),
    )
    pool = (np.resize(np.arange(n), 4 * n), np.empty((4 * n, r)), np.zeros(4 * n))
    counts = np.array([orthants, 0])
    squares = (rows * rows).sum(axis=1)
    while counts[0] and counts[1] < max_nodes and monotonic() < deadline:
        # Back in Python now and then: for the clock, and so that an interrupt is heard.
        fits = expand(
            *(rows, squares, z, tilt, error, slack, goal, rtol, max_nodes),
            *(best, state, counts, stack, pool),
        )
        if not fits:
            members, heights, tangents = (
                np.resize(part, (2 * len(part), *part.shape[1:])) for part in pool
            )
            pool = members, heights, tangents
    lower, upper = state
    if counts[0]:
        upper = max(upper, stack[3][: counts[0]].max())
    return float(lower), float(upper), best, int(counts[1]), bool(counts[0])
