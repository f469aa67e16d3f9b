r"""Where a trained network of one input bends, and whether these places are mirrors of its data.

*Bends are exact.* A fully connected network with piecewise linear activations is a piecewise linear
function of its one input. Layer by layer, the arguments of the activations are linear between the
places known so far, so their zeros, which are the new places, take one division each. Slopes are
products of weights along the pattern of a piece, no difference quotients.

*Places.* Three layers of absolute values bend, in an optimal narrow network, at data points, at
mirrors :math:`2 x_i - x_j` and at midpoints. A bend within `reach` of a data point is counted
there, whatever else is near. Next comes a kind of place of which the theorem does not speak. Where
the straight line through the two samples on the left of a gap and the one through the two on its
right meet inside the gap, the data ask for a bend, whatever the function is made of: a *corner*. A
bend there tells nothing about mirrors, even if the corner is one. Then come mirrors, and then
midpoints. All lengths are fractions of the hull of the inputs, outside which no sample is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexlib.arrays import Bools, Floats

Ints = NDArray[np.int64]

SAME = 1e-9  # of the width of an interval: nearer places are one
PILE = 1e-3  # of the hull: neighbours that are nearer bend as one
KINDS = ("data", "corner", "mirror", "midpoint", "other")


def activate(values: Floats, activation: str) -> Floats:
    """Return the ReLU or the absolute value."""
    return np.abs(values) if activation == "abs" else np.maximum(values, 0.0)


def breakpoints(
    weights: Sequence[Floats], biases: Sequence[Floats], activation: str, low: float, high: float
) -> tuple[Floats, Floats]:
    """Return the places in (low, high) where a network may bend, and how much its slope changes.

    Parameters
    ----------
    weights : sequence of ndarray (inputs, outputs)
        Of every layer; the first has one input, the last one output.
    biases : sequence of ndarray (outputs,)
    activation : {"abs", "relu"}
        After every layer but the last.
    low, high : float
        The ends of the interval.
    """
    t = np.array([low, high])
    hidden = t[:, None]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inner = hidden @ weight + bias  # linear between the places so far
        piece, neuron = np.nonzero(inner[:-1] * inner[1:] < 0)
        left, right = inner[piece, neuron], inner[piece + 1, neuron]
        part = left / (left - right)
        fresh = t[piece] + part * (t[piece + 1] - t[piece])
        between = inner[piece] + part[:, None] * (inner[piece + 1] - inner[piece])
        between[np.arange(len(piece)), neuron] = 0.0
        order = np.argsort(np.concatenate([t, fresh]), kind="stable")
        t = np.concatenate([t, fresh])[order]
        hidden = activate(np.concatenate([inner, between])[order], activation)
    apart = np.diff(t, prepend=-np.inf) > SAME * (high - low)
    t = np.append(t[:-1][apart[:-1]], high)
    return t[1:-1], np.diff(slopes(weights, biases, activation, 0.5 * (t[1:] + t[:-1])))


def slopes(
    weights: Sequence[Floats], biases: Sequence[Floats], activation: str, points: Floats
) -> Floats:
    """Return the derivative of a network at points where it does not bend."""
    hidden, slope = points[:, None], np.ones((len(points), 1))
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inner = hidden @ weight + bias
        factor = np.sign(inner) if activation == "abs" else (inner > 0).astype(np.float64)
        hidden, slope = activate(inner, activation), factor * (slope @ weight)
    return np.asarray((slope @ weights[-1])[:, 0])


def bends(places: Floats, changes: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Return the bends of a function with the exact changes of slope at increasing places.

    Neurons pile up at a sample, a rounding error apart. Neighbours within `PILE` of each other are
    one bend, at the mean weighted by size, with the sum of their changes. Bends below `threshold`
    times the largest do not count.
    """
    if len(places) == 0:
        return places, changes
    pile = np.cumsum(np.diff(places, prepend=places[0]) > PILE)
    size = np.abs(changes) + np.finfo(np.float64).tiny
    at = np.bincount(pile, size * places) / np.bincount(pile, size)
    total = np.bincount(pile, changes)
    kept = np.abs(total) > threshold * np.abs(total).max()
    return at[kept], total[kept]


def near(points: Floats, places: Floats, reach: float) -> Bools:
    """Return for each point whether one of the places, which are increasing, is within reach."""
    if len(places) == 0:
        return np.zeros(points.shape, dtype=np.bool_)
    after = np.searchsorted(places, points)
    below, above = places[np.maximum(after - 1, 0)], places[np.minimum(after, len(places) - 1)]
    return np.asarray(np.minimum(np.abs(points - below), np.abs(points - above)) <= reach)


def corners(x: Floats, y: Floats) -> Floats:
    """Return the places inside gaps where the lines through the samples on both sides meet."""
    rise = np.diff(y) / np.diff(x)
    found = []
    for i in range(1, len(x) - 2):  # the gap from x[i] to x[i + 1]
        left, right = rise[i - 1], rise[i + 1]
        if left != right:
            place = x[i] + (y[i + 1] - y[i] - right * (x[i + 1] - x[i])) / (left - right)
            if x[i] < place < x[i + 1]:
                found.append(place)
    return np.array(found)


@dataclass(frozen=True, eq=False)
class Places:
    """The places of a data set in its hull, as fractions of it, by what is found there first.

    Attributes
    ----------
    data, corners, mirrors, midpoints : ndarray
        Increasing. Mirrors within `reach` of a data point or a corner are left out.
    reach : float
        How near a bend has to be.
    reflected : ndarray of bool
        For each corner, whether it is within reach of a mirror.
    """

    data: Floats
    corners: Floats
    mirrors: Floats
    midpoints: Floats
    reach: float
    reflected: Bools

    @classmethod
    def of(cls, x: Floats, y: Floats, reach: float) -> Places:
        """Return the places of sorted samples with distinct inputs."""
        data = (x - x[0]) / (x[-1] - x[0])
        meeting = (corners(x, y) - x[0]) / (x[-1] - x[0])
        pairs = data[:, None], data[None, :]
        every = np.unique(np.round(2.0 * pairs[0] - pairs[1], 12)[~np.eye(len(x), dtype=np.bool_)])
        every = every[(every > 0.0) & (every < 1.0) & ~near(every, data, reach)]
        middle = np.unique(np.round(0.5 * (pairs[0] + pairs[1]), 12))
        alone = every[~near(every, meeting, reach)]
        return cls(data, meeting, alone, middle, reach, near(meeting, every, reach))

    def kinds(self, points: Floats) -> Ints:
        """Return the number in `KINDS` of what is near each point."""
        found = np.full(len(points), len(KINDS) - 1)
        for kind, places in ((3, self.midpoints), (2, self.mirrors), (1, self.corners)):
            found[near(points, places, self.reach)] = kind
        found[near(points, self.data, self.reach)] = 0
        return found

    @property
    def pieces(self) -> Floats:
        """The parts (k, 2) of the hull beyond reach of data and corners."""
        cuts = np.sort(np.concatenate([self.data, self.corners]))
        ends = np.column_stack([cuts[:-1] + self.reach, cuts[1:] - self.reach])
        return ends[ends[:, 1] > ends[:, 0]]

    @property
    def shares(self) -> Floats:
        """Of each piece, the share within reach of a mirror: that of bends spread evenly there."""
        found = []
        for low, high in self.pieces:
            covered, end = 0.0, low
            for mirror in self.mirrors:
                start = max(mirror - self.reach, end)
                end = max(end, min(mirror + self.reach, high))
                covered += max(end - start, 0.0)
            found.append(covered / (high - low))
        return np.array(found)

    def chances(self, points: Floats) -> Floats:
        """Return for points inside the pieces the share of their piece."""
        return np.asarray(self.shares[np.searchsorted(self.pieces[:, 0], points, "right") - 1])
