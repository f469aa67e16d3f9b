"""Patterns of random neurons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from convexlib.arrangements.exact import blocks
from convexlib.arrangements.patterns import (
    Arrangements,
    as_rows,
    confirmed,
    reduced_rows,
    silent_pattern,
)
from convexlib.arrangements.rowspace import cross_products
from convexlib.errors import InputError
from convexlib.validation import (
    check_choice,
    check_matrix,
    check_positive_int,
    check_seed,
    readable_count,
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
