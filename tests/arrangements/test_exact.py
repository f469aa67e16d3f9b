"""Integer arithmetic behind the enumeration."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given

from convexlib.arrangements import exact
from tests.helpers.patterns import Case, degenerate_integers, integer_grid


def test_integer_rows_are_exact_multiples() -> None:
    assert exact.integer_rows(np.array([[-2.5], [0.1]])).tolist() == [[-1], [1]]
    A = np.array([[0.1, -3.0, 2.0**-1074], [0.0, 0.0, -0.75], [6.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    Z = exact.integer_rows(A)
    assert Z[1:].tolist() == [[0, 0, -1], [2, 3, 0], [0, 0, 0]]
    factor = Fraction(int(Z[0, 0])) / Fraction(0.1)
    assert factor > 0
    assert [factor * Fraction(float(a)) for a in A[0]] == Z[0].tolist()


def test_signs_below_rounding_are_exact() -> None:
    big = 10**40
    V = np.array([[big, -big], [big + 1, -big], [big, -big - 1]], dtype=object)
    Z = np.array([[1, 1], [big + 1, big]], dtype=object)
    sign = exact.signs(V, Z, exact.unit_scale(V), exact.unit_scale(Z))
    assert sign.tolist() == [[0, 1], [1, 1], [-1, 0]]


@given(degenerate_integers(max_n=6, max_d=4))
def test_rank_is_exact(case: Case) -> None:
    X, _ = case
    r = int(np.linalg.matrix_rank(X))
    Z = exact.integer_rows(X)
    assert not exact.rank_exceeds(Z, r)
    assert r == 0 or exact.rank_exceeds(Z, r - 1)


def test_rays_vanish_on_independent_rows() -> None:
    X, _ = integer_grid(3)
    Z = exact.integer_rows(X)
    lines = exact.rays(Z)
    # The lines through two or three of the nine points.
    assert len(lines) == len({tuple(line) for line in lines.tolist()}) == 20
    for line in lines:
        through = Z[(Z @ line) == 0]
        assert len(through) >= 2
        assert exact.rank_exceeds(through, 1)


def test_cells_with_parallel_rows() -> None:
    Z = np.array([[1, 0], [-2, 0], [0, 1], [1, 1], [3, 3]], dtype=object)
    masks, inside = exact.cells(Z)
    assert len(masks) == 6
    np.testing.assert_array_equal(inside @ Z.T.astype(float) > 0, masks)
