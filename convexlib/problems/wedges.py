r"""Two layers with an l1 or l2 first-layer penalty, as a Lasso over wedge products of samples.

The neurons of the dictionary are the cross products of samples and coordinate vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.arrangements.rowspace import MULTIPLES, column_scale, reduce_rows
from convexlib.arrangements.zonotope import subset_normals
from convexlib.arrays import EPS, ROUNDOFF, Floats
from convexlib.checks import (
    check_beta,
    check_choice,
    check_data,
    check_flag,
    check_positive_int,
    readable_count,
)
from convexlib.errors import InputError, ProblemError
from convexlib.losses import get_loss
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU, read_two_layer
from convexlib.networks.two_layer import outputs, sequential
from convexlib.problems.base import check_same_device, double, weights_of
from convexlib.problems.dictionary import DictionaryLasso
from convexlib.result import Result

BLOCK = 4_000_000  # entries of the dictionary at a time
ZERO = 16  # outputs of a neuron that are rounding, in eps times their terms


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


def wedge_neurons(
    A: Floats, d: int, norm: int, exact: bool, limit: int
) -> tuple[Floats, Floats, Floats, float]:
    r"""Return the neurons (N, width) of the dictionary, or refuse with their number.

    Their outputs are off by roundings of :math:`\|x_i\|_1 \|u_j\|_1`, in columns of one size.
    These lengths (n,) and (N,) come with them, and the largest one of the neurons that are left out
    because their outputs are rounding.

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
    # In columns of one size, or what is rounding would depend on the units of the data.
    scale = column_scale(A)
    B = A * scale
    # Zero rows and multiples of a row have no hyperplane of their own.
    reduced = reduce_rows(np.vstack([B, np.eye(d, width)]) if exact else B, MULTIPLES)
    if reduced.rank < width:
        ones = " with a column of ones" if width > d else ""
        advice = ', or use atoms="exact"' if norm == 1 else ""
        raise ProblemError(
            f'X{ones} has rank {reduced.rank} in {width} dimensions; atoms="data" needs samples '
            f"that span them. Drop dependent columns{advice}."
        )
    count = math.comb(len(reduced.rows), width - 1)
    if count > limit:
        raise ProblemError(
            f"X has shape {(n, d)}: {readable_count(count)} wedges of {width - 1} among "
            f"{len(reduced.rows)} vectors, more than max_wedges={limit}. Raise max_wedges, take "
            "fewer columns or samples, or use TwoLayer(X, y, beta=..., "
            'arrangements="generate"), whose penalty is the Euclidean norm.'
        )
    normals = subset_normals(reduced.rows / reduced.scale)
    normals = normals[np.abs(normals[:, :d]).max(axis=1) > 1e-12]  # one may be the free constant
    normals = normals * scale
    normals /= np.abs(normals[:, :d]).max(axis=1, keepdims=True)  # squares stay in range
    normals /= np.linalg.norm(normals[:, :d], norm, axis=1, keepdims=True)
    neurons = np.concatenate([normals, -normals])
    lengths = np.abs(B).sum(axis=1)
    relative = A[lengths > 0] / lengths[lengths > 0, None]
    heights = [columns.max(axis=0, initial=0.0) for columns in feature_blocks(relative, neurons)]
    sizes = np.abs(neurons / scale).sum(axis=1)
    # Neurons that are zero on all samples change nothing but the penalty.
    active = np.concatenate([np.zeros(0), *heights]) > ZERO * EPS * sizes
    return neurons[active], lengths, sizes[active], float(sizes[~active].max(initial=0.0))


def feature_blocks(A: Floats, neurons: Floats) -> Iterator[Floats]:
    """Yield the features (n, block) of consecutive blocks of neurons."""
    size = max(BLOCK // max(len(A), 1), 1)
    for start in range(0, len(neurons), size):
        yield np.maximum(A @ neurons[start : start + size].T, 0.0)


TIGHT = 1e-9  # relative distance from a hyperplane that is rounding


class WedgeLasso(DictionaryLasso):
    r"""Two-layer ReLU training as a Lasso whose features are signed volumes.

    The training problem, over networks of any width, is

    .. math:: p^* = \min_{u_j, \alpha_j} \tfrac12 \Big\|\sum_j (X u_j)_+ \alpha_j - y\Big\|^2
              + \tfrac\beta2 \sum_j \left(\|u_j\|_p^2 + \alpha_j^2\right),

    equivalently with :math:`\beta \sum_j \|u_j\|_p |\alpha_j|`. For p = 1 it equals the Lasso

    .. math:: \min_a \tfrac12 \|K a - y\|^2 + \beta \|a\|_1, \qquad
              K_{ij} = \frac{\left(\pm\det[x_i; u_{j_1}; \dots; u_{j_{d-1}}]\right)_+}
                            {\|\times(u_{j_1}, \dots, u_{j_{d-1}})\|_p},

    where the u range over the rows of :math:`[X; I_d]`: samples and coordinate vectors
    (``atoms="exact"``). With samples only (``atoms="data"``) the Lasso is an upper bound on
    :math:`p^*`, for p = 1 and p = 2; in general no finite dictionary is exact for p = 2 (for d = 1
    this one is), whose exact program is `TwoLayer`.

    Parameters
    ----------
    X : array (n, d)
        Data. A column of ones is a regularised bias.
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0. There is no 1/n.
    norm : {1, 2}
        The norm p of the first-layer weights.
    atoms : {"exact", "data"}, optional
        By default ``"exact"`` for p = 1 and ``"data"`` for p = 2.
    bias : bool
        Give every neuron and the output a bias that is not penalised. Wedges are then of
        differences from an anchor :math:`x_{j_0}`, and :math:`b = -w^T x_{j_0}`.
    max_wedges : int
        Limit on the number of subsets; each gives two neurons.

    Attributes
    ----------
    X, y, beta, loss, norm, atoms, bias
        As given; X and y as tensors.
    neurons : float64 Tensor (A, d) or (A, d + 1)
        The neurons of the dictionary, of length :math:`\|w\|_p = 1`; a free bias is last.

    Raises
    ------
    InputError
        For unusable data or arguments.
    ProblemError
        If there are more than max_wedges subsets; for p = 2 with ``atoms="exact"``; for
        ``atoms="data"`` if the samples do not span the space.

    Notes
    -----
    ``weights`` has shape (A,), or (A + 1,) with the output bias last. The arithmetic is in float64
    on the CPU whatever the data. Bounds allow for rounding; where more than one sample or
    coordinate vector makes a wedge, they take each to be computed to a few roundings, which those
    of nearly dependent ones are not. Sources: Pilanci (2023); Wang et al. (2024); the dictionary is
    rederived in the chapter on geometry. Checked by ``tests/problems/test_wedges.py`` and
    ``tests/problems/test_near_equal_samples.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.WedgeLasso(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1)
    >>> round(cl.solve(problem).value, 4)
    0.425
    """

    methods = ("wedge",)
    neighbours_alike = False

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        beta: float,
        norm: int = 1,
        atoms: str | None = None,
        bias: bool = False,
        max_wedges: int = 200_000,
    ) -> None:
        self.X, self.y = check_data(X, y)
        self.beta = check_beta(beta)
        self.loss = get_loss("squared")
        if type(norm) not in (int, np.int64) or norm not in (1, 2):  # no array, no truth value
            raise InputError(f"norm is {norm!r}; expected 1 or 2.")
        self.norm, self.bias = int(norm), check_flag(bias, "bias")
        default = "exact" if self.norm == 1 else "data"
        self.atoms = check_choice(default if atoms is None else atoms, ("exact", "data"), "atoms")
        if self.norm == 2 and self.atoms == "exact":
            raise ProblemError(
                'atoms="exact" with norm=2: wedges are exact for norm=1, and for norm=2 only in '
                "one dimension, where the two norms are one. "
                'Use atoms="data" for an upper bound, or TwoLayer(X, y, beta=...).'
            )
        check_positive_int(max_wedges, "max_wedges")
        self.A: Floats = self.X.double().cpu().numpy()  # (n, d), or (n, d + 1) with ones
        if self.bias:
            self.A = np.hstack([self.A, np.ones((len(self.A), 1))])
        d = self.X.shape[1]
        self.row = np.arange(len(self.A))
        found = wedge_neurons(self.A, d, self.norm, self.exact, max_wedges)
        self.neurons = torch.from_numpy(found[0])
        self._lengths, self._sizes, self._dropped = found[1:]

    @property
    def scope(self) -> str:
        """See `Problem`: over all networks for an exact dictionary."""
        return "network" if self.exact else "program"

    @property
    def exact(self) -> bool:
        """Whether the optimum is that over all networks."""
        return self.atoms == "exact"

    @property
    def n_features(self) -> int:
        """Number A of features."""
        return len(self.neurons)

    def columns(self, index: Any) -> Floats:
        """Return the features (n, k) named by index."""
        return np.maximum(self.A @ self.neurons[torch.as_tensor(index)].numpy().T, 0.0)

    def correlations(self, z: Tensor) -> Floats:
        """Return every K_j^T z, (A,)."""
        values = self.centred(z).cpu().numpy()
        parts = [values @ columns for columns in feature_blocks(self.A, self.neurons.numpy())]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _spread(self, z: Tensor, more: int = 0) -> float:
        """What, times the length of a neuron, bounds the error of its correlation with z."""
        # Of sums, an output and a factorisation, and the distances up to which neurons are one.
        roundings = len(self.A) + 4 * self.A.shape[1] + 2 * (8 + 8) + more
        _, sizes, errors = self._totals(z)
        return float((ROUNDOFF * roundings * sizes + errors) @ self._lengths)

    def _margins(self, z: Tensor) -> Floats:
        """How much larger than computed a correlation with z may be, (A,)."""
        return self._spread(z) * self._sizes

    def _dual_bound(self, z: Tensor) -> float:
        """Return the largest correlation of a neuron, also of those left out, with rounding."""
        return max(super()._dual_bound(z), self._spread(z, 2 * ZERO) * self._dropped)

    def active_wedges(self, result: Result | Tensor) -> list[Wedge]:
        """Return the features with a nonzero coefficient, and what their neurons are wedges of."""
        values, _ = self.split(weights_of(result, self.shape))
        lengths, found = np.linalg.norm(self.A, axis=1), []
        for index in values.nonzero().ravel().tolist():
            u = self.neurons[index].numpy()
            samples = np.flatnonzero(np.abs(self.A @ u) <= TIGHT * lengths * np.linalg.norm(u))
            coordinates = np.flatnonzero(np.abs(u[: self.X.shape[1]]) <= TIGHT)
            places = tuple(samples.tolist()), tuple(coordinates.tolist())
            found.append(Wedge(float(values[index]), self.neurons[index], *places))
        return found

    def to_network(self, result: Result | Tensor) -> TwoLayerReLU | nn.Sequential:
        r"""Return the network with :math:`\|u_j\|_p = |\alpha_j| = \sqrt{|a_j|}`.

        Its `objective` equals the Lasso's value. With free biases it is a Sequential of Linear,
        ReLU and Linear, with a neuron of zeros if there is none. Same dtype and device as the
        data.
        """
        values, constant = self.split(weights_of(result, self.shape))
        active = values.nonzero().ravel()
        roots = values[active].abs().sqrt()
        U = (roots[:, None] * self.neurons[active]).to(self.X)
        alpha = (roots * values[active].sign()).to(self.X)
        if not self.bias:
            return TwoLayerReLU(U, alpha)
        return sequential(U, alpha, True, alpha.new_tensor([constant]))

    def objective(self, network: nn.Module) -> float:
        r"""Return :math:`\tfrac12\|f(X)-y\|^2 + \tfrac\beta2 \sum_j (\|u_j\|_p^2 + \alpha_j^2)`.

        Takes a `TwoLayerReLU`, or with free biases (which cost nothing) an
        ``nn.Sequential(Linear, ReLU, Linear)``. In float64.
        """
        gated = isinstance(network, TwoLayerGatedReLU)
        if gated or not isinstance(network, nn.Sequential if self.bias else TwoLayerReLU):
            expected = "nn.Sequential(Linear, ReLU, Linear)" if self.bias else "TwoLayerReLU"
            raise InputError(
                f"network is {type(network).__name__}; expected {expected}, such as "
                "problem.to_network(result)."
            )
        check_same_device(network, self.X)
        exact = double(network)
        parts = read_two_layer(exact)
        fitted = outputs(exact, self.X.double())
        w = parts.U[:, : self.X.shape[1]]
        sizes = torch.linalg.vector_norm(w, self.norm, dim=1)
        decay = 0.5 * float((sizes**2).sum() + (parts.alpha**2).sum())
        return self.loss.value(fitted, self.y.double()) + self.beta * decay

    def __repr__(self) -> str:
        n, d = self.X.shape
        free = ", free biases" if self.bias else ""
        return (
            f"WedgeLasso(l{self.norm}, {self.atoms} atoms{free}, n={n}, d={d}, "
            f"features={self.n_features}, beta={self.beta:g})"
        )
