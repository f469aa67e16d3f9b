r"""The instances: columns of X of unit length, :math:`\|y\|^2 = n`, patterns of Gaussian gates.

beta is a fraction of the *gated* beta_max, :math:`\max_i \|X^\top D_i y\|`, so that it means the
same for the gated and the ReLU program. Synthetic targets come from a planted network of ten
neurons with 10% noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from experiments.ecg import load_task

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Instance:
    """Data and patterns, before a beta is chosen.

    Attributes
    ----------
    X, y : ndarray (n, d), (n,)
    masks, gates : ndarray (P, n), (P, d)
        Distinct patterns and a gate for each, ``masks == (X @ gates.T >= 0).T``.
    """

    X: Floats
    y: Floats
    masks: Bools
    gates: Floats

    @property
    def beta_max(self) -> float:
        """Smallest beta at which the gated program is solved by zero."""
        return float(np.linalg.norm((self.masks * self.y) @ self.X, axis=1).max())


def synthetic(n: int, d: int, n_patterns: int) -> Instance:
    """Gaussian data, targets from a planted network."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    U, alpha = rng.standard_normal((d, 10)), rng.choice([-1.0, 1.0], 10)
    outputs = np.maximum(X @ U, 0) @ alpha
    return prepared(X, outputs + 0.1 * outputs.std() * rng.standard_normal(n), n_patterns)


def breast_cancer() -> Instance:
    """Wisconsin breast cancer, standardised, with labels -1 and 1."""
    data = load_breast_cancer()
    X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    return prepared(X, 2.0 * data.target - 1.0, 300)


def ecg(lags: int, n: int, n_patterns: int) -> Instance:
    """Autoregression of the electrocardiogram, with a constant column."""
    task = load_task(lags, n)
    return prepared(task.X.numpy(), task.y.numpy(), n_patterns)


def heartbeats(lags: int, n: int) -> Instance:
    """The electrocardiogram as the experiment takes it: standardised, no patterns."""
    task = load_task(lags, n)
    X, y = task.X.numpy(), task.y.numpy()
    return Instance(X, y, np.zeros((0, n), dtype=bool), np.zeros((0, X.shape[1])))


def prepared(X: Floats, y: Floats, n_patterns: int) -> Instance:
    """Scale the data and draw the gates."""
    X = X / np.linalg.norm(X, axis=0)
    y = y * np.sqrt(len(y)) / np.linalg.norm(y)
    gates = np.random.default_rng(1).standard_normal((X.shape[1], n_patterns)).T
    masks, first = np.unique((X @ gates.T >= 0).T, axis=0, return_index=True)
    kept = masks.any(axis=1)  # the pattern of zeros contributes nothing
    return Instance(X, y, masks[kept], np.ascontiguousarray(gates[first[kept]]))


INSTANCES: dict[str, Callable[[], Instance]] = {
    "s": lambda: synthetic(200, 10, 50),
    "a": lambda: synthetic(500, 20, 200),
    "b": lambda: synthetic(2000, 50, 500),
    "c": breast_cancer,
    "d5": lambda: ecg(5, 2000, 200),
}


def instance(name: str) -> Instance:
    """Return an instance by its name, or by its sizes: ``"500x20x200"`` is a synthetic one.

    ``"ecg2x2000"`` is the electrocardiogram with 2 lags, for programs over all patterns.
    """
    if name in INSTANCES:
        return INSTANCES[name]()
    try:
        if name.startswith("ecg"):
            lags, n = (int(size) for size in name[3:].split("x"))
            return heartbeats(lags, n)
        n, d, n_patterns = (int(size) for size in name.split("x"))
    except ValueError:
        known = ", ".join(INSTANCES)
        raise KeyError(
            f"no instance {name!r}; expected one of {known}, sizes NxDxP, or ecgLAGSxN"
        ) from None
    return synthetic(n, d, n_patterns)
