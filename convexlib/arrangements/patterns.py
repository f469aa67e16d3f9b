r"""Activation patterns of a ReLU on data: which samples can be active together.

A neuron :math:`u` switches on the samples where :math:`x_j^T u \ge 0`. Its pattern is constant on
the cells of the arrangement of the hyperplanes :math:`x_j^T u = 0`, and only the cells of full
dimension matter: every other pattern lies in the closure of one of them.

`Arrangements` holds patterns; they come from `enumerate_arrangements`, which proves that its list
is complete, or from the random neurons of `sample_arrangements`. A `PatternSet` is what a solver
has in use while it generates them: distinct patterns, with their weights carried along.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.arrangements.exact import beyond_doubt, blocks, cells
from convexlib.arrangements.rowspace import DOUBLE, SINGLE, Reduction, cross_products, reduce_rows
from convexlib.arrays import Bools, Floats
from convexlib.checks import (
    as_tensor,
    check_choice,
    check_finite,
    check_index,
    check_matrix,
    check_positive_int,
    check_same_kind,
    check_seed,
    readable_count,
)
from convexlib.errors import InputError, TooManyArrangementsError


@dataclass(frozen=True, eq=False)
class Arrangements:
    r"""Activation patterns of n samples, each with a neuron that has it.

    Attributes
    ----------
    masks : bool tensor (P, n)
        ``masks[i] == (X @ gates[i] >= 0)``, the diagonal of :math:`D_i`. Patterns are distinct
        unless `select` picked one twice.
    gates : tensor (P, d)
        Unit vectors in the dtype and on the device of X. In every cell of full dimension they keep
        further from zero than the rounding of ``X @ gates[i]``, in whatever order it is summed.
    exhaustive : bool
        Whether the list is proven to hold the pattern of every cell of full dimension of
        :math:`X_s`.
    perturbation : float
        A bound on :math:`||X - X_s||_2` for the matrix :math:`X_s` whose cells were enumerated: 0
        when it is X itself, and of the size of rounding when X was numerically rank-deficient or
        had rows that were parallel only up to rounding. For all unit :math:`u`,
        :math:`|z^T (Xu)_+ - z^T (X_s u)_+| \le ||z||_2` times this.
    source : str
        `fingerprint` of X; empty if the list was put together by hand. Masks and gates of one
        matrix may fit another one, which has more patterns.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> patterns = cl.enumerate_arrangements(np.array([[-1.0, 1.0], [2.0, 1.0]]))
    >>> len(patterns), patterns.exhaustive
    (4, True)
    >>> sorted(patterns.masks.int().tolist())
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """

    masks: Tensor
    gates: Tensor
    exhaustive: bool = False
    perturbation: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        masks, gates = self.masks, self.gates
        if not isinstance(masks, Tensor) or not isinstance(gates, Tensor):
            raise InputError(
                f"masks is {type(masks).__name__} and gates is {type(gates).__name__}; expected "
                "two tensors (P, n) and (P, d). Convert them with torch.as_tensor."
            )
        if masks.ndim != 2 or gates.ndim != 2 or len(masks) != len(gates):
            raise InputError(
                f"masks has shape {tuple(masks.shape)} and gates {tuple(gates.shape)}; expected "
                "(P, n) and (P, d), one gate per pattern."
            )
        if masks.dtype != torch.bool:
            raise InputError(f"masks has dtype {masks.dtype}; expected torch.bool.")

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        known = "exhaustive" if self.exhaustive else "not proven exhaustive"
        if self.exhaustive and self.perturbation:
            known += f" up to a perturbation of {self.perturbation:.1e}"
        return (
            f"Arrangements({len(self)} patterns of {self.masks.shape[1]} samples in "
            f"{self.gates.shape[1]} dimensions, {known})"
        )

    def exhausts(self, X: Any) -> bool:
        """Return whether the list is proven to hold the patterns of this very matrix.

        As `exhaustive` says: up to `perturbation`.
        """
        return self.exhaustive and self.source == fingerprint(check_matrix(X))

    def select(self, index: Any) -> Arrangements:
        """Return the patterns that `index` (integers, booleans or a slice) picks.

        The selection is exhaustive only if this list is and every pattern was picked.
        """
        index = torch.from_numpy(check_index(index, len(self))).to(self.masks.device)
        picked = torch.zeros(len(self), dtype=torch.bool, device=self.masks.device)
        picked[index] = True
        return replace(
            self,
            masks=self.masks[index],
            gates=self.gates[index],
            exhaustive=self.exhaustive and bool(picked.all()),
        )


def check_arrangements(arrangements: Arrangements, X: Tensor) -> Arrangements:
    """Refuse patterns of another number of samples, and what are no patterns."""
    if not isinstance(arrangements, Arrangements):
        raise InputError(f"arrangements is {type(arrangements).__name__}; expected Arrangements.")
    masks = arrangements.masks
    if masks.ndim != 2 or masks.shape[1] != len(X) or len(masks) == 0:
        raise InputError(
            f"arrangements.masks has shape {tuple(masks.shape)}; expected (P, {len(X)}) with "
            "P >= 1, one column per row of X."
        )
    if masks.device != X.device:
        raise InputError(
            f"X is on device {X.device} but arrangements are on device {masks.device}; expected "
            "the same. Make them from the same X."
        )
    return arrangements


_ENTRIES = 1 << 24  # products that are looked at together
_ON_WALL = 1e-6  # angle to a sample's hyperplane below which a gate may be on either side


def are_patterns_of(arrangements: Arrangements, X: Tensor) -> bool:
    """Whether masks and gates have the sizes of X, and every gate the mask that it has there."""
    masks, gates = arrangements.masks.to(X.device), arrangements.gates.to(X)
    if masks.shape[1] != len(X) or gates.shape[1] != X.shape[1]:
        return False
    lengths = torch.linalg.vector_norm(X, dim=1)
    some = max(1, _ENTRIES // len(X))
    for active, block in zip(masks.split(some), gates.split(some), strict=True):
        products = block @ X.T  # (P, n)
        near = _ON_WALL * torch.linalg.vector_norm(block, dim=1)[:, None] * lengths
        if not bool((((products >= 0) == active) | (products.abs() <= near)).all()):
            return False
    return True


def check_gates(arrangements: Arrangements, X: Tensor) -> None:
    """Refuse gates that have other masks on X, for programs whose networks keep the gates."""
    if arrangements.source != fingerprint(X) and not are_patterns_of(arrangements, X):
        raise InputError(
            "arrangements holds gates that do not have its masks on X: they are of other data. "
            "Make them from the same X, with enumerate_arrangements or sample_arrangements."
        )


def fingerprint(X: Tensor) -> str:
    """Return a sha256 of the shape and the numbers of X, whatever its dtype and device."""
    A = X.detach().double().cpu().numpy() + 0.0  # -0 is 0
    return hashlib.sha256(repr(A.shape).encode() + A.tobytes()).hexdigest()


def confirmed(
    X: Tensor, A: Floats, masks: Bools, gates: Floats, perturbation: float = 0.0
) -> Arrangements:
    """Return the patterns that their gates have beyond doubt, exhaustive if these are all."""
    converted = torch.from_numpy(gates).to(X)
    known = torch.finfo(X.dtype)
    rounded = converted.double().cpu().numpy()
    sure = beyond_doubt(A, masks, rounded, float(known.eps), float(known.tiny))
    kept = torch.from_numpy(masks if sure.all() else masks[sure]).to(X.device)
    converted = converted[torch.from_numpy(sure).to(X.device)]
    return Arrangements(kept, converted, bool(sure.all()), perturbation, fingerprint(X))


def as_rows(X: Tensor) -> Floats:
    """Return X in float64; refuse entries whose products with a neuron are beyond its dtype."""
    A: Floats = X.double().cpu().numpy()
    largest, limit = float(abs(A).max()), torch.finfo(X.dtype).max / (8 * X.shape[1])
    if largest > limit:
        raise InputError(
            f"the largest entry of X is {largest:.1e}; expected at most {limit:.0e}, so that its "
            f"products with unit vectors are numbers in {X.dtype}. Rescale X."
        )
    return A


def silent_pattern(X: Tensor) -> Arrangements:
    """Return the only pattern of X = 0: everything is active, for every neuron."""
    masks = torch.ones(1, len(X), dtype=torch.bool, device=X.device)
    gate = torch.eye(1, X.shape[1]).to(X)
    return Arrangements(masks, gate, exhaustive=True, source=fingerprint(X))


def reduced_rows(X: Tensor, A: Floats) -> Reduction:
    """Return the hyperplanes of the samples, in the tolerance that the dtype of X asks for."""
    return reduce_rows(A, SINGLE if X.dtype == torch.float32 else DOUBLE)


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

    Examples
    --------
    >>> import convexlib as cl
    >>> cl.count_bound(4, 2)  # four lines through the origin of a plane
    8
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
        If X is not a finite matrix, one of its entries is so large that products with unit vectors
        overflow, one of its columns has entries whose ratio is outside the range of float64, or
        `max_patterns` is not a positive integer.

    Notes
    -----
    Verified in tests/arrangements/test_patterns.py against Cover's count, counts known from
    combinatorics, Whitney's theorem and linear programs for every sign vector.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> patterns = cl.enumerate_arrangements(X)
    >>> patterns.masks.shape, patterns.exhaustive
    (torch.Size([8, 4]), True)
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


_MAX_BYTES = 2**34  # of masks and gates


def sample_arrangements(
    X: Any, n_patterns: int, seed: int = 0, method: str = "gaussian"
) -> Arrangements:
    r"""Return the patterns of `n_patterns` random neurons, each once.

    Parameters
    ----------
    X : array or tensor (n, d)
    n_patterns : int
        How many neurons are drawn. Fewer patterns come back where several neurons share one.
    seed : int
        The draws are made in float64 on the CPU and do not depend on X's device.
    method : {"gaussian", "geometric"}
        ``"gaussian"``: :math:`u \sim N(0, I)`, so a cell is drawn in proportion to its solid angle.
        ``"geometric"``: :math:`u = \pm \times(x_{j_1}, \dots, x_{j_{r-1}})`, the generalised cross
        product of :math:`r - 1` random distinct directions among the samples, r the rank of X. (If
        r < d, samples are restricted to r columns that determine the others; if r = 1, u = ±1.)
        Such a neuron lies on a ray of the arrangement, where these samples are at zero. It is moved
        into a random one of the open cells around: in a Gaussian direction, half of the way to the
        next hyperplane. (The public code of the reference leaves it on the ray, where the samples
        that it touches count as active.)

    Returns
    -------
    Arrangements
        Never exhaustive. A neuron too close to a hyperplane for its pattern to be beyond doubt in
        X's precision is left out.

    Raises
    ------
    InputError
        If X is not a finite matrix, `n_patterns` is not a positive integer or more than the memory
        holds, `seed` is not a nonnegative integer, or the method is unknown.

    References
    ----------
    Y. Wang, S. Kim, P. Paul and M. Pilanci, *Randomized Geometric Algebra Methods for Convex Neural
    Networks*, 2024, arXiv 2406.02806.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> patterns = cl.sample_arrangements(X, 100, seed=0)
    >>> len(patterns), patterns.exhaustive  # all that there are, but not by proof
    (4, False)
    """
    X = check_matrix(X)
    n_patterns = check_positive_int(n_patterns, "n_patterns")
    if n_patterns * (X.shape[0] + 8 * X.shape[1]) > _MAX_BYTES:
        raise InputError(
            f"n_patterns is {readable_count(n_patterns)}, for X of shape {tuple(X.shape)}; "
            "expected patterns that fit the memory. Draw fewer."
        )
    seed = check_seed(seed)
    method = check_choice(method, ("gaussian", "geometric"), "method")
    generator = torch.Generator().manual_seed(seed)
    A = as_rows(X)
    if method == "gaussian":
        shape = n_patterns, A.shape[1]
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).numpy()
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    else:
        reduced = reduced_rows(X, A)
        if reduced.rank == 0:
            return replace(silent_pattern(X), exhaustive=False)
        m, r = reduced.rows.shape
        order = torch.rand(n_patterns, m, generator=generator, dtype=torch.float64).argsort(dim=1)
        side = torch.randint(0, 2, (n_patterns, 1), generator=generator) * 2 - 1
        tilt = torch.randn(n_patterns, r, generator=generator, dtype=torch.float64)
        chosen = order[:, : r - 1].numpy()
        drawn = cross_products(reduced.rows, chosen, side.numpy(), tilt.numpy())
        drawn = reduced.expand_gates(drawn)
    masks = np.concatenate([block @ A.T >= 0 for block in blocks(drawn, len(A))])
    _, first = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True)
    first.sort()
    return replace(confirmed(X, A, masks[first], drawn[first]), exhaustive=False)


def patterns_of(X: Any, directions: Any) -> Arrangements:
    """The distinct patterns of some neurons (m, d) on data (n, d)."""
    X, directions = check_matrix(X), as_tensor(directions, "directions")
    check_same_kind(X, directions, "directions")
    if directions.ndim != 2 or directions.shape[1] != X.shape[1]:
        raise InputError(
            f"directions has shape {tuple(directions.shape)}; expected (m, {X.shape[1]}), a column "
            "for each of X."
        )
    check_finite(directions, "directions")
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    masks = (X @ directions.T >= 0).T  # (m, n)
    first = distinct(masks)
    return Arrangements(masks=masks[first], gates=directions[first], exhaustive=False)


def distinct(masks: Tensor) -> Tensor:
    """Indices of the first occurrence of each distinct row, in order."""
    if not len(masks):
        return torch.arange(0, device=masks.device)
    _, group = torch.unique(masks, dim=0, return_inverse=True)
    order = torch.arange(len(group), device=group.device)
    first = order.new_full((int(group.max()) + 1,), len(group))
    return first.scatter_reduce(0, group, order, "amin").sort().values


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
