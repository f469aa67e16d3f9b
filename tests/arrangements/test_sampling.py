"""Sampled patterns: real, reproducible and never called complete."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convexlib.arrangements import enumerate_arrangements, sample_arrangements
from tests.generators import (
    EXACT,
    ROUNDED,
    Case,
    general_position,
)
from tests.pattern_checks import assert_consistent, patterns


@pytest.mark.parametrize("method", ["gaussian", "geometric"])
@pytest.mark.parametrize("case", [*EXACT.values(), *ROUNDED.values()], ids=[*EXACT, *ROUNDED])
def test_samples_are_patterns_of_open_cells(case: Case, method: str) -> None:
    X, count = case
    sampled = sample_arrangements(X, 150, method=method)
    assert not sampled.exhaustive
    assert 1 <= len(sampled) <= min(150, count)
    assert patterns(sampled.masks) <= patterns(enumerate_arrangements(X).masks)
    assert_consistent(torch.from_numpy(X), sampled)


@pytest.mark.parametrize("method", ["gaussian", "geometric"])
def test_samples_depend_on_the_seed_alone(method: str) -> None:
    X, _ = general_position(30, 4)
    first = sample_arrangements(X, 50, seed=3, method=method)
    torch.manual_seed(99)
    again = sample_arrangements(X, 50, seed=3, method=method)
    assert torch.equal(first.gates, again.gates)
    assert torch.equal(first.masks, again.masks)
    other = sample_arrangements(X, 50, seed=4, method=method)
    assert patterns(first.masks) != patterns(other.masks)


def test_cross_products_find_thin_cells_that_gaussians_miss() -> None:
    X = np.stack([np.ones(10), 1e-6 * np.arange(10)], axis=1)
    assert len(sample_arrangements(X, 500, method="gaussian")) < 5
    assert len(sample_arrangements(X, 500, method="geometric")) == 20


def test_cross_products_stay_beside_the_samples_they_come_from() -> None:
    X = np.random.default_rng(0).standard_normal((40, 4))
    sampled = sample_arrangements(X, 200, method="geometric")
    # Flipping any of the d - 1 samples that were at zero leads to a neighbouring cell. So among
    # the facets of a cell there are at least d - 1 of them.
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    closest = np.sort(np.abs(sampled.gates.numpy() @ unit.T), axis=1)
    gaussian = sample_arrangements(X, 200).gates.numpy()
    assert np.median(closest[:, 2]) < np.median(np.sort(np.abs(gaussian @ unit.T), axis=1)[:, 2])
