r"""Branch and bound for :math:`g(u) = t^\top u + z^\top (Xu)_+` on the unit ball, with rounding.

**One cone.** A function that is :math:`q_k` at the generators :math:`r_k` and linear between them
is, for **every** w and every unit vector c with :math:`r_k^\top c > 0`, at most

.. math:: \lambda^\top q = w^\top u + \sum_k \lambda_k (q_k - r_k^\top w)
          \le \|w\| + \max_k \frac{(q_k - r_k^\top w)_+}{r_k^\top c},
          \qquad u = \sum_k \lambda_k r_k, \; \lambda \ge 0, \; \|u\| \le 1,

because :math:`\sum \lambda_k r_k^\top c = u^\top c \le 1`. The shortest w with
:math:`r_k^\top w \ge q_k` attains the maximum; a w that is not quite the shortest is a bound too.

**All cones.** Directions are covered by simplicial cones with generators :math:`r_1..r_r`, starting
from the orthants. On a cone a sample whose :math:`x_i^\top r_k` have one sign contributes a linear
term, exactly. An undecided sample with :math:`z_i > 0` is convex and lies below its chord through
the generators; one with :math:`z_i < 0` is concave and lies below every tangent. So there are
numbers :math:`q_k` with :math:`g(\sum \lambda_k r_k) \le \sum_k \lambda_k q_k` for all
:math:`\lambda \ge 0`; the maximum of that over the cone and the ball is the length of the shortest
w with :math:`r_k^\top w \ge q_k`, and the tangents are chosen to make w shorter still. The bound's
excess is of the order of the square of the cone's angle, and 0 once no hyperplane crosses the cone.
Samples with one hyperplane must be merged first (the tilt t is what antipodal ones leave): a convex
and a concave term on a common kink have an excess of the order of the angle itself.

A child inherits its parent's undecided samples, and their heights: halving an edge
computes one new height per sample, the mean of two.

**Features of different scales.** If the samples' coordinates are a thousand times larger in one
direction than in another, as those of unscaled features are, all hyperplanes meet the sphere within
a thousandth of the plane across it, and halving edges of orthants takes long to get there. So the
orthants start from axes of lengths :math:`\ell_a = 2^{-e_a}` that make the samples' coordinates
:math:`\ell_a x_{ia}` alike, and edges are compared in these units. The cones are the same sets, the
ball is the same, and so is the function: only where cones are cut is another.

**Rounding is covered.** Generators are midpoints :math:`(a+b)/2` of points whose coordinates,
divided by :math:`\ell_a`, lie on the l1 sphere and start as integers: dyadic numbers that doubles
hold exactly to depth 50, so the cones cover everything. Signs that rounding could flip change the
terms by at most what the error term allows for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrays import EPS, Floats
from convexlib.runtime import out_of_time


# Kernels carry no annotations: numba infers their types from the arguments.
# They copy in loops: for an assignment to a slice numba compiles the message for shapes that do not
# fit, which takes two seconds.
@njit(cache=True, nogil=True)
def dot(a, b):  # type: ignore[no-untyped-def]  # numba infers
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


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
        bound = max(bound, q[k] / dot(R[k], centre))
    for a in range(r):
        best[a] = bound * centre[a]
        used[a] = True
    for _ in range(2 * r + 1):
        for a in range(r):
            w[a] = 0.0
        for k in range(r):
            multipliers[k] = 0.0
            if not used[k]:
                continue
            for a in range(r):
                Q[k, a] = R[k, a]
            for _ in range(2):  # twice is enough for orthogonality
                for m in range(k):
                    if used[m]:
                        along = dot(Q[k], Q[m])
                        for a in range(r):
                            Q[k, a] -= along * Q[m, a]
            length = np.sqrt(dot(Q[k], Q[k]))
            if length == 0.0:
                used[k] = False
                continue
            for a in range(r):
                Q[k, a] /= length
            height = q[k]
            for m in range(k):
                L[k, m] = 0.0
                if used[m]:
                    L[k, m] = dot(R[k], Q[m])
                    height -= L[k, m] * multipliers[m]
            L[k, k] = dot(R[k], Q[k])
            multipliers[k] = height / L[k, k]  # coordinates of w in terms of Q
            for a in range(r):
                w[a] += multipliers[k] * Q[k, a]
        excess = 0.0
        most = 0.0
        worst = -1
        length = np.sqrt(dot(w, w))
        for k in range(r):
            short = q[k]
            for a in range(r):
                short -= R[k, a] * w[a]
            span = dot(R[k], centre)
            excess = max(excess, short / span)
            if not used[k] and short / span > most:
                most = short / span
                worst = k
        if length + excess < bound:
            bound = length + excess
            for a in range(r):
                best[a] = w[a]
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
def edge_to_halve(R, axes):  # type: ignore[no-untyped-def]  # numba infers
    """Two generators: the longest edge, in units of the axes."""
    r = len(R)
    longest = -1.0
    first = 0
    second = 0
    for k in range(r):
        for m in range(k + 1, r):
            edge = 0.0
            for a in range(r):
                edge += ((R[k, a] - R[m, a]) / axes[a]) ** 2
            if edge > longest:
                longest = edge
                first = k
                second = m
    return first, second


MAX_DEPTH = 50  # halvings of a unit coordinate that double precision represents exactly
_CHUNK = 5_000_000  # heights computed between two looks at the clock: some 50 ms
_FURTHEST = 2.0**60  # ratio of the axes' lengths
_SWEEPS = 4  # over the tangents of a cone


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def value_of(rows, z, tilt, direction):  # type: ignore[no-untyped-def]  # numba infers
    """Value of g, tilt @ direction + z^T (rows @ direction)_+."""
    total = dot(tilt, direction)
    for i in range(len(rows)):
        height = dot(rows[i], direction)
        if height > 0.0:
            total += z[i] * height
    return total


@njit(cache=True, nogil=True)
def expand(  # type: ignore[no-untyped-def]  # numba infers
    rows,
    squares,
    z,
    tilt,
    axes,
    error,
    slack,
    goal,
    rtol,
    max_nodes,
    best,
    state,
    counts,
    stack,
    pool,
):
    """Search until done or _CHUNK heights later; False if the pool must grow first.

    `state` holds (lower, upper), `counts` (cones that wait, nodes), `stack` one entry per cone that
    waits, and `pool` the undecided samples of the cones above them.
    """
    generators, linear, spans, bounds, depths, halved = stack
    members, heights, tangents = pool
    r = rows.shape[1]
    R = np.empty((r, r))
    base = np.empty(r)
    q = np.empty(r)
    fixed = np.empty(r)
    centre = np.empty(r)
    shares = np.empty(r)
    mu = np.empty(r)
    v = np.empty(r)
    w = np.empty(r)
    trial = np.empty(r)
    slope = np.empty(r)
    Q = np.empty((r, r))
    L = np.empty((r, r))
    used = np.empty(r, np.bool_)
    halvings = np.empty(r, np.int64)
    work = 0
    while counts[0] > 0 and counts[1] < max_nodes and work < _CHUNK:
        top = counts[0] - 1
        level = max(goal, state[0]) * (1.0 + rtol)
        if bounds[top] <= level:
            # The incumbent rose since this cone was put aside.
            state[1] = max(state[1], bounds[top])
            counts[0] = top
            continue
        begin = spans[top, 0]
        end = spans[top, 1]
        # What stays undecided is appended behind the parent's samples, end - begin of them at most.
        if 2 * end - begin > members.shape[0]:
            return False
        counts[0] = top
        counts[1] += 1
        work += end - begin + 16
        parent = bounds[top]
        for a in range(r):
            fixed[a] = linear[top, a]
            halvings[a] = depths[top, a]
            centre[a] = 0.0
            base[a] = 0.0
            slope[a] = 0.0
            for k in range(r):
                R[k, a] = generators[top, k, a]
        # The sum of the unit generators, which lie in one orthant: r_k^T c > 0, as it has to be.
        replaced = halved[top, 0]
        other = halved[top, 1]
        for k in range(r):
            shares[k] = 1.0 / np.sqrt(dot(R[k], R[k]))
            for a in range(r):
                centre[a] += R[k, a] * shares[k]
        length = np.sqrt(dot(centre, centre))
        for a in range(r):
            centre[a] /= length
        # Split the parent's undecided samples into decided ones and the rest.
        last = end
        concave = False
        at_centre = 0.0
        for index in range(begin, end):
            i = members[index]
            lowest = np.inf
            highest = -np.inf
            if replaced < 0:  # an orthant
                for k in range(r):
                    v[k] = rows[i, k] * R[k, k]
            else:
                for k in range(r):
                    v[k] = heights[index, k]
                v[replaced] = 0.5 * (v[replaced] + v[other])
            for k in range(r):
                lowest = min(lowest, v[k])
                highest = max(highest, v[k])
            # Positive on the cone up to rounding, which `error` covers: linear here and in every
            # part of the cone. (Negative: no term.)
            if lowest >= -slack[i]:
                for a in range(r):
                    fixed[a] += z[i] * rows[i, a]
                continue
            if highest <= slack[i]:
                continue
            middle = 0.0
            for k in range(r):
                middle += v[k] * shares[k]
                heights[last, k] = v[k]
            members[last] = i
            # At first the tangent at the centre: any one is valid, and the sweeps improve them.
            tangents[last] = 1.0 if middle > 0.0 else 0.0
            last += 1
            if middle > 0.0:
                at_centre += z[i] * middle / length
                for a in range(r):
                    slope[a] += z[i] * rows[i, a]
            if z[i] < 0.0:
                concave = True
            else:
                for k in range(r):
                    if v[k] > 0.0:
                        base[k] += z[i] * v[k]
        for a in range(r):
            at_centre += fixed[a] * centre[a]
            for k in range(r):
                base[k] += fixed[a] * R[k, a]
        if at_centre > state[0]:
            value = value_of(rows, z, tilt, centre)
            if value > state[0]:
                state[0] = value
                for a in range(r):
                    best[a] = centre[a]
                level = max(goal, value) * (1.0 + rtol)
        # `base` holds linear terms and chords, which stay; tangents come on top and are improved.
        for k in range(r):
            q[k] = base[k]
        for index in range(end, last):
            weight = tangents[index] * z[members[index]]
            if weight < 0.0:
                for k in range(r):
                    q[k] += weight * heights[index, k]
        bound = shortest_slope(R, q, centre, Q, L, used, mu, trial, w)
        for a in range(r):
            slope[a] += fixed[a]
        gained = 0.0
        for sweep in range(_SWEEPS):
            # Any tangents in [0, 1] are valid. Those that make the slope shortest give the best
            # bound where a maximum lies on their kinks: coordinate descent.
            if not concave or bound + error <= level:
                break
            # Another sweep like the last one would not get below the level: halve the cone.
            if sweep > 0 and bound + error - level > gained:
                break
            work += last - end
            for k in range(r):
                q[k] = base[k]
            for index in range(end, last):
                i = members[index]
                if z[i] < 0.0:
                    height = dot(rows[i], slope)
                    t = min(max(tangents[index] - height / (z[i] * squares[i]), 0.0), 1.0)
                    change = (t - tangents[index]) * z[i]
                    if change != 0.0:
                        tangents[index] = t
                        for a in range(r):
                            slope[a] += change * rows[i, a]
                    for k in range(r):
                        q[k] += t * z[i] * heights[index, k]
            swept = shortest_slope(R, q, centre, Q, L, used, mu, trial, w)
            gained = max(bound - swept, 0.0)
            bound = min(bound, swept)
        bound = min(bound + error, parent)
        if bound <= level:
            state[1] = max(state[1], bound)
            continue
        # The bound is attained at w / ||w||, if the chords and tangents are: try it.
        length = np.sqrt(dot(w, w))
        if length > max(state[0], 0.0):
            for a in range(r):
                trial[a] = w[a] / length
            value = value_of(rows, z, tilt, trial)
            if value > state[0]:
                state[0] = value
                for a in range(r):
                    best[a] = trial[a]
        first, second = edge_to_halve(R, axes)
        depth = max(halvings[first], halvings[second]) + 1
        if r == 1 or depth > MAX_DEPTH:
            state[1] = max(state[1], bound)
            continue
        # The children share the samples in (end, last). Last in, first out: what one of them
        # appends behind these is done with when the other one is taken up.
        for child in range(2):
            replaced = first if child == 0 else second
            for a in range(r):
                for k in range(r):
                    generators[top, k, a] = R[k, a]
                generators[top, replaced, a] = 0.5 * (R[first, a] + R[second, a])
                depths[top, a] = halvings[a]
                linear[top, a] = fixed[a]
            depths[top, replaced] = depth
            spans[top, 0] = end
            spans[top, 1] = last
            bounds[top] = bound
            halved[top, 0] = replaced
            halved[top, 1] = first + second - replaced
            top += 1
        counts[0] = top
    return True


def axes_of(rows: Floats) -> Floats:
    """Lengths (r,) of the axes, powers of two up to 1, at which the rows' coordinates are alike."""
    lengths = np.sqrt((rows * rows).sum(axis=1))
    sizes = np.sqrt(((rows / lengths[:, None]) ** 2).sum(axis=0))
    ratios = np.clip(sizes / sizes.min(initial=np.inf, where=sizes > 0.0), 1.0, _FURTHEST)
    axes: Floats = np.exp2(-np.round(np.log2(ratios)))
    return axes


def rounding(rows: Floats, z: Floats, tilt: Floats) -> tuple[Floats, float]:
    """What a height may be off by (n,), and what a bound may be: the errors of `search`."""
    n, r = rows.shape
    axes = axes_of(rows)
    largest = np.abs(rows * axes).max(axis=1)
    # A height is exact at the axes; every halving rounds once, on the l1 sphere of units of axes.
    slack = (MAX_DEPTH + 2) * EPS * largest
    # Sums of n terms, each with the error of its height. The l1 norm of u in units of the axes is
    # the sum of the multipliers, at most |1 / axes|_2 (sqrt(r) where all axes are 1). R w >= q is
    # checked to r^3 roundings: the unit generators lie in one orthant, so r_k^T c >= |r_k| / r,
    # and |r_k| >= min(axes) / sqrt(r).
    weight = float(np.abs(z) @ largest + np.abs(tilt * axes).max())
    terms = 2 * n + 4 * MAX_DEPTH + 32 * (r + 1) ** 2
    return slack, float(np.linalg.norm(1.0 / axes)) * terms * EPS * weight


def search(
    rows: Floats, z: Floats, tilt: Floats, goal: float, rtol: float, max_nodes: int, start: Floats
) -> tuple[float, float, Floats, int, bool]:
    """Depth-first search for max g over the unit ball; `z` has no zeros.

    Stops when the maximum is known to be at most ``max(goal, lower) * (1 + rtol)``, or early, after
    `max_nodes` cones or where time is over. Returns lower and upper bound, the direction of the
    lower one, the number of cones, and whether it stopped early.
    """
    n, r = rows.shape
    axes = axes_of(rows)
    slack, error = rounding(rows, z, tilt)
    best = start.copy()
    state = np.array([value_of(rows, z, tilt, start), 0.0])
    orthants = 2**r
    capacity = orthants + MAX_DEPTH * r + 2
    generators = np.zeros((capacity, r, r))
    for orthant in range(orthants):
        np.fill_diagonal(generators[orthant], axes * (1 - 2 * ((orthant >> np.arange(r)) & 1)))
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
    while counts[0] and counts[1] < max_nodes:
        # Back in Python now and then: so that an interrupt is heard, and a limit of time.
        if out_of_time():
            break
        fits = expand(
            *(rows, squares, z, tilt, axes, error, slack, goal, rtol, max_nodes),
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
