"""Activation patterns: complete on every kind of data, and never called complete otherwise."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import linprog

import convexlib as cl
from convexlib.arrangements import (
    Arrangements,
    count_bound,
    enumerate_arrangements,
    exact,
    patterns_of,
    sample_arrangements,
)
from convexlib.errors import InputError, TooManyArrangementsError
from tests.helpers.patterns import (
    EXACT,
    ROUNDED,
    Case,
    Patterns,
    assert_consistent,
    boolean_cube,
    braid,
    brute_force,
    cover,
    degenerate_integers,
    general_position,
    integer_grid,
    patterns,
    rank_deficient,
    whitney_count,
    zero_rows,
)
from tests.helpers.refusals import EYE, ONE, refused


def by_linear_programs(X: np.ndarray) -> Patterns:
    """All sign vectors s with s_j x_j^T u >= 1 feasible (on nonzero rows), built row by row."""
    found: list[tuple[bool, ...]] = [()]
    for j in range(len(X)):
        extended = []
        for pattern in found:
            for active in (True, False):
                longer = (*pattern, active)
                if not X[j].any():
                    if active:
                        extended.append(longer)
                    continue
                sign = np.where(longer, 1.0, -1.0) * X[: j + 1].any(axis=1)
                lp = linprog(
                    np.zeros(X.shape[1]),
                    A_ub=-sign[:, None] * X[: j + 1],
                    b_ub=-np.abs(sign),
                    bounds=(None, None),
                )
                if lp.status == 0:
                    extended.append(longer)
        found = extended
    return set(found)


def from_subsets(X: np.ndarray, opposite: str) -> Patterns:
    """What the usual method lists: the normals of d - 1 rows, with these on either side.

    The opposite half comes from opposite patterns, or from opposite normals.
    """
    n, d = X.shape
    found = set()
    for subset in map(list, combinations(range(n), d - 1)):
        normal = np.linalg.svd(X[subset])[2][-1]
        for side in (1, -1) if opposite == "normals" else (1,):
            mask = np.round(side * (X @ normal), 12) >= 0
            for local in product((False, True), repeat=d - 1):
                mask[subset] = local  # other samples at zero stay active
                found.add(tuple(mask.tolist()))
                if opposite == "patterns":
                    found.add(tuple((~mask).tolist()))
    return found


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 14])
def test_general_position_attains_covers_count(n: int, rank: int) -> None:
    X, count = general_position(n, rank, seed=n)
    found = enumerate_arrangements(X)
    assert len(found) == count == count_bound(n, min(n, rank))
    assert found.exhaustive
    assert found.perturbation == 0.0
    assert_consistent(torch.from_numpy(X), found)


def test_rows_that_differ_in_the_last_digits_are_merged_and_that_is_said() -> None:
    nearly = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0 + 1e-14], [0.0, 1.0, 2.0]])
    for X in (nearly, nearly[:2, ::2]):
        assert np.linalg.matrix_rank(X, tol=1e-16) == len(X)
        found = enumerate_arrangements(X)
        assert len(found) < count_bound(len(X), len(X))
        assert 1e-15 < found.perturbation < 1e-13


def test_many_samples() -> None:
    for n, rank in ((60, 3), (300, 2)):
        X, count = general_position(n, rank)
        assert len(enumerate_arrangements(X)) == count


@pytest.mark.parametrize("case", EXACT.values(), ids=EXACT)
def test_degenerate_data_exactly(case: Case) -> None:
    X, count = case
    found = enumerate_arrangements(X)
    assert len(found) == count
    assert found.exhaustive
    assert found.perturbation == 0.0
    assert brute_force(X) <= patterns(found.masks)
    assert_consistent(torch.from_numpy(X), found)


@given(degenerate_integers())
def test_random_degenerate_integers_have_whitneys_count(case: Case) -> None:
    X, count = case
    found = enumerate_arrangements(X)
    assert len(found) == count
    assert found.exhaustive
    assert_consistent(torch.from_numpy(X), found)


@settings(max_examples=10)
@given(degenerate_integers(max_n=6, max_d=3))
def test_random_degenerate_integers_by_linear_programs(case: Case) -> None:
    assert patterns(enumerate_arrangements(case[0]).masks) == by_linear_programs(case[0])


@pytest.mark.parametrize(
    ("case", "count", "opposite"),
    [
        (zero_rows(8, 3), 58, "patterns"),
        (integer_grid(3), 58, "normals"),
        (rank_deficient(8, 2, 3, exact=True), 16, "patterns"),
        (rank_deficient(8, 2, 3, exact=True), 16, "normals"),
    ],
    ids=["zero row", "grid with bias", "rank 2", "rank 2, normals"],
)
def test_subsets_of_rows_alone_miss_patterns(case: Case, count: int, opposite: str) -> None:
    X, expected = case
    assert expected == count
    found = patterns(enumerate_arrangements(X).masks)
    assert len(found) == count
    assert brute_force(X) <= found
    assert found - from_subsets(X, opposite), "these data are no trap"


@pytest.mark.parametrize("opposite", ["patterns", "normals"])
def test_subsets_of_rows_suffice_in_general_position(opposite: str) -> None:
    X, _ = general_position(8, 3)
    assert from_subsets(X, opposite) == patterns(enumerate_arrangements(X).masks)


def test_generators_agree_with_whitney() -> None:
    for name in ("zero row", "antipodal", "grid 3", "cube 3", "signed braid", "two one-hot"):
        X, count = EXACT[name]
        assert whitney_count(X) == count, name


def test_patterns_follow_the_data() -> None:
    X, _ = integer_grid(3)
    found = patterns(enumerate_arrangements(X).masks)
    order = np.random.default_rng(0).permutation(len(X))
    permuted = enumerate_arrangements(X[order]).masks.numpy()
    assert patterns(permuted[:, np.argsort(order)]) == found
    unimodular = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -3.0], [0.0, 0.0, 1.0]])
    assert patterns(enumerate_arrangements(X @ unimodular).masks) == found
    lengths = np.arange(1.0, 10.0)[:, None]
    assert patterns(enumerate_arrangements(X * lengths).masks) == found


def test_gates_are_far_from_the_hyperplanes() -> None:
    X, _ = general_position(8, 2)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = enumerate_arrangements(X)
    margin = (found.gates @ torch.from_numpy(X).T).abs()
    angles = np.sort(np.arctan2(X[:, 1], X[:, 0]) % np.pi)
    widths = np.diff(np.append(angles, angles[0] + np.pi))
    # In two dimensions a cell is an angle, and the gate bisects it.
    expected = np.sin(np.repeat(widths, 2) / 2)
    np.testing.assert_allclose(np.sort(margin.min(dim=1).values), np.sort(expected), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [None, "gaussian", "geometric"])
def test_dtype_is_kept(dtype: torch.dtype, method: str | None) -> None:
    X = torch.from_numpy(general_position(25, 3)[0]).to(dtype)
    if method is None:
        found = enumerate_arrangements(X)
        assert len(found) == cover(25, 3)
    else:
        found = sample_arrangements(X, 300, method=method)
    assert_consistent(X, found)


def test_integers_and_strided_arrays_are_welcome() -> None:
    X, count = integer_grid(3)
    assert len(enumerate_arrangements(X.astype(int))) == count
    assert len(enumerate_arrangements(np.asfortranarray(X)[::-1])) == count
    assert len(enumerate_arrangements(torch.from_numpy(X).T.contiguous().T)) == count


def test_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("cells were searched")

    monkeypatch.setattr(exact, "cells", fail)
    with pytest.raises(
        TooManyArrangementsError,
        match=r"X has shape \(200, 20\): up to 3.6e\+26 patterns, more than max_patterns=100000. "
        r"Raise max_patterns or use sample_arrangements\(X, n_patterns=...\)\.",
    ):
        enumerate_arrangements(np.random.default_rng(0).standard_normal((200, 20)))
    with pytest.raises(TooManyArrangementsError, match=r"up to 1.1e\+12 patterns"):
        enumerate_arrangements(np.random.default_rng(0).standard_normal((40, 60)))
    with pytest.raises(TooManyArrangementsError, match="up to 382 patterns, more than max_pat"):
        enumerate_arrangements(general_position(20, 3)[0], max_patterns=100)


def test_max_patterns_is_exact_and_counts_what_is_there() -> None:
    for X, count in (general_position(9, 3), boolean_cube(3), braid(4)):
        assert len(enumerate_arrangements(X, max_patterns=count)) == count
        with pytest.raises(TooManyArrangementsError, match=f"{count} patterns, more than"):
            enumerate_arrangements(X, max_patterns=count - 1)


def test_duplicates_do_not_count_towards_the_bound() -> None:
    X = np.repeat(general_position(6, 3)[0], 500, axis=0)
    assert len(enumerate_arrangements(X, max_patterns=32)) == 32


@pytest.mark.parametrize("function", [enumerate_arrangements, lambda X: sample_arrangements(X, 3)])
def test_bad_data_are_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(InputError, match=r"1 non-finite value \(at row 1, column 0\)"):
        function(np.array([[1.0, 2.0], [np.nan, 1.0]]))
    with pytest.raises(InputError, match=r"shape \(3,\); expected two axes"):
        function(np.ones(3))


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "5", None])
def test_bad_counts_are_refused(bad: object) -> None:  # what the types forbid, hence the ignores
    X = np.eye(2)
    with pytest.raises(InputError, match="max_patterns is .*; expected an integer >= 1"):
        enumerate_arrangements(X, max_patterns=bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n_patterns is .*; expected an integer >= 1"):
        sample_arrangements(X, bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n is .*; expected an integer >= 1"):
        count_bound(bad, 2)  # type: ignore[arg-type]


def test_count_bound() -> None:
    assert [count_bound(8, r) for r in range(10)] == [1, 2, 16, 58, 128, 198, 240, 254, 256, 256]
    assert count_bound(200, 20) == cover(200, 20)
    assert isinstance(count_bound(10_000, 500), int)


def test_select() -> None:
    found = enumerate_arrangements(general_position(6, 3)[0])
    some = found.select([3, 0])
    assert torch.equal(some.masks, found.masks[[3, 0]])
    assert torch.equal(some.gates, found.gates[[3, 0]])
    assert not some.exhaustive
    assert found.select(torch.arange(len(found)).flip(0)).exhaustive
    assert found.select(np.ones(len(found), dtype=bool)).exhaustive
    assert not found.select(slice(1, None)).exhaustive
    assert not found.select([0] * len(found)).exhaustive
    assert len(found.select([])) == 0
    assert not some.select([0, 1]).exhaustive
    rounded = enumerate_arrangements(ROUNDED["product of floats"][0])
    assert rounded.select([1]).perturbation == rounded.perturbation
    with pytest.raises(InputError, match=r"index is .*0\.5.*; expected integers below 32"):
        found.select([0.5])


def test_what_is_printed() -> None:
    found = enumerate_arrangements(general_position(6, 3)[0])
    assert repr(found) == "Arrangements(32 patterns of 6 samples in 3 dimensions, exhaustive)"
    assert repr(found.select([0])).endswith("dimensions, not proven exhaustive)")
    rounded = enumerate_arrangements(ROUNDED["decimal grid"][0])
    assert "exhaustive up to a perturbation of " in repr(rounded)


# --- Sampled patterns: real, reproducible and never called complete ---


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


def test_arrays_lists_and_tensors_are_the_same_data():
    X, directions = np.arange(6.0).reshape(3, 2) - 2.0, np.array([[1.0, 0.5], [-2.0, 1.0]])
    found = patterns_of(torch.from_numpy(X), torch.from_numpy(directions))
    for kind in (np.asarray, np.ndarray.tolist):
        same = patterns_of(kind(X), kind(directions))
        assert torch.equal(same.masks, found.masks)
        assert torch.equal(same.gates, found.gates)
        assert enumerate_arrangements(X).exhausts(kind(X))
    assert len(patterns_of(X, np.zeros((0, 2)))) == 0


REFUSALS = [
    (lambda: patterns_of(EYE, np.ones((2, 3))),
     InputError, r"directions has shape \(2, 3\); expected \(m, 2\), a column for each of X"),
    (lambda: patterns_of(EYE, torch.ones(2, 2, dtype=torch.int64)),
     InputError, "directions is a torch tensor of dtype torch.int64"),
    (lambda: patterns_of(EYE, torch.ones(2, 2)), InputError, "directions has dtype torch.float32"),
    (lambda: patterns_of(EYE, [[np.nan, 1.0]]), InputError, "directions contains 1 non-finite"),
    (lambda: enumerate_arrangements(EYE).exhausts(None), InputError, "X has dtype object"),
    (lambda: sample_arrangements(np.eye(2), 3, method="uniform"),
     InputError, "method is 'uniform'; expected one of 'gaussian', 'geom"),
    (lambda: sample_arrangements(np.eye(2), 3, seed=-1),
     InputError, "seed is -1; expected an integer >= 0"),
    (lambda: count_bound(3, -1), InputError, "rank is -1; expected an integer >= 0"),
    (lambda: Arrangements(torch.ones(2, 3, dtype=torch.bool), torch.ones(1, 2)),
     InputError, r"masks has shape \(2, 3\) and gates \(1, 2\); expected"),
    (lambda: Arrangements(torch.ones(2, 3), torch.ones(2, 2)),
     InputError, "masks has dtype torch.float32; expected torch.bool"),
    (lambda: cl.Arrangements(None, ONE), InputError, "masks is NoneType and gates is"),
    (lambda: cl.Arrangements(ONE.bool(), "x"), InputError, "gates is str; expected two"),
    (lambda: cl.enumerate_arrangements(EYE).select(99), InputError, "expected integers below"),
    (lambda: cl.sample_arrangements(EYE, 2, seed=10**30), InputError, "seed is 1.0e.30"),
    (lambda: cl.sample_arrangements(EYE, 10**30),
     InputError, "n_patterns is 1.0e.30, for X of shape .3, 2."),
    (lambda: cl.enumerate_arrangements(1e308 * EYE),
     InputError, "largest entry of X is 1.0e.308; expec"),
    (lambda: cl.enumerate_arrangements(5e-324 * EYE),
     InputError, "Column 0 of X has entries of 5e-324 at m"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
