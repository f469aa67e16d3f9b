"""Certified two-layer networks as a regressor and a classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import log_expit, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from convexlib.checks import check_choice
from convexlib.errors import InputError
from convexlib.estimators.common import Array, all_or_nothing, check_weights, validated
from convexlib.estimators.training import NODES, ConvexReLU
from convexlib.losses import LOSSES


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
        Of torch, ``"cpu"`` or ``"cuda"``. Results and certificates are in float64. What only leads
        to them need not be: the network that is trained for the first patterns above rank 3, and
        some of the factors in Newton steps, are in float32.
    random_state : int, RandomState or None
        Of the gates, the start of the search for patterns and its local searches.
    n_patterns : int
        Number of gates with ``gated=True``.
    tol : float
        Relative duality gap to stop at.
    max_iter : int, optional
        Rounds of column generation, with 600 Newton steps for each. By default 100 rounds up to
        rank 5 (of X with its column of ones), with 600 steps in all. Above, where no proof is in
        reach and a round buys a part in a hundred or less, 3 rounds (1 for more than 2,000 samples)
        and 300,000 / n steps, at least 60 and at most 600. Those run out only where beta is so
        small that the network nearly interpolates, as it is for features of large values. Gated:
        outer iterations of the solver for each output, of several Newton steps each; by default
        200, of which a few tens are usual.
    max_nodes : int
        Cones that one attempt at a proof may examine: a few seconds, and above rank 5 two seconds
        for dual points that prove more. 0 leaves a loose bound, unless above rank 5 the patterns
        are few enough to list, and no warning of it. Gated networks need no cones: their program
        proves itself.
    max_seconds : float, optional
        Seconds on the wall after which a fit ends with the best it has and a valid gap, those of
        compiling kernels and of a last step aside. It takes the place of the default limits in
        rounds and steps, so that more time means a better network; a `max_iter` that is given
        holds as well. The result then depends on the machine's speed. Without it the network does
        not; `gap_` does above rank 5, unless `max_nodes` is 0, as the certificates have two seconds
        of processor time together.
    verbose : bool
        Say on stderr what to expect (`convexlib.outlook`), how far it is and how it ended.

    Attributes
    ----------
    network_ : nn.Sequential
        Acts on tensors (n, d) of X as given (float64): ``Linear -> ReLU -> Linear`` without an
        output bias, so that ``cl.certify(network_, X, y, beta=beta)`` takes it as it is, with y of
        shape (n,) where there is one output. Gated: a column of ones (if `fit_bias`) and a
        `TwoLayerGatedReLU`. Outputs (n, c).
    gap_ : float
        Certified: (primal - dual) / primal, of the network and a lower bound on **all** networks of
        every width in which each neuron feeds one output, as in this one (``cl.certify(network_, X,
        Y, beta=beta)`` bounds those that share neurons); gated: on those with its gates.
    certificate_ : Certificate, list of Certificate or None
        Behind `gap_`, per output if there are several; None for gated networks.
    result_ : Result or list of Result
        Of the solver, per output if there are several and ``gated=False``.
    n_neurons_, n_iter_, n_features_in_ : int
        Neurons, the most rounds of a program, features. Gated: the Newton steps of all outputs, and
        not the iterations that `max_iter` limits.
    feature_names_in_ : ndarray
        The columns' names, if X had any.

    Raises
    ------
    InputError
        For unusable arguments or data (a ``ValueError``). Missing and masked values, text, dates
        and categories are refused, of a DataFrame with the columns that hold them. A sparse X is
        written out.
    ValueError
        Of scikit-learn's own, for X without two axes, infinities, an empty X, unequal lengths,
        another number of features in `predict`, and a `random_state` that is none.

    Warns
    -----
    ConvergenceWarning
        In one line, if the certified gap of a program is above `tol`, and `max_nodes` is not 0. The
        gap is valid nevertheless. Above rank 5 that is the rule.

    See Also
    --------
    convexlib.certify : Bounds the network again, from itself alone.

    Notes
    -----
    *Never above a linear model.* :math:`x^\top w = (x^\top w)_+ - (-x^\top w)_+` is a network of
    two neurons, which costs :math:`2\|w\|` once balanced, since :math:`\tfrac12 (\|u\|^2 +
    \alpha^2) \ge \|u\| |\alpha|`. So the optimum is at most :math:`\min_w \tfrac12 \|Xw - y\|^2 +
    2 \beta \|w\|`. The search begins with that network (to a relative gap of 1e-6), so that
    what is returned is not above it, whenever it ends. Gated networks have a linear neuron for half
    of the price, and come to that within `tol`.

    Several outputs are trained one by one and put side by side: every neuron feeds one output, and
    `gap_` is about such networks. Checked by ``tests/estimators/test_relu.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([2.0, 0.0, 0.0, 1.0])
    >>> model = cl.ConvexReLURegressor(beta=0.1, tol=1e-8).fit(X, y)
    >>> model.gap_ <= 1e-8
    True
    >>> model.predict(X).round(2)
    array([1.86, 0.2 , 0.17, 0.87])
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        r"""Train on X (n, d) and y (n,) or (n, c).

        With `sample_weight` s (n,), none negative, the loss is :math:`\tfrac12 \sum_i s_i
        (f(x_i) - y_i)^2`: a weight of 2 is the sample twice, one of 0 leaves it out.
        """
        with all_or_nothing(self):
            X, y = validated(self, X, y, multi_output=True, y_numeric=True)
            self._flat = y.ndim == 1
            self._train(X, y.reshape(len(y), -1), "squared", check_weights(sample_weight, len(X)))
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


def _has_probabilities(classifier: ConvexReLUClassifier) -> bool:
    """Whether the loss is a likelihood; scikit-learn asks."""
    return bool(classifier.loss == "logistic")


class ConvexReLUClassifier(ClassifierMixin, ConvexReLU):
    r"""Classification with a two-layer ReLU network, trained to a certified gap.

    Two classes are the labels -1 and 1 of one program, :math:`L(f(X)) + \tfrac\beta2 \sum
    \text{weight}^2` as in `ConvexReLURegressor`; of K > 2 classes each has a program of its own,
    against all others, and the networks are put side by side.

    Parameters
    ----------
    beta, fit_bias, gated, device, random_state, n_patterns
        As for `ConvexReLURegressor`.
    tol, max_iter, max_nodes, max_seconds, verbose
        As for `ConvexReLURegressor`. beta is not the ``C`` of scikit-learn's classifiers either,
        which multiplies the loss.
    loss : {"logistic", "squared_hinge", "squared"}
        :math:`\sum_i \log(1 + e^{-y_i f_i})`, :math:`\tfrac12 \sum_i (1 - y_i f_i)_+^2` or
        :math:`\tfrac12 \|f - y\|^2`.
    class_weight : dict, "balanced" or None
        Weights of the classes' terms in the loss; balanced ones are n / (K times the class's
        samples).

    Attributes
    ----------
    classes_ : ndarray (K,)
        The classes, sorted. Two of them have one output, positive for the second.
    network_, gap_, certificate_, result_, n_neurons_, n_iter_, n_features_in_, feature_names_in_
        As for `ConvexReLURegressor`; lists are per class.

    Raises
    ------
    InputError, ValueError
        For unusable arguments or data, as `ConvexReLURegressor`, and for a single class or
        continuous labels.

    Warns
    -----
    ConvergenceWarning
        As `ConvexReLURegressor`.

    Notes
    -----
    Checked by ``tests/estimators/test_relu.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array(["out", "in", "in", "out"])
    >>> model = cl.ConvexReLUClassifier(beta=0.01).fit(X, y)
    >>> model.gap_ < 1e-4
    True
    >>> model.predict(X).tolist()
    ['out', 'in', 'in', 'out']
    """

    def __init__(
        self,
        beta: float = 1.0,
        *,
        loss: str = "logistic",
        class_weight: Any = None,
        fit_bias: bool = True,
        gated: bool = False,
        device: str = "cpu",
        random_state: Any = None,
        n_patterns: int = 100,
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_nodes: int = NODES,
        max_seconds: float | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            beta,
            fit_bias=fit_bias,
            gated=gated,
            device=device,
            random_state=random_state,
            n_patterns=n_patterns,
            tol=tol,
            max_iter=max_iter,
            max_nodes=max_nodes,
            max_seconds=max_seconds,
            verbose=verbose,
        )
        self.loss = loss
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (n, d) and classes y (n,).

        A sample's term of the loss is multiplied by its entry of `sample_weight` (n,), and by
        what `class_weight` says of its class.
        """
        with all_or_nothing(self):
            loss = check_choice(self.loss, tuple(LOSSES), "loss")
            X, y = validated(self, X, y)
            y = column_or_1d(y, warn=True)
            try:
                # It casts classes as large as 1e300 to integers.
                with np.errstate(invalid="ignore"):
                    check_classification_targets(y)
                self.classes_, codes = np.unique(y, return_inverse=True)
            except TypeError as error:
                kinds = ", ".join(sorted({type(label).__name__ for label in y}))
                raise InputError(
                    f"y holds labels that cannot be sorted, of {kinds}; expected one kind. Convert "
                    "them with .astype(str)."
                ) from error
            if len(self.classes_) < 2:
                raise InputError(
                    f"y holds one class, {str(self.classes_[0])!r}; expected at least two. A "
                    "classifier needs samples of every class."
                )
            weights = check_weights(sample_weight, len(X))
            if self.class_weight is not None:
                by_class = _class_weights(self.class_weight, y)
                if weights is None:
                    weights = by_class
                else:
                    name = "sample_weight times class_weight"
                    weights = check_weights(weights * by_class, len(X), name)
            columns = np.arange(len(self.classes_)) if len(self.classes_) > 2 else np.array([1])
            self._train(X, np.where(codes[:, None] == columns, 1.0, -1.0), loss, weights)
        return self

    def decision_function(self, X: Any) -> Array:
        """Outputs: (n,) for two classes, (n, K) for more."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> Any:
        """The class of the sign, or of the largest output."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[chosen]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        r"""Probabilities (n, K) for ``loss="logistic"``.

        :math:`1 / (1 + e^{-f})` for the second of two classes; the same for each of more, divided
        by their sum. They are not calibrated beyond what the likelihood does.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([-scores, scores], axis=1)
        # Logarithms, since all of the probabilities may be too small for a number.
        result: Array = softmax(log_expit(scores), axis=1)
        return result


def _class_weights(given: Any, y: Any) -> Array:
    """What scikit-learn makes of `class_weight`, for each sample."""
    try:
        weights = compute_sample_weight(given, y)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"class_weight is {given!r} ({error}); expected None, 'balanced', or a dict of classes "
            "and their weights."
        ) from error
    found = check_weights(weights, len(y), "class_weight")
    assert found is not None
    return found
