"""Attacks on the chapters on data: what sampling costs, starts of descent, objective and loss."""

import numpy as np
import torch

import convexlib as cl
from tests.adversary.cells import relu, rows_of
from tests.adversary.programs import network, weights_of
from tests.adversary.search import Draw, Floats, attack, refute


def price(X: Floats, y: Floats, beta: float, U: Floats, alpha: Floats) -> tuple[float, float]:
    """Loss and weight decay of a network, the second with its beta."""
    loss = 0.5 * ((relu(X @ U.T) @ alpha - y) ** 2).sum()
    return float(loss), 0.5 * beta * float((U**2).sum() + (alpha**2).sum())


def instance(draw: Draw) -> tuple[Floats, Floats, float]:
    """Samples, targets and a beta."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d) * draw.scale(), draw.targets(n) * draw.scale()
    largest = np.abs(y) @ np.linalg.norm(X, axis=1)  # at least beta_max
    return X, y, draw.power(-4, 0.2) * (largest or 1.0)


def rival(draw: Draw, X: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Weights whose outputs have about the size of the targets, some of them zero."""
    U, alpha = network(draw, X, 5)
    height = np.abs(relu(X @ U.T) @ alpha).max(initial=0.0)
    size = np.sqrt(np.abs(y).max() / height) if height > 0 else 1.0
    return size * U, size * alpha


def patterns(X: Floats, gates: Floats) -> cl.Arrangements:
    """The patterns of some gates, repeated ones too."""
    masks = torch.from_numpy(np.ascontiguousarray((X @ gates.T >= 0).T))
    return cl.Arrangements(masks, torch.from_numpy(gates.copy()))


@attack("uci-sampling")
def sampled_patterns(draw: Draw) -> None:
    """More patterns cost nothing, those of a network are as good as it is, and gates are better."""
    X, y, beta = instance(draw)
    U, alpha = rival(draw, X, y)
    reached = sum(price(X, y, beta, U, alpha))
    gates = draw.normal(draw.size(1, 4), X.shape[1])
    sets = (gates, False), (U, False), (np.vstack([gates, U]), False), (gates, True)
    drawn, own, both, free = (
        cl.solve(cl.TwoLayer(X, y, beta=beta, arrangements=patterns(X, u), gated=gated), tol=1e-8)
        for u, gated in sets
    )
    slack = 2e-8 * (0.5 * float(y @ y) + reached)  # the gaps of two solves
    draw.below(both.value, min(drawn.value, own.value), slack)
    draw.below(own.value, reached, slack)
    draw.below(free.value, drawn.value, slack)
    if rows_of((X @ U.T >= 0).T) <= rows_of((X @ gates.T >= 0).T):
        draw.true(reached >= drawn.dual - slack)


@refute("uci-sampling", "no network is below the optimum over randomly drawn patterns")
def learned_patterns(draw: Draw) -> None:
    """One with other patterns may be: here a single neuron that explains the targets."""
    n, d = draw.size(3, 6), draw.size(2, 3)
    X = draw.matrix(n, d)
    u = draw.normal(d)
    y = relu(X @ u)
    some = patterns(X, draw.normal(2, d))
    optimum = cl.solve(cl.TwoLayer(X, y, beta=0.01, arrangements=some), tol=1e-8).dual
    side = np.sqrt(np.linalg.norm(u))
    reached = sum(price(X, y, 0.01, u[None] / side, np.array([side])))
    draw.below(optimum, reached, 1e-6 * (optimum + 1e-12))


def shared(X: Floats, Y: Floats, beta: float, U: Floats, A: Floats, masks: Floats | None) -> float:
    """The objective of neurons that all outputs share, with the 1-norm of their output weights."""
    hidden = relu(X @ U.T) if masks is None else masks * (X @ U.T)
    decay = (U**2).sum() + (np.abs(A).sum(axis=1) ** 2).sum()
    return float(0.5 * ((hidden @ A - Y) ** 2).sum() + 0.5 * beta * decay)


@attack("uci-shared")
def shared_neurons(draw: Draw) -> None:
    """No network is below the separate programs over its patterns, and theirs reaches them."""
    n, d, c, m = draw.size(1, 5), draw.size(1, 3), draw.size(1, 3), draw.size(1, 4)
    X, Y = draw.matrix(n, d), np.column_stack([draw.targets(n) for _ in range(c)])
    gates, gated = draw.normal(m, d), draw.rng.random() < 0.5
    beta = draw.power(-2, 0.3)
    own = patterns(X, gates)
    result = cl.solve(cl.VectorOutput(X, Y, beta=beta, arrangements=own, gated=gated), tol=1e-8)
    U = draw.normal(m, d) if gated else gates
    A = draw.normal(m, c) * draw.choice(0.0, 1.0, draw.scale())
    if draw.rng.random() < 0.7:  # the best outputs for its directions, but for the penalty
        hidden = own.masks.double().numpy().T * (X @ U.T)
        A = np.linalg.lstsq(hidden, Y, rcond=None)[0]
        roots = np.sqrt(np.abs(A).sum(axis=1) / np.linalg.norm(U, axis=1))[:, None]
        U, A = roots * U, A / np.where(roots > 0, roots, 1.0)
    reached = shared(X, Y, beta, U, A, own.masks.double().numpy().T if gated else None)
    slack = 1e-9 * (0.5 * (Y**2).sum() + reached)
    draw.below(result.dual, reached, slack)
    if not gated:
        program = cl.VectorOutput(X, Y, beta=beta, arrangements=own)
        V, B = weights_of(program.to_network(result))
        best = shared(X, Y, beta, V, B, None)
        draw.below(best, result.value, 1e-7 * (0.5 * (Y**2).sum() + result.value))


@refute("uci-shared", "one neuron for each gate reaches the gated programs with several outputs")
def one_vector_for_two_outputs(draw: Draw) -> None:
    """Two outputs that need different vectors behind one gate."""
    X, Y = np.eye(2), draw.normal(2, 2)
    beta = 1e-3
    own = patterns(X, np.ones((1, 2)))
    program = cl.VectorOutput(X, Y, beta=beta, arrangements=own, gated=True)
    result = cl.solve(program, tol=1e-8)
    # f = u a^T has rank one: it misses the second singular value at least.
    missed = np.linalg.svd(Y, compute_uv=False)[1]
    draw.below(0.5 * missed**2, result.value, 1e-9 * (Y**2).sum())


def descent(
    X: Floats, y: Floats, beta: float, start: tuple[Floats, Floats], rates: Floats, rows: Floats
) -> tuple[Floats, Floats]:
    """Steps of gradient descent, each on some of the samples, with slope zero at a kink."""
    U, alpha = start
    for rate, chosen in zip(rates, rows.astype(bool), strict=True):
        A = X[chosen]
        inner = A @ U.T
        hidden = relu(inner)
        slope = hidden @ alpha - y[chosen]
        by_U = ((inner > 0) * np.outer(slope, alpha)).T @ A + beta * U
        U, alpha = U - rate * by_U, alpha - rate * (hidden.T @ slope + beta * alpha)
    return U, alpha


@attack("ecg-scale")
def smaller_starts(draw: Draw) -> None:
    """From s theta descent visits s times what it visits from theta on the scaled problem."""
    n, d = draw.size(1, 6), draw.size(1, 3)
    X, y, s = draw.matrix(n, d), draw.targets(n), draw.power(-1, 0.5)
    beta, m = draw.power(-3, 1), draw.size(1, 5)
    U, alpha = draw.weights(m, d), draw.weights(m)
    steep = beta + s**2 * ((X**2).sum() * ((U**2).sum() + (alpha**2).sum()) + 1.0)
    rates = draw.rng.uniform(0, 0.3, 6) / (steep + np.abs(X.T @ y).sum())
    rows = draw.rng.random((6, n)) < draw.choice(1.0, 0.5)
    ours = descent(X, y, beta, (s * U, s * alpha), rates, rows)
    theirs = descent(X, y / s**2, beta / s**2, (U, alpha), s**2 * rates, rows)
    size = s * max(np.abs(U).max(), np.abs(alpha).max())
    for one, other in zip(ours, theirs, strict=True):
        draw.same(one, s * other, 1e-9 * size)
    value = sum(price(X, y, beta, *ours))
    scaled = s**4 * sum(price(X, y / s**2, beta / s**2, *theirs))
    draw.same(value, scaled, 1e-9 * (value + 0.5 * float(y @ y)))


@refute("ecg-scale", "the scale of the start is forgotten after a few hundred steps")
def remembered_starts(draw: Draw) -> None:
    """What the fit does not need shrinks by 1 - eta beta in a step, and by nothing else."""
    n, m = draw.size(2, 6), 10
    X, y = np.column_stack([draw.normal(n), np.ones(n)]), draw.targets(n)
    U, alpha = draw.normal(m, 2), draw.normal(m)
    beta, rates, rows = 0.01, np.full(300, 0.003), np.ones((300, n))
    one, other = (
        sum(price(X, y, beta, *descent(X, y, beta, (s * U, s * alpha), rates, rows)))
        for s in (1.0, 0.1)
    )
    draw.same(one, other, 0.1 * max(one, other))


@attack("ecg-loss")
def loss_costs_decay(draw: Draw) -> None:
    """A loss below that of a near-optimal network is paid for in weight decay."""
    X, y, beta = instance(draw)
    problem = cl.TwoLayer(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-7)
    loss, decay = price(X, y, beta, *weights_of(problem.to_network(result)))
    epsilon = max(loss + decay - result.dual, 0.0)
    for _ in range(8):
        if draw.rng.random() < 0.5:  # the optimum of another beta fits better, or decays more
            other = problem.with_beta(beta * draw.power(-2, 1))
            weights = weights_of(other.to_network(cl.solve(other, tol=1e-6)))
        else:
            weights = rival(draw, X, y)
        their_loss, their_decay = price(X, y, beta, *weights)
        scale = 1e-10 * (loss + their_loss + decay + their_decay + float(y @ y))
        draw.below(loss - (their_decay - decay) - epsilon, their_loss, scale)


@refute("ecg-loss", "the network with the lower objective has the lower loss")
def lower_loss(draw: Draw) -> None:
    """The optimum of a smaller beta has the higher objective and the lower loss."""
    n, d = draw.size(2, 6), draw.size(1, 3)
    X, y = draw.matrix(n, d), draw.targets(n)
    beta = 0.3 * (np.abs(y) @ np.linalg.norm(X, axis=1) or 1.0) * draw.rng.random()
    ends = []
    for factor in (1.0, 0.1):
        problem = cl.TwoLayer(X, y, beta=factor * beta)
        ends.append(price(X, y, beta, *weights_of(problem.to_network(cl.solve(problem, tol=1e-8)))))
    better, worse = ends
    draw.assume(sum(worse) > sum(better) * (1 + 1e-6))
    draw.below(better[0], worse[0], 1e-6 * better[0])
