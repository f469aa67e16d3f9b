"""Deep networks of one variable as a regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from convexlib.checks import as_tensor, check_device, check_tol
from convexlib.errors import InputError, unwarned
from convexlib.estimators.common import Array, all_or_nothing, evaluate, validated, warn_of_gap
from convexlib.problems.mirrors import Mirrors
from convexlib.solvers.base import uninterrupted
from convexlib.solvers.solve import solve


class MirrorRegressor(RegressorMixin, BaseEstimator):
    r"""Regression of one variable with a deep narrow network, trained to its global optimum.

    Over sums :math:`f(x) = \xi + \sum_k \alpha_k h_k(x)` of any number of units of L layers with
    one neuron each, biases free, it minimises

    .. math:: \tfrac12 \|f(x) - y\|^2 + \tfrac\beta{L} \sum |\text{weight}|^L

    as the Lasso over the finite dictionary of `Mirrors`. With ``loss="quantile"`` the pinball loss
    :math:`\sum \rho_\tau(y - f(x))` takes the place of the first term. Sign and threshold units are
    trees with free inner weights, and their second term is :math:`\tfrac\beta2 \sum
    (\text{amplitude}^2 + \text{output weight}^2)`. There is no 1/n; y is not centred, as the output
    bias :math:`\xi` is free, and x is not scaled.

    Parameters
    ----------
    beta : float
        Regularisation, > 0, in the units of the objective above; scikit-learn's Lasso divides the
        loss by n, so that ``beta = n * alpha`` compares. The network is constant from
        ``Mirrors(x, y, beta=1, ...).beta_max()`` on. Where x is multiplied by c > 0, beta has
        to be as well, but for sign and threshold units, which know the order of x only.
    depth : int
        Layers of weights L, at least 2.
    activation, slope, widths, reflections, loss, quantile, max_features
        As for `Mirrors`. The dictionary of depths above 2 grows like a power of the number of
        *distinct* inputs: round x if it is refused.
    tol : float
        Relative duality gap for convergence; the solver goes on to rounding whatever it is.
    max_iter : int
        Rounds of pricing.
    device : str
        Of torch, for the network; the Lasso itself is solved on the CPU.
    random_state : int, RandomState or None
        Checked, but not used: there is nothing random. Here for a common signature.

    Attributes
    ----------
    network_ : nn.Module
        `ParallelUnits` (or `SwitchingUnits`), which act on tensors (n,) or (n, 1) of x as given.
    gap_ : float
        The relative duality gap of the Lasso, over its whole dictionary: a bound on all networks of
        the class above, up to rounding.
    certificate_ : None
        `certify` knows no networks with free biases; `result_` holds the dual point.
    result_ : Result
        Of the solver.
    n_neurons_, n_iter_, n_features_in_ : int
        Hidden neurons of all layers, rounds, and 1.

    Raises
    ------
    InputError, ProblemError
        For more than one feature, unusable arguments or data, or too large a dictionary.
    ValueError
        Of scikit-learn's own, for infinities, an empty X, unequal lengths, and a `random_state`
        that is none.

    Warns
    -----
    ConvergenceWarning
        If the gap stayed above `tol`.

    Notes
    -----
    Checked by ``tests/estimators/test_mirrors.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([2.0, 0.0, 0.0, 1.0])
    >>> model = cl.MirrorRegressor(beta=0.1, depth=3, activation="abs").fit(X, y)
    >>> model.gap_ < 1e-6
    True
    >>> np.allclose(model.predict(X), [1.9, 0.1, 0.0, 1.0])
    True
    """

    _two_axes = False  # whether X must have them

    def __init__(
        self,
        beta: float = 1.0,
        *,
        depth: int = 2,
        activation: str = "relu",
        slope: float = 0.1,
        widths: Any = None,
        reflections: bool = False,
        loss: str = "squared",
        quantile: float = 0.5,
        max_features: int = 2_000_000,
        tol: float = 1e-6,
        max_iter: int = 1_000,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.beta = beta
        self.depth = depth
        self.activation = activation
        self.slope = slope
        self.widths = widths
        self.reflections = reflections
        self.loss = loss
        self.quantile = quantile
        self.max_features = max_features
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X (n,) or (n, 1) and y (n,)."""
        with all_or_nothing(self):
            X, y = validated(self, X, y, ensure_2d=self._two_axes, y_numeric=True)
            x = self._column(X)
            self.n_features_in_ = X.shape[1] if X.ndim == 2 else 1
            tol, device = check_tol(self.tol), check_device(self.device)
            check_random_state(self.random_state)
            problem = Mirrors(
                as_tensor(x, "X").to(device),
                as_tensor(column_or_1d(y, dtype=np.float64, warn=True), "y").to(device),
                beta=self.beta,
                depth=self.depth,
                activation=self.activation,
                slope=self.slope,
                widths=self.widths,
                reflections=self.reflections,
                loss=self.loss,
                quantile=self.quantile,
                max_features=self.max_features,
            )
            with unwarned():  # `fit` gives its own
                self.result_ = uninterrupted(solve(problem, tol=tol, max_iter=self.max_iter))
            self.network_ = problem.to_network(self.result_)
            self.gap_, self.certificate_ = self.result_.gap, None
            self.n_neurons_ = sum(bias.numel() for bias in self.network_.biases)
            self.n_iter_ = max(1, self.result_.n_iter)
            warn_of_gap(self, [self.result_], [self.gap_], tol, "Raise max_iter")
        return self

    def predict(self, X: Any) -> Array:
        """Outputs (n,) for X (n,) or (n, 1)."""
        check_is_fitted(self)
        X = validated(self, X, ensure_2d=self._two_axes, reset=False)
        return evaluate(self.network_, self._column(X), self.device)[:, 0]

    @staticmethod
    def _column(X: Array) -> Array:
        """Return (n,) or (n, 1) as (n, 1)."""
        if X.ndim == 1:
            return X[:, None]
        if X.ndim != 2 or X.shape[1] != 1:
            raise InputError(
                f"X has shape {X.shape}; expected one feature, (n,) or (n, 1). Use "
                "ConvexReLURegressor for several features, or choose a column."
            )
        return X

    def __sklearn_tags__(self) -> Tags:
        """Say that X is one variable, as scikit-learn's IsotonicRegression does."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags
