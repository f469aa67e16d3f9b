"""The compiled loop of `convexlib.pricing.branch_and_bound`, whose text explains the bounds."""

import numpy as np
from numba import njit

from convexlib.pricing.simplicial import edge_to_halve, shortest_slope

MAX_DEPTH = 50  # halvings of a unit coordinate that double precision represents exactly
_CHUNK = 5_000_000  # heights computed between two looks at the clock: some 50 ms
_SWEEPS = 4  # over the tangents of a cone


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True)
def value_of(rows, z, tilt, direction):  # type: ignore[no-untyped-def]  # numba infers
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
def expand(  # type: ignore[no-untyped-def]  # numba infers
    rows, squares, z, tilt, error, slack, goal, rtol, max_nodes, best, state, counts, stack, pool
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
        begin, end = spans[top]
        if 2 * end - begin > members.shape[0]:
            return False
        counts[0] = top
        counts[1] += 1
        work += end - begin + 16
        R[:] = generators[top]
        fixed[:] = linear[top]
        halvings[:] = depths[top]
        parent = bounds[top]
        replaced, other = halved[top]
        centre[:] = 0.0
        for k in range(r):
            length = 0.0
            for a in range(r):
                length += R[k, a] * R[k, a]
            shares[k] = 1.0 / np.sqrt(length)
            for a in range(r):
                centre[a] += R[k, a] * shares[k]
        length = np.sqrt((centre * centre).sum())
        centre /= length
        # Split the parent's undecided samples into decided ones and the rest.
        base[:] = 0.0
        slope[:] = 0.0
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
                best[:] = centre
                level = max(goal, value) * (1.0 + rtol)
        q[:] = base
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
            if sweep > 0 and bound + error - level > gained:
                break
            work += last - end
            q[:] = base
            for index in range(end, last):
                i = members[index]
                if z[i] < 0.0:
                    dot = 0.0
                    for a in range(r):
                        dot += rows[i, a] * slope[a]
                    t = min(max(tangents[index] - dot / (z[i] * squares[i]), 0.0), 1.0)
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
        length = np.sqrt((w * w).sum())
        if length > state[0]:
            value = value_of(rows, z, tilt, w / length)
            if value > state[0]:
                state[0] = value
                best[:] = w / length
        first, second = edge_to_halve(R)
        depth = max(halvings[first], halvings[second]) + 1
        if r == 1 or depth > MAX_DEPTH:
            state[1] = max(state[1], bound)
            continue
        for child in range(2):
            replaced = first if child == 0 else second
            generators[top] = R
            for a in range(r):
                generators[top, replaced, a] = 0.5 * (R[first, a] + R[second, a])
            depths[top] = halvings
            depths[top, replaced] = depth
            linear[top] = fixed
            spans[top] = end, last
            bounds[top] = bound
            halved[top] = replaced, first + second - replaced
            top += 1
        counts[0] = top
    return True
