r"""One-dimensional networks are Lasso models whose features are mirrors of the data."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, prod
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from convexlib.arrays import Floats
from convexlib.checks import (
    as_tensor,
    check_beta,
    check_choice,
    check_data,
    check_flag,
    check_positive_int,
    check_real,
    readable_count,
)
from convexlib.errors import InputError, ProblemError, SolverError
from convexlib.losses import Loss, SquaredLoss
from convexlib.losses.piecewise import QuantileLoss
from convexlib.problems.base import weights_of
from convexlib.problems.dictionary import DictionaryLasso
from convexlib.problems.mirrors.dictionaries import (
    Chains,
    ClippedRamps,
    Dictionary,
    Ramps,
    Switches,
    abs_chains,
    abs_count,
    leaky_chains,
    leaky_count,
)
from convexlib.problems.mirrors.features import ACTIVATIONS, SWITCHING, Feature
from convexlib.problems.mirrors.networks import (
    ParallelUnits,
    SwitchingUnits,
    Units,
    build_switching,
    build_units,
    check_units,
)
from convexlib.result import Result

COUNTED = 40  # counts grow with depth, and those of this many layers are hopeless


def as_column(x: Any) -> Tensor:
    """Return inputs (n,) or (n, 1) as (n, 1)."""
    x = as_tensor(x, "x")
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[1] != 1:
        raise InputError(
            f"x has shape {tuple(x.shape)}; expected (n,) or (n, 1). Mirrors has one feature; use "
            "TwoLayer for more."
        )
    return x


def check_share(share: Any, name: str, advice: str = "") -> float:
    """Return a number strictly between 0 and 1."""
    value = check_real(share, name)
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} is {value:g}; expected 0 < {name} < 1.{advice}")
    return value


def check_widths(widths: Any, depth: int, activation: str) -> tuple[int, ...]:
    """Return the numbers of children per layer of a tree; empty for two layers and chains."""
    if activation not in SWITCHING or depth == 2:
        if widths is not None:
            raise InputError(
                f"widths is {widths!r} with activation={activation!r} and depth={depth}; expected "
                "None. Only sign and threshold networks of depth >= 3 have widths."
            )
        return ()
    if widths is None:
        return (2,)
    if isinstance(widths, Sequence) and not isinstance(widths, str):
        if len(widths) != depth - 2:
            raise InputError(
                f"widths has {len(widths)} entries; expected depth - 2 = {depth - 2}, the numbers "
                "of children from the leaves upwards, or one int for parallel units."
            )
        return tuple(check_positive_int(width, "widths") for width in widths)
    return (check_positive_int(widths, "widths"),)


def check_reflections(reflections: Any, depth: int, activation: str) -> bool:
    """Return whether ReLU features with kinks at reflections are wanted."""
    wanted = check_flag(reflections, "reflections")
    if wanted and (activation != "relu" or depth < 4):
        raise InputError(
            f"reflections=True with activation={activation!r} and depth={depth}; expected "
            "activation='relu' and depth >= 4. The dictionary of 'abs' has its own from "
            "depth 3 on; leave reflections out."
        )
    return wanted


_EXTREME = 1e-6  # distance of a quantile from 0 and 1


def make_loss(name: str, quantile: Any) -> Loss:
    """Return the squared loss or the pinball loss of a quantile in (0, 1)."""
    check_choice(name, ("squared", "quantile"), "loss")
    tau = check_share(quantile, "quantile")
    # One slope of the loss is tau or 1 - tau; dual points are told from others to 1e-12 only.
    if not _EXTREME <= tau <= 1.0 - _EXTREME:
        raise InputError(
            f"quantile is {tau!r}; expected it between {_EXTREME:g} and 1 - {_EXTREME:g}, as "
            "rounding hides one side of the loss of a more extreme one."
        )
    return SquaredLoss() if name == "squared" else QuantileLoss(tau=tau)


class Mirrors(DictionaryLasso):
    r"""Training of parallel narrow networks on one feature, as a Lasso.

    For networks :math:`f(x) = \xi + \sum_k \alpha_k h_k(x)` of any number of units with one neuron
    per layer and L layers of weights, training with free biases,

    .. math:: \min \tfrac12 \|f(x) - y\|^2 + \tfrac\beta{L} \sum |\text{weight}|^L ,

    equals the Lasso over a finite dictionary A that x alone determines,

    .. math:: \min_{z, \xi} \tfrac12 \|A z + \xi \mathbf 1 - y\|^2 + \beta \|z\|_1 .

    Sign and threshold units are trees with free inner weights, priced by
    :math:`\tfrac\beta2 \sum (\text{amplitude}^2 + \text{output weight}^2)`. No 1/n anywhere.

    Parameters
    ----------
    x : array (n,) or (n, 1)
        Inputs, in any order; values may repeat.
    y : array (n,)
        Targets.
    beta : float
        Regularisation, > 0.
    depth : int
        Layers of weights, at least 2.
    activation : {"relu", "abs", "leaky", "sign", "threshold"}
        The activation; sign(0) = 1.
    slope : float
        Of ``"leaky"``, strictly between 0 and 1. The others take no notice of it.
    widths : int or sequence of int, optional
        Sign and threshold networks with depth >= 3: an int m (default 2) is the size of each unit's
        first layer and the most switches of a feature; a sequence of depth - 2 ints is a tree with
        these numbers of children from the leaves upwards, with at most their product of switches.
    reflections : bool
        ReLU with depth >= 4: add the clipped ramps with a kink at a reflection
        :math:`2 x_m - x_n`, which optima may use but the optimal value does not need.
    loss : {"squared", "quantile"}
        :math:`\tfrac12 \|f - y\|^2`, or the pinball loss :math:`\sum \rho_\tau(y - f)` with
        :math:`\tau` = `quantile`.
    quantile : float
        Between 1e-6 and 1 - 1e-6. The squared loss takes no notice of it.
    max_features : int
        Limit on the candidate columns of the dictionary.

    Attributes
    ----------
    X, y, beta, loss, depth, activation
        As given; X is a tensor (n, 1).
    x : ndarray (N,)
        The distinct inputs, increasing; features name them x_1, ..., x_N.
    dictionary : Dictionary
        The columns, over `x`.

    Raises
    ------
    InputError
        For unusable data or arguments.
    ProblemError
        If the dictionary would have more than max_features candidates.

    Notes
    -----
    ``weights`` has shape (p + 1,): the coefficients z, then the output bias xi. The arithmetic is
    in float64 whatever the data. Source: Zeger et al. (2024); the dictionaries are rederived in the
    chapter on mirrors. Checked by ``tests/problems/mirrors/test_program.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> x, y = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.Mirrors(x, y, beta=0.1, activation="abs", depth=3)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), result.gap <= 1e-6
    (0.19, True)
    """

    methods = ("lasso",)
    bias = True
    neighbours_alike = True

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        beta: float,
        depth: int = 2,
        activation: str = "relu",
        slope: float = 0.1,
        widths: int | Sequence[int] | None = None,
        reflections: bool = False,
        loss: str = "squared",
        quantile: float = 0.5,
        max_features: int = 2_000_000,
    ) -> None:
        self.X, self.y = check_data(as_column(x), y)
        self.beta = check_beta(beta)
        self.depth = check_positive_int(depth, "depth", minimum=2)
        self.activation = check_choice(activation, ACTIVATIONS, "activation")
        advice = " Use activation='relu' for 0 and 'abs' for -1."
        slope = check_share(slope, "slope", advice)
        self.slope = slope if activation == "leaky" else 0.0
        self.widths = check_widths(widths, self.depth, self.activation)
        self.reflections = check_reflections(reflections, self.depth, self.activation)
        self.loss = make_loss(loss, quantile)
        check_positive_int(max_features, "max_features")
        values = self.X[:, 0].double().cpu().numpy()
        self.x: Floats
        self.x, self.row = np.unique(values, return_inverse=True)
        self.dictionary = self._dictionary(max_features)

    def _dictionary(self, limit: int) -> Dictionary:
        """The dictionary over the distinct inputs, or an error if there are too many candidates."""
        x, n, depth, activation = self.x, len(self.x), self.depth, self.activation
        if n == 1:  # every unit is constant
            return Ramps(x, activation, self.slope)
        deep = min(depth, COUNTED)
        if activation in SWITCHING:
            count = sum(comb(n - 1, k) for k in range(1, min(self.switches, n - 1) + 1))
        elif depth == 2:
            count = n
        elif activation == "relu":
            count = ClippedRamps.size(n, self.reflections)
        else:
            count = leaky_count(n, deep) if activation == "leaky" else abs_count(n, deep)
        if count > limit:
            narrower = " or widths" if activation in SWITCHING else ""
            plainer = ", leave reflections out" if self.reflections else ""
            raise ProblemError(
                f"{n} distinct inputs, activation={activation!r} and depth={depth} give up to "
                f"{readable_count(count)} candidate features, more than max_features={limit}. "
                f"Round x to fewer distinct values, lower depth{narrower}{plainer}, or raise "
                "max_features."
            )
        if activation in SWITCHING:
            return Switches(x, activation, self.switches)
        if depth == 2:
            return Ramps(x, activation, self.slope)
        if activation == "relu":
            return ClippedRamps(x, depth, self.reflections)
        if activation == "leaky":
            return Chains(x, "leaky", *leaky_chains(x, depth, self.slope), self.slope)
        return Chains(x, "abs", *abs_chains(x, depth))

    @property
    def switches(self) -> int:
        """The number of switches a sign or threshold unit may have."""
        return prod(self.widths)

    @property
    def n_features(self) -> int:
        """Number of columns p."""
        return len(self.dictionary)

    def feature(self, index: int) -> Feature:
        """Return column `index` as a function that describes itself."""
        if not 0 <= index < self.n_features:
            raise InputError(
                f"index is {index}; expected one of the {self.n_features} features, from 0."
            )
        return self.dictionary.feature(index)

    def active_features(self, result: Result | Tensor) -> list[tuple[float, Feature]]:
        """Return the nonzero coefficients with their features, in the order of the columns."""
        weights = weights_of(result, self.shape)[:-1].cpu()
        active = weights.nonzero().ravel().tolist()
        return [(float(weights[index]), self.feature(index)) for index in active]

    def columns(self, index: Any) -> Floats:
        """Return the columns (N, k) named by index, over the distinct inputs."""
        return self.dictionary.columns(index)

    def best_constant(self) -> float:
        """Return the mean of y, or its quantile (an observed value)."""
        if not isinstance(self.loss, QuantileLoss):
            return super().best_constant()
        place = int(np.ceil(self.loss.tau * len(self.y) - 1e-9)) - 1
        return float(torch.sort(self.y.double()).values[min(max(place, 0), len(self.y) - 1)])

    def correlations(self, z: Tensor) -> Floats:
        """Return every A_j^T z, (p,), for z (n,) that sums to zero."""
        total: Floats = np.zeros(len(self.x))
        np.add.at(total, self.row, z.double().cpu().numpy())
        return self.dictionary.correlations(total)

    def _margins(self, z: Tensor) -> float:
        """How much larger than computed a correlation with z may be."""
        return self.dictionary.margin(*self._totals(z))

    def beta_max(self) -> float:
        r"""Return the least beta with a constant optimum: :math:`\max_j |A_j^\top (y-\bar y)|`.

        For the quantile loss, the least :math:`\max_j |A_j^\top z|` over its dual points z at the
        best constant.
        """
        if self.n_features and isinstance(self.loss, QuantileLoss):
            return self._flattest_subgradient(self.loss.tau)
        return super().beta_max()

    def _flattest_subgradient(self, tau: float) -> float:
        r"""Return the least :math:`\max_j |A_j^\top z|` over the dual points z of a best constant.

        They have the entry tau above the constant and tau - 1 below it; where y equals it the
        entries are free in between, with sum zero in all. Found by cutting planes.
        """
        y, constant = self.y.double().cpu().numpy(), self.best_constant()
        tied = np.flatnonzero(y == constant)
        z = np.where(y > constant, tau, tau - 1.0)
        z[tied] = 0.0
        z[tied] = -z.sum() / len(tied)
        known: list[int] = []
        bound = 0.0
        while True:
            found = np.abs(self.correlations(torch.from_numpy(z)))
            worst = int(np.argmax(found))
            # One tied sample leaves no freedom. Otherwise the program over the known columns bounds
            # the answer from below, and is the answer once no other column exceeds it.
            if len(tied) == 1 or worst in known or found[worst] <= bound * (1.0 + 1e-9):
                return float(found[worst])
            known.append(worst)
            A = self.matrix(known).numpy()  # (n, k)
            size = float(np.abs(A).max()) or 1.0  # HiGHS's tolerances are absolute
            A = A / size
            fixed = np.where(y == constant, 0.0, z)
            rows = np.vstack([A[tied].T, -A[tied].T])
            rows = np.hstack([rows, -np.ones((len(rows), 1))])
            solution = linprog(
                np.append(np.zeros(len(tied)), 1.0),
                A_ub=rows,
                b_ub=np.concatenate([-(fixed @ A), fixed @ A]),
                A_eq=np.append(np.ones(len(tied)), 0.0)[None],
                b_eq=[-fixed.sum()],
                bounds=[(tau - 1.0, tau)] * len(tied) + [(0.0, None)],
            )
            if solution.status != 0:
                raise SolverError(
                    f"HiGHS ended with status {solution.status} in beta_max: {solution.message} "
                    "Expected an optimum. Rescale x and y."
                )
            z[tied], bound = solution.x[:-1], size * solution.x[-1]

    def to_network(self, result: Result | Tensor) -> ParallelUnits | SwitchingUnits:
        r"""Return the network with :math:`g = |z_j|^{1/L}` as the size of every weight of unit j.

        Its ``objective`` equals the program's value: :math:`\tfrac1L \sum |w|^L = |z_j|`, up to the
        rounding of kinks: where inputs are much closer to each other than they are far from zero,
        at a tiny beta, it may be above by more than a gap that small. Same dtype and device as the
        data.
        """
        weights = weights_of(result, self.shape)
        active = weights[:-1].nonzero().ravel()
        features = [self.feature(index) for index in active.tolist()]
        given = weights[active], features, weights[-1], self.activation
        if self.activation in SWITCHING:
            return build_switching(*given, self.widths, self.depth, self.x)
        return build_units(*given, self.slope, self.depth)

    def objective(self, network: nn.Module) -> float:
        r"""Training objective :math:`L(f(x)) + \tfrac\beta{L}\sum|w|^L`, biases free, in float64.

        Takes the networks of `to_network`, trained or not. For sign and threshold units the
        regulariser is :math:`\tfrac\beta2 \sum (\text{amplitude}^2 + \text{output weight}^2)`.
        """
        check_units(network, self.activation, self.depth)
        return super().objective(network)

    def _decay(self, network: nn.Module) -> float:
        assert isinstance(network, Units)
        return float(network.regulariser().detach())

    def __repr__(self) -> str:
        return (
            f"Mirrors({self.activation}, depth={self.depth}, n={len(self.y)}, "
            f"features={self.n_features}, loss={self.loss.name!r}, beta={self.beta:g})"
        )
