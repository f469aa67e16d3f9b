r"""Networks of absolute values on any number of features, as a Lasso over reflected hyperplanes.

A unit of three layers is :math:`\big| |x^\top u + b| - t \big|` with :math:`\|u\|_1 = 1`: the
distance of x, in the max norm, from two parallel hyperplanes, one the mirror image of the other
about :math:`x^\top u + b = 0`. For a dual point z with :math:`1^\top z = 0` the correlation
:math:`z^\top h` is largest at a vertex of its pieces. There one of the two hyperplanes passes
through a sample, the anchor, so that :math:`t = |x_i^\top u + b|`, and d independent ones of these
equations hold, each linear in (u, b):

.. math:: x_k^\top u + b = 0, \quad (x_k - x_i)^\top u = 0, \quad
          \tfrac12 (x_k + x_i)^\top u + b = 0, \quad u_j = 0 .

They say that the mirror passes through a sample, that a sample lies on the anchor's hyperplane or
on its image, or that a weight is zero. A unit of two layers is the mirror alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convexlib.arrangements.rowspace import MULTIPLES, column_scale, near_rows, reduce_rows
from convexlib.arrangements.zonotope import subset_normals
from convexlib.arrays import EPS, ROUNDOFF, Floats
from convexlib.checks import check_beta, check_data, check_positive_int, readable_count
from convexlib.errors import InputError, ProblemError
from convexlib.losses import get_loss
from convexlib.problems.base import weights_of
from convexlib.problems.dictionary import DictionaryLasso
from convexlib.result import Result

BLOCK = 4_000_000  # entries of the dictionary at a time
TIGHT = 1e-9  # distance, for samples of size one, that is rounding
# Distance of two units, from two anchors, that is rounding of one, in eps. Mirrors of samples that
# are 1e-10 apart are farther from each other, and both count: bounds rest on the list.
ALIKE = 64


class AbsoluteUnits(nn.Module):
    r"""K units of absolute values in parallel, one neuron a layer, with an output bias.

    Unit k is :math:`h_1 = |x^\top u_k + c_k|`, :math:`h_l = |w_{lk} h_{l-1} + b_{lk}|` for
    :math:`l = 2, \dots, L-1`, and the network is :math:`f(x) = \xi + \sum_k \alpha_k h_{L-1,k}(x)`.

    Parameters
    ----------
    U, c : Tensor (K, d), (K,)
        First layer.
    weights, biases : Tensor (L - 2, K)
        The other hidden layers.
    alpha, bias : Tensor (K,), ()
        Output weights and bias.

    Examples
    --------
    >>> import torch
    >>> from convexlib.problems.looking_glass import AbsoluteUnits
    >>> one = torch.ones(1)
    >>> fold = AbsoluteUnits(torch.eye(1, 2), 0 * one, one[None], -one[None], one, torch.tensor(0.))
    >>> fold(torch.tensor([[1.0, 5.0], [3.0, 0.0]])).tolist()
    [0.0, 2.0]
    """

    U: nn.Parameter
    c: nn.Parameter
    weights: nn.Parameter
    biases: nn.Parameter
    alpha: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self, U: Tensor, c: Tensor, weights: Tensor, biases: Tensor, alpha: Tensor, bias: Tensor
    ) -> None:
        super().__init__()
        given = {"U": U, "c": c, "weights": weights, "biases": biases, "alpha": alpha, "bias": bias}
        K = len(U)
        if U.ndim != 2 or weights.ndim != 2 or weights.shape != biases.shape or c.shape != (K,):
            fits = False
        else:
            fits = alpha.shape == (K,) and weights.shape[1] == K and bias.ndim == 0
        if not fits:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in given.items())
            raise InputError(
                f"the shapes are {shapes}; expected U (K, d), c (K,), weights and biases "
                "(L - 2, K), alpha (K,) and bias ()."
            )
        for name, value in given.items():
            setattr(self, name, nn.Parameter(value.detach().clone()))

    @property
    def depth(self) -> int:
        """Number of layers of weights, L."""
        return int(self.weights.shape[0]) + 2

    def hidden(self, x: Tensor) -> Tensor:
        """Return the outputs of the units, (n, K), for inputs (n, d)."""
        h = (x @ self.U.T + self.c).abs()
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = (h * weight + bias).abs()
        return h

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n,) for inputs (n, d)."""
        return self.hidden(x) @ self.alpha + self.bias

    def regulariser(self) -> Tensor:
        r""":math:`\frac1L \sum_k (\|u_k\|_1^L + \sum_l |w_{lk}|^L + |\alpha_k|^L)`."""
        L = self.depth
        first = self.U.abs().sum(dim=1) ** L
        return (first.sum() + (self.weights.abs() ** L).sum() + (self.alpha.abs() ** L).sum()) / L

    def extra_repr(self) -> str:
        K, d = self.U.shape
        return f"d={d}, depth={self.depth}, units={K}"


@dataclass(frozen=True, eq=False)
class Reflection:
    r"""A feature of a solution, and the samples that determine it.

    Attributes
    ----------
    coefficient : float
        Its coefficient in the Lasso.
    normal, offset : Tensor (d,), float
        The mirror :math:`x^T u + b = 0`, with :math:`\|u\|_1 = 1`.
    anchor : int
        The sample through which the hyperplane passes that is mirrored; -1 for two layers.
    samples : tuple of int
        The samples on the mirror.
    parallel, reflected : tuple of int
        The samples on the anchor's hyperplane and on its image; both empty if these are one.
    coordinates : tuple of int
        The weights that are zero.
    """

    coefficient: float
    normal: Tensor
    offset: float
    anchor: int
    samples: tuple[int, ...]
    parallel: tuple[int, ...]
    reflected: tuple[int, ...]
    coordinates: tuple[int, ...]


def kink_rows(points: Floats, anchor: int) -> Floats:
    """Return what has to vanish at a kink, as rows (m, d + 1) for (u, b); no anchor is -1."""
    n, d = points.shape
    one = np.ones((n, 1))
    rows = [np.hstack([points, one]), np.eye(d, d + 1)]
    if anchor >= 0:
        rows.append(np.hstack([points - points[anchor], 0 * one]))
        rows.append(np.hstack([0.5 * (points + points[anchor]), one]))
    return np.vstack(rows)


def reflection_units(
    points: Floats, depth: int, limit: int
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    r"""Return the units that are enough: normals (p, d), offsets (p,) and anchors (p,).

    Parameters
    ----------
    points : float64 array (n, d)
        Distinct samples, of size about one.
    depth : {2, 3}
        The layers of weights.
    limit : int
        The most subsets to go through.

    Raises
    ------
    ProblemError
        If there are more subsets.
    """
    n, d = points.shape
    equations, anchors = (n + d, [-1]) if depth == 2 else (3 * n - 2 + d, list(range(n)))
    count = len(anchors) * math.comb(equations, d)
    if count > limit:
        shallow = "" if depth == 2 else ", or depth=2"
        raise ProblemError(
            f"{n} distinct samples of {d} features and depth={depth} give up to "
            f"{readable_count(count)} units, more than max_units={limit}. Raise max_units, or take "
            f"fewer columns, fewer samples{shallow}."
        )
    # In columns of one size, or what is rounding would depend on the units of the data.
    scale = column_scale(points)
    scaled = points * scale
    found = [np.zeros((0, d + 3))]
    for anchor in anchors if n > 1 else []:  # one sample: every unit is constant
        reduced = reduce_rows(kink_rows(scaled, anchor), MULTIPLES)
        normals = subset_normals(reduced.rows / reduced.scale)
        normals = normals[np.abs(normals[:, :d]).sum(axis=1) > TIGHT]
        height = np.abs(normals @ np.append(scaled[anchor], 1.0)) * (anchor >= 0)
        place = np.full(len(normals), float(anchor))
        found.append(np.column_stack([normals, height, place]))
    units = np.concatenate(found)
    if depth == 3:
        # Several anchors give the same unit: those on one of its two hyperplanes.
        units = units[np.unique(near_rows(units[:, :-1], ALIKE * EPS)[0])]
    anchors_of = units[:, -1].astype(np.intp)
    units = units[:, : d + 1] * np.append(scale, 1.0)
    units = units / np.abs(units[:, :d]).sum(axis=1, keepdims=True) + 0.0  # no -0
    return units[:, :d], units[:, d], anchors_of


class ReflectionLasso(DictionaryLasso):
    r"""Training of absolute-value networks on any number of features, as a Lasso.

    For sums :math:`f(x) = \xi + \sum_k \alpha_k h_k(x)` of any number of units with one neuron a
    layer, :math:`h = |x^\top u + c|` for two layers of weights and
    :math:`h = \big| w |x^\top u + c| + b \big|` for three, training with free biases,

    .. math:: \min \tfrac12 \|f(X) - y\|^2 + \tfrac\beta{L} \sum_k
              \left(\|u_k\|_1^L + |w_k|^L + |\alpha_k|^L\right)

    (without w for L = 2), equals the Lasso

    .. math:: \min_{a, \xi} \tfrac12 \|A a + \xi \mathbf 1 - y\|^2 + \beta \|a\|_1, \qquad
              A_{kj} = \Big| |x_k^\top u_j + b_j| - |x_{i_j}^\top u_j + b_j| \Big|

    (:math:`|x_k^\top u_j + b_j|` for L = 2) over a finite dictionary of mirrors
    :math:`x^\top u_j + b_j = 0`, :math:`\|u_j\|_1 = 1`, that the samples determine. No 1/n.

    Parameters
    ----------
    X : array (n, d)
        Data, without a column of ones: biases are free.
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0.
    depth : {2, 3}
        Layers of weights.
    max_units : int
        Limit on the number of subsets of equations to go through.

    Attributes
    ----------
    X, y, beta, loss, depth
        As given; X and y as tensors.
    normals, offsets : float64 Tensor (A, d), (A,)
        The mirrors of the dictionary.
    anchors : int array (A,)
        A sample on the hyperplane that is mirrored; -1 for two layers.

    Raises
    ------
    InputError
        For unusable data or arguments.
    ProblemError
        If there are more than max_units subsets.

    Notes
    -----
    ``weights`` has shape (A + 1,): the coefficients a, then the output bias. The arithmetic is in
    float64 on the CPU whatever the data. Bounds allow for rounding; for several features they take
    each mirror to be computed to a few roundings, which those of nearly dependent equations are
    not. Source: Zeger and Pilanci (2024), of which the abstract was read; the dictionary is derived
    in the chapter on reflection hyperplanes. On one feature it is that of
    ``Mirrors(activation="abs")``. Checked by ``tests/problems/test_looking_glass.py`` and
    ``tests/problems/test_near_equal_samples.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    >>> problem = cl.ReflectionLasso(X, np.array([0.0, 1.0, 1.0, 1.0]), beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), result.scope
    (0.0925, 'network')
    """

    methods = ("wedge",)
    bias = True
    neighbours_alike = False

    def __init__(
        self, X: Any, y: Any, *, beta: float, depth: int = 3, max_units: int = 200_000
    ) -> None:
        self.X, self.y = check_data(X, y)
        self.beta = check_beta(beta)
        self.loss = get_loss("squared")
        self.depth = check_positive_int(depth, "depth", minimum=2)
        if self.depth > 3:
            raise InputError(
                f"depth is {self.depth}; expected 2 or 3. For one feature, Mirrors(x, y, "
                'beta=..., activation="abs", depth=...) goes deeper.'
            )
        check_positive_int(max_units, "max_units")
        values = self.X.double().cpu().numpy()
        # Around their mean and of size one, so that biases and weights are of one size, too.
        self.centre: Floats = values.mean(axis=0)
        centred = values - self.centre
        self.size = float(np.ldexp(1.0, np.frexp(np.abs(centred).max())[1]))
        self.points: Floats
        self.points, first, self.row = np.unique(
            centred / self.size, axis=0, return_index=True, return_inverse=True
        )
        self.row = self.row.reshape(-1)
        normals, offsets, anchors = reflection_units(self.points, self.depth, max_units)
        self._normals, self._offsets, self._places = normals, offsets, anchors
        self.anchors = np.where(anchors >= 0, first[anchors], -1)
        scale = column_scale(self.points)
        self._lengths = np.abs(self.points * scale).sum(axis=1) + 1.0
        self._sizes = np.abs(normals / scale).sum(axis=1) + np.abs(offsets)
        # Of sums, an output and a factorisation, and the distances up to which units are one:
        # those of two layers have one anchor.
        merged = 8 + 8 + ALIKE * (self.depth - 2)
        self._roundings = len(self.points) + 8 * self.X.shape[1] + 2 * merged

    @property
    def scope(self) -> str:
        """Bounds hold for all networks."""
        return "network"

    @property
    def n_features(self) -> int:
        """Number A of features."""
        return len(self._normals)

    @property
    def normals(self) -> Tensor:
        """The normals u of the mirrors, (A, d)."""
        return torch.from_numpy(self._normals)

    @property
    def offsets(self) -> Tensor:
        """The offsets b of the mirrors, (A,)."""
        return torch.from_numpy(self.size * self._offsets - self._normals @ self.centre)

    def _heights(self, index: Any) -> Floats:
        """The thresholds of the second layer, for points of size one; 0 for two layers."""
        places = self._places[index]
        normals, offsets = self._normals[index], self._offsets[index]
        return np.abs((self.points[places] * normals).sum(axis=1) + offsets) * (places >= 0)

    def columns(self, index: Any) -> Floats:
        """Return the features (N, k) named by index, over the distinct samples."""
        first = np.abs(self.points @ self._normals[index].T + self._offsets[index])
        return self.size * np.abs(first - self._heights(index))

    def correlations(self, z: Tensor) -> Floats:
        """Return every A_j^T z, (A,), for z (n,) that sums to zero."""
        total = np.bincount(self.row, z.double().cpu().numpy(), len(self.points))
        step = max(BLOCK // len(self.points), 1)
        starts = range(0, self.n_features, step)
        parts = [total @ self.columns(slice(start, start + step)) for start in starts]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _margins(self, z: Tensor) -> Floats:
        r"""How much larger than computed a correlation with z may be, (A,).

        Outputs are off by roundings of :math:`\|x_k\|_1 \|u_j\|_1` in columns of one size, with
        ones and b_j. The threshold is such a term, too.
        """
        _, sizes, errors = self._totals(z)
        sizes = ROUNDOFF * self._roundings * sizes + errors
        deeper = (self.depth - 2) * float(sizes.sum() * self._lengths.max())
        return (float(sizes @ self._lengths) + deeper) * self.size * self._sizes

    def active_units(self, result: Result | Tensor) -> list[Reflection]:
        """Return the features with a nonzero coefficient, and what determines them."""
        values, _ = self.split(weights_of(result, self.shape))
        found = []
        for index in values.nonzero().ravel().tolist():
            u, t = self._normals[index], float(self._heights([index])[0])
            b = self._offsets[index]
            side = self.points[self.row] @ u + b
            parts = np.abs(u) * np.abs(self.points).max(axis=0)
            near = TIGHT * (parts.sum() + abs(b))
            on = np.abs(side) <= near
            anchor = int(self.anchors[index])
            same = np.abs(side - side[anchor]) <= near if anchor >= 0 and t > near else on & False
            opposite = np.abs(side + side[anchor]) <= near if same.any() else same
            zero = parts <= TIGHT * parts.sum()
            places = (tuple(np.flatnonzero(mark).tolist()) for mark in (on, same, opposite, zero))
            mirror = torch.from_numpy(u), float(self.offsets[index])
            found.append(Reflection(float(values[index]), *mirror, anchor, *places))
        return found

    def to_network(self, result: Result | Tensor) -> AbsoluteUnits:
        r"""Return the network with :math:`\|u_k\|_1 = |w_k| = |\alpha_k| = |a_k|^{1/L}`.

        Its `objective` equals the Lasso's value. Same dtype and device as the data.
        """
        values, constant = self.split(weights_of(result, self.shape))
        active = values.nonzero().ravel()
        values = values[active]
        g = values.abs() ** (1.0 / self.depth)
        U, c = g[:, None] * self.normals[active], g * self.offsets[active]
        heights = self.size * torch.from_numpy(self._heights(active.numpy()))
        deeper = g.expand(self.depth - 2, -1)  # (L - 2, K): none for two layers
        biases = -(deeper**2) * heights
        alpha, bias = values.sign() * g, values.new_tensor(constant)
        return AbsoluteUnits(*(part.to(self.X) for part in (U, c, deeper, biases, alpha, bias)))

    def objective(self, network: nn.Module) -> float:
        r"""Training objective of an `AbsoluteUnits` of this depth, trained or not, in float64."""
        if not isinstance(network, AbsoluteUnits):
            raise InputError(
                f"network is {type(network).__name__}; expected AbsoluteUnits, such as "
                "problem.to_network(result)."
            )
        given, expected = (network.U.shape[1], network.depth), (self.X.shape[1], self.depth)
        if given != expected:
            raise InputError(
                f"the network takes {given[0]} features and has depth {given[1]}; expected "
                f"{expected[0]} and {expected[1]}."
            )
        return super().objective(network)

    def _decay(self, network: nn.Module) -> float:
        assert isinstance(network, AbsoluteUnits)
        return float(network.regulariser().detach())

    def __repr__(self) -> str:
        n, d = self.X.shape
        return (
            f"ReflectionLasso(depth={self.depth}, n={n}, d={d}, features={self.n_features}, "
            f"beta={self.beta:g})"
        )
