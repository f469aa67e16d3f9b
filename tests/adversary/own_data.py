"""Attacks on the chapter on one's own data."""

import numpy as np
import torch
from scipy.optimize import brentq

import convexlib as cl
from convexlib.losses import LogisticLoss, SquaredHingeLoss
from tests.adversary.programs import loss_at, network, objective, solved
from tests.adversary.search import Draw, Floats, attack, refute


def best_linear(X: Floats, y: Floats, price: float) -> tuple[float, Floats]:
    """min 1/2 |Xw - y|^2 + price |w|, by the one root of |w(t)| t = price."""
    S, V = np.linalg.eigh(X.T @ X)
    S = np.maximum(S, 0.0)
    back = V.T @ (X.T @ y)
    if np.linalg.norm(back) <= price:
        return float(0.5 * y @ y), np.zeros(X.shape[1])

    def excess(t: float) -> float:
        return float(np.linalg.norm(back / (S / t + 1.0)) - price)  # |w| t - price, increasing

    high = 1.0
    while excess(high) < 0:
        high *= 4.0
    low = high
    while excess(low) > 0:
        low /= 4.0
    t = brentq(excess, low, high, xtol=1e-300, rtol=1e-14)
    w = V @ (back / (S + t))
    error = X @ w - y
    return float(0.5 * error @ error + price * np.linalg.norm(w)), w


def case(draw: Draw, most: int = 4) -> tuple[Floats, Floats, float]:
    """Samples, targets and a beta that is of use."""
    X = draw.samples(most) * draw.scale(3)
    y = draw.targets(len(X)) * draw.scale(3)
    return X, y, draw.power(-4, 0.5) * (np.linalg.norm(X.T @ y) or 1.0)


def odd_case(draw: Draw) -> tuple[Floats, Floats, float]:
    """Symmetric samples with odd targets."""
    half, t, beta = case(draw)
    return np.concatenate([half, -half]), np.concatenate([t, -t]), beta


@attack("own-data-linear")
def linear(draw: Draw) -> None:
    """Two neurons are a linear model, so that no lower bound is above it, whatever the loss."""
    X, y, beta = case(draw, most=8)
    name = draw.choice("squared", "logistic", "squared hinge")
    if name != "squared":
        y, beta = draw.labels(len(X)), beta / (np.abs(y).max() or 1.0)
    w = draw.choice(0.0, 1.0) * draw.normal(X.shape[1]) * draw.scale(2)
    if name == "squared" and draw.rng.random() < 0.7:
        w = best_linear(X, y, 2 * beta)[1]
    size = np.linalg.norm(w)
    root = np.sqrt(size) if size > 0 else 1.0
    U, alpha = np.stack([w, -w]) / root, np.array([root, -root]) * (size > 0)
    twice = loss_at(name, X @ w, y) + 2 * beta * size
    draw.same(objective(X, y, beta, U, alpha, name), twice, 1e-9 * twice)
    problem = cl.TwoLayer(X, y, beta=beta, loss=name.replace(" ", "_"))
    draw.below(solved(problem).dual, twice, 1e-9 * twice)


@refute("own-data-linear", "a network is no dearer than a linear model at once its norm")
def once(draw: Draw) -> None:
    """Odd targets on symmetric samples cost twice the norm."""
    X, y, beta = odd_case(draw)
    best = best_linear(X, y, beta)[0]
    draw.below(solved(cl.TwoLayer(X, y, beta=beta)).dual, best, 1e-6 * (y @ y))


@attack("own-data-odd")
def odd(draw: Draw) -> None:
    """On symmetric samples with odd targets the best linear model is the optimum."""
    X, y, beta = odd_case(draw)
    best = best_linear(X, y, 2 * beta)[0]
    result = solved(cl.TwoLayer(X, y, beta=beta))
    slack = 1e-9 * (y @ y)  # the solver's gap aside, which both sides of the bracket hold
    draw.below(result.dual, best, slack)
    # And no network is below, whatever its weights.
    own = objective(X, y, beta, *network(draw, X, 5))
    draw.below(best, [result.value, own], slack)


@refute("own-data-odd", "the same with a bias")
def with_a_bias(draw: Draw) -> None:
    """A column of ones is not odd: a kink between the samples is cheaper."""
    X, y, _ = odd_case(draw)
    data = np.column_stack([X, np.abs(X).max() * np.ones(len(X))])
    beta = draw.power(-2, -0.5) * (np.linalg.norm(data.T @ y) or 1.0)
    best = best_linear(data, y, 2 * beta)[0]
    draw.below(best, solved(cl.TwoLayer(data, y, beta=beta)).value, 1e-4 * (y @ y))


@refute("own-data-odd", "on targets of a linear model w the price is 2 |w|, whatever the samples")
def any_samples(draw: Draw) -> None:
    """Where the model has one sign one neuron is enough, for |w|."""
    X, _, _ = case(draw)
    y = X @ draw.normal(X.shape[1])
    draw.assume(y.any())
    beta = 0.1 * np.linalg.norm(X.T @ y)
    best = best_linear(X, y, 2 * beta)[0]
    draw.below(best, solved(cl.TwoLayer(X, y, beta=beta)).value, 1e-4 * (y @ y))


def weighted_case(draw: Draw) -> tuple[Floats, Floats, Floats]:
    """Outputs, labels and weights over many decades."""
    n = draw.size(1, 6)
    return draw.normal(n) * draw.scale(2), draw.labels(n), 10.0 ** draw.rng.uniform(-4, 4, n)


@attack("own-data-weights")
def weights(draw: Draw) -> None:
    """Scaled rows have the weighted loss, and the weighted dual is below the weighted loss."""
    X, y, beta = case(draw)
    s = 10.0 ** draw.rng.uniform(-4, 4, len(X))
    U, alpha = network(draw, X, 4)
    outputs = np.maximum(X @ U.T, 0.0) @ alpha
    own = 0.5 * float(s @ (outputs - y) ** 2) + 0.5 * beta * float((U**2).sum() + (alpha**2).sum())
    root = np.sqrt(s)
    hidden = np.abs(X) @ np.abs(U).T @ np.abs(alpha) + np.abs(y)
    rounding = 1e-13 * (float(s @ hidden**2) + own)
    draw.same(objective(root[:, None] * X, root * y, beta, U, alpha), own, rounding)
    f, labels, s = weighted_case(draw)
    kind = draw.choice(LogisticLoss, SquaredHingeLoss)(heaviest=float(s.max()))
    targets, fitted = (torch.from_numpy(part) for part in (s * labels, f))
    share = torch.from_numpy(draw.rng.uniform(0.0, 1.0, len(f)))
    name = "logistic" if isinstance(kind, LogisticLoss) else "squared hinge"
    plain = sum(w * loss_at(name, f[i : i + 1], labels[i : i + 1]) for i, w in enumerate(s))
    draw.same(kind.value(fitted, targets), plain, 1e-12 * (plain + 1e-300))
    for z in (share * targets, kind.dual_point(fitted, targets)):
        sizes = plain + float((z * fitted).abs().sum()) + kind.dual_size(z, targets)
        draw.below(kind.dual_value(z, targets), plain + float(z @ fitted), 1e-12 * sizes)
    # At the negative gradient both sides are one.
    draw.same(kind.dual_value(z, targets), plain + float(z @ fitted), 1e-11 * sizes)


@refute("own-data-weights", "weights of the rows alone, and not of the targets, are enough")
def rows_alone(draw: Draw) -> None:
    """Then outputs are scaled and compared with targets that are not."""
    X, y, beta = case(draw)
    s = np.full(len(X), 4.0)
    U, alpha = network(draw, X, 4)
    outputs = np.maximum(X @ U.T, 0.0) @ alpha
    own = 0.5 * float(s @ (outputs - y) ** 2) + 0.5 * beta * float((U**2).sum() + (alpha**2).sum())
    draw.same(objective(2.0 * X, y, beta, U, alpha), own, 1e-9 * own)
