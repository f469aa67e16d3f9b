r"""The hyperplanes of a data matrix: which samples are parallel, and in how many dimensions.

The cells of :math:`\{x_j^T u = 0\}` depend only on the lines that the samples span, in the row
space of X. So zero samples are dropped, parallel ones merged, and columns that others determine
left out: if :math:`X = C M` with C the columns that are kept, then :math:`Xu = C (Mu)`, and
:math:`Mu` runs through all of :math:`\mathbb{R}^r`. Nothing is rounded on the way.

Data that are degenerate only up to rounding are replaced by a degenerate neighbour
:math:`X_s = T C M`, where T merges samples, and the distance is bounded.

**Which samples are one** is decided by `parallel_rows` alone, here and wherever else samples are
merged (pricing, column generation). Its tolerance is a choice, not a proof: every user computes
afterwards how far the merged rows are from the rows that stand for them, and adds that to its bound
(`Reduction.perturbation`, ``Condensed.hidden``, ``Merged.rounding``; the first is 0 only where
integers say so). So no bound rests on the tolerance, only its sharpness: :math:`10^{-13}` is above
what some hundred roundings leave between multiples, and so far below every gap that is asked for
that merging costs nothing visible. Nor are cells lost that could be used: one between rows so close
is too thin to hold a neuron whose pattern is beyond doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from convexlib.arrangements import exact
from convexlib.arrangements.exact import Ints
from convexlib.arrays import EPS, Bools, Floats
from convexlib.errors import InputError


class Tolerance(NamedTuple):
    """What counts as rounding of the data."""

    rank: float  # sigma_{r+1} / sigma_1 of a rank-deficient matrix
    parallel: float  # distance of the unit vectors of parallel samples, see `parallel_rows`
    fraction: float  # distance of a coordinate from a fraction
    denominator: int  # the largest of such a fraction


DOUBLE = Tolerance(1e-12, 1e-13, 1e-12, 10_000)
# For lists of hyperplanes on which bounds rest: only multiples of one row, in spite of rounding.
MULTIPLES = DOUBLE._replace(parallel=8 * EPS)
SINGLE = Tolerance(2e-6, 3e-7, 2e-6, 100)


@dataclass(frozen=True, eq=False)
class Reduction:
    """Distinct directions of the samples, in coordinates of their row space.

    Attributes
    ----------
    rows : float64 array (m, r)
        One sample per direction: kept columns of X, each times a power of two.
    frame : float64 array (r, r)
        Basis of the row space for `lines`.
    owner : int array (n,)
        Which of `rows` a sample is a multiple of; -1 for samples that are zero.
    side : int array (n,)
        The sign of that multiple.
    columns : int array (r,)
        The columns that are kept.
    scale : float64 array (d,)
        The powers of two.
    tolerance : Tolerance
    rational : object array (m, r) of integers, optional
        Directions in terms of `frame` that stand for `rows` and are not quite the same.
    """

    rows: Floats
    frame: Floats
    owner: NDArray[np.intp]
    side: NDArray[np.intp]
    columns: NDArray[np.intp]
    scale: Floats
    tolerance: Tolerance
    rational: Ints | None = None

    @cached_property
    def lines(self) -> Ints:
        """Directions (m, r) as integers, in terms of `frame`."""
        return exact.integer_rows(self.rows) if self.rational is None else self.rational

    @property
    def rank(self) -> int:
        """The number of dimensions that the samples span."""
        return self.rows.shape[1]

    def expand_masks(self, masks: Bools) -> Bools:
        """Return patterns (P, n) of all samples from those (P, m) of `lines`."""
        # Samples at zero have x^T u >= 0 for every u.
        return (masks[:, self.owner] ^ (self.side < 0)) | (self.owner < 0)

    def expand_gates(self, gates: Floats) -> Floats:
        """Return unit neurons (P, d) that act on X as `gates` (P, r) act on `lines`."""
        full = np.zeros((len(gates), len(self.scale)))
        full[:, self.columns] = np.linalg.solve(self.frame, gates.T).T * self.scale[self.columns]
        # In two steps, so that squares of very large or small entries neither over- nor underflow.
        full /= np.abs(full).max(axis=1, keepdims=True)
        return full / np.linalg.norm(full, axis=1, keepdims=True)

    def rationalised(self) -> Reduction | None:
        """Return nearby samples that are simple rational combinations of r of them, if there are.

        A grid of spacing 0.1 is rational, but its floating-point numbers are not on it: points in a
        row are a little off it, and make cells as thin as rounding. Coordinates in terms of r
        samples recover the grid, also after a linear map such as standardisation.
        """
        basis = qr(self.rows.T, mode="r", pivoting=True)[1][: self.rank]
        frame = self.rows[basis]
        coordinates = np.linalg.solve(frame.T, self.rows.T).T  # (m, r)
        coordinates = coordinates / np.abs(coordinates).max(axis=1, keepdims=True)
        near = [
            [Fraction(c).limit_denominator(self.tolerance.denominator) for c in row]
            for row in coordinates.tolist()
        ]
        if np.abs(np.array(near, dtype=float) - coordinates).max() > self.tolerance.fraction:
            return None
        common = [lcm(*(c.denominator for c in row)) for row in near]
        whole = [[int(c * m) for c in row] for row, m in zip(near, common, strict=True)]
        return replace(self, frame=frame, rational=exact.primitive(np.array(whole, dtype=object)))

    def perturbation(self, A: Floats) -> float:
        """Return 0 if X is degenerate exactly as found, else a bound on ||X - X_s||_2."""
        used = self.owner >= 0
        A, owner, d = A[used], self.owner[used], A.shape[1]
        if self.rational is None:
            whole = exact.integer_rows(A * self.scale)
            kept = exact.primitive(whole[:, self.columns])
            merged = (kept == self.lines[owner] * self.side[used, None]).all()
            full = self.rank == min(len(A), d)  # of all samples: merged ones may differ elsewhere
            if merged and (full or not exact.rank_exceeds(whole, self.rank)):
                return 0.0
        # X_s = T (lines frame) M, where M restores all columns and T repeats rows at their length.
        B = A * self.scale
        M = np.linalg.lstsq(B[:, self.columns], B, rcond=None)[0]
        M[:, self.columns] = np.eye(self.rank)
        top = np.ldexp(1.0, np.frexp(np.abs(A).max())[1])  # keeps squares in range
        A, M = A / top, M / self.scale / top
        lines = exact.unit_scale(self.lines)
        base = (lines @ self.frame @ M)[owner]
        size = (np.abs(lines) @ np.abs(self.frame) @ np.abs(M))[owner]
        length = (A * base).sum(axis=1) / (base * base).sum(axis=1)
        residual = A - length[:, None] * base
        # Rounding of the residual itself: two products of r terms, and a few operations more.
        rounding = (2 * self.rank + 8) * EPS * np.linalg.norm(length[:, None] * size)
        return float(top * (np.linalg.norm(residual) + rounding) * (1 + 1e-9))


def column_scale(A: Floats) -> Floats:
    """Powers of two (d,) that bring the columns of `A` (n, d) to one size; zero columns have 1.

    Raises
    ------
    InputError
        If a column has nonzero entries whose ratio is outside the range of float64, or only
        subnormal ones.
    """
    largest = np.abs(A).max(axis=0)
    subnormal = (largest > 0) & (largest < np.finfo(np.float64).tiny)
    if subnormal.any():
        raise InputError(
            f"Column {int(subnormal.argmax())} of X has entries of {largest[subnormal][0]:.0e} at "
            "most, which float64 holds with few digits or one; expected larger ones or zeros. "
            "Rescale the samples, or set tiny entries to zero."
        )
    # Powers of two, so that nothing is rounded: a column of small numbers is not a zero column.
    scale: Floats = np.ldexp(1.0, -np.frexp(largest)[1])
    lost = (A * scale / scale != A).any(axis=0)
    if lost.any():
        raise InputError(
            f"Column {int(lost.argmax())} of X has entries as large as {largest[lost][0]:.0e} and "
            "others that vanish beside them; expected nonzero entries within a factor of 1e300. "
            "Rescale the samples, or set tiny entries to zero."
        )
    return scale


def reduce_rows(A: Floats, tolerance: Tolerance = DOUBLE) -> Reduction:
    """Find the rank of `A` (n, d) and its distinct directions, up to `tolerance`.

    Raises
    ------
    InputError
        For columns that `column_scale` refuses.
    """
    n, scale = len(A), column_scale(A)
    used = np.flatnonzero(A.any(axis=1))
    owner, side = np.full(n, -1), np.ones(n, dtype=int)
    if not len(used):
        nothing = np.empty((0, 0))
        return Reduction(nothing, nothing, owner, side, used, scale, tolerance)
    B = A[used] * scale
    columns = _independent_columns(B, tolerance.rank)
    if not B[:, columns].any(axis=1).all():
        # Next to much larger samples one seemed to be zero; its hyperplane counts nevertheless.
        sizes = np.frexp(np.abs(B).max(axis=1, keepdims=True))[1]
        columns = _independent_columns(np.ldexp(B, -sizes), tolerance.rank)
    C = B[:, columns]
    label, side[used] = parallel_rows(A[used][:, columns], tolerance.parallel)
    representative, owner[used] = np.unique(label, return_inverse=True)
    frame = np.eye(len(columns))
    return Reduction(C[representative], frame, owner, side, columns, scale, tolerance)


def _independent_columns(B: Floats, tolerance: float) -> NDArray[np.intp]:
    """Return as many columns as the rank is, from which the others follow."""
    sigma = np.linalg.svd(B, compute_uv=False)
    rank = int((sigma > tolerance * sigma[0]).sum())
    if rank == B.shape[1]:
        return np.arange(rank)
    return np.sort(qr(B, mode="r", pivoting=True)[1][:rank])


def parallel_rows(
    A: Floats, distance: float = DOUBLE.parallel
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    r"""Return for every nonzero row the first row on its line, and the sign of the multiple.

    Rows, then columns, are brought to one scale by powers of two, which rounds nothing; rows are on
    one line if their unit vectors then differ by at most `distance`, up to sign. Every row is
    within `distance` of the row that it is given, which is itself given no other; so the groups do
    not chain. In the scale of A itself :math:`\|x_i - c\,x_j\|` is then at most
    :math:`2 \sqrt d \|x_i\|` times `distance`, since no column was made smaller.

    Parameters
    ----------
    A : (n, d)
        Without rows of zeros.
    distance : float

    Returns
    -------
    label : int array (n,)
        The row that stands for the line, at most its own number.
    side : int array (n,)
        1 or -1.
    """
    A = np.ldexp(A, -np.frexp(np.abs(A).max(axis=1, keepdims=True))[1])
    A = np.ldexp(A, -np.frexp(np.abs(A).max(axis=0))[1])
    unit = A / np.abs(A).max(axis=1, keepdims=True)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return near_rows(unit, distance)


def near_rows(rows: Floats, distance: float | Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    r"""Return for every row the first row that it is near, up to the sign that is returned, too.

    Every row is within `distance` of :math:`\pm` the row that it is given, which is itself given no
    other; so the groups do not chain, and of two rows that are farther apart none is lost, whatever
    digits they share.

    Parameters
    ----------
    rows : (m, k)
    distance : float or (m,)
        In the Euclidean norm; of two rows that of the later one counts.

    Returns
    -------
    label : int array (m,)
        The row that stands for it, at most its own number.
    side : int array (m,)
        1 or -1.
    """
    m, k = rows.shape
    distance = np.broadcast_to(distance, m)
    # Rows that are near have near heights in a random direction: only such ones are compared.
    direction = np.random.default_rng(0).standard_normal(k)
    height = np.abs(rows @ direction)
    order = np.argsort(height, kind="stable")
    larger = np.maximum(distance[order[1:]], distance[order[:-1]])
    apart = np.diff(height[order]) > 2 * larger * np.linalg.norm(direction)
    run = np.empty(m, dtype=np.intp)
    run[order] = np.append(np.zeros(min(m, 1), dtype=np.intp), np.cumsum(apart))
    label, side = np.arange(m), np.ones(m, dtype=np.intp)
    rest = np.arange(m)
    while len(rest):
        # The first row that is left of every run, and the rows of the run that are near it.
        _, first, group = np.unique(run[rest], return_index=True, return_inverse=True)
        leader = rest[first[group]]
        sign = np.where((rows[rest] * rows[leader]).sum(axis=1) < 0, -1, 1)
        gap = np.linalg.norm(rows[rest] - sign[:, None] * rows[leader], axis=1)
        near = (gap <= distance[rest]) | (leader == rest)
        label[rest[near]], side[rest[near]] = leader[near], sign[near]
        rest = rest[~near]
    return label, side


def cross_products(
    rows: Floats, chosen: NDArray[np.intp], side: NDArray[np.int64], tilt: Floats
) -> Floats:
    """Return generalised cross products (P, r) of rows, moved into open cells.

    Parameters
    ----------
    rows : (m, r)
    chosen : (P, r - 1)
        The rows of each product.
    side : (P, 1)
        1 or -1: which of the two normals.
    tilt : (P, r)
        Where to move.
    """
    r = rows.shape[1]
    if r == 1:
        return side.astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    factors = unit[chosen].transpose(0, 2, 1)  # (P, r, r - 1)
    # The last column of a complete QR is orthogonal to the chosen rows: their normalised cross
    # product, without the cancellation of cofactors.
    normal = side * np.linalg.qr(factors, mode="complete")[0][:, :, -1]
    height, speed = normal @ unit.T, tilt @ unit.T
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(np.abs(height) > 1e-10, -height / speed, np.inf)
    step = np.where(crossing > 0, crossing, np.inf).min(axis=1, keepdims=True)
    return normal + np.minimum(step / 2, 1) * tilt
