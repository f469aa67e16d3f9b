"""All patterns of a data matrix, with a proof that these are all."""

from __future__ import annotations

from math import comb
from typing import Any

from torch import Tensor

from convexlib.arrangements.exact import cells
from convexlib.arrangements.patterns import (
    Arrangements,
    as_rows,
    confirmed,
    reduced_rows,
    silent_pattern,
)
from convexlib.arrangements.rowspace import Reduction
from convexlib.arrays import Floats
from convexlib.errors import TooManyArrangementsError
from convexlib.validation import check_matrix, check_positive_int, readable_count


def count_bound(n: int, rank: int) -> int:
    r"""Return Cover's bound on the number of patterns, :math:`2 \sum_{k<r} \binom{n-1}{k}`.

    It is attained by n nonzero samples in general position in r dimensions, and no n samples of
    rank r have more. Samples that are all zero (``rank=0``) have one pattern.

    Raises
    ------
    InputError
        If n < 1 or rank < 0, or if one of them is not an integer.

    References
    ----------
    T. M. Cover, *Geometrical and statistical properties of systems of linear inequalities with
    applications in pattern recognition*, 1965, Theorem 1.
    """
    n = check_positive_int(n, "n")
    rank = check_positive_int(rank, "rank", minimum=0)
    return 2 * sum(comb(n - 1, k) for k in range(min(rank, n))) if rank else 1


def enumerate_arrangements(X: Any, max_patterns: int = 100_000) -> Arrangements:
    r"""Return the patterns of all cells of full dimension, with a proof that these are all.

    The distinct hyperplanes are written as integer vectors and their cells are listed by exact
    arithmetic (see ``convexlib.arrangements.exact``), which holds on degenerate data too: zero,
    duplicate and antipodal samples, integer grids, one-hot columns, X of any rank. If X is
    rank-deficient only up to rounding (:math:`\sigma_{r+1} \le 10^{-12} \sigma_1` after columns are
    brought to one scale) or two directions differ by at most :math:`10^{-13}` (float32: 2e-6 and
    3e-7), a nearby matrix that is degenerate exactly takes its place, and ``perturbation`` bounds
    the distance. The same holds if some cells are as thin as rounding and all samples are simple
    rational combinations of r of them, up to rounding: a grid of spacing 0.1, or a standardised
    one.

    The pattern of zeros everywhere is listed if it exists; samples that are zero are active in all
    patterns.

    Parameters
    ----------
    X : array or tensor (n, d)
    max_patterns : int
        The most patterns to return.

    Returns
    -------
    Arrangements
        The second half is opposite to the first (on nonzero samples). If a cell is too thin for a
        gate of X's precision to be inside it beyond doubt, it is left out and ``exhaustive`` is
        False; this happens in float32 and on data that nearly have three hyperplanes through one
        line.

    Raises
    ------
    TooManyArrangementsError
        Before any search, if :func:`count_bound` for the distinct directions is more than twice
        `max_patterns`; after it, if more than `max_patterns` were found.
    InputError
        If X is not a finite matrix, one of its columns has entries whose ratio is outside the range
        of float64, or `max_patterns` is not a positive integer.

    Notes
    -----
    Verified in tests/arrangements/test_enumeration.py against Cover's count, counts known from
    combinatorics, Whitney's theorem and linear programs for every sign vector.
    """
    X = check_matrix(X)
    max_patterns = check_positive_int(max_patterns, "max_patterns")
    A = as_rows(X)
    reduced = reduced_rows(X, A)
    if reduced.rank == 0:
        return silent_pattern(X)
    m, r = reduced.rows.shape
    bound = count_bound(m, r)
    # Degenerate data have fewer patterns than the bound: up to twice as many are worth a look.
    if bound > 2 * max_patterns:
        raise _refusal(X, "up to ", bound, max_patterns)
    found = _search(X, A, reduced)
    if not found.exhaustive:
        rational = reduced.rationalised()
        again = _search(X, A, rational) if rational is not None else found
        found = again if again.exhaustive else found
    if len(found) > max_patterns:
        raise _refusal(X, "", len(found), max_patterns)
    return found


def _search(X: Tensor, A: Floats, reduced: Reduction) -> Arrangements:
    """Return all cells of `reduced` into which a gate in the dtype of X can be put."""
    masks, inside = cells(reduced.lines)
    masks, gates = reduced.expand_masks(masks), reduced.expand_gates(inside)
    return confirmed(X, A, masks, gates, perturbation=reduced.perturbation(A))


def _refusal(X: Tensor, prefix: str, count: int, max_patterns: int) -> TooManyArrangementsError:
    return TooManyArrangementsError(
        f"X has shape {tuple(X.shape)}: {prefix}{readable_count(count)} patterns, more than "
        f"max_patterns={max_patterns}. Raise max_patterns or use "
        "sample_arrangements(X, n_patterns=...)."
    )
