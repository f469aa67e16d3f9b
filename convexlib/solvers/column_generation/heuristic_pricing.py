r"""Where :math:`|z^\top (Xu)_+|` is large: many local searches, and no proof."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convexlib.arrangements import Arrangements
from convexlib.pricing.ascent import ascend
from convexlib.solvers.column_generation.cell_moves import inside, move_cells
from convexlib.solvers.pattern_set import distinct

_RANDOM, _PER_DIMENSION = 100, 15  # directions per search, whichever gives more
_FLAT = 1e-12  # part of the largest singular value below which a direction is none of the data's
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
    heights, tops = ascend(X, z, _starts(X, neurons, generator))
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
