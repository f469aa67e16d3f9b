"""What the two-layer regressor and classifier do alike: check, train, keep, evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from convexlib.certify.certificate import Certificate
from convexlib.estimators.common import (
    Array,
    check_device,
    evaluate,
    validated,
    warn_of_gap,
)
from convexlib.estimators.training import Settings, train
from convexlib.result import Result
from convexlib.validation import as_tensor, check_beta, check_flag, check_positive_int, check_tol

_ADVICE = "raise max_iter to improve it, and max_nodes to prove more where the rank is at most 5"
_APART = 100.0  # ratio of the sizes of two features from which on scale is worth a word


class ConvexReLU(BaseEstimator):
    """Fits one program per column of targets; the subclasses say what the arguments mean."""

    network_: nn.Sequential

    def __init__(
        self,
        beta: float = 1.0,
        *,
        fit_bias: bool = True,
        gated: bool = False,
        device: str = "cpu",
        random_state: Any = None,
        n_patterns: int = 100,
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_nodes: int = 100_000,
    ) -> None:
        self.beta = beta
        self.fit_bias = fit_bias
        self.gated = gated
        self.device = device
        self.random_state = random_state
        self.n_patterns = n_patterns
        self.tol = tol
        self.max_iter = max_iter
        self.max_nodes = max_nodes

    def _train(self, X: Array, Y: Array, loss: str) -> None:
        """Check the arguments, train, and keep what is known."""
        tol = check_tol(self.tol)
        limit = None if self.max_iter is None else check_positive_int(self.max_iter, "max_iter")
        settings = Settings(
            beta=check_beta(self.beta),
            loss=loss,
            gated=check_flag(self.gated, "gated"),
            fit_bias=check_flag(self.fit_bias, "fit_bias"),
            n_patterns=check_positive_int(self.n_patterns, "n_patterns"),
            tol=tol,
            max_iter=limit,
            max_nodes=check_positive_int(self.max_nodes, "max_nodes", minimum=0),
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )
        device = check_device(self.device)
        trained = train(as_tensor(X, "X").to(device), as_tensor(Y, "y").to(device), settings)
        self.network_ = trained.network
        self.n_neurons_ = trained.n_neurons
        self.gap_ = trained.gap
        self.n_iter_ = max(1, *(result.n_iter for result in trained.results))
        self.result_: Result | list[Result] = _single(trained.results)
        self.certificate_: Certificate | list[Certificate] | None = _single(trained.certificates)
        warn_of_gap(self, trained.results, trained.gaps, tol, _ADVICE + _on_scale(X))

    def _outputs(self, X: Any) -> Array:
        """Outputs (n, c) of the network."""
        check_is_fitted(self)
        X = validated(self, X, reset=False)
        return evaluate(self.network_, X, self.device)


def _on_scale(X: Array) -> str:
    """Advice for features of sizes that are far apart; empty where they are not."""
    sizes = np.sqrt(np.mean(np.square(X / max(np.abs(X).max(), 1e-300)), axis=0))
    least, most = sizes[sizes > 0].min(initial=np.inf), sizes.max(initial=0.0)
    if most <= _APART * least:
        return ""
    return (
        f". Features have sizes {most / least:.0e} apart, so that weight decay hardly touches the "
        "largest and the program is hard: scale them (sklearn's StandardScaler), which is another "
        "penalty and usually the one that is meant"
    )


def _single(values: list[Any]) -> Any:
    """A list of several, the only one, or None."""
    if len(values) == 1:
        return values[0]
    return values or None
