r"""Kinks as spikes: planted piecewise linear functions on a grid of samples.

The samples are 0, 1, .., n-1; the planted function is
:math:`f(x) = \sum_j a_j (s_j (x - t_j))_+` with k kinks strictly between samples 1 and n-2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convexlib.arrays import Floats
from convexlib.errors import InputError
from convexlib.problems.mirrors import Mirrors
from convexlib.solvers.interpolation import interpolate

_FLAT = 1e-9  # slope changes below this are rounding: planted ones are at least 1/2


def draw(n: int, k: int, spacing: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw kinks (k,), at least `spacing` samples apart, amplitudes in ±[1/2, 1] and directions.

    Raises
    ------
    InputError
        If they do not fit between the second sample and the last but one.
    """
    room = n - 3 - (k - 1) * spacing
    if not room > 0:
        raise InputError(
            f"{k} kinks {spacing:g} apart do not fit between samples 1 and {n - 2}; expected less "
            f"than {n - 3} from the first to the last. Set fewer kinks, a smaller spacing or a "
            "larger n."
        )
    kinks = 1.0 + np.sort(rng.uniform(0.0, room, k)) + spacing * np.arange(k)
    amplitudes = rng.uniform(0.5, 1.0, k) * rng.choice([-1.0, 1.0], k)
    return kinks, amplitudes, rng.choice([-1.0, 1.0], k)


def sampled(n: int, kinks: Floats, amplitudes: Floats, directions: Floats) -> Floats:
    """The planted function at the samples, (n,)."""
    x = np.arange(n, dtype=float)[:, None]
    return np.maximum(directions * (x - kinks), 0.0) @ amplitudes


def is_minimal(kinks: Floats, amplitudes: Floats) -> bool:
    """Whether no sample-free or one-sample gap lies between kinks of opposite sign."""
    gaps, signs = np.diff(np.floor(kinks)), np.sign(amplitudes)
    return not ((gaps < 2) & (signs[1:] != signs[:-1])).any()


def is_separated(kinks: Floats) -> bool:
    """Whether every two kinks have two samples between them."""
    return bool((np.diff(np.floor(kinks)) >= 2).all())


def sparsest(y: Floats) -> tuple[Floats, Floats]:
    """Kinks and amplitudes of an interpolant of least norm with few kinks, from samples (n,).

    The interpolating polygon bends at samples. Two bends of one sign at adjacent samples are
    replaced by one at their centre of mass, which keeps the function at all samples and its norm.
    """
    bends = np.diff(y, 2)  # at samples 1 .. n-2
    places, masses = [], []
    i = 0
    while i < len(bends):
        if abs(bends[i]) <= _FLAT:
            i += 1
            continue
        paired = i + 1 < len(bends) and abs(bends[i + 1]) > _FLAT and bends[i] * bends[i + 1] > 0
        both = bends[i : i + 1 + paired]
        masses.append(both.sum())
        places.append(i + 1 + (both @ np.arange(len(both))) / both.sum())
        i += 1 + paired
    return np.array(places), np.array(masses)


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """For every k: how often the planted function is minimal, separated, and found again."""
    n, rows = config["n"], []
    for k in config["kinks"]:
        rng = np.random.default_rng([config["seed"], n, k])
        row = {"k": k, "minimal": 0, "separated": 0, "found": 0, "programs": 0, "agree": 0}
        for trial in range(config["trials"]):
            kinks, amplitudes, directions = draw(n, k, config["spacing"], rng)
            y = sampled(n, kinks, amplitudes, directions)
            places, masses = sparsest(y)
            found = len(places) == k and np.allclose(places, kinks, atol=1e-6)
            found = found and np.allclose(masses, amplitudes, atol=1e-6)
            minimal, separated = is_minimal(kinks, amplitudes), is_separated(kinks)
            row["minimal"] += minimal
            row["separated"] += separated
            row["found"] += bool(found)
            if trial < config["programs"]:
                problem = Mirrors(np.arange(n, dtype=float), y, beta=1.0)
                least = interpolate(problem).value
                # Opposite bends that overlap cancel a part of the planted norm.
                equal = bool(least >= np.abs(amplitudes).sum() - 1e-6)
                row["programs"] += 1
                row["agree"] += equal == minimal
        rows.append(row)
    return {"rows": rows}
