r"""Proximal maps of the group norm, with and without cones.

The proximal map of :math:`t\|v\| + \iota_K(v)` for a cone K is the group soft-threshold of the
projection: the cone's projection may be taken first because shrinking stays inside a cone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.cones import ConeProjector


def group_soft_threshold(blocks: Tensor, threshold: float) -> Tensor:
    r""":math:`v \mapsto (1 - t/\|v\|)_+ v` along the last axis."""
    norms = torch.linalg.vector_norm(blocks, dim=-1, keepdim=True)
    factors = (1.0 - threshold / norms.clamp(min=1e-300)).clamp(min=0.0)
    return blocks * factors


def shrink_into_cones(
    blocks: Tensor, projector: ConeProjector | None, threshold: float = 0.0
) -> Tensor:
    """Project blocks (S, P, d) onto their cones (if any), then soft-threshold them."""
    if projector is not None:
        flat = blocks.reshape(-1, blocks.shape[-1])
        blocks = projector(flat, threshold).reshape(blocks.shape)
    return group_soft_threshold(blocks, threshold) if threshold > 0 else blocks


def shrink_singular_values(blocks: Tensor, threshold: float) -> Tensor:
    r"""Soft-threshold the singular values of blocks (..., d, c).

    The proximal map of :math:`t \|Z\|_*`.
    """
    # A block whose Frobenius norm is below the threshold has no larger singular value.
    large = torch.linalg.matrix_norm(blocks) > threshold
    result = torch.zeros_like(blocks)
    if bool(large.any()):
        left, values, right = torch.linalg.svd(blocks[large], full_matrices=False)
        values = (values - threshold).clamp(min=0.0)
        result[large] = (left * values[:, None, :]) @ right
    return result
