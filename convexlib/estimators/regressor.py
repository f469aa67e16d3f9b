"""A two-layer network as a regressor."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from convexlib.estimators.base import ConvexReLU
from convexlib.estimators.common import Array, validated

__all__ = ["ConvexReLURegressor"]


class ConvexReLURegressor(RegressorMixin, ConvexReLU):
    r"""Regression with a two-layer ReLU network, trained to a certified gap.

    Over networks :math:`f(x) = \sum_j (u_j^\top x + b_j)_+ \alpha_j` of any width it minimises

    .. math:: \tfrac12 \|f(X) - y\|^2
              + \tfrac\beta2 \sum_j \left(\|u_j\|^2 + b_j^2 + \alpha_j^2\right)

    through the convex program of `TwoLayer`. There is no 1/n, and nothing is scaled or centred
    inside: put a ``StandardScaler`` before it.

    Parameters
    ----------
    beta : float
        Regularisation, > 0, in the units of the objective above. It is **not** what scikit-learn
        calls ``alpha``: that of ``Lasso`` belongs to a loss divided by n (``beta = n * alpha``),
        that of ``Ridge`` to a loss without the half. The ``alpha`` of ``MLPRegressor`` with full
        batches has this unit, but leaves biases free. The optimum is the zero network from
        ``TwoLayer(X, y, beta=1, arrangements="generate").beta_max()`` on (X with its column of
        ones; above rank 5 that is an upper bound): space a grid by factors below it. It grows with
        n and with the scale of X and y; for columns and targets of unit variance, 1.0 is weak from
        a few hundred samples on.
    fit_bias : bool
        Give every neuron a bias, which is regularised. There is no bias behind the last layer.
    gated : bool
        The gated network instead: its patterns are `n_patterns` Gaussian gates and one that is
        always open. A plain group Lasso, solved to `tol` at every size; the gap is about the
        program over these patterns, not about all networks.
    device : str
        Of torch, ``"cpu"`` or ``"cuda"``. Arithmetic is in float64 everywhere.
    random_state : int, RandomState or None
        Of the gates, the start of the search for patterns and its local searches.
    n_patterns : int
        Number of gates with ``gated=True``.
    tol : float
        Relative duality gap to stop at.
    max_iter : int, optional
        Rounds of column generation, with 600 Newton steps for each. By default 100 rounds up to
        rank 5 (of X with its column of ones) and 3 above, where no proof is in reach and a round
        buys a part in a thousand or less, and 600 steps in all. Those run out only where beta is so
        small that the network nearly interpolates, as it is for features of large values.
    max_nodes : int
        Cones that one attempt at a proof may examine: a few seconds. 0 proves nothing beyond a
        loose bound.

    Attributes
    ----------
    network_ : nn.Sequential
        Acts on tensors (n, d) of X as given (float64): ``Linear -> ReLU -> Linear`` without an
        output bias, so that ``cl.certify(network_, X, y, beta=beta)`` takes it as it is. Gated:
        a column of ones (if `fit_bias`) and a `TwoLayerGatedReLU`. Outputs (n, c).
    gap_ : float
        Certified: (primal - dual) / primal, of the network and a lower bound on **all** networks of
        every width; of all outputs together.
    certificate_ : Certificate, list of Certificate or None
        Behind `gap_`, per output if there are several; None for gated networks.
    result_ : Result or list of Result
        Of the solver, per output if there are several and ``gated=False``.
    n_neurons_, n_iter_, n_features_in_ : int
        Neurons, the most rounds (or steps) of a program, features.
    feature_names_in_ : ndarray
        The columns' names, if X had any.

    Raises
    ------
    InputError
        For unusable arguments or data (a ``ValueError``). Missing values are refused.

    Warns
    -----
    ConvergenceWarning
        If a program was not solved to `tol`; the gap is valid all the same. Above rank 5 that is
        the rule.

    See Also
    --------
    convexlib.certify : Bounds the network again, from itself alone.

    Notes
    -----
    *Never above a linear model.* :math:`x^\top w = (x^\top w)_+ - (-x^\top w)_+` is a network of
    two neurons, which costs :math:`2\|w\|` once balanced, since :math:`\tfrac12 (\|u\|^2 +
    \alpha^2) \ge \|u\| |\alpha|`. So the optimum is at most :math:`\min_w \tfrac12 \|Xw - y\|^2 +
    2 \beta \|w\|`. The patterns of that w are among those that the search starts from, which makes
    this hold, up to the tolerance of a restricted program, for what is returned; gated networks
    have a linear neuron for half of the price.

    Several outputs are trained one by one and put side by side: every neuron feeds one output, and
    `gap_` is about such networks. Checked by ``tests/estimators/test_estimators.py``.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X (n, d) and y (n,) or (n, c)."""
        X, y = validated(self, X, y, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        self._train(X, y.reshape(len(y), -1), "squared")
        return self

    def predict(self, X: Any) -> Array:
        """Outputs (n,) or (n, c), in the shape of the targets of `fit`."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs

    def __sklearn_tags__(self) -> Tags:
        """Say that several outputs are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
