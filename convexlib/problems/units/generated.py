r"""Problems without a list of units: blocks that stand for sub-networks, whatever their patterns.

A block (2m, d) holds first the leaves that are added, then those that are subtracted; at most m of
them are not zero. So a tensor of weights says everything about a network, signs included.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from convexlib.problems.units.pieces import Units


def no_units(n: int, widths: tuple[int, ...]) -> Units:
    """Return the empty list for n samples: a problem with it has its units generated."""
    m, parents, inner = prod(widths), prod(widths), []
    for children in widths:
        parents //= children
        inner.append(np.zeros((0, parents, children), dtype=np.int8))
    outputs = np.zeros((0, n, m), dtype=np.int8)
    return Units(np.zeros((0, m, n), dtype=bool), tuple(inner), outputs[:, None], outputs)


def leaves_of(blocks: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Leaves (B, m, d) and their signs [(B, 1, m)] of generated blocks (B, 2m, d)."""
    m = blocks.shape[1] // 2
    used = torch.linalg.vector_norm(blocks, dim=2) > 0
    order = (~used).to(torch.int8).argsort(dim=1, stable=True)[:, :m]  # (B, m)
    leaves = blocks.gather(1, order[:, :, None].expand(-1, -1, blocks.shape[2]))
    return leaves, [torch.where(order < m, 1.0, -1.0).to(blocks)[:, None]]


def blocks_from(leaves: Tensor, signs: Tensor) -> Tensor:
    """Generated blocks (B, 2m, d) of leaves (B, m, d) with the signs (B, m)."""
    added = (signs > 0)[:, :, None]
    return torch.cat([torch.where(added, leaves, 0.0), torch.where(added, 0.0, leaves)], dim=1)


def weights_from(leaves: Tensor, signs: Tensor, side: Tensor) -> Tensor:
    """Generated weights (2, B, 2m, d) of sub-networks with the output signs `side` (B,)."""
    blocks = blocks_from(leaves, signs)
    return torch.stack([torch.where((side == s)[:, None, None], blocks, 0.0) for s in (1.0, -1.0)])
