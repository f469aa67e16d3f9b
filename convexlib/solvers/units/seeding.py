r"""Where the search for sub-networks starts: those of a few briefly trained networks.

The networks are trained side by side from different seeds. All their sub-networks together have
at least the optimum of each network alone, since the best multiples are found jointly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.problems.units import UnitProgram
from convexlib.solvers.descent.grid import check_grid, descend
from convexlib.solvers.descent.parallel import Weights, gradients, initial, leaves_of

Found = tuple[Tensor, Tensor, Tensor]  # leaves (B, m, d), signs (B, m), output signs (B,)

_NETWORKS = 3
_SUBNETWORKS = 32
_STEPS = 600
_RATE = 0.03
_BATCH = 100
_LIVE = 1e-4  # a sub-network counts if its norm exceeds this part of the largest


def trained_units(problem: UnitProgram, seed: int = 0) -> Found:
    r"""The sub-networks of networks after a short run of Adam, in float64.

    The run is deterministic, on data and targets of unit scale: for :math:`X = c \tilde X` and
    :math:`y = s \tilde y` the networks are those for :math:`\tilde X, \tilde y` and
    :math:`\beta / (c s)`. Checked by ``tests/solvers/units/test_search.py``.
    """
    X, y, m = problem.X.double().cpu(), problem.y.double().cpu(), problem.widths[0]
    size, height = (float(part.square().mean().sqrt()) for part in (X, y))
    if size == 0.0 or height == 0.0:
        return X.new_zeros(0, m, X.shape[1]), X.new_zeros(0, m), X.new_zeros(0)
    beta = problem.beta / (size * height)
    seeds = [_NETWORKS * seed + k for k in range(_NETWORKS)]
    weights = initial(seeds, 1, _SUBNETWORKS, m, X)
    grid = check_grid(
        len(X),
        optimizer="adam-cosine",
        rates=[_RATE],
        seeds=seeds,
        n_steps=_STEPS,
        batch_size=_BATCH,
        n_records=1,
    )

    def slopes(batch_X: Tensor, batch_y: Tensor) -> Weights:
        return gradients(batch_X, batch_y, weights, beta, len(X), problem.by_sum)

    descend(grid, X / size, y / height, weights, slopes, lambda *_: None)
    leaves = (leaves_of(weights, problem.by_sum) * (height / size)).flatten(0, 2)
    norms = problem.norms(leaves)
    live = torch.isfinite(norms) & (norms > _LIVE * norms.nan_to_num(0.0).max())
    signs, side = weights[1].flatten(0, 2).sign(), weights[2].flatten().sign()
    return leaves[live], signs[live], side[live]
