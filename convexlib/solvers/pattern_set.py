"""The patterns in use while they are generated: distinct, with their weights carried along."""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.arrangements import Arrangements


def patterns_of(X: Tensor, directions: Tensor) -> Arrangements:
    """The distinct patterns of some neurons."""
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    masks = (X @ directions.T >= 0).T  # (m, n)
    first = distinct(masks)
    return Arrangements(masks=masks[first], gates=directions[first], exhaustive=False)


def distinct(masks: Tensor) -> Tensor:
    """Indices of the first occurrence of each distinct row, in order."""
    if not len(masks):
        return torch.arange(0, device=masks.device)
    _, inverse = torch.unique(masks, dim=0, return_inverse=True)
    return first_of_each(inverse).sort().values


def extended(
    arrangements: Arrangements, weights: Tensor, new: Arrangements
) -> tuple[Arrangements, Tensor]:
    """The patterns in use and the new ones, and the weights carried over to them."""
    used = torch.linalg.vector_norm(weights, dim=2).amax(dim=0) > 0  # (P,)
    masks = torch.cat([arrangements.masks[used], new.masks])
    gates = torch.cat([arrangements.gates[used], new.gates])
    first = distinct(masks)
    start = weights.new_zeros((2, len(first), weights.shape[2]))
    start[:, : int(used.sum())] = weights[:, used]  # used patterns are distinct and come first
    return Arrangements(masks=masks[first], gates=gates[first], exhaustive=False), start


def first_of_each(group: Tensor) -> Tensor:
    """Index of the first member of every group; groups are numbered from 0 without gaps."""
    first = torch.full((int(group.max()) + 1,), len(group), device=group.device)
    return first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
