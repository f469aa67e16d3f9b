r"""Features of narrow networks in one dimension: functions that know their kinks by name.

A narrow unit with hidden layers :math:`1, \dots, L-1` is a chain of numbers,

.. math:: h_0(x) = x, \qquad h_l(x) = \sigma(s_l h_{l-1}(x) + b_l), \qquad s_l \in \{-1, 1\},

and a switching unit of signs or thresholds is piecewise constant. Points are named by the distinct
inputs in increasing order, :math:`x_1 < \dots < x_N`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from convexlib.arrays import Floats

CHAINED = ("relu", "abs", "leaky")  # positively homogeneous: depth rescales freely
SWITCHING = ("sign", "threshold")
ACTIVATIONS = (*CHAINED, *SWITCHING)


def activate(values: Floats, activation: str, slope: float) -> Floats:
    """Return the activation of every entry; ``sign`` and ``threshold`` count 0 as positive."""
    if activation == "relu":
        return np.maximum(values, 0.0)
    if activation == "abs":
        return np.abs(values)
    if activation == "leaky":
        return np.where(values >= 0, values, slope * values)
    high = np.where(values >= 0, 1.0, 0.0)
    return high if activation == "threshold" else 2.0 * high - 1.0


def name_point(value: float, x: Floats, near: Sequence[float] = (), midpoints: bool = True) -> str:
    """Name a number by the distinct increasing inputs x (N,): a point, a midpoint or a mirror.

    Of the ways to write it as a reflection :math:`2 x_m - x_n`, one whose mirror or whose original
    lies among the numbers `near` is preferred. With ``midpoints`` off a reflection is always the
    name where there is one. Any other number is written out.
    """
    tolerance = 1e-9 * max(float(np.ptp(x)), float(np.abs(x).max()), 1e-300)
    hits = np.flatnonzero(np.abs(x - value) <= tolerance)
    if len(hits):
        return f"x_{hits[0] + 1}"
    close = np.array([min((abs(p - q) for q in near), default=np.inf) <= tolerance for p in x])
    i, j = np.triu_indices(len(x), 1)
    halves = np.flatnonzero(np.abs((x[i] + x[j]) / 2 - value) <= tolerance)
    m, k = np.nonzero(np.abs(2 * x[:, None] - x[None, :] - value) <= 2 * tolerance)
    score = 2 * close[m] + close[k]
    if len(m) and (score.max() > 0 or not len(halves) or not midpoints):
        best = int(np.argmax(score))
        return f"reflection of x_{k[best] + 1} about x_{m[best] + 1}"
    if len(halves):
        best = halves[int(np.argmax(1 * close[i[halves]] + close[j[halves]]))]
        return f"midpoint of x_{i[best] + 1} and x_{j[best] + 1}"
    return f"{value:.6g}"


class Feature(ABC):
    """One column of a dictionary as a function of x."""

    activation: str
    points: Floats

    @abstractmethod
    def __call__(self, x: ArrayLike) -> Floats:
        """Return the feature at the inputs x (any shape)."""

    @property
    @abstractmethod
    def kinks(self) -> Floats:
        """The inputs, increasing, at which the slope (or the value) changes."""

    @abstractmethod
    def describe(self) -> str:
        """Say in words what the feature is, for instance ``ramp at x_3``."""

    def kink_names(self) -> list[str]:
        """Name the kinks: data points, midpoints of two, or reflections of one about another."""
        kinks = [float(kink) for kink in self.kinks]
        # Midpoints are what abs folds at; ReLU has none.
        folds = self.activation == "abs"
        return [name_point(kink, self.points, kinks, midpoints=folds) for kink in kinks]


@dataclass(frozen=True, eq=False)
class ChainFeature(Feature):
    r"""A narrow unit :math:`h_l = \sigma(s_l h_{l-1} + b_l)` with unit weights.

    Attributes
    ----------
    activation : {"relu", "abs", "leaky"}
        The activation, with the slope `slope` on the negative side for ``"leaky"``.
    signs, biases : tuple of L - 1 numbers
        The s_l and b_l.
    points : ndarray (N,)
        The distinct inputs, increasing, by which kinks are named.
    """

    activation: str
    signs: tuple[int, ...]
    biases: tuple[float, ...]
    points: Floats = field(repr=False)
    slope: float = 0.0

    def __call__(self, x: ArrayLike) -> Floats:
        h = np.asarray(x, dtype=np.float64)
        for sign, bias in zip(self.signs, self.biases, strict=True):
            h = activate(sign * h + bias, self.activation, self.slope)
        return h

    @property
    def kinks(self) -> Floats:
        span = float(np.ptp(self.points)) or 1.0
        reach = 4.0 * (span + sum(abs(bias) for bias in self.biases))
        breaks = np.array([self.points.min() - reach, self.points.max() + reach])
        for depth, (sign, bias) in enumerate(zip(self.signs, self.biases, strict=True)):
            part = replace(self, signs=self.signs[:depth], biases=self.biases[:depth])
            # The input of this activation is linear between the breaks so far.
            inner = sign * part(breaks) + bias
            crossing = np.flatnonzero(inner[:-1] * inner[1:] < 0)
            low, high = inner[crossing], inner[crossing + 1]
            roots = breaks[crossing] - low * np.diff(breaks)[crossing] / (high - low)
            breaks = np.unique(np.concatenate([breaks, roots]))
        apart = np.concatenate([[True], np.diff(breaks) > 1e-9 * span])
        breaks = breaks[apart]
        slopes = self._slopes(0.5 * (breaks[:-1] + breaks[1:]))
        sizes = np.maximum(np.abs(slopes[:-1]), np.abs(slopes[1:]))
        return breaks[1:-1][np.abs(np.diff(slopes)) > 1e-12 * sizes]

    def _slopes(self, x: Floats) -> Floats:
        """The slopes at inputs that are no kinks: products of those of the activations."""
        low = {"relu": 0.0, "abs": -1.0, "leaky": self.slope}[self.activation]
        h, slopes = x, np.ones_like(x)
        for sign, bias in zip(self.signs, self.biases, strict=True):
            inner = sign * h + bias
            slopes = slopes * (sign * np.where(inner >= 0, 1.0, low))
            h = activate(inner, self.activation, self.slope)
        return slopes

    def describe(self) -> str:
        names = self.kink_names()
        if not names:
            return "straight line"
        if len(names) > 1:
            ends = ", ".join(names[:-1]) + " and " + names[-1]
            if self.activation == "relu":
                return f"clipped ramp between {names[0]} and {names[1]}"
            return f"{'W' if self.activation == 'abs' else 'bent line'} with kinks at {ends}"
        if self.activation == "abs":
            return f"V at {names[0]}"
        left, right = self(self.kinks[0] - 1.0), self(self.kinks[0] + 1.0)
        side = "right" if right > left else "left"
        shape = "ramp" if self.activation == "relu" else "leaky ramp"
        return f"{shape} at {names[0]}, rising to the {side}"


@dataclass(frozen=True, eq=False)
class SwitchFeature(Feature):
    """A piecewise constant unit that starts low on the left and switches at every kink.

    Attributes
    ----------
    activation : {"sign", "threshold"}
        Values -1 and 1, or 0 and 1.
    gaps : tuple of int
        It switches half-way between the distinct inputs number g and g + 1 (counted from 1), for
        each g in `gaps`.
    points : ndarray (N,)
        The distinct inputs, increasing.
    """

    activation: str
    gaps: tuple[int, ...]
    points: Floats = field(repr=False)

    def __call__(self, x: ArrayLike) -> Floats:
        switched = np.searchsorted(self.kinks, np.asarray(x, dtype=np.float64), side="right")
        high = (switched % 2).astype(np.float64)
        return high if self.activation == "threshold" else 2.0 * high - 1.0

    @property
    def kinks(self) -> Floats:
        places = np.array(self.gaps, dtype=np.intp)
        return 0.5 * (self.points[places - 1] + self.points[places])

    def describe(self) -> str:
        names = [f"between x_{gap} and x_{gap + 1}" for gap in self.gaps]
        return ("step " if len(names) == 1 else "switches ") + ", ".join(names)
