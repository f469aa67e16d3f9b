"""Proximal maps against their definition: no other point has a lower objective."""

import numpy as np
import pytest
import torch

from convexlib.cones import ConeProjector
from convexlib.cones.projector import (
    group_soft_threshold,
    shrink_into_cones,
    shrink_singular_values,
)


def blocks_of(seed, shape=(2, 5, 3)):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_soft_threshold_shortens_each_block():
    blocks = blocks_of(0)
    shrunk = group_soft_threshold(blocks, 1.5)
    norms = torch.linalg.vector_norm(blocks, dim=2)
    expected = (norms - 1.5).clamp(min=0)
    torch.testing.assert_close(torch.linalg.vector_norm(shrunk, dim=2), expected)
    torch.testing.assert_close(shrunk * norms[..., None], blocks * expected[..., None])
    assert (expected == 0).any()
    assert (expected > 0).any()


def test_soft_threshold_by_zero_and_of_zero():
    blocks = blocks_of(1)
    torch.testing.assert_close(group_soft_threshold(blocks, 0.0), blocks)
    for dtype in (torch.float32, torch.float64):
        zeros = torch.zeros(2, 3, dtype=dtype)
        assert torch.equal(group_soft_threshold(zeros, 1.0), zeros)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 2.0])
def test_shrinking_into_cones_is_a_proximal_map(threshold):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((8, 3))
    gates = rng.standard_normal((5, 3))
    masks = gates @ X.T >= 0
    projector = ConeProjector(torch.from_numpy(X), torch.from_numpy(masks), copies=2)
    blocks = blocks_of(3)
    point = shrink_into_cones(blocks, projector, threshold).numpy()

    def objective(u, c):
        return 0.5 * ((u - c) ** 2).sum() + threshold * np.linalg.norm(u)

    for side in range(2):
        for k in range(5):
            signs = np.where(masks[k], 1.0, -1.0)
            c, u = blocks[side, k].numpy(), point[side, k]
            assert (signs * (X @ u) >= -1e-12).all()
            # Feasible rivals: nearby, along the ray, inside the cone, and zero.
            rivals = [0.9 * u, 1.1 * u, 0 * u, gates[k], u + 0.1 * gates[k], u + 1e-3 * gates[k]]
            trials = u + 0.05 * rng.standard_normal((300, 3))
            rivals += [t for t in trials if (signs * (X @ t) >= 0).all()]
            assert all(objective(u, c) <= objective(rival, c) + 1e-12 for rival in rivals)


def test_without_a_projector_only_the_threshold_acts():
    blocks = blocks_of(4)
    torch.testing.assert_close(
        shrink_into_cones(blocks, None, 0.7), group_soft_threshold(blocks, 0.7)
    )
    assert shrink_into_cones(blocks, None) is blocks


@pytest.mark.parametrize("shape", [(5, 3), (2, 6), (4, 1)])
@pytest.mark.parametrize("threshold", [0.0, 0.8, 100.0])
def test_shrinking_singular_values_is_a_proximal_map(shape, threshold):
    """The difference to the point is in the threshold times the subdifferential of the norm."""
    blocks = blocks_of(5, (2, 3, *shape))
    point = shrink_singular_values(blocks, threshold)
    difference = blocks - point
    largest = torch.linalg.matrix_norm(difference, ord=2)
    assert float(largest.max()) <= threshold + 1e-12
    nuclear = torch.linalg.svdvals(point).sum(dim=-1)
    torch.testing.assert_close((difference * point).sum(dim=(-2, -1)), threshold * nuclear)


def test_singular_values_of_one_column_are_its_length():
    blocks = blocks_of(6, (7, 4, 1))
    shrunk = shrink_singular_values(blocks, 1.2)[..., 0]
    torch.testing.assert_close(shrunk, group_soft_threshold(blocks[..., 0], 1.2))
