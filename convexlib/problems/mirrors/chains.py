r"""All the narrow chains that can be best: vertices of the biases' piecewise linear complex.

For a dual point z with :math:`1^\top z = 0` the correlation :math:`z^\top h(x; b)` of a narrow unit
is continuous and piecewise linear in its biases, and constant along every direction in which it is
unbounded, so that it is largest at a vertex: a point where as many independent *kink equations*
hold as there are biases. The equations of layer l are :math:`s_l h_{l-1}(x_i) + b_l = 0`; one of
the last layer fixes its own bias, and two of them say :math:`h_{L-2}(x_i) = h_{L-2}(x_n)`, which is
where mirrors come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, islice, product
from math import comb

import numpy as np

from convexlib.arrays import Floats
from convexlib.problems.mirrors.features import activate

BATCH = 100_000


def leaky_count(n: int, depth: int) -> int:
    """Return how many chains `leaky_chains` lists for n distinct inputs."""
    return (2 * n) ** (depth - 1)


def leaky_chains(x: Floats, depth: int, slope: float) -> tuple[Floats, Floats]:
    r"""Return the signs and biases (p, L - 1) of leaky chains with every kink at an input.

    A leaky chain is strictly monotone, hence :math:`h(x_i) = h(x_n)` only for i = n and each layer
    has exactly one kink equation: :math:`b_l = -s_l h_{l-1}(x_{j_l})`.
    """
    layers = depth - 1
    signs, biases = np.zeros((1, 0)), np.zeros((1, 0))
    h = x[None, :]  # (p, N)
    for _ in range(layers):
        count = len(signs)
        anchor = h.reshape(count, 1, -1)  # every value h_{l-1}(x_j) can be the anchor
        fresh = np.array([1.0, -1.0])[:, None] * np.ones((1, len(x)))  # (2, N)
        offset = -fresh[None] * anchor  # (p, 2, N)
        signs = np.hstack(
            [np.repeat(signs, 2 * len(x), axis=0), np.tile(fresh.ravel(), count)[:, None]]
        )
        biases = np.hstack([np.repeat(biases, 2 * len(x), axis=0), offset.reshape(-1, 1)])
        h = np.repeat(h, 2 * len(x), axis=0)
        h = activate(h * signs[:, -1:] + biases[:, -1:], "leaky", slope)
    return signs, biases


def abs_planes(n_free: int, x: Floats, anchor: int) -> tuple[Floats, Floats]:
    r"""Return the planes (q, D), (q,) that hold the kinks of an abs chain in its first D biases.

    With :math:`h_l = |h_{l-1} - b_l|` every :math:`h_l` is :math:`\tau (x - b_1) \pm b_2 \pm
    \dots \pm b_l` on a cell. The planes are those of :math:`h_{l-1}(x_i) = b_l` for
    :math:`l \le D`, and of :math:`h_D(x_i) = h_D(x_n)` with n = `anchor`.
    """
    rows, sides = [], []
    for layer in range(1, n_free + 1):  # h_{l-1}(x_i) - b_l = 0, up to a sign
        for tail in product((1.0, -1.0), repeat=layer - 1):
            normal = np.zeros(n_free)
            normal[0] = 1.0
            normal[1:layer] = tail
            rows.append(np.repeat(normal[None], len(x), axis=0))
            sides.append(x)
    for tail in product((0.0, 2.0, -2.0), repeat=n_free - 1):
        # Same sign of x on both sides: x_i - x_n = sum of +-2 b_l; opposite signs: x_i + x_n = ...
        if any(tail):
            rows.append(np.repeat(np.array([[0.0, *tail]]), len(x), axis=0))
            sides.append(x - x[anchor])
        rows.append(np.repeat(np.array([[2.0, *tail]]), len(x), axis=0))
        sides.append(x + x[anchor])
    return np.concatenate(rows), np.concatenate(sides)


def abs_count(n: int, depth: int) -> int:
    """Return how many candidate vertices `abs_chains` examines for n distinct inputs."""
    free = depth - 2
    if free == 0:
        return n
    planes = n * (2**free - 1 + 2 * 3 ** (free - 1) - 1)
    return n * comb(planes, free)


def abs_chains(x: Floats, depth: int) -> tuple[Floats, Floats]:
    r"""Return the signs and biases (p, L - 1) of the abs chains at vertices, depth at least 3.

    The signs are 1: :math:`|s t + b| = |t + s b|`. Candidates are the intersections of D = L - 2
    planes; those on which the kinks of the chosen planes do not hold, or where a bias leaves the
    range of its layer (there the chain is the same as at the end of the range, up to a constant),
    are dropped.
    """
    free = depth - 2
    shift, span = float(x.mean()), max(float(np.ptp(x)), 1e-300)
    centred = x - shift  # the planes are solved for centred inputs, for accuracy
    found = []
    for anchor in range(len(x)):
        rows, sides = abs_planes(free, centred, anchor)
        leading = np.sign(rows[np.arange(len(rows)), np.argmax(rows != 0, axis=1)])
        planes = np.hstack([rows, sides[:, None] / span]) * leading[:, None]
        distinct = _first_of_each(planes)
        rows, sides = rows[distinct], sides[distinct]
        for chosen in _batches(len(rows), free):
            normals, rhs = rows[chosen], sides[chosen]
            # The entries are small integers: a determinant is 0 or at least 1 in size.
            regular = np.abs(np.linalg.det(normals)) > 0.5
            b = np.linalg.solve(normals[regular], rhs[regular][..., None])[..., 0]  # (k, D)
            b = b[_plausible(b, centred, anchor, 1e-10 * span)]
            if len(b):
                b = b[_first_of_each(b / span)]
                h = np.repeat(centred[None, :], len(b), axis=0)
                for layer in range(free):
                    h = np.abs(h - b[:, layer : layer + 1])
                found.append(np.hstack([b, h[:, anchor : anchor + 1]]))
    b = np.concatenate(found)
    b[:, 0] += shift
    return np.ones_like(b), -b


def _first_of_each(rows: Floats) -> np.ndarray:
    """Return the places of the first of each group of rows that agree to ten digits."""
    places: np.ndarray = np.unique(np.round(rows, 10) + 0.0, axis=0, return_index=True)[1]
    return places


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Yield the subsets of `size` numbers below `count`, many at a time."""
    subsets = combinations(range(count), size)
    while block := list(islice(subsets, BATCH)):
        flat = np.fromiter(chain.from_iterable(block), dtype=np.intp, count=len(block) * size)
        yield flat.reshape(-1, size)


def _plausible(b: Floats, x: Floats, anchor: int, tolerance: float) -> np.ndarray:
    """Say which biases (k, D) are in range and have enough kinks in layers l, ..., D, for each l.

    The biases of these layers appear in no other equations, so that a vertex has at least
    D - l + 1 of them.
    """
    free = b.shape[1]
    valid = np.ones(len(b), dtype=bool)
    kinks = np.zeros((len(b), free + 1), dtype=np.intp)
    h = np.repeat(x[None, :], len(b), axis=0)
    for layer in range(free):
        inner = h - b[:, layer : layer + 1]
        valid &= (inner.min(axis=1) <= tolerance) & (inner.max(axis=1) >= -tolerance)
        kinks[:, layer] = (np.abs(inner) <= tolerance).sum(axis=1)
        h = np.abs(inner)
    kinks[:, free] = (np.abs(h - h[:, anchor : anchor + 1]) <= tolerance).sum(axis=1) - 1
    from_layer = np.cumsum(kinks[:, ::-1], axis=1)[:, 1:]  # (k, D): layers D, ..., 1 and the last
    return valid & (from_layer >= np.arange(1, free + 1)).all(axis=1)
