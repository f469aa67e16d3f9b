"""Names for numpy's arrays, the unit roundoff that error terms are made of, and a scale."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EPS = float(np.finfo(np.float64).eps)
ROUNDOFF = 0.5 * EPS  # relative error of one operation


def scale_of(values: Tensor) -> float:
    """A power of two near the largest entry: in units of it, squares stay within float64."""
    largest = float(values.detach().abs().max()) if values.numel() else 0.0
    if not 0.0 < largest < math.inf:
        return 1.0
    return 2.0 ** min(max(math.frexp(largest)[1], -1000), 1000)
