"""Data degenerate up to rounding, of any scale and in single precision."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from convexlib.arrangements import enumerate_arrangements
from convexlib.errors import InputError
from tests.helpers.patterns import (
    EXACT,
    ROUNDED,
    Case,
    assert_consistent,
    brute_force,
    cover,
    general_position,
    integer_grid,
    patterns,
    rank_deficient,
    whitney_count,
)


@pytest.mark.parametrize("case", ROUNDED.values(), ids=ROUNDED)
def test_data_degenerate_up_to_rounding(case: Case) -> None:
    X, count = case
    found = enumerate_arrangements(X)
    assert len(found) == count
    assert found.exhaustive
    assert 0 < found.perturbation < 1e-12
    assert brute_force(X) <= patterns(found.masks)
    assert_consistent(torch.from_numpy(X), found)


def test_standardised_grid_is_recognised() -> None:
    X, count = integer_grid(4)
    X[:, :2] = (X[:, :2] - X[:, :2].mean(axis=0)) / X[:, :2].std(axis=0) * (1.3, 0.07)
    found = enumerate_arrangements(X)
    assert (len(found), found.exhaustive) == (count, True)
    assert 0 < found.perturbation < 1e-12


def test_perturbation_bounds_the_distance_to_low_rank() -> None:
    X, _ = rank_deficient(10, 2, 5, exact=False)
    noise = 1e-13 * np.random.default_rng(1).standard_normal(X.shape)
    found = enumerate_arrangements(X + noise)
    # No matrix of rank 2 is nearer than the third singular value.
    third = np.linalg.svd(X + noise, compute_uv=False)[2]
    assert third <= found.perturbation <= 100 * third
    assert len(found) == 20


def test_perturbation_bounds_the_distance_to_parallel_samples() -> None:
    X, count = general_position(5, 2)
    X = np.concatenate([X, -3 * X[:1] + [[0, 5e-14]]])
    found = enumerate_arrangements(X)
    first, last = ([Fraction(x) for x in row] for row in X[[0, 5]].tolist())
    # The distance of two rows from the nearest pair of parallel rows is their least singular value.
    area = first[0] * last[1] - first[1] * last[0]
    least = float(abs(area)) / np.linalg.norm(X[[0, 5]])
    assert least <= found.perturbation <= 100 * least
    assert (len(found), found.exhaustive) == (count, True)


def test_cells_thinner_than_rounding_forfeit_the_proof() -> None:
    rng = np.random.default_rng(1)
    plane, _ = rank_deficient(3, 2, 3, exact=False)
    # Three hyperplanes that meet in a line up to rounding; no rational coordinates tell so.
    X = np.concatenate([plane, rng.standard_normal((3, 3))])
    assert whitney_count(X) == cover(6, 3) == 32
    found = enumerate_arrangements(X)
    assert not found.exhaustive
    assert len(found) == 30
    assert_consistent(torch.from_numpy(X), found)
    X[0] += 1e-9
    assert enumerate_arrangements(X).exhaustive
    single = torch.from_numpy(X).float()
    assert not enumerate_arrangements(single).exhaustive
    assert enumerate_arrangements(single.double()).exhaustive


def test_degenerate_single_precision() -> None:
    cases = (rank_deficient(10, 2, 5, exact=False), *ROUNDED.values(), *EXACT.values())
    for X, count in cases:
        single = torch.from_numpy(X).float()
        found = enumerate_arrangements(single)
        assert (len(found), found.exhaustive) == (count, True)
        assert found.perturbation < 1e-5
        assert_consistent(single, found)


@pytest.mark.parametrize("power", [-900, 60, 900])
def test_scales_of_columns_and_rows_do_not_matter(power: int) -> None:
    X, count = general_position(8, 3)
    for scaled in (X * [1.0, 1.0, 2.0**power], X * 2.0**power):
        found = enumerate_arrangements(scaled)
        assert (len(found), found.exhaustive, found.perturbation) == (count, True, 0.0)


def test_rounded_data_of_any_scale() -> None:
    X, count = rank_deficient(10, 2, 5, exact=False)
    reference = enumerate_arrangements(X).perturbation
    for power in (-900, 900):
        found = enumerate_arrangements(X * 2.0**power)
        assert len(found) == count
        assert found.perturbation == reference * 2.0**power


def test_entries_beyond_the_range_of_floats_are_refused() -> None:
    X = np.array([[1e300, 1.0], [1e-20, 2.0]])
    with pytest.raises(InputError, match=r"Column 0 of X has entries as large as 1e\+300"):
        enumerate_arrangements(X)


@pytest.mark.parametrize("X", [[[1e70, 2e70], [0, 1]], [[1e30, 2e30, 0], [0, 0, 1], [0, 1, 0]]])
def test_samples_beside_much_larger_ones_keep_their_hyperplanes(X):
    """They vanish in the singular values, but cells do not depend on lengths."""
    X = np.array(X, dtype=float)
    plain = X / np.abs(X).max(axis=1, keepdims=True)
    found, expected = (enumerate_arrangements(part) for part in (X, plain))
    assert found.exhaustive
    assert found.perturbation == 0.0
    assert {tuple(row) for row in found.masks.tolist()} == {
        tuple(row) for row in expected.masks.tolist()
    }
