"""The best absolute-value unit for a dual point, by null vectors and by linear programs."""

from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Floats = NDArray[np.float64]
KINDS = ("samples", "midpoints", "differences", "coordinates")


def equations(X: Floats, anchor: Floats, kinds: tuple[str, ...]) -> Floats:
    """Rows (m, d + 1) for (u, c): the chapter's table."""
    d, one = X.shape[1], np.ones((len(X), 1))
    rows = {
        "samples": np.hstack([X, one]),
        "midpoints": np.hstack([(X + anchor) / 2, one]),
        "differences": np.hstack([X - anchor, 0 * one]),
        "coordinates": np.eye(d, d + 1),
    }
    return np.vstack([rows[kind] for kind in kinds])


def best_unit(X: Floats, z: Floats, depth: int, kinds: tuple[str, ...] = KINDS) -> float:
    """max |z.h(X)| over units that d independent equations determine, by null vectors."""
    d, best = X.shape[1], 0.0
    for anchor in np.unique(X, axis=0) if depth == 3 else X[:1]:
        chosen = equations(X, anchor, kinds if depth == 3 else ("samples", "coordinates"))
        lengths = np.linalg.norm(chosen, axis=1)
        rows = np.unique(np.round(chosen[lengths > 0] / lengths[lengths > 0, None], 14), axis=0)
        some = rows[np.array(list(combinations(range(len(rows)), d))).reshape(-1, d)]
        _, values, right = np.linalg.svd(some)
        v = right[:, -1][values[:, -1] > 1e-9]
        v = v[np.abs(v[:, :d]).sum(axis=1) > 1e-9]
        v = v / np.abs(v[:, :d]).sum(axis=1, keepdims=True)
        sides = np.abs(v[:, :d] @ X.T + v[:, d:])
        if depth == 3:
            sides = np.abs(sides - np.abs(v[:, :d] @ anchor + v[:, d])[:, None])
        best = max(best, float(np.abs(sides @ z).max(initial=0.0)))
    return best


def steepest(X: Floats, z: Floats, depth: int) -> float:
    """The same over all units: a linear program for every sign of every argument."""
    (n, d), best = X.shape, 0.0
    for signs in product([1.0, -1.0], repeat=(depth - 1) * n + d):
        sigma, h, inside = np.array(signs[:d]), np.hstack([X, np.zeros((n, depth - 1))]), []
        for layer in range(depth - 1):
            s = np.array(signs[d + layer * n : d + (layer + 1) * n])
            h = s[:, None] * (h + np.eye(d + depth - 1)[d + layer])
            inside.append(-h)
        rows = np.vstack([*inside, np.append(sigma, np.zeros(depth - 1))])
        limits = np.append(np.zeros(len(rows) - 1), 1.0)
        bounds = [(0, None) if s > 0 else (None, 0) for s in sigma] + [(None, None)] * (depth - 1)
        for way in (1.0, -1.0):
            found = linprog(-way * z @ h, rows, limits, bounds=bounds)
            assert found.status == 0
            best = max(best, -found.fun)
    return best
