r"""Wedge products of samples: signed volumes, generalised cross products and zonotopes.

A vector orthogonal to d - 1 samples is their generalised cross product, and its product with a
further sample is a determinant: the signed volume of the parallelotope that they span.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.arrangements import enumerate_arrangements
from convexlib.arrangements.rowspace import near_rows
from convexlib.arrays import EPS, Floats
from convexlib.checks import as_tensor, check_finite, check_matrix, check_positive_int, check_scale
from convexlib.errors import InputError

__all__ = [
    "cross_product",
    "subset_normals",
    "wedge_volumes",
    "zonotope_vertices",
    "zonotope_volume",
]

BLOCK = 20_000  # subsets at a time
DEPENDENT = 16 * EPS  # height of a unit row over the ones before it that is rounding
# Distance of two unit normals that is rounding of one: a factorisation of a few rows leaves some
# units in the last place. Of samples that are 1e-10 apart the normals are no nearer than that, and
# both count: bounds rest on the list. Twice one normal costs only time.
SAME = 8 * EPS


def cross_product(U: Any) -> Tensor:
    r"""Return the generalised cross product of d - 1 vectors in d dimensions.

    It is the vector :math:`\times(U) = \sum_i (-1)^{i-1} \det(U_{-i})\, e_i`, with :math:`U_{-i}`
    the matrix U without column i, so that for every x

    .. math:: x^\top \times(U) = \det [x; u_1; \dots; u_{d-1}], \qquad
              \|\times(U)\|_2 = \mathrm{vol}_{d-1}(u_1, \dots, u_{d-1}) .

    Parameters
    ----------
    U : array (d - 1, d) or (..., d - 1, d)
        One vector a row. For d = 1 there are none and the product is 1.

    Returns
    -------
    Tensor (..., d)

    Raises
    ------
    InputError
        If U has another shape, or non-finite entries.

    Notes
    -----
    From a QR factorisation :math:`U^\top = QR`: the direction is the last column of Q and the
    length :math:`\prod |R_{kk}|`. The cofactors above would lose the direction to cancellation when
    rows are nearly parallel. Checked by ``tests/arrangements/test_zonotope.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> cl.cross_product(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])).round(decimals=6).tolist()
    [1.0, -1.0, 1.0]
    """
    U = as_tensor(U, "U")
    if U.ndim < 2 or U.shape[-2] != U.shape[-1] - 1:
        raise InputError(
            f"U has shape {tuple(U.shape)}; expected (d - 1, d), one vector a row, or a stack of "
            "such matrices."
        )
    check_finite(U.reshape(-1, U.shape[-1]) if U.numel() else U.new_zeros(1, 1), "U")
    d = U.shape[-1]
    if d == 1:
        return U.new_ones(*U.shape[:-2], 1)
    Q, R = torch.linalg.qr(U.mT, mode="complete")  # (..., d, d), (..., d, d - 1)
    volume = R.diagonal(dim1=-2, dim2=-1).prod(dim=-1)
    # det[q; U] = det[q, Q_1] prod R_kk, and q moves past d - 1 columns to the end of Q.
    sign = torch.linalg.det(Q).sign() * (-1.0) ** (d - 1)
    product = (sign * volume)[..., None] * Q[..., -1]
    if not bool(torch.isfinite(product).all()):
        raise InputError(
            f"the cross product of U, with entries up to {float(U.abs().max()):.1e}, is beyond "
            f"{U.dtype}; expected smaller ones. Rescale U."
        )
    return product


def wedge_volumes(X: Any, U: Any) -> Tensor:
    r"""Return the signed volumes :math:`\det [x_i; u_1; \dots; u_{d-1}]` of samples with U.

    Their positive parts are the outputs of the neuron :math:`\times(U)`.

    Parameters
    ----------
    X : array (n, d)
    U : array (d - 1, d)

    Returns
    -------
    Tensor (n,)

    Raises
    ------
    InputError
        If X is not a finite matrix or U does not have d - 1 rows of its width.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> cl.wedge_volumes(X, np.array([[2.0, 0.0]])).round(decimals=6).tolist()  # signed areas
    [-2.0, -2.0, 2.0]
    """
    X, U = check_matrix(X), as_tensor(U, "U")
    expected = (X.shape[1] - 1, X.shape[1])
    if tuple(U.shape) != expected:
        raise InputError(
            f"U has shape {tuple(U.shape)}; expected {expected} for X of shape {tuple(X.shape)}."
        )
    volumes = X @ cross_product(U).to(X)
    check_finite(volumes, "the vector of volumes")
    return volumes


def subset_blocks(m: int, size: int, block: int = BLOCK) -> Iterator[NDArray[np.intp]]:
    """Yield all subsets of range(m) of a size as rows of integer arrays (block, size)."""
    subsets = combinations(range(m), size)
    while chosen := list(islice(subsets, block)):
        yield np.array(chosen, dtype=np.intp).reshape(len(chosen), size)


def subset_normals(rows: Floats) -> Floats:
    r"""Return a unit normal of every hyperplane that is spanned by d - 1 of the rows.

    These are the normalised cross products of all independent (d - 1)-subsets, up to sign and each
    once (up to `SAME`): the rays of the arrangement :math:`\{r_k^\top u = 0\}` if the rows have
    rank d.

    Parameters
    ----------
    rows : float64 array (m, d)
        Nonzero rows.

    Returns
    -------
    float64 array (N, d)
        At most ``comb(m, d - 1)`` normals, the first nonzero entry of each positive.
    """
    m, d = rows.shape
    if d == 1:
        return np.ones((1, 1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = [np.zeros((0, d))]
    for chosen in subset_blocks(m, d - 1):
        Q, R = np.linalg.qr(unit[chosen].transpose(0, 2, 1), mode="complete")
        heights = np.abs(np.diagonal(R, axis1=1, axis2=2))  # (block, d - 1)
        found.append(Q[(heights > DEPENDENT).all(axis=1), :, -1])
    normals = np.concatenate(found)
    if not len(normals):
        return normals
    normals[np.abs(normals) < 1e-15] = 0.0
    normals = normals[np.unique(near_rows(normals, SAME)[0])]
    clear = np.abs(normals) > 1e-12  # a smaller entry may have its sign from rounding
    leading = np.take_along_axis(normals, clear.argmax(axis=1)[:, None], axis=1)
    return normals * np.sign(leading) + 0.0  # no -0


def zonotope_vertices(X: Any) -> Tensor:
    r"""Return the vertices :math:`X^T D_i 1` of :math:`Z = \{X^T h : h \in [0, 1]^n\}`.

    Distinct patterns of full-dimensional cells give distinct vertices, so there are as many
    vertices as patterns, in the order of ``enumerate_arrangements(X).masks``.

    Parameters
    ----------
    X : array of shape (n, d)
        Data.

    Returns
    -------
    Tensor of shape (P, d)

    Raises
    ------
    TooManyArrangementsError
        If X may have more patterns than `enumerate_arrangements` takes by default.
    InputError
        For entries whose sums or squares are beyond floats.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> sorted(cl.zonotope_vertices(np.array([[1.0, 0.0], [0.0, 2.0]])).tolist())
    [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 2.0]]
    """
    X = check_matrix(X)
    check_scale(X, "X")
    return enumerate_arrangements(X).masks.to(X) @ X


def zonotope_volume(X: Any, max_subsets: int = 2_000_000) -> float:
    r"""Return the volume of :math:`Z = \{X^T h : h \in [0, 1]^n\}`.

    It is the sum of :math:`|\det [x_{j_1}; \dots; x_{j_d}]|` over all d-subsets of samples: Z is
    tiled by the parallelotopes that they span.

    Parameters
    ----------
    X : array of shape (n, d)
        Data.
    max_subsets : int
        Limit on the number of determinants.

    Returns
    -------
    float
        0, up to rounding, if X has rank below d.

    Raises
    ------
    InputError
        If X is not a finite matrix, there are more than `max_subsets` subsets, or the volume is
        beyond floats.

    References
    ----------
    G. C. Shephard, *Combinatorial properties of associated zonotopes*, 1974, (57).

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> round(cl.zonotope_volume(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])), 6)
    5.0
    """
    X = check_matrix(X)
    n, d = X.shape
    max_subsets = check_positive_int(max_subsets, "max_subsets")
    if comb(n, d) > max_subsets:
        raise InputError(
            f"X has shape {(n, d)}: {comb(n, d)} determinants, more than max_subsets="
            f"{max_subsets}. Raise max_subsets, or take scipy's ConvexHull of "
            "zonotope_vertices(X)."
        )
    rows = X.double().cpu().numpy()
    # Columns of about one: products of very large or tiny entries are beyond floats.
    exponents = np.frexp(np.abs(rows).max(axis=0))[1]
    unit = np.ldexp(rows, -exponents)
    blocks = [np.abs(np.linalg.det(unit[chosen])).sum() for chosen in subset_blocks(n, d)]
    with np.errstate(over="ignore"):  # for which there is a message
        volume = float(np.ldexp(np.sum(blocks), exponents.sum()))
    if not np.isfinite(volume):
        raise InputError(
            f"X has entries of {np.abs(rows).max():.1e}, whose products in {d} dimensions are "
            "beyond floats; expected a volume below 1e308. Divide X by its scale s, and multiply "
            "the volume by s to the power d on paper."
        )
    return volume
