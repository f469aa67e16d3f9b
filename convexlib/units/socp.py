r"""The few maxima over a unit's cone that a sequence of projections leaves open.

With three leaves or more the shares of the leaves may oscillate. The dual of the maximum,
:math:`\min_{\lambda \ge 0} \max_j \|(c + N^\top \lambda)_j\|`, is then solved as a second-order
cone program; its :math:`\lambda` gives a bound that is recomputed here, whatever the solver's
accuracy.
"""

from __future__ import annotations

import clarabel
import numpy as np
import scipy.sparse as sp

from convexlib.arrays import EPS, Floats


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
