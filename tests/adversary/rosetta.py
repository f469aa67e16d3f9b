"""Attacks on the dictionary between signal processing and networks."""

import numpy as np

from tests.adversary.mirrors import inputs, ramps
from tests.adversary.search import Draw, Floats, attack, refute
from tests.helpers.references import least_norm


def cost(jumps: Floats, ends: tuple[float, float]) -> float:
    """The formula for a function: jumps of its slope, and the slopes at both ends."""
    return max(float(np.abs(jumps).sum()), abs(ends[0] + ends[1]))


def of_samples(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Of the polygon through sorted samples: jumps in total, and the slopes at its ends."""
    slopes = np.diff(y) / np.diff(x)
    return float(np.abs(np.diff(slopes)).sum()), float(slopes[0]), float(slopes[-1])


def programmed(A: Floats, y: Floats, x: Floats) -> tuple[float, float]:
    """The least norm by a linear program, and how far off it may be for sorted inputs."""
    height = float(np.abs(y).max()) or 1.0
    least = least_norm(A, y / height) * height
    # HiGHS meets its constraints to 1e-7 of data of size one: slopes between near inputs suffer.
    return least, 1e-8 * least + 1e-6 * height / float(np.diff(x).min())


def drawn(draw: Draw) -> tuple[Floats, Floats]:
    """Sorted distinct inputs and targets, both of order one."""
    x = np.unique(inputs(draw, 8, least=2, decades=0))
    draw.assume(len(x) >= 2)
    x = (x - x[0]) / (x[-1] - x[0])
    y = draw.targets(len(x)) + draw.choice(0.0, 0.0, 1.0, 20.0) * x
    return x, y


@attack("rosetta-norm")
def norm(draw: Draw) -> None:
    """Formulas for functions, samples and a free line are those of linear programs."""
    # 1. A function on the whole line: ramps at its kinks and elsewhere, seen at enough points.
    places = np.unique(inputs(draw, 6, decades=0))
    span = float(np.ptp(places)) or 1.0
    places = np.concatenate([[-0.5], (places - places[0]) / span, [1.5]])
    points = np.concatenate([[-1.0], places, [2.0]])
    jumps = draw.weights(len(places))
    jumps[draw.rng.random(len(places)) < 0.3] = 0.0
    left = draw.normal() * draw.power(-2, 1)
    apart = points[:, None] - places
    f = left * points + np.maximum(apart, 0) @ jumps
    A = np.hstack([np.maximum(apart, 0), np.maximum(-apart, 0)])
    found, room = programmed(A, f, points)
    draw.same(found, cost(jumps, (left, left + jumps.sum())), room)
    # Any other network of ramps costs no less than its function.
    theta, s, t = draw.weights(6), draw.signs(6), draw.rng.integers(-2, 3, 6).astype(float)
    kinks, where = np.unique(t, return_inverse=True)
    bends = np.bincount(where, theta, len(kinks))
    ends = -theta[s < 0].sum(), theta[s > 0].sum()
    draw.below(cost(bends, ends), np.abs(theta).sum(), 1e-12 * np.abs(theta).sum())
    # 2. The least over all functions through samples, and a function that attains it.
    x, y = drawn(draw)
    total, first, last = of_samples(x, y)
    tilt = abs(first + last)
    least = max(total, 0.5 * (total + tilt))
    found, room = programmed(ramps(x, "relu"), y, x)
    draw.same(found, least, room)
    over = np.sign(first + last) * max(tilt - total, 0.0) / 2  # taken off the first slope
    draw.same(max(total + abs(over), abs(first - over + last)), least, room)
    # 3. With a line that is almost free little more than the jumps is paid for.
    free, room = programmed(np.column_stack([ramps(x, "relu"), 1e3 * x]), y, x)
    draw.below(total, free, room)
    draw.below(free, total + 1e-3 * (abs(first) + total), room)
    # A random network's function has at least the cost that its values at the samples ask for.
    g = np.maximum(s * (x[:, None] - t), 0) @ theta
    seen, first, last = of_samples(x, g)
    slack = 1e-9 * np.abs(theta).sum() / np.diff(x).min()
    draw.below(max(seen, 0.5 * (seen + abs(first + last))), cost(bends, ends), slack)
    draw.below(seen, np.abs(bends).sum(), slack)  # whatever a line adds to all slopes


@refute("rosetta-norm", "of all interpolants the polygon that goes straight on costs least")
def straight_on(draw: Draw) -> None:
    """A steep polygon is cheaper with an end that is less steep."""
    x, y = drawn(draw)
    total, first, last = of_samples(x, y)
    draw.below(max(total, abs(first + last)), least_norm(ramps(x, "relu"), y), 1e-6)
