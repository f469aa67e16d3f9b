r"""Local ascent for the best neuron: many starts, cheap, and no proof.

Near a unit u, :math:`g(u) = t^\top u + z^\top (Xu)_+` is the sum of a convex part, at least its
tangent, and the concave terms of samples with :math:`z_i < 0`, which are kinks only for the set A
of samples whose hyperplanes are near. So with w the shortest of

.. math:: G + \sum_{i \in A} \tau_i z_i x_i, \quad 0 \le \tau_i \le 1,
          \qquad G = t + \sum_{i \notin A,\; x_i^\top u > 0} z_i x_i,

:math:`w/\|w\|` maximises a minorant of g that is exact at u. A step towards it, at most as far as
the samples outside of A allow, climbs wherever a climb exists: inside a cell it lands on the cell's
maximum, and on hyperplanes it slides, so that it ends in maxima on arcs and at crossings too.

**From cell to cell.** Inside the cell of a pattern D the best neuron for a dual point z is a
projection: the maximum of :math:`z^\top (Xu)_+` over its unit vectors is
:math:`\|\mathrm{Proj}_K(X^\top D z)\|`. It usually lies on the boundary, on facets j with
multipliers :math:`\lambda_j \ge 0`. Across facet j the gradient's outward component changes from
:math:`\lambda_j` to :math:`\lambda_j + z_j` (in units of the row :math:`x_j`), so that crossing it
pays, to first order, exactly if :math:`\lambda_j + z_j > 0`. All such facets are crossed at once,
and again from the new cell, as long as the maximum grows. Ascent by gradients zigzags at such
kinks; this lands on them.

`search` runs many of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

import convexlib.runtime  # noqa: F401  # a place for the kernels
from convexlib.arrangements import Arrangements
from convexlib.arrangements.patterns import distinct
from convexlib.arrays import Floats
from convexlib.cones import ConeProjector
from convexlib.runtime import check_time, out_of_time, time_left

_SWEEPS = 10  # of coordinate descent for the shortest w
_RADIUS = 0.5  # of the first step
_SMALLEST = 1e-9  # radius at which a start is done
_AT_ONCE = 300_000  # numbers that starts, or cells, go through between two looks at the clock


# Kernels carry no annotations: numba infers their types from the arguments.
# They copy in loops: for an assignment to a slice numba compiles the message for shapes that do not
# fit, which takes two seconds.
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
    for a in range(len(w)):
        w[a] = sign * tilt[a]
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
        u = np.empty(d)
        trial = np.empty(d)
        w = np.empty(d)
        s = np.empty(n)
        ahead = np.empty(n)
        tau = np.empty(n)
        near = np.empty(n, np.int64)
        for a in range(d):
            u[a] = directions[k, a]
        height = _heights(rows, z, tilt, 1.0, u, s)
        sign = values[k]
        if sign == 0.0:
            sign = -1.0 if height < 0.0 else 1.0
        height *= sign
        # A trust region: the radius bounds the step and says which hyperplanes count as near.
        for i in range(n):
            tau[i] = 1.0 if s[i] > 0.0 else 0.0
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
            # The maximiser w / ||w|| of the minorant itself if it is within the radius, else a step
            # of that length towards it, along the sphere.
            full = along > 0.0 and across <= radius * along
            for a in range(d):
                trial[a] = w[a] / length if full else u[a] + radius * trial[a] / across
            length = np.sqrt(_dot(trial, trial))
            for a in range(d):
                trial[a] /= length
            climbed = _heights(rows, z, tilt, sign, trial, ahead)
            if climbed > height:
                for a in range(d):
                    u[a] = trial[a]
                height = climbed
                s, ahead = ahead, s
                if not full:
                    radius = min(2.0 * radius, 1.0)
            else:
                # Near samples are not quite on their hyperplanes: the minorant is below g at u, and
                # what it gains may be less than that. A smaller radius brings it closer.
                radius = 0.25 * min(radius, max(across, 1e-3 * radius))
                if radius < _SMALLEST:
                    break
        for a in range(d):
            directions[k, a] = u[a]
        values[k] = sign * height


def climb(
    rows: Floats, z: Floats, tilt: Floats, starts: Floats, sign: int = 0, n_iter: int = 60
) -> tuple[Floats, Floats]:
    """Local maxima of sign * g from starts (m, d); sign 0 takes the higher side of each start.

    Returns values of g (m,) and unit directions (m, d). Where time is over the starts that are
    left stay where they are.
    """
    lengths = np.linalg.norm(starts, axis=1, keepdims=True)
    directions = np.ascontiguousarray(starts / np.maximum(lengths, 1e-300))
    values = np.full(len(directions), float(sign))
    norms = np.linalg.norm(rows, axis=1)
    # All at once without a limit, as they share the threads.
    block = len(starts) if math.isinf(time_left()) else _AT_ONCE // max(rows.size, 1)
    for part in _parts(len(starts), block):
        steps = 0 if out_of_time() else n_iter
        _climb(rows, norms, z, tilt, directions[part], values[part], steps)
    return values, directions


def _parts(length: int, block: int) -> Iterator[slice]:
    """Slices of so many entries, at least one each."""
    block = max(block, 1)
    return (slice(start, start + block) for start in range(0, length, block))


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
    check_time()
    values = np.ldexp(values, exponent)
    return torch.from_numpy(values).to(X), torch.from_numpy(directions).to(X)


_STEPS = 8  # cells that a start may visit
_TOUCHING = 1e-9  # distance at which a unit vector counts as on a hyperplane
_INWARD = 1e-3  # how far to go inside, as a part of the way to the nearest other hyperplane


def move_cells(
    X: Tensor, z: Tensor, masks: Tensor, sides: Tensor, least: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Climb from cell to cell.

    Parameters
    ----------
    X, z : Tensor (n, d), (n,)
        Data and dual point.
    masks : bool Tensor (m, n)
        Patterns to start from.
    sides : Tensor (m,)
        1 to climb :math:`z^\top (Xu)_+` and -1 for its negative.
    least : float
        Cells whose maximum is at most this are left alone, which saves most of their work.

    Returns
    -------
    values : Tensor (m,)
        The maxima reached, with their sides' signs; 0 where the first cell's is at most `least`.
    neurons : Tensor (m, d)
        Unit vectors with these values, in general on the boundaries of their cells.
    masks : bool Tensor (m, n)
        The patterns of the cells.

    Notes
    -----
    Checked by ``tests/pricing/test_ascent.py``.
    """
    lengths = torch.linalg.vector_norm(X, dim=1).clamp(min=1e-300)
    slack = 1e-12 * float(z.abs().max())
    best, neurons, reached = X.new_zeros(len(masks)), X.new_zeros(len(masks), X.shape[1]), masks
    masks, reached = masks.clone(), reached.clone()
    live = torch.arange(len(masks), device=X.device)
    for _ in range(_STEPS):
        check_time()
        side, cells = sides[live], masks[live]
        projector = ConeProjector(X, cells)
        points = projector((cells * (side[:, None] * z)) @ X, least)
        heights = torch.linalg.vector_norm(points, dim=1)
        higher = (heights > best[live] * (1.0 + 1e-9)).nonzero().ravel()
        if not len(higher):
            break
        live, side = live[higher], side[higher]
        best[live] = heights[higher]
        neurons[live] = points[higher] / heights[higher, None]
        reached[live] = cells[higher]
        rows, multipliers, kept = (
            torch.from_numpy(part[higher.cpu().numpy()]).to(X.device)
            for part in (projector.active, projector.multipliers, _kept(projector))
        )
        # Rows of the projector have unit length, those of X have not: hence the division.
        pays = multipliers / lengths[rows] + side[:, None] * z[rows] > slack
        block, place = (kept & pays).nonzero(as_tuple=True)
        crossed = rows[block, place]
        masks[live[block], crossed] = ~masks[live[block], crossed]
        live = live[block.unique()]
    return best * sides, neurons, reached


def inside(X: Tensor, masks: Tensor, units: Tensor) -> Tensor:
    """Move unit vectors (m, d) off the walls of their cells into the inside, by very little."""
    lengths = torch.linalg.vector_norm(X, dim=1).clamp(min=1e-300)
    signs = (2.0 * masks.to(X) - 1.0) / lengths
    slacks = (units @ X.T) * signs  # (m, n)
    nearest, rows = slacks.topk(min(2 * X.shape[1], len(X)), dim=1, largest=False)
    touching = nearest <= _TOUCHING
    normals = X[rows] * (torch.gather(signs, 1, rows) * touching)[..., None]  # (m, k, d)
    inward = torch.zeros_like(units)  # 1 on every touching row, if it can
    for part in _parts(len(normals), _AT_ONCE // max(X.shape[1] * rows.shape[1], 1)):
        check_time()
        inward[part] = torch.linalg.pinv(normals[part], rtol=1e-10).sum(dim=2)
    slopes = (inward @ X.T) * signs
    free = (slopes < 0) & (slacks > _TOUCHING)
    room = torch.where(free, slacks / -slopes, torch.inf).amin(dim=1)
    length = torch.linalg.vector_norm(inward, dim=1).clamp(min=1e-300)
    moved = units + (_INWARD * torch.minimum(room, 1.0 / length))[:, None] * inward
    return moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True)


def _kept(projector: ConeProjector) -> NDArray[np.bool_]:
    """Which entries of the active sets count, (B, k)."""
    kept: NDArray[np.bool_] = np.arange(projector.active.shape[1]) < projector.sizes[:, None]
    return kept


_RANDOM, _PER_DIMENSION = 100, 15  # directions per search, whichever gives more
_CLIMBS = 15  # steps of each: what is left to the top of a cell is one projection
_FLAT = 1e-12  # part of the largest singular value below which a direction is rounding
_NEAR = 0.9  # cells whose maximum is below this part of the level are not worth climbing from
_ADDED = 300  # patterns at most that a search returns


@dataclass(frozen=True, eq=False)
class Violated:
    """Neurons (m, d) inside distinct cells above the level, best first, and the highest value.

    The highest value counts all cells that were seen, also those that are not above the level.
    """

    neurons: Tensor
    highest: float


def search(
    X: Tensor,
    z: Tensor,
    level: float,
    generator: torch.Generator,
    neurons: Tensor | None = None,
    sides: Tensor | None = None,
    arrangements: Arrangements | None = None,
) -> Violated:
    """Look around the neurons in use, in the neighbours of their cells, and at random.

    Parameters
    ----------
    X, z : Tensor (n, d), (n,)
        Data and dual point.
    level : float
        What counts as violated.
    generator : torch.Generator
        Of the random directions.
    neurons, sides : Tensor (m, d), (m,), optional
        Nonzero neurons and the signs of their outputs.
    arrangements : Arrangements, optional
        Their cells, in the same order.
    """
    heights, tops = ascend(X, z, _starts(X, neurons, generator), _CLIMBS)
    masks, signs = (X @ tops.T >= 0).T, heights.sign()
    if arrangements is not None and sides is not None:
        masks, signs = torch.cat([masks, arrangements.masks]), torch.cat([signs, sides])
    first = distinct(torch.cat([masks, signs[:, None] > 0], dim=1))
    values, units, cells = move_cells(X, z, masks[first], signs[first], _NEAR * level)
    values = values.abs()
    order = values.argsort(descending=True)
    highest = max(float(values[order[0]]), float(heights.abs().max()))
    order = order[values[order] > level]
    order = order[distinct(cells[order])][:_ADDED]
    return Violated(inside(X, cells[order], units[order]), highest)


def _starts(X: Tensor, neurons: Tensor | None, generator: torch.Generator) -> Tensor:
    """Random directions, and some near the neurons, which are in cells that are seen anyway.

    Half of them are drawn evenly in the coordinates of the whitened data. Where features have sizes
    of different orders the largest one decides the patterns of nearly all others.
    """
    d = X.shape[1]
    drawn = max(_RANDOM, _PER_DIMENSION * d)
    starts = torch.randn(drawn, d, generator=generator, dtype=torch.float64).to(X)
    _, sizes, Vt = torch.linalg.svd(X, full_matrices=False)
    kept = sizes > _FLAT * sizes[0]
    starts[::2] = (starts[::2] @ Vt[kept].T / sizes[kept]) @ Vt[kept]
    if neurons is None or not len(neurons):
        return starts
    sizes = torch.linalg.vector_norm(neurons, dim=1, keepdim=True)
    noise = torch.randn(neurons.shape, generator=generator, dtype=torch.float64).to(X)
    return torch.cat([starts, neurons + 0.3 * sizes * noise / d**0.5])
