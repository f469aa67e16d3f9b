"""Local ascent for the best neuron: many starts, cheap, and no proof."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _value_and_gradient(rows, z, u, gradient):  # type: ignore[no-untyped-def]
    """z^T (rows @ u)_+ and its gradient, in one pass over the data."""
    n, d = rows.shape
    gradient[:] = 0.0
    for i in range(n):
        dot = 0.0
        for a in range(d):
            dot += rows[i, a] * u[a]
        if dot > 0.0:
            for a in range(d):
                gradient[a] += z[i] * rows[i, a]
    value = 0.0
    for a in range(d):
        value += gradient[a] * u[a]
    return value


@njit(cache=True, nogil=True, parallel=True)
def _climb(rows, z, directions, heights, n_iter):  # type: ignore[no-untyped-def]
    """Move unit `directions` (m, d) to local maxima of their side; write the signed values."""
    d = rows.shape[1]
    for k in prange(directions.shape[0]):
        u = directions[k].copy()
        gradient = np.empty(d)
        trial = np.empty(d)
        ahead = np.empty(d)
        height = _value_and_gradient(rows, z, u, gradient)
        side = -1.0 if height < 0.0 else 1.0
        step = 1.0
        for _ in range(n_iter):
            length = np.sqrt((gradient * gradient).sum())
            if length == 0.0 or step < 1e-6:
                break
            for a in range(d):
                trial[a] = u[a] + step * side * gradient[a] / length
            length = np.sqrt((trial * trial).sum())
            if length == 0.0:
                break
            for a in range(d):
                trial[a] /= length
            climbed = _value_and_gradient(rows, z, trial, ahead)
            if side * climbed > side * height:
                height = climbed
                u[:] = trial
                gradient[:] = ahead
                step *= 2.0
            else:
                step *= 0.5
        directions[k] = u
        heights[k] = height


def ascend(X: Tensor, z: Tensor, starts: Tensor, n_iter: int = 60) -> tuple[Tensor, Tensor]:
    """Local maxima of |z^T (Xu)_+| on the unit sphere, from starts (m, d).

    Returns signed values (m,), positive where z itself is followed and negative where -z is,
    and unit directions (m, d). Each start climbs the side on which it is already higher. A step
    moves towards the gradient of the present cell and is halved until it climbs. CPU work.
    """
    rows = np.ascontiguousarray(X.detach().double().cpu().numpy())
    directions = starts / torch.linalg.vector_norm(starts, dim=1, keepdim=True).clamp(min=1e-300)
    directions = np.array(directions.detach().double().cpu().numpy(), order="C")
    heights = np.zeros(len(directions))
    _climb(rows, z.detach().double().cpu().numpy(), directions, heights, n_iter)
    return torch.from_numpy(heights).to(X), torch.from_numpy(directions).to(X)
