"""Attacks on the chapters on data: what sampling costs, starts of descent, objective and loss."""

from __future__ import annotations

import numpy as np
import torch

import convexlib as cl
from tests.adversary.search import Draw, Floats, attack, refute


def relu(values: Floats) -> Floats:
    """Positive parts."""
    return np.maximum(values, 0.0)


def objective(X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats) -> tuple[float, float]:
    """Loss and weight decay of a network, the second without its beta."""
    loss = 0.5 * ((relu(X @ U.T) @ alpha - y) ** 2).sum()
    return float(loss), 0.5 * float((U**2).sum() + (alpha**2).sum())


def instance(draw: Draw) -> tuple[Floats, Floats, float]:
    """Samples, targets and a beta."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d) * draw.scale(), draw.targets(n) * draw.scale()
    largest = np.abs(y) @ np.linalg.norm(X, axis=1)  # at least beta_max
    return X, y, float(10.0 ** draw.rng.uniform(-4, 0.2)) * (largest or 1.0)


def network(draw: Draw, X: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Weights whose outputs have about the size of the targets, some of them zero."""
    m = draw.size(1, 5)
    U, alpha = draw.weights(m, X.shape[1]), draw.weights(m)
    height = np.abs(relu(X @ U.T) @ alpha).max(initial=0.0)
    size = np.sqrt(np.abs(y).max() / height) if height > 0 else 1.0
    return size * U, size * alpha


def patterns(X: Floats, gates: Floats) -> cl.Arrangements:
    """The patterns of some gates, repeated ones too."""
    masks = torch.from_numpy(np.ascontiguousarray((X @ gates.T >= 0).T))
    return cl.Arrangements(masks, torch.from_numpy(gates.copy()))


@attack("uci-sampling")
def sampled_patterns(draw: Draw) -> float:
    """More patterns cost nothing, those of a network are as good as it is, and gates are better."""
    X, y, beta = instance(draw)
    U, alpha = network(draw, X, y)
    reached = sum(np.array([1.0, beta]) * objective(X, y, beta, U, alpha))
    drawn = draw.rng.standard_normal((draw.size(1, 4), X.shape[1]))
    sets = {"drawn": drawn, "own": U, "both": np.vstack([drawn, U])}
    solved = {
        name: cl.solve(cl.TwoLayer(X, y, beta=beta, arrangements=patterns(X, gates)), tol=1e-8)
        for name, gates in sets.items()
    }
    gated = cl.TwoLayer(X, y, beta=beta, arrangements=patterns(X, drawn), gated=True)
    free = cl.solve(gated, tol=1e-8)
    slack = 2e-8 * (0.5 * float(y @ y) + reached) + 1e-300  # the gaps of two solves
    worst = max(
        solved["both"].value - solved["drawn"].value,
        solved["both"].value - solved["own"].value,
        solved["own"].value - reached,
        free.value - solved["drawn"].value,
    )
    known = {column.tobytes() for column in (X @ drawn.T >= 0).T}
    fresh = any(column.tobytes() not in known for column in (X @ U.T >= 0).T)
    if reached < solved["drawn"].dual - slack and not fresh:
        return np.inf  # a network of drawn patterns below their program
    return float(worst / slack)


@refute("uci-sampling", "no network is below the optimum over randomly drawn patterns")
def learned_patterns(draw: Draw) -> float:
    """One with other patterns may be: here a single neuron that explains the targets."""
    n, d = draw.size(3, 6), draw.size(2, 3)
    X = draw.matrix(n, d)
    u = draw.rng.standard_normal(d)
    y = relu(X @ u)
    program = cl.TwoLayer(
        X, y, beta=0.01, arrangements=patterns(X, draw.rng.standard_normal((2, d)))
    )
    optimum = cl.solve(program, tol=1e-8).dual
    side = np.sqrt(np.linalg.norm(u))
    loss, decay = objective(X, y, 0.01, u[None] / side, np.array([side]))
    return float((optimum - loss - 0.01 * decay) / (1e-6 * (optimum + 1e-12)))


def gradient(X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """The slopes of loss + beta decay, zero at a kink."""
    inner = X @ U.T
    hidden = relu(inner)
    slope = hidden @ alpha - y
    return ((inner > 0) * np.outer(slope, alpha)).T @ X + beta * U, hidden.T @ slope + beta * alpha


def descent(
    X: Floats, y: Floats, beta: float, start: tuple[Floats, Floats], rates: Floats, rows: Floats
) -> tuple[Floats, Floats]:
    """Steps of gradient descent, each on some of the samples."""
    U, alpha = (part.copy() for part in start)
    for rate, chosen in zip(rates, rows.astype(bool), strict=True):
        by_U, by_alpha = gradient(X[chosen], y[chosen], beta, U, alpha)
        U, alpha = U - rate * by_U, alpha - rate * by_alpha
    return U, alpha


@attack("ecg-scale")
def smaller_starts(draw: Draw) -> float:
    """From s theta descent visits s times what it visits from theta on the scaled problem."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y, s = draw.matrix(n, d), draw.targets(n), float(10.0 ** draw.rng.uniform(-1, 0.5))
    beta, m = float(10.0 ** draw.rng.uniform(-3, 1)), draw.size(1, 5)
    U, alpha = draw.weights(m, d), draw.weights(m)
    steep = beta + s**2 * ((X**2).sum() * ((U**2).sum() + (alpha**2).sum()) + 1.0)
    rates = draw.rng.uniform(0, 0.3, 6) / (steep + np.abs(X.T @ y).sum())
    rows = draw.rng.random((6, n)) < draw.choice(1.0, 0.5)
    ours = descent(X, y, beta, (s * U, s * alpha), rates, rows)
    theirs = descent(X, y / s**2, beta / s**2, (U, alpha), s**2 * rates, rows)
    size = max(np.abs(part).max(initial=0.0) for part in (s * U, s * alpha))
    worst = max(np.abs(a - s * b).max() for a, b in zip(ours, theirs, strict=True))
    left, right = objective(X, y, beta, *ours), objective(X, y / s**2, beta / s**2, *theirs)
    value, scaled = left[0] + beta * left[1], s**4 * (right[0] + beta / s**2 * right[1])
    scale = value + 0.5 * float(y @ y) + 1e-300
    return float(max(worst / (1e-9 * size + 1e-300), abs(value - scaled) / (1e-9 * scale)))


@refute("ecg-scale", "the scale of the start is forgotten after a few hundred steps")
def remembered_starts(draw: Draw) -> float:
    """What the fit does not need shrinks by 1 - eta beta in a step, and by nothing else."""
    n, m = draw.size(2, 6), 10
    X, y = np.column_stack([draw.rng.standard_normal(n), np.ones(n)]), draw.targets(n)
    U, alpha = draw.rng.standard_normal((m, 2)), draw.rng.standard_normal(m)
    beta, rates, rows = 0.01, np.full(300, 0.003), np.ones((300, n))
    ends = []
    for s in (1.0, 0.1):
        loss, decay = objective(X, y, beta, *descent(X, y, beta, (s * U, s * alpha), rates, rows))
        ends.append(loss + beta * decay)
    return float(abs(ends[0] - ends[1]) / (0.1 * max(ends) + 1e-300))


@attack("ecg-loss")
def loss_costs_decay(draw: Draw) -> float:
    """A loss below that of a near-optimal network is paid for in weight decay."""
    X, y, beta = instance(draw)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-7)
    best = problem.to_network(result)
    weights = best.U.detach().numpy(), best.alpha.detach().numpy()
    loss, decay = objective(X, y, beta, *weights)
    epsilon = max(loss + beta * decay - result.dual, 0.0)
    worst = -np.inf
    for _ in range(8):
        if draw.rng.random() < 0.5:  # the optimum of another beta fits better, or decays more
            other = problem.with_beta(beta * float(10.0 ** draw.rng.uniform(-2, 1)))
            net = other.to_network(cl.solve(other, tol=1e-6))
            rival = net.U.detach().numpy(), net.alpha.detach().numpy()
        else:
            rival = network(draw, X, y)
        their_loss, their_decay = objective(X, y, beta, *rival)
        lower = loss - beta * (their_decay - decay) - epsilon
        scale = 1e-10 * (loss + their_loss + beta * (decay + their_decay) + float(y @ y)) + 1e-300
        worst = max(worst, (lower - their_loss) / scale)
    return float(worst)


@refute("ecg-loss", "the network with the lower objective has the lower loss")
def lower_loss(draw: Draw) -> float:
    """The optimum of a smaller beta has the higher objective and the lower loss."""
    n, d = draw.size(2, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    beta = 0.3 * (np.abs(y) @ np.linalg.norm(X, axis=1) or 1.0) * draw.rng.random()
    ends = []
    for factor in (1.0, 0.1):
        problem = cl.TwoLayer(X, y, beta=factor * beta)
        net = problem.to_network(cl.solve(problem, tol=1e-8))
        ends.append(objective(X, y, beta, net.U.detach().numpy(), net.alpha.detach().numpy()))
    (loss, decay), (other_loss, other_decay) = ends
    if other_loss + beta * other_decay <= (loss + beta * decay) * (1 + 1e-6):
        return 0.0
    return float((loss - other_loss) / (1e-6 * loss + 1e-300))
