"""The losses and their conjugates in plain numpy, entry by entry: no code of the library."""

import math

import cvxpy as cp
import numpy as np

NAMES = ("squared", "logistic", "squared_hinge")


def loss_value(name, fitted, y):
    """The sum of the losses of all entries."""
    assert name in NAMES
    pairs = list(zip(np.ravel(fitted), np.ravel(y), strict=True))
    if name == "squared":
        return math.fsum(0.5 * (f - t) ** 2 for f, t in pairs)
    if name == "logistic":
        return math.fsum(float(np.logaddexp(0.0, -t * f)) for f, t in pairs)
    return math.fsum(0.5 * max(1.0 - t * f, 0.0) ** 2 for f, t in pairs)


def dual_value(name, z, y):
    """min over f of L(f) + z^T f, by the stationary point of each entry."""
    assert name in NAMES
    z, y = np.ravel(z), np.ravel(y)
    if name == "squared":
        return float(np.sum(y * z - 0.5 * z**2))
    a = y * z
    if a.min() < -1e-15 or (name == "logistic" and a.max() > 1 + 1e-15):
        return -math.inf
    if name == "squared_hinge":
        return float(np.sum(a - 0.5 * a**2))
    terms = [-(t * math.log(t) if t > 0 else 0.0) for b in a for t in (b, 1.0 - b)]
    return math.fsum(terms)


def cvxpy_loss(name, fitted, y):
    """The loss of a CVXPY expression, as a sum over entries."""
    if name == "squared":
        return cp.sum_squares(fitted - y) / 2
    margins = cp.multiply(y, fitted)
    if name == "logistic":
        return cp.sum(cp.logistic(-margins))
    return cp.sum(cp.square(cp.maximum(1 - margins, 0))) / 2


def targets_for(name, values):
    """Real targets as they are, or their signs as labels."""
    return values if name == "squared" else np.where(values >= 0, 1.0, -1.0)
