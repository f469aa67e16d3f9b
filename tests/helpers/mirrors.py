"""One-dimensional instances, and dictionaries written from the theorems: no library code."""

import math
from itertools import combinations, product

import cvxpy as cp
import numpy as np

import convexlib as cl

SLOPE = 0.3

CHAINED = [
    ("relu", 2),
    ("relu", 3),
    ("relu", 4),
    ("relu", 6),
    ("abs", 2),
    ("abs", 3),
    ("abs", 4),
    ("leaky", 2),
    ("leaky", 3),
    ("leaky", 4),
]

SWITCHING = [
    ("sign", 2, None),
    ("sign", 3, 3),
    ("sign", 5, 2),
    ("sign", 4, (2, 2)),
    ("threshold", 2, None),
    ("threshold", 3, 2),
    ("threshold", 4, (2, 2)),
    ("threshold", 5, 3),
]

KINDS = [(name, depth, None) for name, depth in CHAINED] + SWITCHING


def data(seed, n):
    """Unsorted inputs; every third draw is an integer grid, where mirrors meet data points."""
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.arange(-8, 9))[:n] / 2 if seed % 3 == 0 else rng.standard_normal(n)
    return x.astype(float), rng.standard_normal(n)


def make(x, y, kind, beta, **options):
    activation, depth, widths = kind
    slope = {"slope": SLOPE} if activation == "leaky" else {}
    return cl.Mirrors(
        x, y, beta=beta, depth=depth, activation=activation, widths=widths, **slope, **options
    )


def act(values, activation):
    return {
        "relu": lambda t: np.maximum(t, 0),
        "abs": np.abs,
        "leaky": lambda t: np.where(t >= 0, t, SLOPE * t),
        "sign": lambda t: np.where(t >= 0, 1.0, -1.0),
        "threshold": lambda t: np.where(t >= 0, 1.0, 0.0),
    }[activation](values)


def columns(x, kind):
    """A dictionary from the text: for chains every anchor at every layer, as a superset."""
    activation, depth, widths = kind
    if activation in ("sign", "threshold"):
        switches = math.prod(widths) if isinstance(widths, tuple) else (widths or 1)
        inside = np.sort(np.unique(x))[1:]
        found = []
        for k in range(1, min(switches, len(inside)) + 1):
            for places in combinations(inside, k):
                value = (-1.0) ** np.searchsorted(np.array(places), x, side="right")
                found.append(value if activation == "sign" else (value + 1) / 2)
        return np.array(found).T
    layers = [x[None, :]]
    for layer in range(1, depth):
        found = []
        for h in layers:
            anchors = set(np.round(h, 12).ravel())
            if activation == "abs" and layer < depth - 1:
                anchors |= {np.round((p + q) / 2, 12) for p, q in product(h.ravel(), repeat=2)}
            if activation == "abs" and layer < depth - 2:
                anchors |= {np.round((p + q) / 2, 12) for p, q in product(anchors, repeat=2)}
                anchors |= {
                    np.round(a + sign * (p - q) / 2, 12)
                    for a in tuple(anchors)
                    for p, q in product(h.ravel(), repeat=2)
                    for sign in (1, -1)
                }
            for anchor, sign in product(sorted(anchors), (1.0, -1.0)):
                found.append(act(sign * (h - anchor), activation))
        layers = list(np.unique(np.round(np.vstack(found), 12), axis=0)[:, None, :])
    return np.vstack(layers).T


def independent_value(x, y, kind, beta):
    """The Lasso of the theorem over the columns above, by CVXPY."""
    A = columns(x, kind)
    z, bias = cp.Variable(A.shape[1]), cp.Variable()
    loss = 0.5 * cp.sum_squares(A @ z + bias - y)
    settings = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    problem = cp.Problem(cp.Minimize(loss + beta * cp.norm1(z)))
    return problem.solve(solver=cp.CLARABEL, **settings)
