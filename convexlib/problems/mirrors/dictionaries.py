r"""Dictionaries of one-dimensional networks, as operators.

A dictionary over the distinct inputs :math:`x_1 < \dots < x_N` gives its columns A_j, and all
correlations :math:`A_j^\top z` at once, without its matrix where prefix sums do. Since the output
bias is free, z sums to zero and a column counts up to its sign and a constant: of two columns that
are equal in this sense, and of two parallel ones, only the longer is kept.

**All the narrow chains that can be best** are vertices of the biases' piecewise linear complex. For
a dual point z with :math:`1^\top z = 0` the correlation :math:`z^\top h(x; b)` of a narrow unit is
continuous and piecewise linear in its biases, and constant along every direction in which it is
unbounded, so that it is largest at a vertex: a point where as many independent *kink equations*
hold as there are biases. The equations of layer l are :math:`s_l h_{l-1}(x_i) + b_l = 0`; one of
the last layer fixes its own bias, and two of them say :math:`h_{L-2}(x_i) = h_{L-2}(x_n)`, which is
where mirrors come from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

from convexlib.arrangements.rowspace import near_rows
from convexlib.arrangements.zonotope import subset_blocks
from convexlib.arrays import EPS, ROUNDOFF, Floats
from convexlib.problems.mirrors.features import ChainFeature, Feature, SwitchFeature, activate

Ints = NDArray[np.intp]
CACHED = 20_000_000  # entries of a matrix that is kept rather than recomputed
# Distance of two columns that count as one, in eps times the terms of an entry: some tens of
# roundings, in the biases (from small linear systems), the layers and the mean. Columns of samples
# that are 1e-10 apart differ by more, and both count: bounds rest on the list.
ALIKE = 64


class Dictionary(ABC):
    """Columns A_j (N,) over the distinct increasing inputs x (N,)."""

    def __init__(self, x: Floats) -> None:
        self.x = x

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of columns."""

    @abstractmethod
    def correlations(self, z: Floats) -> Floats:
        """Return every A_j^T z, (p,), for z (N,) that sums to zero."""

    @abstractmethod
    def margin(self, z: Floats, sizes: Floats, errors: Floats) -> float:
        """How much larger than computed a correlation may be, rounding included.

        For z (N,) of which each entry is a sum of absolute values `sizes` and off by `errors`.
        """

    @abstractmethod
    def columns(self, index: Ints) -> Floats:
        """Return the columns named by index (k,) as (N, k)."""

    @abstractmethod
    def feature(self, index: int) -> Feature:
        """Return one column as a function."""


def ramp_sums(x: Floats, z: Floats) -> Floats:
    r"""Return :math:`R_n = \sum_i z_i (x_i - x_n)_+`, (N,), in one pass from the right."""
    beyond = np.cumsum(z[::-1])[::-1]  # sum of z_i over i >= n
    sums = np.zeros_like(x)
    sums[:-1] = np.cumsum((np.diff(x) * beyond[1:])[::-1])[::-1]
    return sums


def ramp_margin(x: Floats, z: Floats, errors: Floats) -> float:
    r"""Bound the error of :math:`2 R_n` and twice that of a line, for z that is off by `errors`.

    An addition is off by a unit of roundoff of the sum that it gives, and these sums are known; of
    a z that is nearly feasible they are small. The steps of x and their products are off as much.
    """
    beyond = np.abs(np.cumsum(z[::-1])[:-1])  # (N - 1,), as in `ramp_sums`
    off = np.cumsum(errors[::-1])[:-1] + ROUNDOFF * np.cumsum(beyond)
    sums = np.abs(ramp_sums(x, z))
    ramps = np.diff(x)[::-1] @ (off + 2.0 * ROUNDOFF * beyond) + ROUNDOFF * sums.sum()
    line = (8.0 * ROUNDOFF * np.abs(z) + errors).sum() * float(np.ptp(x))
    few = 8.0 * ROUNDOFF * sums.max()  # of a difference of two, and of an interpolation
    return float(2.0 * (ramps + line + few)) * (1.0 + 4 * len(x) * EPS)


class Ramps(Dictionary):
    r"""Two layers of relu, leaky or abs: :math:`\sigma(x - x_n)` and :math:`\sigma(x_n - x)`.

    The features at the two ends are straight lines on the data; one of them is kept.
    """

    def __init__(self, x: Floats, activation: str, slope: float = 0.0) -> None:
        super().__init__(x)
        self.activation, self.slope = activation, slope
        right = np.arange(len(x) - 1)
        left = right[1:] if activation != "abs" else right[:0]
        self.node = np.concatenate([right, left])
        self.sign = np.concatenate([np.ones(len(right)), -np.ones(len(left))])

    def __len__(self) -> int:
        return len(self.node)

    def correlations(self, z: Floats) -> Floats:
        # The line is centred, or an offset of x would cost digits.
        middle = 0.5 * (self.x[0] + self.x[-1])
        line = math.fsum(z * (self.x - middle))
        ramps = ramp_sums(self.x, z)[self.node]
        if self.activation == "abs":  # |t| = 2 (t)_+ - t
            return 2.0 * ramps - line
        # sigma(t) = k t + (1 - k) (t)_+ and (-t)_+ = (t)_+ - t
        kinked = np.where(self.sign > 0, ramps, ramps - line)
        return self.slope * self.sign * line + (1.0 - self.slope) * kinked

    def margin(self, z: Floats, sizes: Floats, errors: Floats) -> float:
        return ramp_margin(self.x, z, errors)

    def columns(self, index: Ints) -> Floats:
        distances = (self.x[:, None] - self.x[self.node[index]]) * self.sign[index]
        return activate(distances, self.activation, self.slope)

    def feature(self, index: int) -> Feature:
        sign = int(self.sign[index])
        bias = -sign * float(self.x[self.node[index]])
        return ChainFeature(self.activation, (sign,), (bias,), self.x, self.slope)


class ClippedRamps(Dictionary):
    r"""Deep narrow ReLU: :math:`\min(\max(x, a_i), a_j)` for two nodes :math:`a_i < a_j`.

    The nodes are the inputs, and with ``reflections`` also every :math:`2 x_m - x_n` between the
    first and the last input (then one node of a pair is an input). A node at an end of the data
    clips nothing there and is left out of the feature: it is a ramp or a line.
    """

    def __init__(self, x: Floats, depth: int, reflections: bool = False) -> None:
        super().__init__(x)
        self.depth = depth
        self.nodes = x
        if reflections:
            mirrors = np.unique(2.0 * x[:, None] - x[None, :])
            inside = mirrors[(mirrors > x[0]) & (mirrors < x[-1])]
            distance = np.abs(inside[:, None] - x[None, :]).min(axis=1)
            self.nodes = np.sort(np.concatenate([x, inside[distance > 1e-12 * np.ptp(x)]]))
        given = np.isin(self.nodes, x)
        low, high = np.triu_indices(len(self.nodes), 1)
        kept = given[low] | given[high]
        self.low, self.high = low[kept], high[kept]
        # A ramp that falls to the right is the constant minus the clipped one.
        falling = (self.nodes[self.low] <= x[:1]) & (self.nodes[self.high] < x[-1:])
        self.sign = np.where(falling, -1.0, 1.0)

    @staticmethod
    def size(n: int, reflections: bool) -> int:
        """Return (a bound on) the number of columns for n distinct inputs."""
        return n * (n - 1) // 2 + (n * n * (n - 1) if reflections else 0)

    def __len__(self) -> int:
        return len(self.low)

    def correlations(self, z: Floats) -> Floats:
        """Return every A_j^T z, (p,): differences of the ramps' correlations."""
        # R is linear between inputs, so that a node between two of them is interpolated.
        ramps = np.interp(self.nodes, self.x, ramp_sums(self.x, z))
        return self.sign * (ramps[self.low] - ramps[self.high])

    def margin(self, z: Floats, sizes: Floats, errors: Floats) -> float:
        return ramp_margin(self.x, z, errors)

    def columns(self, index: Ints) -> Floats:
        low, high = self.nodes[self.low[index]], self.nodes[self.high[index]]
        clipped = np.clip(self.x[:, None], low, high)
        return np.where(self.sign[index] > 0, clipped - low, high - clipped)

    def feature(self, index: int) -> Feature:
        low, high = float(self.nodes[self.low[index]]), float(self.nodes[self.high[index]])
        rest = self.depth - 3  # the deepest layers pass a nonnegative number on
        signs: tuple[int, ...]
        biases: tuple[float, ...]
        if high >= self.x[-1]:
            signs, biases = (1, 1), (-low, 0.0)  # (x - a_i)_+
        elif low <= self.x[0]:
            signs, biases = (-1, 1), (high, 0.0)  # (a_j - x)_+
        else:
            signs, biases = (-1, -1), (high, high - low)  # (a_j - a_i - (a_j - x)_+)_+
        return ChainFeature("relu", signs + (1,) * rest, biases + (0.0,) * rest, self.x)


class Chains(Dictionary):
    """Narrow units given by their signs and biases (p, L - 1); the matrix is kept if it is small.

    Columns that are constant, or parallel to a longer one up to a constant, are dropped.
    """

    def __init__(
        self, x: Floats, activation: str, signs: Floats, biases: Floats, slope: float = 0.0
    ) -> None:
        super().__init__(x)
        self.activation, self.slope = activation, slope
        self.signs, self.biases = signs, biases
        self.terms = float(np.abs(x).max() + np.abs(biases).sum(axis=1).max(initial=0.0))
        kept = self._distinct()
        self.signs, self.biases = signs[kept], biases[kept]
        small = len(kept) * len(x) <= CACHED
        self.matrix = self._evaluate(slice(None)) if small else None

    def _evaluate(self, index: Ints | slice) -> Floats:
        signs, biases = self.signs[index], self.biases[index]
        h = np.repeat(self.x[:, None], len(signs), axis=1)  # (N, k)
        for layer in range(signs.shape[1]):
            h = activate(h * signs[:, layer] + biases[:, layer], self.activation, self.slope)
        return h

    def _blocks(self, total: int) -> list[slice]:
        step = max(1, CACHED // (8 * len(self.x)))
        return [slice(first, first + step) for first in range(0, total, step)]

    def _distinct(self) -> Ints:
        """Return the columns to keep, in their order."""
        parts, lengths = [], []
        for block in self._blocks(len(self.signs)):
            columns = self._evaluate(block)
            columns -= columns.mean(axis=0)
            length = np.linalg.norm(columns, axis=0)
            columns /= np.where(length > 0, length, 1.0)
            parts.append(columns.T)
            lengths.append(length)
        lines, length = np.concatenate(parts), np.concatenate(lengths)
        order = np.argsort(-length, kind="stable")
        rounding = ALIKE * EPS * self.terms
        order = order[length[order] > rounding]
        # What is rounding of a column is more of its direction the shorter it is. Of some, it hides
        # all of that; they are kept, which costs only time.
        apart = np.minimum(rounding / length[order], 1e-9)
        return np.sort(order[np.unique(near_rows(lines[order], apart)[0])])

    def __len__(self) -> int:
        return len(self.signs)

    def correlations(self, z: Floats) -> Floats:
        if self.matrix is not None:
            return z @ self.matrix
        parts = [z @ self._evaluate(block) for block in self._blocks(len(self.signs))]
        return np.concatenate(parts)

    def margin(self, z: Floats, sizes: Floats, errors: Floats) -> float:
        # Of a sum over the points, of the layers, and the distance up to which columns are one.
        roundings = len(self.x) + 4 * self.signs.shape[1] + 2 * ALIKE
        return self.terms * float((ROUNDOFF * roundings * sizes + errors).sum())

    def columns(self, index: Ints) -> Floats:
        return self._evaluate(index) if self.matrix is None else self.matrix[:, index]

    def feature(self, index: int) -> Feature:
        signs = tuple(int(sign) for sign in self.signs[index])
        return ChainFeature(
            self.activation, signs, tuple(self.biases[index].tolist()), self.x, self.slope
        )


class Switches(Dictionary):
    """All vectors of two values with at least one and at most K switches, low on the left."""

    def __init__(self, x: Floats, activation: str, switches: int) -> None:
        super().__init__(x)
        self.activation = activation
        self.step = 1.0 if activation == "threshold" else 2.0
        gaps = range(1, len(x))
        self.groups = [
            np.array(list(combinations(gaps, k)), dtype=np.intp).reshape(-1, k)
            for k in range(1, min(switches, len(x) - 1) + 1)
        ]
        self.starts = np.cumsum([0] + [len(group) for group in self.groups])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def correlations(self, z: Floats) -> Floats:
        """Return every A_j^T z, (p,): alternating sums of the sums of z up to each switch."""
        sums = -self.step * np.cumsum(z)  # stepping up after g counts the rest, minus the sum to g
        parts = [
            (sums[group - 1] * (-1.0) ** np.arange(group.shape[1])).sum(axis=1)
            for group in self.groups
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def margin(self, z: Floats, sizes: Floats, errors: Floats) -> float:
        # Of the sums of z, and of as many of these as there are switches.
        most = len(self.groups)
        roundings = ROUNDOFF * (len(z) + most) * sizes
        return self.step * most * float((roundings + errors).sum())

    def columns(self, index: Ints) -> Floats:
        listed = [self.feature(int(i))(self.x) for i in index]
        return np.array(listed).reshape(-1, len(self.x)).T

    def feature(self, index: int) -> Feature:
        k = int(np.searchsorted(self.starts, index, side="right")) - 1
        gaps = self.groups[k][index - self.starts[k]]
        return SwitchFeature(self.activation, tuple(gaps.tolist()), self.x)


def leaky_count(n: int, depth: int) -> int:
    """Return how many chains `leaky_chains` lists for n distinct inputs."""
    return (2 * n) ** (depth - 1)


def leaky_chains(x: Floats, depth: int, slope: float) -> tuple[Floats, Floats]:
    r"""Return the signs and biases (p, L - 1) of leaky chains with every kink at an input.

    A leaky chain is strictly monotone, hence :math:`h(x_i) = h(x_n)` only for i = n and each layer
    has exactly one kink equation: :math:`b_l = -s_l h_{l-1}(x_{j_l})`.
    """
    signs = biases = np.zeros((1, 0))
    h = x[None, :]  # (p, N)
    for _ in range(depth - 1):
        sign = np.tile(np.repeat([1.0, -1.0], len(x)), len(h))[:, None]
        anchor = np.repeat(h, 2, axis=0).reshape(-1, 1)  # every value h_{l-1}(x_j) can be one
        signs, biases, h = (np.repeat(part, 2 * len(x), axis=0) for part in (signs, biases, h))
        signs, biases = np.hstack([signs, sign]), np.hstack([biases, -sign * anchor])
        h = activate(h * sign + biases[:, -1:], "leaky", slope)
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
    rounding = 16 * EPS * max(1.0, float(np.abs(x).max()) / span)  # in units of the span
    found = []
    for anchor in range(len(x)):
        rows, sides = abs_planes(free, centred, anchor)
        leading = np.sign(rows[np.arange(len(rows)), np.argmax(rows != 0, axis=1)])
        planes = np.hstack([rows, sides[:, None] / span]) * leading[:, None]
        distinct = _first_of_each(planes, rounding)
        rows, sides = rows[distinct], sides[distinct]
        for chosen in subset_blocks(len(rows), free, 100_000):
            normals, rhs = rows[chosen], sides[chosen]
            # The entries are small integers: a determinant is 0 or at least 1 in size.
            regular = np.abs(np.linalg.det(normals)) > 0.5
            b = np.linalg.solve(normals[regular], rhs[regular][..., None])[..., 0]  # (k, D)
            b = b[_plausible(b, centred, anchor, 1e-10 * span)]
            if len(b):
                b = b[_first_of_each(b / span, rounding)]
                h = np.repeat(centred[None, :], len(b), axis=0)
                for layer in range(free):
                    h = np.abs(h - b[:, layer : layer + 1])
                found.append(np.hstack([b, h[:, anchor : anchor + 1]]))
    b = np.concatenate(found)
    b[:, 0] += shift
    return np.ones_like(b), -b


def _first_of_each(rows: Floats, distance: float) -> np.ndarray:
    """Return the places of rows that differ by more than a distance, in the order of the rows."""
    # With a one, a row and its negative are not near.
    places = np.unique(near_rows(np.hstack([rows, np.ones((len(rows), 1))]), distance)[0])
    # Ten digits, or rounding would decide on the order: columns that are alike are neighbours.
    order: np.ndarray = places[np.lexsort(np.round(rows[places], 10).T[::-1])]
    return order


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
