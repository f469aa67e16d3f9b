"""The dictionary of `WedgeLasso`: neurons that are cross products of samples and coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from convexlib.arrangements.rowspace import reduce_rows
from convexlib.arrays import Floats
from convexlib.errors import ProblemError
from convexlib.geometry import subset_normals
from convexlib.validation import readable_count

BLOCK = 4_000_000  # entries of the dictionary at a time


@dataclass(frozen=True, eq=False)
class Wedge:
    """A feature of a solution.

    Attributes
    ----------
    coefficient : float
        Its coefficient in the Lasso.
    neuron : Tensor (d,) or (d + 1,)
        The neuron u, its free bias last.
    samples, coordinates : tuple of int
        The samples with :math:`x_i^T u = 0` and the coordinates with :math:`u_k = 0`: u is the
        cross product of d - 1 of them.
    """

    coefficient: float
    neuron: Tensor
    samples: tuple[int, ...]
    coordinates: tuple[int, ...]


def wedge_neurons(A: Floats, d: int, norm: int, exact: bool, limit: int) -> Floats:
    r"""Return the neurons (N, width) of the dictionary, or refuse with their number.

    Parameters
    ----------
    A : float64 array (n, width)
        Samples; ones in column d if biases are free.
    d : int
        The number of features without the bias: the columns that are penalised.
    norm : {1, 2}
        The neurons' first d entries have :math:`\|w\|_p = 1`.
    exact : bool
        Whether coordinate vectors join the samples.
    limit : int
        The most subsets to go through.

    Raises
    ------
    ProblemError
        If there are more subsets, or the vectors do not span the space.
    """
    n, width = A.shape
    # Zero rows and multiples of a row have no hyperplane of their own.
    reduced = reduce_rows(np.vstack([A, np.eye(d, width)]) if exact else A)
    if reduced.rank < width:
        ones = " with a column of ones" if width > d else ""
        advice = ', or use atoms="exact"' if norm == 1 else ""
        raise ProblemError(
            f'X{ones} has rank {reduced.rank} in {width} dimensions; atoms="data" needs samples '
            f"that span them. Drop dependent columns{advice}."
        )
    rows = reduced.rows / reduced.scale
    count = math.comb(len(rows), width - 1)
    if count > limit:
        raise ProblemError(
            f"X has shape {(n, d)}: {readable_count(count)} wedges of {width - 1} among "
            f"{len(rows)} vectors, more than max_wedges={limit}. Raise max_wedges, take fewer "
            'columns or samples, or use TwoLayer(X, y, beta=..., arrangements="generate"), whose '
            "penalty is the Euclidean norm."
        )
    normals = subset_normals(rows)
    sizes = np.linalg.norm(normals[:, :d], norm, axis=1)
    kept = sizes > 1e-12  # with a free bias, one of the normals is the constant
    normals = normals[kept] / sizes[kept, None]
    neurons = np.concatenate([normals, -normals])
    heights = [columns.max(axis=0) for columns in feature_blocks(A, neurons)]
    # Neurons that are silent on the data are of no use.
    active = np.concatenate([np.zeros(0), *heights]) > 1e-12 * float(np.abs(A).max())
    return neurons[active]


def feature_blocks(A: Floats, neurons: Floats) -> Iterator[Floats]:
    """Yield the features (n, block) of consecutive blocks of neurons."""
    size = max(BLOCK // len(A), 1)
    for start in range(0, len(neurons), size):
        yield np.maximum(A @ neurons[start : start + size].T, 0.0)
