"""Two-layer networks as a classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import log_expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from convexlib.errors import InputError
from convexlib.estimators.base import ConvexReLU
from convexlib.estimators.common import Array, validated
from convexlib.losses import LOSSES
from convexlib.validation import check_choice

__all__ = ["ConvexReLUClassifier"]


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
    beta, fit_bias, gated, device, random_state, n_patterns, tol, max_iter, max_nodes
        As for `ConvexReLURegressor`. It is not the ``C`` of scikit-learn's classifiers either,
        which multiplies the loss.
    loss : {"logistic", "squared_hinge", "squared"}
        :math:`\sum_i \log(1 + e^{-y_i f_i})`, :math:`\tfrac12 \sum_i (1 - y_i f_i)_+^2` or
        :math:`\tfrac12 \|f - y\|^2`.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The classes, sorted. Two of them have one output, positive for the second.
    network_, gap_, certificate_, result_, n_neurons_, n_iter_, n_features_in_, feature_names_in_
        As for `ConvexReLURegressor`; lists are per class.

    Raises
    ------
    InputError
        For unusable arguments or data, or a single class.

    Warns
    -----
    ConvergenceWarning
        As `ConvexReLURegressor`.

    Notes
    -----
    Checked by ``tests/estimators/test_estimators.py``.
    """

    def __init__(
        self,
        beta: float = 1.0,
        *,
        loss: str = "logistic",
        fit_bias: bool = True,
        gated: bool = False,
        device: str = "cpu",
        random_state: Any = None,
        n_patterns: int = 100,
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_nodes: int = 100_000,
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
        )
        self.loss = loss

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X (n, d) and classes y (n,)."""
        loss = check_choice(self.loss, tuple(LOSSES), "loss")
        X, y = validated(self, X, y)
        y = column_or_1d(y, warn=True)
        with np.errstate(invalid="ignore"):  # it casts classes as large as 1e300 to integers
            check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y holds one class, {str(self.classes_[0])!r}; expected at least two. A "
                "classifier needs samples of every class."
            )
        columns = np.arange(len(self.classes_)) if len(self.classes_) > 2 else np.array([1])
        self._train(X, np.where(codes[:, None] == columns, 1.0, -1.0), loss)
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
