"""Data whose cells can be counted without the library.

Every generator returns ``(X, count)``: a matrix and the number of activation patterns of its cells
of full dimension, from a theorem or from Whitney's formula in rational arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import comb, factorial, gcd

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from convexlib.arrangements import Arrangements

Case = tuple[np.ndarray, int]


def cover(n: int, rank: int) -> int:
    """Cover's count of the cells of n hyperplanes in general position, by Pascal's triangle."""
    row = [1]
    for _ in range(n - 1):
        row = [a + b for a, b in zip([0, *row], [*row, 0], strict=True)]
    return 2 * sum(row[:rank])


def rational_rank(rows: list[tuple[Fraction, ...]]) -> int:
    """Rank by Gaussian elimination in rational arithmetic."""
    rows = [list(row) for row in rows]
    rank = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def whitney_count(X: np.ndarray) -> int:
    """Count the cells by Whitney's theorem: the sum of (-1)^(|S| - rank S) over sets S of lines."""
    lines = set()
    for row in X:
        exact = tuple(Fraction(float(x)) for x in row)
        leading = next((x for x in exact if x), None)
        if leading is not None:
            lines.add(tuple(x / leading for x in exact))
    return sum(
        (-1) ** (size - rational_rank(list(chosen)))
        for size in range(len(lines) + 1)
        for chosen in combinations(sorted(lines), size)
    )


def general_position(n: int, rank: int, seed: int = 0) -> Case:
    """Gaussian samples."""
    return np.random.default_rng(seed).standard_normal((n, rank)), cover(n, rank)


def zero_rows(n: int, rank: int, zeros: int = 1, seed: int = 0) -> Case:
    """Gaussian samples and some that are zero."""
    X, count = general_position(n, rank, seed)
    return np.insert(X, [0, n // 2, n][:zeros], 0.0, axis=0), count


def parallel_rows(n: int, rank: int, factors: tuple[float, ...], seed: int = 0) -> Case:
    """Gaussian samples, each again times every factor."""
    X, count = general_position(n, rank, seed)
    rows = np.concatenate([X, *(factor * X for factor in factors)])
    return rows[np.random.default_rng(seed + 1).permutation(len(rows))], count


def rank_deficient(n: int, rank: int, d: int, exact: bool, seed: int = 0) -> Case:
    """Products of an (n, rank) and a (rank, d) matrix: of integers, or rounded ones of floats."""
    rng = np.random.default_rng(seed)
    if exact:
        factors = rng.integers(-50, 51, (n, rank)), rng.integers(-9, 10, (rank, d))
        return (factors[0] @ factors[1]).astype(float), whitney_count(factors[0])
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)), cover(n, rank)


def integer_line(k: int) -> Case:
    """The points 0..k-1 with a bias column: each cut goes between two points."""
    return np.stack([np.arange(k), np.ones(k)], axis=1).astype(float), 2 * k


def integer_grid(k: int, spacing: float = 1.0) -> Case:
    """Points of a k by k grid with a bias column.

    The count is that of the linear dichotomies of a grid (Koplowitz, Lindenbaum and Bruckstein,
    1990): 2 and one for every ordered pair of points with no point between them.
    """
    X = [(a * spacing, b * spacing, 1.0) for a in range(k) for b in range(k)]
    steps = range(1 - k, k)
    pairs = sum((k - abs(i)) * (k - abs(j)) for i, j in product(steps, steps) if gcd(i, j) == 1)
    return np.array(X), pairs + 2


def boolean_cube(d: int) -> Case:
    """Corners of {0, 1}^d with a bias column: the threshold functions (OEIS A000609)."""
    X = [(*corner, 1.0) for corner in product((0.0, 1.0), repeat=d)]
    return np.array(X), {1: 4, 2: 14, 3: 104, 4: 1882}[d]


def braid(d: int) -> Case:
    """All differences of two unit vectors: a cell for every order; rank d - 1 in d columns."""
    unit = np.eye(d)
    return np.array([unit[i] - unit[j] for i, j in combinations(range(d), 2)]), factorial(d)


def signed_braid(d: int) -> Case:
    """Unit vectors, their sums and differences: a cell for every signed order."""
    unit = np.eye(d)
    pairs = [unit[i] + s * unit[j] for i, j in combinations(range(d), 2) for s in (1, -1)]
    return np.array([*unit, *pairs]), 2**d * factorial(d)


def subset_sums(d: int) -> Case:
    """All nonzero vectors of {0, 1}^d: the resonance arrangement (OEIS A034997)."""
    X = [corner for corner in product((0.0, 1.0), repeat=d) if any(corner)]
    return np.array(X), {1: 2, 2: 6, 3: 32, 4: 370}[d]


def one_hot(categories: int, n: int, bias: bool = False, seed: int = 0) -> Case:
    """One-hot rows, each category at least once; a bias column is then a combination."""
    rng = np.random.default_rng(seed)
    label = np.append(np.arange(categories), rng.integers(0, categories, n - categories))
    X = np.eye(categories)[rng.permutation(label)]
    return np.hstack([X, np.ones((n, 1))]) if bias else X, 2**categories


def two_one_hot(k: int, m: int) -> Case:
    """All pairs of categories of two one-hot features.

    Cells are the acyclic orientations of the complete bipartite graph, counted by poly-Bernoulli
    numbers (Cameron, Glass and Schumacher, 2014).
    """
    X = [(*np.eye(k)[a], *np.eye(m)[b]) for a in range(k) for b in range(m)]

    def stirling(n: int, j: int) -> int:
        return sum((-1) ** (j - i) * comb(j, i) * i**n for i in range(j + 1)) // factorial(j)

    count = sum(
        factorial(j) ** 2 * stirling(k + 1, j + 1) * stirling(m + 1, j + 1)
        for j in range(min(k, m) + 1)
    )
    return np.array(X), count


EXACT: dict[str, Case] = {
    "general": general_position(12, 3),
    "zero row": zero_rows(8, 3),
    "zero rows": zero_rows(6, 4, zeros=3),
    "duplicates": parallel_rows(7, 3, (1.0, 1.0)),
    "collinear": parallel_rows(7, 3, (2.0, 0.125)),
    "antipodal": parallel_rows(7, 3, (-1.0, -4.0)),
    "product of integers": rank_deficient(8, 2, 3, exact=True),
    "wide": (np.random.default_rng(3).standard_normal((5, 9)), 32),
    "line": integer_line(9),
    "grid 3": integer_grid(3),
    "grid 5": integer_grid(5),
    "binary grid": integer_grid(4, spacing=0.25),
    "cube 2": boolean_cube(2),
    "cube 3": boolean_cube(3),
    "braid": braid(5),
    "signed braid": signed_braid(3),
    "subset sums": subset_sums(4),
    "one-hot": one_hot(5, 20),
    "one-hot with bias": one_hot(4, 15, bias=True),
    "two one-hot": two_one_hot(3, 3),
    "zero": (np.zeros((4, 2)), 1),
}
ROUNDED: dict[str, Case] = {
    "product of floats": rank_deficient(10, 2, 5, exact=False),
    "rank 3 product": rank_deficient(9, 3, 6, exact=False),
    "collinear up to rounding": parallel_rows(7, 3, (np.pi, 0.1)),
    "antipodal up to rounding": parallel_rows(7, 3, (-1 / 3,)),
    "decimal grid": integer_grid(4, spacing=0.1),
}


@st.composite
def degenerate_integers(draw: st.DrawFn, max_n: int = 7, max_d: int = 4) -> Case:
    """Small integer matrices, with zero, repeated, scaled and opposite rows, of any rank."""
    d = draw(st.integers(1, max_d))
    entry = st.integers(-2, 2)
    row = st.lists(entry, min_size=d, max_size=d)
    X = np.array(draw(st.lists(row, min_size=1, max_size=max_n)), dtype=float)
    for target in range(1, len(X)):
        factor = draw(st.sampled_from([None, None, None, 0, 1, -1, 2, -2]))
        if factor is not None:
            X[target] = factor * X[draw(st.integers(0, target - 1))]
    if draw(st.booleans()):
        X[:, -1] = draw(st.sampled_from([1.0, 0.0]))
    return X, whitney_count(X)


# --- What every list of activation patterns must satisfy ---


Patterns = set[tuple[bool, ...]]


def patterns(masks: np.ndarray | Tensor) -> Patterns:
    found = set(map(tuple, masks.tolist()))
    assert len(found) == len(masks), "a pattern is listed twice"
    return found


def brute_force(X: np.ndarray, draws: int = 20_000, seed: int = 0) -> Patterns:
    """Patterns of random directions: anywhere, near the hyperplanes and near the samples."""
    rng = np.random.default_rng(seed)
    n, d = X.shape
    U = [rng.standard_normal((draws, d))]
    for j in np.flatnonzero(X.any(axis=1)):
        near = rng.standard_normal((200, d))
        along = near - np.outer(near @ X[j], X[j]) / (X[j] @ X[j])
        U += [along + 0.01 * near, X[j] + 0.1 * near, -X[j] + 0.1 * near]
    values = np.concatenate(U) @ X.T
    clear = (np.abs(values) > 1e-7) | ~X.any(axis=1)
    distinct = np.unique(np.packbits(values[clear.all(axis=1)] >= 0, axis=1), axis=0)
    return patterns(np.unpackbits(distinct, axis=1, count=n).astype(bool))


def assert_consistent(X: Tensor, arrangements: Arrangements) -> None:
    """Check that masks are those of the gates, one by one and all at once."""
    gates, masks = arrangements.gates, arrangements.masks
    assert gates.dtype == X.dtype
    assert gates.device == masks.device == X.device
    assert torch.equal(masks, gates @ X.T >= 0)
    for i in range(min(20, len(masks))):
        assert torch.equal(masks[i], X @ gates[i] >= 0)
    torch.testing.assert_close(gates.norm(dim=1), torch.ones(len(gates), dtype=X.dtype))
    patterns(masks)
