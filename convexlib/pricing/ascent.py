r"""Local ascent for the best neuron: many starts, cheap, and no proof.

Near a unit u, :math:`g(u) = t^\top u + z^\top (Xu)_+` is the sum of a convex part, at least its
tangent, and the concave terms of samples with :math:`z_i < 0`, which are kinks only for the set A
of samples whose hyperplanes are near. So with w the shortest of

.. math:: G + \sum_{i \in A} \tau_i z_i x_i, \quad 0 \le \tau_i \le 1,
          \qquad G = t + \sum_{i \notin A,\; x_i^\top u > 0} z_i x_i,

:math:`w/\|w\|` maximises a minorant of g that is exact at u. A step towards it, at most as far as
the samples outside of A allow, climbs wherever a climb exists: inside a cell it lands on the cell's
maximum, and on hyperplanes it slides, so that it ends in maxima on arcs and at crossings too.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from convexlib.arrays import Floats

_SWEEPS = 10  # of coordinate descent for the shortest w
_RADIUS = 0.5  # of the first step
_SMALLEST = 1e-9  # radius at which a start is done


# Kernels carry no annotations: numba infers their types from the arguments.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(a, b):  # type: ignore[no-untyped-def]  # numba infers
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _heights(rows, z, tilt, sign, u, s):  # type: ignore[no-untyped-def]  # numba infers
    """Write s = rows @ u and return sign * g(u)."""
    value = _dot(tilt, u)
    for i in range(len(rows)):
        s[i] = _dot(rows[i], u)
        if s[i] > 0.0:
            value += z[i] * s[i]
    return sign * value


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _model(rows, norms, z, tilt, sign, s, radius, tau, near, w):  # type: ignore[no-untyped-def]  # numba infers
    """The shortest w for the samples whose hyperplanes are within the radius."""
    w[:] = sign * tilt
    count = 0
    for i in range(len(rows)):
        weight = sign * z[i]
        # The product is divided by below, and that of a tiny weight may be zero.
        if weight * norms[i] ** 2 < 0.0 and abs(s[i]) < radius * norms[i]:
            near[count] = i
            count += 1
        else:
            tau[i] = 1.0 if s[i] > 0.0 else 0.0
        if tau[i] > 0.0:
            for a in range(len(w)):
                w[a] += tau[i] * weight * rows[i, a]
    for _ in range(_SWEEPS):
        moved = 0.0
        for index in range(count):
            i = near[index]
            weight = sign * z[i]
            t = tau[i] - _dot(rows[i], w) / (weight * norms[i] ** 2)
            t = min(max(t, 0.0), 1.0)
            change = (t - tau[i]) * weight
            if change != 0.0:
                tau[i] = t
                moved = max(moved, abs(change) * norms[i])
                for a in range(len(w)):
                    w[a] += change * rows[i, a]
        if moved <= 1e-12 * np.sqrt(_dot(w, w)):
            break


@njit(cache=True, nogil=True, parallel=True)
def _climb(rows, norms, z, tilt, directions, values, n_iter):  # type: ignore[no-untyped-def]  # numba infers
    """Move unit `directions` (m, d) to local maxima of their side; write the signed values."""
    n, d = rows.shape
    for k in prange(directions.shape[0]):
        u = directions[k].copy()
        trial = np.empty(d)
        w = np.empty(d)
        s = np.empty(n)
        ahead = np.empty(n)
        tau = np.empty(n)
        near = np.empty(n, np.int64)
        height = _heights(rows, z, tilt, 1.0, u, s)
        sign = values[k]
        if sign == 0.0:
            sign = -1.0 if height < 0.0 else 1.0
        height *= sign
        tau[:] = (s > 0.0) * 1.0
        radius = _RADIUS
        for _ in range(n_iter):
            _model(rows, norms, z, tilt, sign, s, radius, tau, near, w)
            length = np.sqrt(_dot(w, w))
            if length == 0.0:
                break
            along = _dot(w, u) / length
            across = 0.0
            for a in range(d):
                trial[a] = w[a] / length - along * u[a]
                across += trial[a] ** 2
            across = np.sqrt(across)
            full = along > 0.0 and across <= radius * along
            for a in range(d):
                trial[a] = w[a] / length if full else u[a] + radius * trial[a] / across
            length = np.sqrt(_dot(trial, trial))
            for a in range(d):
                trial[a] /= length
            climbed = _heights(rows, z, tilt, sign, trial, ahead)
            if climbed > height:
                u[:] = trial
                height = climbed
                s, ahead = ahead, s
                if not full:
                    radius = min(2.0 * radius, 1.0)
            else:
                radius = 0.25 * min(radius, max(across, 1e-3 * radius))
                if radius < _SMALLEST:
                    break
        directions[k] = u
        values[k] = sign * height


def climb(
    rows: Floats,
    z: Floats,
    tilt: Floats,
    starts: Floats,
    sign: int = 0,
    n_iter: int = 60,
) -> tuple[Floats, Floats]:
    """Local maxima of sign * g from starts (m, d); sign 0 takes the higher side of each start.

    Returns values of g (m,) and unit directions (m, d).
    """
    lengths = np.linalg.norm(starts, axis=1, keepdims=True)
    directions = np.ascontiguousarray(starts / np.maximum(lengths, 1e-300))
    values = np.full(len(directions), float(sign))
    _climb(rows, np.linalg.norm(rows, axis=1), z, tilt, directions, values, n_iter)
    return values, directions


def ascend(X: Tensor, z: Tensor, starts: Tensor, n_iter: int = 60) -> tuple[Tensor, Tensor]:
    """Local maxima of |z^T (Xu)_+| on the unit sphere, from starts (m, d).

    Returns signed values (m,), positive where z itself is followed and negative where -z is,
    and unit directions (m, d). Each start climbs the side on which it is already higher, and never
    falls. CPU work. Checked by ``tests/pricing/test_ascent.py``.
    """
    rows = np.ascontiguousarray(X.detach().double().cpu().numpy())
    dual = z.detach().double().cpu().numpy()
    # A power of two changes no digit, and keeps the products of a tiny z away from underflow.
    exponent = int(np.frexp(np.abs(dual).max(initial=0.0))[1])
    dual = np.ldexp(dual, -exponent)
    U = starts.detach().double().cpu().numpy()
    values, directions = climb(rows, dual, np.zeros(rows.shape[1]), U, n_iter=n_iter)
    values = np.ldexp(values, exponent)
    return torch.from_numpy(values).to(X), torch.from_numpy(directions).to(X)
