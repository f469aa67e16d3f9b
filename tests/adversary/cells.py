"""Patterns, their cones, and the best neurons, by brute force."""

import itertools
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from tests.adversary.search import Floats
from tests.helpers.checks import best_in_cone

Masks = NDArray[np.bool_]


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def unit(v: Floats) -> Floats:
    """The vector divided by its length."""
    return v / np.linalg.norm(v)


def all_masks(n: int) -> Masks:
    """All 0-1 vectors (2^n, n): with cones every one of them is harmless."""
    return np.array(list(itertools.product([False, True], repeat=n)))


def rows_of(masks: Masks) -> set[tuple[bool, ...]]:
    """Masks as a set."""
    return {tuple(mask) for mask in masks.tolist()}


def bound_on_cells(n: int, r: int) -> int:
    """Cover's B(n, r)."""
    return 2 * sum(comb(n - 1, k) for k in range(r))


def best_neuron(X: Floats, z: Floats) -> float:
    """max |z^T (Xu)_+| over the ball: the cones of all masks cover it, whatever the cells are."""
    pairs = itertools.product(all_masks(len(X)), (1.0, -1.0))
    return max(best_in_cone(sign * X.T @ (mask * z), X, mask) for mask, sign in pairs)


def places(X: Floats, z: Floats) -> Floats:
    """Unit vectors among which +-z^T (Xu)_+ is largest, for one or two features, from all arcs."""
    if X.shape[1] == 1:
        return np.array([[1.0], [-1.0]])
    angles = np.arctan2(X[:, 0], -X[:, 1])
    cuts = np.sort(np.concatenate([angles, angles + np.pi]) % (2 * np.pi))
    middles = 0.5 * (cuts + np.append(cuts[1:], cuts[0] + 2 * np.pi))
    ends, inside = (np.stack([np.cos(t), np.sin(t)], axis=1) for t in (cuts, middles))
    slopes = ((inside @ X.T > 0) * z) @ X
    found = np.concatenate([ends, inside, slopes, -slopes])
    sizes = np.linalg.norm(found, axis=1, keepdims=True)
    return found[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]


def sided(mask: Masks, X: Floats) -> Floats:
    """The normals of the cone of the neurons with this pattern."""
    return np.where(mask, 1.0, -1.0)[:, None] * X


def projected(N: Floats, c: Floats) -> Floats:
    """The projection onto {u : N u >= 0}: c + N^T m with the best m >= 0 (Moreau)."""
    size, lengths = float(np.linalg.norm(c)), np.linalg.norm(N, axis=1)
    rows = N[lengths > 0] / lengths[lengths > 0, None]
    if size == 0.0 or not len(rows):
        return c
    return c + size * (rows.T @ nnls(rows.T, -c / size)[0])


def depth_of_cone(N: Floats) -> float:
    """The largest t with N u >= t over the box: positive where {u : N u >= 0} has an interior."""
    n, d = N.shape
    program = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack([-N, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        bounds=[(-1, 1)] * d + [(0, 1)],
    )
    assert program.status == 0
    return float(-program.fun)


def hull_distance(rays: Floats) -> float:
    """The distance of 0 from the hull of unit vectors, by nonnegative least squares."""
    # The nearest point of the hull, from min |R^T m|^2 + (sum m - 1)^2 over m >= 0.
    stacked = np.vstack([rays.T, np.ones(len(rays))])
    m, _ = nnls(stacked, np.append(np.zeros(rays.shape[1]), 1.0))
    return float(np.linalg.norm(rays.T @ m) / m.sum())
