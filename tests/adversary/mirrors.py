"""Attacks on the chapter on one-dimensional networks."""

from itertools import combinations, pairwise, product
from math import cbrt, prod

import numpy as np
import torch
from scipy.optimize import linprog

import convexlib as cl
from convexlib.solvers.interpolation import interpolation_norm
from convexlib.solvers.lasso import optimal_set
from tests.adversary.programs import at_part, dual, scaled, solved, weights_of
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.mirrors import act, make
from tests.helpers.references import least_norm

ACTIVATIONS = ("relu", "abs", "leaky")


def inputs(draw: Draw, most: int, least: int = 1, decades: float = 4.0) -> Floats:
    """Inputs (n,): Gaussian, on a grid (mirrors meet data), with ties, near ties, far off."""
    n = draw.size(least, most)
    x: Floats = draw.normal(n)
    kind = draw.choice("Gaussian", "Gaussian", "grid", "ties", "near", "far", "equal")
    if kind == "grid":
        x = draw.rng.integers(-3, 4, n).astype(float)
    elif kind == "ties":
        x = x[draw.rng.integers(0, max(n // 2, 1), n)]
    elif kind == "near":  # 1e-4 of the range: rounding leaves twelve digits of the difference
        x[-1] = x[0] + 1e-4
    elif kind == "far":
        x = x + 100.0
    elif kind == "equal" and draw.rng.random() < 0.3:
        x[:] = x[0]
    draw.note(f"{n} inputs, {kind}")
    return x * draw.scale(decades)


def mirrors(x: Floats, y: Floats, depth: int, activation: str) -> cl.Mirrors:
    """The library's problem, whose beta is still to be chosen."""
    return make(x, y, (activation, depth, None), 1.0)


def chains(x: Floats, signs: Floats, biases: Floats, activation: str) -> Floats:
    """Outputs (k, n) of narrow units with weights +-1 in their layers (k, L - 1)."""
    h = np.repeat(x[None, :], len(signs), axis=0)
    for s, b in zip(signs.T, biases.T, strict=True):
        h = act(s[:, None] * h + b[:, None], activation)
    return h


def steepest(draw: Draw, x: Floats, z: Floats, layers: int, activation: str) -> float:
    """The largest |z.h(x)| over narrow units that random biases and small steps find.

    Biases start at kinks (a sample, the midpoint of two, or anywhere): the vertices are likely.
    """
    k, span = 60, max(float(np.ptp(x)), 1e-300)
    rng = draw.rng
    signs = rng.choice([-1.0, 1.0], (k, layers))
    biases = np.zeros((k, layers))
    h = np.repeat(x[None, :], k, axis=0)
    for layer in range(layers):
        one, two = (h[np.arange(k), rng.integers(0, len(x), k)] for _ in range(2))
        kind = rng.integers(0, 4, k)
        place = np.choose(kind, [one, one, 0.5 * (one + two), one + span * rng.standard_normal(k)])
        biases[:, layer] = -signs[:, layer] * place
        h = act(signs[:, layer, None] * h + biases[:, layer, None], activation)
    best = np.abs(h @ z)
    for _ in range(25):
        steps = span * 10.0 ** rng.uniform(-3, 0, (k, 1)) * rng.standard_normal((k, layers))
        moved = biases + steps * (rng.random((k, layers)) < 0.5)
        found = np.abs(chains(x, signs, moved, activation) @ z)
        biases[found > best] = moved[found > best]
        best = np.maximum(best, found)
    return float(best.max())


def no_better(draw: Draw, x: Floats, z: Floats, units: tuple[int, str], columns: Floats) -> None:
    """No unit of so many layers exceeds the largest correlation of some columns."""
    draw.below(steepest(draw, x, z, *units), np.abs(columns.T @ z).max(), rounding(x, z))


def rounding(x: Floats, z: Floats) -> float:
    """Of a correlation."""
    return 1e-12 * np.abs(z).sum() * float(np.abs(x).max())


def ramps(x: Floats, activation: str) -> Floats:
    """The columns of two layers (n, 2n)."""
    apart = x[:, None] - x[None, :]
    return np.hstack([act(apart, activation), act(-apart, activation)])


def folds(x: Floats, midpoints: bool = True) -> Floats:
    """The columns of three layers of absolute values (n, k)."""
    found = []
    for anchor in x:
        places = np.concatenate([x, 0.5 * (x + anchor)]) if midpoints else x
        found.append(np.abs(np.abs(x[:, None] - places) - np.abs(anchor - places)))
    return np.hstack(found)


def clips(x: Floats) -> Floats:
    """The clipped ramps between samples (n, k); one column of zeros where there is no pair."""
    pairs = [*combinations(np.sort(x), 2)] or [(x[0], x[0])]
    low, high = np.array(pairs).T
    return np.clip(x[:, None], low, high) - low


def anchored(x: Floats, layers: int) -> Floats:
    """The leaky columns with every bias at a sample (n, k)."""
    found = x[None, :]
    for _ in range(layers):
        moved = found[:, None, :] - found[:, :, None]  # every value as the anchor
        found = np.concatenate([act(moved, "leaky"), act(-moved, "leaky")], axis=1)
        found = found.reshape(-1, len(x))
    return found.T


def dictionary(x: Floats, depth: int, activation: str) -> Floats:
    """The columns of the theorem for two or three layers."""
    if depth == 2:
        return ramps(x, activation)
    return {"relu": clips, "abs": folds, "leaky": lambda x: anchored(x, 2)}[activation](x)


@attack("mirrors-price")
def price(draw: Draw) -> None:
    """Rescaled units keep their function, cost no less than the product, and balanced ones that."""
    depth, activation = draw.size(2, 5), draw.choice(*ACTIVATIONS)
    x, w, b = inputs(draw, 4), draw.weights(depth), draw.weights(depth - 1)

    def function(w: Floats, b: Floats) -> Floats:
        h = x
        for layer in range(depth - 1):
            h = act(w[layer] * h + b[layer], activation)
        return w[-1] * h

    outputs, least = function(w, b), prod(np.abs(w))
    if least == 0:  # a constant, for nothing
        draw.below(np.ptp(outputs), 0.0, 1e-12 * np.abs(outputs).max())
        return
    free = 10.0 ** draw.rng.uniform(-2, 2, depth)
    # Rounding is that of the sums of weight times input and bias inside of a unit.
    size = least * np.abs(x).max() + sum(
        abs(b[i]) * prod(np.abs(w[i + 1 :])) for i in range(depth - 1)
    )
    for factors in (free / np.prod(free) ** (1 / depth), least ** (1 / depth) / np.abs(w)):
        scaled, shifts = w * factors, b * np.cumprod(factors[:-1])
        cost = float((np.abs(scaled) ** depth).sum() / depth)
        draw.same(function(scaled, shifts), outputs, 1e-12 * size)
        draw.below(least, cost, 1e-12 * least)
    draw.same(cost, least, 1e-12 * least)  # of the balanced one


def objective(x: Floats, y: Floats, beta: float, activation: str, network: list[Floats]) -> float:
    """Training objective of narrow units: hidden weights and biases (L - 1, K), last (K,), bias."""
    weights, biases, last, constant = network
    h = np.repeat(x[:, None], len(last), axis=1)
    for w, b in zip(weights, biases, strict=True):
        h = act(w * h + b, activation)
    power = len(weights) + 1
    penalty = (np.abs(weights) ** power).sum() + (np.abs(last) ** power).sum()
    return float(0.5 * ((h @ last + constant - y) ** 2).sum() + beta / power * penalty)


@attack("mirrors-lasso")
def lasso(draw: Draw) -> None:
    """The mapped-back network has the Lasso's value, and no network is below a dual value."""
    activation = draw.choice(*ACTIVATIONS)
    depth = 2 if activation == "abs" and draw.rng.random() < 0.3 else draw.size(2, 3)
    x = inputs(draw, 6, decades=6)
    y = draw.targets(len(x)) * draw.scale(6)
    problem = at_part(draw, mirrors(x, y, depth, activation), -4, 0.3)
    result = solved(problem, tol=1e-9)
    best = weights_of(problem.to_network(result), "weights", "biases", "alpha", "bias")
    A, z = dictionary(x, depth, activation), result.z.numpy()
    z = z - z.mean()
    bound = dual(scaled(z, np.abs(A.T @ z).max(), problem.beta), y)
    size = 1e-10 * (0.5 * ((y - y.mean()) ** 2).sum()) + 1e-15 * (y @ y)
    draw.same(objective(x, y, problem.beta, activation, best), bound, size)
    # Networks about the optimum, with idle units to spare.
    grown = [np.concatenate([part, np.zeros((*part.shape[:-1], 2))], -1) for part in best[:3]]
    for _ in range(20):
        moved = draw.near([*grown, best[3]], draw.power(-5, 0.5), relative=True)
        draw.below(bound, objective(x, y, problem.beta, activation, moved), size)


@attack("mirrors-two-layers")
def two_layers(draw: Draw) -> None:
    """No unit of two layers has a larger correlation than the ramps at the samples."""
    x, activation = inputs(draw, 8), draw.choice(*ACTIVATIONS)
    z = draw.centred(len(x))
    no_better(draw, x, z, (1, activation), ramps(x, activation))


@attack("mirrors-vertices")
def vertices(draw: Draw) -> None:
    """No unit has a larger correlation than those whose biases solve kink equations."""
    activation = draw.choice(*ACTIVATIONS)
    depth = draw.size(2, 5 if activation == "relu" else 4)
    x = inputs(draw, 5, least=2)
    z = draw.centred(len(x))
    bound = mirrors(x, z, depth, activation).dual_norm(torch.from_numpy(z))
    # Near ties make some of the equations nearly dependent: the biases lose digits.
    draw.below(steepest(draw, x, z, depth - 1, activation), bound, 10 * rounding(x, z))


@attack("mirrors-abs")
def absolute_values(draw: Draw) -> None:
    """Three layers of absolute values: data points and midpoints are enough."""
    x = inputs(draw, 6)
    no_better(draw, x, draw.centred(len(x)), (2, "abs"), folds(x))


@refute("mirrors-abs", "with three layers of |.|, folds at data points alone are enough")
def folds_at_data(draw: Draw) -> None:
    """A fold at the midpoint of two samples, where they coincide, may be better."""
    x = inputs(draw, 6, least=5)
    for _ in range(10):
        z = draw.normal(len(x))
        z -= z.mean()
        at_data, found = (np.abs(folds(x, midpoints).T @ z).max() for midpoints in (False, True))
        draw.below(found, at_data, rounding(x, z))


@attack("mirrors-leaky")
def leaky(draw: Draw) -> None:
    """Leaky units of any depth: biases at the samples are enough."""
    layers = draw.size(1, 3)
    x = inputs(draw, {1: 7, 2: 6, 3: 4}[layers])
    no_better(draw, x, draw.centred(len(x)), (layers, "leaky"), anchored(x, layers))


@attack("mirrors-relu")
def deep_relu(draw: Draw) -> None:
    """No narrow ReLU unit of any depth has a larger correlation than a clipped ramp."""
    x, layers = inputs(draw, 7), draw.size(2, 6)
    no_better(draw, x, draw.centred(len(x)), (layers, "relu"), clips(x))


def folding_unit(x: Floats, t: float, a: float, c: float) -> tuple[Floats, float]:
    """Outputs and penalty of t (|x - a| - c)_+ as a balanced unit with two ReLUs below one.

    First layer (x - a)_+ and (a - x)_+, then their sum minus c, then t: |w|^3 of each of the five
    weights, twice two and once one, so that the pairs have the size 2^(-1/3) of the last one.
    """
    size = (4.0 ** (1 / 3) * abs(t)) ** (1 / 3)  # the last weight; the others make up for t
    first = second = size / cbrt(2.0)
    hidden = first * (np.maximum(x - a, 0) + np.maximum(a - x, 0)) * second
    outputs = np.sign(t) * size * np.maximum(hidden - first * second * c, 0)
    return outputs, (2 * first**3 + 2 * second**3 + size**3) / 3


def variation(x: Floats, values: Floats) -> float:
    """V of the function that is linear between increasing inputs: half of that of its slope."""
    slopes = np.diff(values) / np.diff(x)
    return float(0.5 * np.abs(np.diff(slopes, prepend=0.0, append=0.0)).sum())


def slope_rounding(x: Floats, values: Floats) -> float:
    """What rounding of inputs and values may add to V."""
    gap = float(np.diff(x).min())
    return 1e-15 * len(x) * float(np.abs(values).max() / gap * (1.0 + np.abs(x).max() / gap))


@attack("mirrors-variation")
def relu_adds_no_variation(draw: Draw) -> None:
    """V of a positive part and of an interpolant, and the clipped ramps that make its values."""
    x = np.unique(inputs(draw, 9, least=3, decades=1))
    draw.assume(len(x) > 2)
    f = draw.choice(draw.normal(len(x)), draw.rng.integers(-1, 2, len(x)).astype(float))
    low, high = f[:-1], f[1:]
    share = low / np.where(low * high < 0, low - high, np.inf)
    finer = np.unique(np.concatenate([x, (x[:-1] + np.diff(x) * share)[share > 0]]))
    draw.assume(np.diff(finer).min() > 1e-9 * np.ptp(x))
    cut = np.where(np.isin(finer, x), np.maximum(np.interp(finer, x, f), 0.0), 0.0)
    whole, slack = variation(x, f), slope_rounding(finer, f)
    draw.below(variation(finer, cut), whole, slack)
    inner = np.flatnonzero(draw.rng.random(len(x) - 2) < 0.5) + 1
    keep = np.concatenate([[0], inner, [len(x) - 1]])
    coarse = variation(x[keep], f[keep])
    draw.below(coarse, whole, slack)
    size = float(np.ptp(x))
    draw.assume(np.diff(x).min() > 1e-2 * size)  # the linear program is exact to 1e-7
    draw.same(least_norm(clips(x[keep]) / size, f[keep]) / size, coarse, 1e-6 * coarse + slack)


@attack("mirrors-wide")
def width_is_a_discount(draw: Draw) -> None:
    """Variation, paths and price of random ReLU units; copies of a clipped ramp; the objective."""
    x = np.sort(inputs(draw, 7, least=2, decades=1))
    draw.assume(np.ptp(x) > 0)
    widths = [draw.size(1, 4) for _ in range(draw.size(2, 4))]
    L, M = len(widths) + 1, prod(widths)
    discount = M ** (-(L - 2) / L)
    grid = np.unique(np.concatenate([x, x[0] + np.ptp(x) * np.linspace(0, 1, 41)]))
    grid = grid[np.diff(grid, prepend=-np.inf) > 1e-6 * np.ptp(x)]
    h, paths, squares, price = grid[:, None], np.ones(1), np.ones(1), 0.0
    for layer, width in enumerate([*widths, 1], start=1):
        W = draw.normal(h.shape[1], width) * draw.rng.integers(0, 2, (h.shape[1], width))
        h, paths, squares = h @ W, paths @ np.abs(W), squares @ W**2
        price += float((np.abs(W) ** L).sum()) / L
        if layer < L:
            h = np.maximum(h + draw.normal(width) * draw.choice(0.0, np.abs(x).max()), 0.0)
    outputs = h[:, 0]
    draw.below(variation(grid, outputs), paths[0], slope_rounding(grid, outputs) + 1e-12 * paths[0])
    draw.below(discount * paths[0], price, 1e-12 * price)
    root = float(np.sqrt(squares[0]))
    draw.below(M**-0.5 * paths[0], root, 1e-12 * root)
    # Copies: a layer's neurons are all alike, and lambda_l |w| is the same for all weights.
    p, q = np.sort(draw.rng.choice(x, 2))
    t, sizes = draw.normal(), np.array([1, *widths, 1])
    weights = (abs(t) / M) ** (1 / L) * (sizes[:-1] * sizes[1:]) ** (-1 / L) * M ** (2 / L**2)
    reach = np.cumprod(weights * sizes[:-1])  # from the input to a neuron of each layer
    h = np.maximum(reach[0] * (q - grid), 0.0)
    h = np.maximum(reach[1] * (q - p) - weights[1] * sizes[1] * h, 0.0)
    made = np.sign(t) * np.prod((weights * sizes[:-1])[2:]) * h
    size = abs(t) * (abs(p) + abs(q) + np.abs(x).max())
    draw.same(made, t * (np.clip(grid, p, q) - p), 1e-12 * size)
    cost = float((sizes[:-1] * sizes[1:] * weights**L).sum()) / L
    draw.same(cost, discount * abs(t), 1e-12 * abs(t))
    draw.same(M**0.5 * float(np.prod(weights)), M**-0.5 * abs(t), 1e-12 * abs(t))
    # No multiple of the random unit is below the Lasso at the smaller beta, for either price.
    y = draw.targets(len(x))
    beta = draw.power(-3, 0) * float(((y - y.mean()) ** 2).sum()) / np.ptp(x) or 1.0
    unit = np.interp(x, grid, outputs)
    for factor, cost in ((discount, price), (M**-0.5, root)):
        bound = solved(cl.Mirrors(x, y, beta=factor * beta, depth=3), tol=1e-9).dual
        for multiple in np.linspace(-1, 1, 9):
            residual = y - multiple * unit
            fit = 0.5 * float(((residual - residual.mean()) ** 2).sum())
            draw.below(bound, fit + beta * abs(multiple) * cost, 1e-9 * float(y @ y))


@attack("mirrors-width-two")
def width_two(draw: Draw) -> None:
    """The price of a fold; clipped ramps cost no more, and as much with two samples on each arm."""
    t, a, c = draw.normal(3) * draw.scale(3)
    x = inputs(draw, 6, decades=6)
    outputs, cost = folding_unit(x, t, a, c)
    size = abs(t) * (np.abs(x).max() + abs(a) + abs(c))
    draw.same(outputs, t * np.maximum(np.abs(x - a) - c, 0), 1e-12 * size)
    draw.same(cost, cbrt(4.0) * abs(t), 1e-12 * abs(t))
    # Clipped ramps on eighths of an interval: twice the slope if each arm, with its end, has two.
    places = np.sort(draw.rng.permutation(17)[: draw.size(2, 9)]) / 8.0 - 1.0
    middle, start = draw.rng.integers(-8, 9) / 8.0, draw.rng.integers(0, 9) / 8.0
    least = least_norm(clips(places), np.maximum(np.abs(places - middle) - start, 0))
    draw.below(least, 2.0, 1e-9)
    arms = (places >= middle + start).sum(), (places <= middle - start).sum()
    if min(arms) >= 2:
        draw.same(least, 2.0, 1e-9)


@refute("mirrors-relu", "no ReLU network of three layers is below the narrow optimum")
def nothing_beyond_narrow(draw: Draw) -> None:
    """Two ReLUs in the first layer of a unit make a V for 1.59 instead of 2."""
    x = np.sort(inputs(draw, 8, least=3, decades=1))
    a = float(draw.rng.choice(x))
    y = np.abs(x - a)
    problem = cl.Mirrors(x, y, beta=0.1 * float(((y - y.mean()) ** 2).sum()) or 1.0, depth=3)
    narrow = solved(problem, tol=1e-9)
    for t in np.linspace(0, 1, 21):
        outputs, cost = folding_unit(x, t, a, 0.0) if t else (0.0 * x, 0.0)
        residual = y - outputs
        fit = 0.5 * ((residual - residual.mean()) ** 2).sum()
        draw.below(narrow.dual, fit + problem.beta * cost, 1e-6 * (y @ y))


@refute("mirrors-width-two", "clipped ramps make the values of a fold for its price, never less")
def folds_always_tie(draw: Draw) -> None:
    """Arms that end within a gap are flatter on the samples: there the ramps are cheaper."""
    three, start = np.array([-1.0, 0.0, 1.0]), draw.rng.uniform(0.1, 0.9)
    draw.below(2.0, least_norm(clips(three), np.maximum(np.abs(three) - start, 0)), 1e-6)


@refute("mirrors-wide", "a fold costs less than clipped ramps with as many neurons in a layer")
def folds_pay(draw: Draw) -> None:
    """At the smaller beta of two copies clipped ramps make |x - a| for the price of a fold."""
    a, apart = draw.normal(2)
    x = a + abs(apart) * np.array([-1.0, 0.0, 1.0])
    draw.assume(abs(apart) > 0.1)
    ramps_cost = 2 ** (-1 / 3) * least_norm(clips(x), np.abs(x - a))
    draw.below(folding_unit(x, 1.0, a, 0.0)[1], 0.99 * ramps_cost, 1e-6)


@refute("mirrors-wide", "with squared weights, too, a fold costs no less than clipped ramps")
def folds_tie_under_squares(draw: Draw) -> None:
    """A unit costs 3/2 V^(2/3), which is concave: one with V = 2 is cheaper than two with 1."""
    t = draw.normal()
    last = np.sqrt(cbrt(4.0) * abs(t) ** (2 / 3))  # four weights of its size over the root of two
    first = last / np.sqrt(2)
    x = draw.normal(5)
    fold = last * np.maximum(first * (first * np.maximum(x, 0) + first * np.maximum(-x, 0)), 0)
    draw.assume(np.allclose(fold, abs(t) * np.abs(x)))
    draw.below(2 * 1.5 * abs(t) ** (2 / 3), 0.5 * (4 * first**2 + last**2), 1e-9)


@attack("mirrors-optimality")
def optimality(draw: Draw) -> None:
    """Conditions at the optimum, and a constant network from beta_c on and not below."""
    x = inputs(draw, 8, decades=6)
    y = draw.targets(len(x)) * draw.scale(6)
    depth = draw.size(2, 4)
    A = ramps(x, "relu") if depth == 2 else clips(x)
    r = y - y.mean()
    top = float(np.abs(A.T @ r).max())
    problem = mirrors(x, y, depth, "relu")
    size = np.abs(A).max() * np.abs(y).max() * len(y)
    draw.same(problem.beta_max(), top, 1e-11 * size)
    draw.assume(top > 1e-11 * size)
    slack = 1e-8 * top + 1e-11 * size
    for share in (1.0001, 0.5):
        result = solved(problem.with_beta(share * top), tol=1e-11)
        weights = result.weights[:-1].numpy()
        residual = y - problem.fitted(result.weights).numpy()
        draw.same(residual.sum(), 0.0, 1e-11 * np.abs(y).sum())
        draw.below(np.abs(A.T @ residual), share * top, slack)
        used = np.flatnonzero(weights)
        slopes = problem.matrix(used).numpy().T @ residual
        draw.same(slopes, share * top * np.sign(weights[used]), slack)
        draw.true(share < 1 or not len(used))
    j = int(np.abs(A.T @ r).argmax())  # below beta_c a little of the best column lowers the value
    a = A[:, j] - A[:, j].mean()
    step = (1 - 0.9) * top / (a @ a) * np.sign(a @ r)
    draw.true(0.5 * ((r - step * a) ** 2).sum() + 0.9 * top * abs(step) < 0.5 * r @ r)


@attack("mirrors-norms")
def norms(draw: Draw) -> None:
    """The closed forms are those of linear programs over the whole dictionaries."""
    x = np.unique(inputs(draw, 8, least=2, decades=6))
    draw.assume(len(x) >= 2)
    y = draw.targets(len(x)) * draw.scale(6)
    draw.assume(y.any())
    name = draw.choice("relu", "abs", "leaky", "deep", "sign")
    steps = np.where(np.tri(len(x), k=-1) > 0, 1.0, -1.0)[:, :-1]
    A = steps if name == "sign" else clips(x) if name == "deep" else ramps(x, name)
    kind = {"deep": "relu"}.get(name, name)
    problem = mirrors(x, y, draw.size(3, 6) if name == "deep" else 2, kind)
    width, height = np.abs(A).max(), np.abs(y).max()
    least = least_norm(A / width, y / height) * height / width
    # HiGHS meets its constraints to 1e-7 of data of size one: slopes between near inputs suffer.
    step = 1.0 if name == "sign" else np.diff(x).min()
    draw.same(interpolation_norm(problem), least, 1e-8 * least + 1e-6 * np.ptp(y) / step)


def outputs_of(layers: list[tuple[Floats, Floats]], x: Floats) -> Floats:
    """The signs of a network of sign neurons; each layer is its weights and biases."""
    h = x[None, :]
    for weights, biases in layers:
        h = np.where(weights @ h + biases[:, None] >= 0, 1.0, -1.0)
    return h[-1]


def layered(draw: Draw, widths: list[int]) -> list[Floats]:
    """Which neuron feeds which: every neuron has one at least to feed, so a path to the output."""
    masks = []
    for below, above in pairwise(widths):
        mask = draw.rng.random((above, below)) < 0.5
        mask[draw.rng.integers(0, above, below), np.arange(below)] = True
        masks.append(mask.astype(float))
    return masks


def switching(places: Floats, masks: list[Floats], beyond: float) -> list[tuple[Floats, Floats]]:
    """Weights that switch at the places: one in-tree of the graph, as in the proof."""
    trees = []
    for mask in masks:
        tree = np.zeros_like(mask)
        tree[mask.argmax(axis=0), np.arange(mask.shape[1])] = 1.0  # each neuron feeds the first
        trees.append(tree)
    leaves = [[leaf] for leaf in range(masks[0].shape[1] if masks else 1)]
    for tree in trees:
        leaves = [[leaf for j in np.flatnonzero(row) for leaf in leaves[j]] for row in tree]
    order = leaves[0]  # the leaves below the output, from left to right
    shifts = np.full(len(order), beyond)
    shifts[order[: len(places)]] = places
    layers = [(np.ones((len(order), 1)), -shifts)]
    counts = (shifts < beyond).astype(int)
    for tree in trees:
        weights, biases = np.zeros_like(tree), np.zeros(len(tree))
        for i, row in enumerate(tree):
            before = 0
            for j in np.flatnonzero(row):
                weights[i, j] = 1.0 if before % 2 == 0 else -1.0
                before += counts[j]
            biases[i] = weights[i].sum() - 1.0
        counts = tree.astype(int) @ counts
        layers.append((weights, biases))
    return layers


@attack("mirrors-sign")
def signs(draw: Draw) -> None:
    """Random sign units switch m_1 times at most; every vector with so few switches is one."""
    x = np.unique(inputs(draw, 7))
    depth = draw.size(2, 5)
    widths = [1] if depth == 2 else [draw.size(1, 4) for _ in range(depth - 2)] + [1]
    masks = layered(draw, widths)
    for _ in range(10):
        first = draw.normal(widths[0], 1), draw.normal(widths[0])
        layers = [(first[0], first[1] * (np.abs(x).max() or 1.0))]
        layers += [(mask * draw.normal(*mask.shape), draw.normal(len(mask))) for mask in masks]
        draw.true((np.diff(outputs_of(layers, x)) != 0).sum() <= widths[0])
    switches = draw.size(0, min(widths[0], len(x) - 1))
    after = np.sort(draw.rng.permutation(len(x) - 1)[:switches]) + 1 if len(x) > 1 else []
    wanted = np.where(np.searchsorted(after, np.arange(len(x)), side="right") % 2, 1.0, -1.0)
    beyond = 2.0 * np.abs(x).max() + 1.0
    made = outputs_of(switching(x[list(after)], masks, beyond), x)
    draw.true((made == wanted).all())


@refute("mirrors-sign", "a sign unit with m_1 first-layer neurons switches up to m_1 times")
def idle_first_layer(draw: Draw) -> None:
    """Neurons without a path to the output switch nothing: here all but one have none."""
    x = np.unique(inputs(draw, 8, least=3, decades=0))
    m = draw.size(2, 3)
    draw.assume(len(x) > m)
    cuts = np.concatenate([[x[0] - 1], 0.5 * (x[1:] + x[:-1]), [x[-1] + 1]])
    # All that the one connected neuron, and any function of it, can put out.
    reached = {
        tuple(np.sign(top * np.where(s * (x - cut) >= 0, 1.0, -1.0) + shift + 1e-9))
        for cut, s, top, shift in product(cuts, (-1, 1), (-1, 1), (-2, 0, 2))
    }
    draw.true(max(int((np.diff(v) != 0).sum()) for v in reached) >= m)


@attack("mirrors-path")
def path(draw: Draw) -> None:
    """An optimum stays optimal, affine in beta, while inequalities hold; r / beta is Lipschitz."""
    x = inputs(draw, 7, least=2, decades=6)
    y = draw.targets(len(x)) * draw.scale(6)
    activation, depth = draw.choice(("relu", 2), ("relu", 3), ("abs", 2), ("abs", 3), ("leaky", 2))
    problem = mirrors(x, y, depth, activation)
    top, A = problem.beta_max(), problem.matrix().numpy()
    draw.assume(top > 1e-10 * np.abs(A).max(initial=0.0) * np.abs(y).max() * len(y))
    A, target = A - A.mean(axis=0), y - y.mean()
    height = float(np.linalg.norm(target))
    betas = top * 10.0 ** np.sort(draw.rng.uniform(-3, 0, 2))
    problems = [problem.with_beta(float(beta)) for beta in betas]
    results = [solved(one, 1e-12) for one in problems]
    thetas = [one.weights[:-1].numpy() for one in results]
    residuals = [target - A @ theta for theta in thetas]
    # The residual over beta is the projection of y / beta onto a convex set.
    moved = np.linalg.norm(residuals[0] / betas[0] - residuals[1] / betas[1])
    draw.below(moved, height * abs(1 / betas[0] - 1 / betas[1]), 1e-7 * height / betas[0])
    S = np.flatnonzero(thetas[1])
    s = np.sign(thetas[1][S])
    G = A[:, S].T @ A[:, S]
    if len(S) and np.linalg.cond(G) < 1e8:  # the formula loses digits beyond
        a, d = np.linalg.solve(G, A[:, S].T @ target), np.linalg.solve(G, s)
        draw.same(a - betas[1] * d, thetas[1][S], 1e-6 * np.abs(a).max())
        for beta in betas[1] * (1 + draw.rng.uniform(-0.2, 0.2, 5)):
            theta = a - beta * d
            residual = target - A[:, S] @ theta
            if (s * theta >= 0).all() and np.abs(A.T @ residual).max() <= beta:
                # Then it is optimal: weak duality.
                value = 0.5 * (residual**2).sum() + beta * np.abs(theta).sum()
                found = solved(problem.with_beta(float(beta)), 1e-12)
                draw.same(value, found.value, 1e-9 * height**2)
    optima = optimal_set(problems[1], results[1])
    for end in optima.ends:  # members of the polytope are optimal
        draw.same(problems[1].value(end), results[1].value, 1e-8 * (y @ y))
        fits = problem.fitted(end), problem.fitted(results[1].weights)
        draw.same(*fits, 1e-5 * np.abs(y).max())
    active = np.abs(np.abs(A.T @ residuals[1]) - betas[1]) <= 1e-9 * betas[1]
    active[S] = True  # also where rounding of a long column hides it
    unit = A[:, active] / np.linalg.norm(A[:, active], axis=0)
    if np.linalg.matrix_rank(unit, tol=1e-9) == active.sum():  # one optimum
        draw.same(*optima.ends, 1e-6 * np.abs(thetas[1]).max(initial=0.0))


@refute("mirrors-path", "all optimal networks of a one-dimensional problem are one function")
def one_function(draw: Draw) -> None:
    """They agree on the samples; with mirrors as kinks they differ between them."""
    gaps = draw.rng.uniform(1, 4, 5)
    x = np.concatenate([[0.0], np.cumsum(gaps)])
    mirror = 2 * x[1] - x[0]
    y = np.clip(x, x[2], mirror) - x[2] if mirror > x[2] else np.clip(x, x[2], x[4])
    problem = cl.Mirrors(x, y, beta=0.01, depth=4, reflections=True)
    optima = optimal_set(problem, solved(problem, tol=1e-12))
    line = torch.linspace(float(x[0]), float(x[-1]), 301, dtype=torch.float64)
    one, two = (problem.to_network(end)(line).detach() for end in optima.ends)
    draw.same(one, two, 1e-6 * np.abs(y).max())


@refute("mirrors-path", "two layers of ReLU: all optima are one function between the samples")
def one_function_of_two_layers(draw: Draw) -> None:
    """Two ramps at samples pay and fit like one ramp between them, where it does not bend."""
    x, y, beta = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0]), draw.rng.uniform(0.01, 0.3)
    problem = cl.Mirrors(x, y, beta=beta)
    result = solved(problem, tol=1e-12)
    height, place = 2.0 - 2.0 * beta, (1.0 - 3.0 * beta) / (2.0 - 2.0 * beta)
    fit = 0.5 * float(((height * np.maximum(x - place, 0) - y) ** 2).sum())
    draw.assume(abs(fit + beta * height - result.value) < 1e-9)
    line = np.linspace(0.0, 2.0, 201)
    two = problem.to_network(result)(torch.from_numpy(line)).detach()
    draw.same(two, height * np.maximum(line - place, 0), 1e-6)


@attack("mirrors-quantile")
def quantile(draw: Draw) -> None:
    """The value is that of a linear program, and the shares below and above are tau and 1 - tau."""
    x = inputs(draw, 9, decades=1)
    y = draw.targets(len(x)) * draw.scale(1)
    tau = float(draw.choice(0.5, 0.1, draw.rng.uniform(0.02, 0.98)))
    deep = draw.rng.random() < 0.5
    A = clips(x) if deep else ramps(x, "relu")
    width, height = np.abs(A).max() or 1.0, np.abs(y).max() or 1.0
    beta = draw.power(-3, 0.5) * width
    problem = cl.Mirrors(x, y, beta=beta, depth=3 if deep else 2, loss="quantile", quantile=tau)
    result = solved(problem, tol=1e-9)
    n, k = A.shape
    program = linprog(  # max y.u over the box, both signs of every column, and the sum zero
        -y / height,
        A_ub=np.vstack([A.T, -A.T]) / width,
        b_ub=np.full(2 * k, beta / width),
        A_eq=np.ones((1, n)),
        b_eq=[0.0],
        bounds=[(tau - 1.0, tau)] * n,
    )
    draw.same(-program.fun * height, result.value, 1e-6 * height * n)
    error, slack = y - problem.fitted(result.weights).numpy(), 1e-7 * height
    shares = [(error < -slack).sum(), (error > slack).sum()]
    draw.below(shares, [tau * n, (1 - tau) * n], 1e-9)


@refute("mirrors-price", "squared weights price deep units by an l1 norm, too")
def squares(draw: Draw) -> None:
    """Half the sum of squares at three layers: one unit of 1 costs less than two of 1/2."""
    depth = draw.size(3, 6)
    share = float(draw.rng.uniform(0.05, 0.95))
    whole, one, other = (0.5 * depth * z ** (2 / depth) for z in (1.0, share, 1.0 - share))
    draw.same(one + other, whole, 1e-9)
