r"""Activation patterns of a ReLU on data: which samples can be active together.

A neuron :math:`u` switches on the samples where :math:`x_j^T u \ge 0`. Its pattern is constant on
the cells of the arrangement of the hyperplanes :math:`x_j^T u = 0`, and only the cells of full
dimension matter: every other pattern lies in the closure of one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib import exact
from convexlib.errors import InputError, TooManyArrangementsError
from convexlib.exact import Bools, Floats
from convexlib.rowspace import DOUBLE, SINGLE, Reduction, cross_products, reduce_rows
from convexlib.validation import check_choice, check_matrix, check_positive_int

__all__ = ["Arrangements", "count_bound", "enumerate_arrangements", "sample_arrangements"]


@dataclass(frozen=True, eq=False)
class Arrangements:
    r"""Activation patterns of n samples, each with a neuron that has it.

    Attributes
    ----------
    masks : bool tensor (P, n)
        ``masks[i] == (X @ gates[i] >= 0)``, the diagonal of :math:`D_i`. Patterns are distinct.
    gates : tensor (P, d)
        Unit vectors in the dtype and on the device of X. In every cell of full dimension they keep
        further from zero than the rounding of ``X @ gates[i]``, in whatever order it is summed.
    exhaustive : bool
        Whether the list is proven to hold the pattern of every cell of full dimension.
    perturbation : float
        A bound on :math:`||X - X_s||_2` for the matrix :math:`X_s` whose cells were enumerated: 0
        when it is X itself, and of the size of rounding when X was numerically rank-deficient or
        had rows that were parallel only up to rounding. For all unit :math:`u`,
        :math:`|z^T (Xu)_+ - z^T (X_s u)_+| \le ||z||_2` times this.
    """

    masks: Tensor
    gates: Tensor
    exhaustive: bool = False
    perturbation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse masks and gates that do not fit together."""
        masks, gates = self.masks, self.gates
        if masks.ndim != 2 or gates.ndim != 2 or len(masks) != len(gates):
            raise InputError(
                f"masks has shape {tuple(masks.shape)} and gates {tuple(gates.shape)}; expected "
                "(P, n) and (P, d), one gate per pattern."
            )
        if masks.dtype != torch.bool:
            raise InputError(f"masks has dtype {masks.dtype}; expected torch.bool.")

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self.masks)

    def __repr__(self) -> str:
        """Say how many patterns there are and what is proven about them."""
        known = "exhaustive" if self.exhaustive else "not proven exhaustive"
        if self.exhaustive and self.perturbation:
            known += f" up to a perturbation of {self.perturbation:.1e}"
        return (
            f"Arrangements({len(self)} patterns of {self.masks.shape[1]} samples in "
            f"{self.gates.shape[1]} dimensions, {known})"
        )

    def select(self, index: Any) -> Arrangements:
        """Return the patterns that `index` (integers, booleans or a slice) picks.

        The selection is exhaustive only if this list is and every pattern was picked.
        """
        if not isinstance(index, slice | Tensor):
            index = np.atleast_1d(np.asarray(index))
            index = torch.from_numpy(index if index.size else index.astype(int))
        if isinstance(index, Tensor):
            if index.is_floating_point():
                raise InputError(f"index has dtype {index.dtype}; expected integers or booleans.")
            index = index.reshape(-1).to(self.masks.device)
        picked = torch.zeros(len(self), dtype=torch.bool, device=self.masks.device)
        picked[index] = True
        return Arrangements(
            self.masks[index],
            self.gates[index],
            self.exhaustive and bool(picked.all()),
            self.perturbation,
        )


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
    arithmetic (see ``convexlib.exact``), which holds on degenerate data too: zero, duplicate and
    antipodal samples, integer grids, one-hot columns, X of any rank. If X is rank-deficient only up
    to rounding (:math:`\sigma_{r+1} \le 10^{-12} \sigma_1` after columns are brought to one scale)
    or two directions differ by at most :math:`10^{-13}` (float32: 2e-6 and 3e-7), a nearby matrix
    that is degenerate exactly takes its place, and ``perturbation`` bounds the distance. The same
    holds if some cells are as thin as rounding and all samples are simple rational combinations of
    r of them, up to rounding: a grid of spacing 0.1, or a standardised one.

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
    Verified in tests/test_arrangements.py against Cover's count, counts known from combinatorics,
    Whitney's theorem and linear programs for every sign vector.
    """
    X = check_matrix(X)
    max_patterns = check_positive_int(max_patterns, "max_patterns")
    A = X.double().cpu().numpy()
    reduced = _reduced(X, A)
    if reduced.rank == 0:
        return _silent(X)
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


def _reduced(X: Tensor, A: Floats) -> Reduction:
    return reduce_rows(A, SINGLE if X.dtype == torch.float32 else DOUBLE)


def _search(X: Tensor, A: Floats, reduced: Reduction) -> Arrangements:
    """Return all cells of `reduced` into which a gate in the dtype of X can be put."""
    masks, inside = exact.cells(reduced.lines)
    masks, gates = reduced.expand_masks(masks), reduced.expand_gates(inside)
    return _checked(X, A, masks, gates, perturbation=reduced.perturbation(A))


def _checked(
    X: Tensor, A: Floats, masks: Bools, gates: Floats, perturbation: float = 0.0
) -> Arrangements:
    """Return the patterns that their gates have beyond doubt, exhaustive if these are all."""
    converted = torch.from_numpy(gates).to(X)
    known = torch.finfo(X.dtype)
    rounded = converted.double().cpu().numpy()
    sure = exact.beyond_doubt(A, masks, rounded, float(known.eps), float(known.tiny))
    kept = torch.from_numpy(masks if sure.all() else masks[sure]).to(X.device)
    converted = converted[torch.from_numpy(sure).to(X.device)]
    return Arrangements(kept, converted, bool(sure.all()), perturbation)


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
        next hyperplane.

    Returns
    -------
    Arrangements
        Never exhaustive. A neuron too close to a hyperplane for its pattern to be beyond doubt in
        X's precision is left out.

    Raises
    ------
    InputError
        If X is not a finite matrix, `n_patterns` is not a positive integer, `seed` is not a
        nonnegative integer, or the method is unknown.

    References
    ----------
    Y. Wang, S. Kim, P. Paul and M. Pilanci, *Randomized Geometric Algebra Methods for Convex Neural
    Networks*, 2024, arXiv 2406.02806.
    """
    X = check_matrix(X)
    n_patterns = check_positive_int(n_patterns, "n_patterns")
    seed = check_positive_int(seed, "seed", minimum=0)
    method = check_choice(method, ("gaussian", "geometric"), "method")
    generator = torch.Generator().manual_seed(seed)
    A = X.double().cpu().numpy()
    if method == "gaussian":
        shape = n_patterns, A.shape[1]
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).numpy()
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    else:
        reduced = _reduced(X, A)
        if reduced.rank == 0:
            return replace(_silent(X), exhaustive=False)
        m, r = reduced.rows.shape
        order = torch.rand(n_patterns, m, generator=generator, dtype=torch.float64).argsort(dim=1)
        side = torch.randint(0, 2, (n_patterns, 1), generator=generator) * 2 - 1
        tilt = torch.randn(n_patterns, r, generator=generator, dtype=torch.float64)
        chosen = order[:, : r - 1].numpy()
        drawn = cross_products(reduced.rows, chosen, side.numpy(), tilt.numpy())
        drawn = reduced.expand_gates(drawn)
    masks = np.concatenate([block @ A.T >= 0 for block in exact.blocks(drawn, len(A))])
    _, first = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True)
    first.sort()
    return replace(_checked(X, A, masks[first], drawn[first]), exhaustive=False)


def _silent(X: Tensor) -> Arrangements:
    """Return the only pattern of X = 0: everything is active, for every neuron."""
    masks = torch.ones(1, len(X), dtype=torch.bool, device=X.device)
    return Arrangements(masks, torch.eye(1, X.shape[1]).to(X), exhaustive=True)


def _refusal(X: Tensor, prefix: str, count: int, max_patterns: int) -> TooManyArrangementsError:
    readable = str(count) if count < 10**7 else f"{Decimal(count):.1e}"
    return TooManyArrangementsError(
        f"X has shape {tuple(X.shape)}: {prefix}{readable} patterns, more than "
        f"max_patterns={max_patterns}. Raise max_patterns or use "
        "sample_arrangements(X, n_patterns=...)."
    )
