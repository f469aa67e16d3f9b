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
from numpy.typing import NDArray

from convexlib.arrays import EPS, Floats
from convexlib.cones.unit_kernels import maxima, projections, walls

_OPEN = 1e-9  # relative distance of the bounds beyond which a maximum is left to the cone program


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
