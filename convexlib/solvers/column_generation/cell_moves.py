r"""Local search for violated neurons that moves from cell to cell.

Inside the cell of a pattern D the best neuron for a dual point z is a projection: the maximum of
:math:`z^\top (Xu)_+` over its unit vectors is :math:`\|\mathrm{Proj}_K(X^\top D z)\|`. It usually
lies on the boundary, on facets j with multipliers :math:`\lambda_j \ge 0`. Across facet j the
gradient's outward component changes from :math:`\lambda_j` to :math:`\lambda_j + z_j` (in units of
the row :math:`x_j`), so that crossing it pays, to first order, exactly if
:math:`\lambda_j + z_j > 0`. All such facets are crossed at once, and again from the new cell,
as long as the maximum grows. Ascent by gradients zigzags at such kinks; this lands on them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.cones import ConeProjector

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
    Checked by ``tests/solvers/column_generation/test_cell_moves.py``.
    """
    lengths = torch.linalg.vector_norm(X, dim=1).clamp(min=1e-300)
    slack = 1e-12 * float(z.abs().max())
    best, neurons, reached = X.new_zeros(len(masks)), X.new_zeros(len(masks), X.shape[1]), masks
    masks, reached = masks.clone(), reached.clone()
    live = torch.arange(len(masks), device=X.device)
    for _ in range(_STEPS):
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
        pays = multipliers / lengths[rows] + side[:, None] * z[rows] > slack
        block, place = (kept & pays).nonzero(as_tuple=True)
        crossed = rows[block, place]
        masks[live[block], crossed] = ~masks[live[block], crossed]
        live = live[block.unique()]
    return best * sides, neurons, reached


def inside(X: Tensor, masks: Tensor, units: Tensor) -> Tensor:
    """Move unit vectors (m, d) from the boundaries into their cells, by next to nothing."""
    lengths = torch.linalg.vector_norm(X, dim=1).clamp(min=1e-300)
    signs = (2.0 * masks.to(X) - 1.0) / lengths
    slacks = (units @ X.T) * signs  # (m, n)
    nearest, rows = slacks.topk(min(2 * X.shape[1], len(X)), dim=1, largest=False)
    touching = nearest <= _TOUCHING
    normals = X[rows] * (torch.gather(signs, 1, rows) * touching)[..., None]  # (m, k, d)
    inward = torch.linalg.pinv(normals, rtol=1e-10).sum(dim=2)  # 1 on every touching row, if it can
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
