r"""The best weights of a unit for a dual point, and projections onto units' cones.

A unit of leaves :math:`U = (u_1..u_m)` has the outputs :math:`AU` with rows
:math:`\sum_j a_{ij} x_i^\top u_j`, :math:`a_{ij} \in \{-1, 0, 1\}`, on a cone :math:`K` of
:math:`U \in \mathbb R^{md}`: the leaves keep their patterns, and every inner node its own. With
:math:`c = A^\top z` and the rows :math:`N` of the walls, :math:`K = \{U : NU \ge 0\}`, the support
function is bounded from both sides: for **every** :math:`\lambda \ge 0`

.. math:: \max_{U \in K,\ \|U\|_F \le 1} c^\top U \le \|c + N^\top \lambda\|_F ,\qquad
          \max_{U \in K,\ \sum_j \|u_j\| \le 1} c^\top U \le \max_j \|(c + N^\top \lambda)_j\| .

The first holds with equality at the projection of c. The second is a sequence of projections,
since :math:`\sum_j \|u_j\| \le 1` iff :math:`\sum_j \|u_j\|^2/\eta_j \le 1` for some
:math:`\eta` in the simplex: for fixed :math:`\eta` it is a projection in the coordinates
:math:`u_j/\sqrt{\eta_j}`, the square of the maximum is concave in :math:`\eta` with the
derivatives :math:`g_j^2`, :math:`g_j = \|u_j\|/\eta_j`, and all g_j with :math:`\eta_j > 0` are
equal at the optimum.

With three leaves or more the shares of the leaves may oscillate. The dual of the maximum,
:math:`\min_{\lambda \ge 0} \max_j \|(c + N^\top \lambda)_j\|`, is then solved as a second-order
cone program; its :math:`\lambda` gives a bound that is recomputed here, whatever the solver's
accuracy.
"""

from __future__ import annotations

import clarabel
import numpy as np
import scipy.sparse as sp
from numba import njit, prange
from numpy.typing import NDArray

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrays import EPS, Floats
from convexlib.cones import project_one

_OPEN = 1e-9  # relative distance of the bounds beyond which a maximum is bounded in another way
_SMALLEST = 1e-26  # share of a leaf below which it counts as zero
_RELAXED = 1e-7  # slack of walls that makes them moderate, in units of |U|
_ROUNDS = 100  # projections for one maximum over the l2,1 ball


class UnitCones:
    r"""Support functions of, and projections onto, the cones of many units.

    Parameters
    ----------
    X : ndarray (n, d)
    leaves : bool ndarray (K, m, n)
        Patterns of the leaves.
    nodes : int8 ndarray (K, Q, n, m)
        Walls of the inner nodes: :math:`\sum_j \text{nodes}_{kqij}\, x_i^\top u_j \ge 0`.
    outputs : int8 ndarray (K, n, m)
        The numbers a_ij of each unit.
    """

    def __init__(
        self,
        X: Floats,
        leaves: NDArray[np.bool_],
        nodes: NDArray[np.int8],
        outputs: NDArray[np.int8],
    ) -> None:
        self.X = np.ascontiguousarray(X, dtype=np.float64)
        lengths = np.linalg.norm(self.X, axis=1, keepdims=True)
        self.directions: Floats = self.X / np.where(lengths > 0, lengths, 1.0)
        # One memory layout, so that the kernels are compiled once.
        self.leaves = np.ascontiguousarray(leaves)
        self.nodes = np.ascontiguousarray(nodes)
        self.outputs = np.ascontiguousarray(outputs)

    def maxima(
        self,
        z: Floats,
        index: NDArray[np.int64],
        by_sum: bool,
        threshold: float = 0.0,
        rtol: float = 1e-12,
    ) -> tuple[Floats, Floats, Floats]:
        r"""Bound the largest :math:`z^T A U` of the units `index` over their cones and unit balls.

        Returns ``lower`` (B,), a valid ``upper`` (B,), and the U (B, m d) that attain ``lower``.
        The ball is that of :math:`\sum_j \|u_j\|` if `by_sum`, else Frobenius. Below the
        threshold, or above it, the maximum need not be computed: only the side is certain then.
        """
        size = self.leaves.shape[1] * self.X.shape[1]
        lower, upper = np.zeros(len(index)), np.zeros(len(index))
        best = np.zeros((len(index), size))
        maxima(
            self.X, self.directions, self.leaves, self.nodes, self.outputs, index,
            np.ascontiguousarray(z), by_sum, threshold, rtol, lower, upper, best,
        )  # fmt: skip
        if by_sum:
            self._close(z, index, threshold, lower, upper, best)
        return lower, upper, best

    def _close(
        self,
        z: Floats,
        index: NDArray[np.int64],
        threshold: float,
        lower: Floats,
        upper: Floats,
        best: Floats,
    ) -> None:
        """Improve, in place, the bounds that are still apart on the side that matters."""
        _, m, n = self.leaves.shape
        scale = float(np.abs(z) @ np.linalg.norm(self.X, axis=1))
        level = np.maximum(threshold, lower) * (1.0 + _OPEN) + 1e-11 * scale
        is_open = (upper > level) & ((threshold == 0.0) | (lower <= threshold * (1.0 + _OPEN)))
        for b in np.flatnonzero(is_open):
            k = index[b]
            rows = np.empty(((m + self.nodes.shape[1]) * n, best.shape[1]))
            count = walls(self.directions, self.leaves[k], self.nodes[k], rows)
            c = np.einsum("ij,id,i->jd", self.outputs[k], self.X, z).ravel()
            bound, point = sum_maximum(rows[:count], c, m)
            upper[b] = min(upper[b], bound + 4.0 * (n + 4) * np.sqrt(m) * EPS * scale)
            inside = self.project(index[b : b + 1], point[None])[0]
            spent = float(np.linalg.norm(inside.reshape(m, -1), axis=1).sum())
            if spent > 0.0 and float(c @ inside) / spent > lower[b]:
                lower[b], best[b] = float(c @ inside) / spent, inside / spent

    def project(self, index: NDArray[np.int64], points: Floats) -> Floats:
        """Project points (B, m d) onto the cones of the units `index`."""
        results = np.zeros_like(points)
        points = np.ascontiguousarray(points)
        projections(self.directions, self.leaves, self.nodes, index, points, results)
        return results


def sum_maximum(rows: Floats, c: Floats, m: int) -> tuple[float, Floats]:
    r"""Bound :math:`\max \{c^\top U : \text{rows}\, U \ge 0, \sum_j \|u_j\| \le 1\}`.

    Returns an upper bound and a U near the maximiser, which may be slightly outside of the cone.
    """
    size, count = len(c), len(rows)
    d, length = size // m, float(np.linalg.norm(c))
    # Variables (t, lambda). Cones: lambda >= 0, and (t, (c + rows^T lambda)_j) for every leaf.
    blocks = [sp.hstack([sp.csc_matrix((count, 1)), -sp.eye(count)])]
    right = [np.zeros(count)]
    for j in range(m):
        part = slice(j * d, (j + 1) * d)
        top = sp.csc_matrix(([-1.0], ([0], [0])), shape=(1, count + 1))
        blocks += [top, sp.hstack([sp.csc_matrix((d, 1)), sp.csc_matrix(-rows[:, part].T)])]
        right += [np.zeros(1), c[part] / length]
    cones = [clarabel.NonnegativeConeT(count), *[clarabel.SecondOrderConeT(d + 1)] * m]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    goal = np.zeros(count + 1)
    goal[0] = 1.0
    empty = sp.csc_matrix((count + 1, count + 1))
    A, b = sp.vstack(blocks, format="csc"), np.concatenate(right)
    solution = clarabel.DefaultSolver(empty, goal, A, b, cones, settings).solve()
    weights = np.maximum(np.nan_to_num(np.array(solution.x)[1:]), 0.0) * length
    residual = (c + rows.T @ weights).reshape(m, d)
    slack = 4.0 * EPS * (size + count + 4) * (length + float(weights.sum()))
    upper = float(np.linalg.norm(residual, axis=1).max()) + slack
    # The multipliers of the cones of the leaves are (share, u_j) up to sign.
    multipliers = np.nan_to_num(np.array(solution.z)[count:]).reshape(m, d + 1)
    return upper, -multipliers[:, 1:].ravel()


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
def _residual(rows, c, active, multipliers, q):  # type: ignore[no-untyped-def]  # numba infers
    """Bound the norm of c + N^T lambda, with its rounding."""
    size = c.shape[0]
    residual = c.copy()
    total = np.sqrt((c * c).sum())
    for k in range(q):
        weight = max(multipliers[k], 0.0)
        total += weight
        for a in range(size):
            residual[a] += weight * rows[active[k], a]
    return np.sqrt((residual * residual).sum()) + 4.0 * EPS * (size + q + 4) * total


@njit(cache=True, nogil=True)
def _relaxed(rows, c):  # type: ignore[no-untyped-def]  # numba infers
    """Bound the maximum over the ball and the walls N U >= -_RELAXED, by moderate multipliers.

    Walls that nearly depend on each other may need multipliers of any size: the bound is as coarse
    as the rounding of their sum, and the projection may end with others. With slacks v of the
    walls, N U + _RELAXED v >= 0, in one ball with U, they are at most |c| / _RELAXED, since they
    minimise |c + N^T lambda|^2 + |_RELAXED lambda|^2: a projection of (c, 0) once more.
    """
    count, size = rows.shape
    wide = np.zeros((count, size + count))
    scale = 1.0 / np.sqrt(1.0 + _RELAXED**2)
    for k in range(count):
        for a in range(size):
            wide[k, a] = scale * rows[k, a]
        wide[k, size + k] = scale * _RELAXED
    point = np.zeros(size + count)
    point[:size] = c
    active = np.zeros(size + count + 1, np.int64)
    multipliers = np.zeros(size + count + 1)
    basis = np.zeros((size + count + 1, size + count))
    signs = np.ones(count, np.int8)
    projection = np.empty(size + count)
    q = project_one(wide, signs, point, 0.0, active, 0, multipliers, basis, projection)
    return _residual(rows, c, active, scale * multipliers, q)


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
    length = np.sqrt((c * c).sum())
    # No multipliers are a bound, too. Comparisons, as the others may be infinite or NaN.
    upper = length + 4.0 * EPS * (size + 4) * length
    bound = _residual(rows, c, active, multipliers, q)
    if bound < upper:
        upper = bound
    if upper > threshold and upper - lower > _OPEN * length:
        bound = _relaxed(rows, c)
        if bound < upper:
            upper = bound
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
