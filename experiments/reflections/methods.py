r"""Standard networks of one input, trained by standard optimisers from standard starts.

Fully connected networks with two or three hidden layers minimise the objective of `cl.Mirrors`,

.. math:: \tfrac12 \|f(x) - y\|^2 + \tfrac\beta{L} \sum |\text{weight}|^L ,

with free biases, on standardised inputs and targets. A narrow network of `Mirrors` is one of them
(with zeros for weights), so the optimum of the Lasso is an upper bound on theirs. Part *squares*
has :math:`\tfrac\beta2 \sum \text{weight}^2` instead, for which no such program is known, and
part *faint* almost no penalty.

The start is that of ``torch.nn.Linear``: everything uniform up to one over the root of the number
of a layer's inputs. Adam sees all samples, SGD half of them at a time, in an order of its own for
each seed; rates fall along half a cosine. All seeds and rates are one network with two leading
axes. The rate whose median final objective over the seeds is least is the one that counts: nobody
looks at bends for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.checks import check_choice
from convexlib.problems.mirrors import Mirrors
from convexlib.solvers.solve import solve
from convexlib.training.descent import Grid, descend
from experiments.reflections.kinks import (
    KINDS,
    Ints,
    Places,
    bends,
    breakpoints,
    hit_at_random,
    moved,
    near,
)
from experiments.variations import beta_of

W = (-4.0, -3.5, -2.2, -1.0, -0.4, 0.4, 1.0, 2.0)
SAMPLES = {
    # Those of the public notebooks of Zeger et al., where they are called zshape, bounce and opt.
    "step": ((0.0, 2.0, 6.0, 7.0), (0.0, 0.0, 3.0, 3.0)),
    "turn": ((0.0, 2.0, 6.0, 7.0), (0.0, 0.0, 3.0, 7.0)),
    "ramp": ((0.0, 4.0, 5.0, 7.0, 10.0, 11.0), (0.0, 0.0, 0.0, 2.0, 3.0, 3.0)),
    # ||x + 1| - 2|: the lines on both sides of the second gap meet at -3, a mirror of two pairs.
    "W": (W, tuple(abs(abs(x + 1.0) - 2.0) for x in W)),
    # The same but for the first two targets: the lines meet at -2.6, which is no mirror.
    "moved": (W, (1.8, 1.3, *(abs(abs(x + 1.0) - 2.0) for x in W[2:]))),
}
DRAWN = 6  # samples of the set "drawn", of which each seed has its own
SETS = (*SAMPLES, "drawn")
DIGITS = 5
DRAWS = 9999  # of mirrors that are moved
MIRROR = KINDS.index("mirror")


def samples(name: str, seed: int) -> tuple[Floats, Floats]:
    """Return the sorted inputs and the targets of a set, for one seed."""
    check_choice(name, SETS, "set")
    if name == "drawn":
        draw = np.random.default_rng(seed)
        return np.sort(draw.standard_normal(DRAWN)), draw.standard_normal(DRAWN)
    x, y = SAMPLES[name]
    return np.array(x), np.array(y)


def standardised(values: Floats) -> Floats:
    """Return values of mean 0 and standard deviation 1."""
    return np.asarray((values - values.mean()) / values.std())


class Networks:
    """Fully connected networks for every seed and rate, at their start.

    Attributes
    ----------
    weights : tuple of Tensor (S, R, ...)
        The matrices (inputs, outputs) of all layers, then the biases (1, outputs).
    """

    def __init__(self, depth: int, width: int, activation: str, seeds: list[int], rates: int):
        self.depth, self.name = depth, activation
        self.activation = {"abs": torch.abs, "relu": torch.relu}[activation]
        inputs = [1] + [width] * (depth - 1)
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]

        def uniform(fan: int, *shape: int) -> Tensor:
            draw = [torch.rand(shape, generator=source, dtype=torch.float64) for source in sources]
            return ((2.0 * torch.stack(draw) - 1.0) / fan**0.5)[:, None].repeat(1, rates, 1, 1)

        layers = [
            (uniform(fan, fan, outputs), uniform(fan, 1, outputs))
            for fan, outputs in zip(inputs, [*inputs[1:], 1], strict=True)
        ]
        self.weights = tuple(part for parts in zip(*layers, strict=True) for part in parts)

    def objectives(
        self, weights: tuple[Tensor, ...], x: Tensor, y: Tensor, beta: Tensor, power: int
    ) -> tuple[Tensor, Tensor]:
        """Return losses and penalties (S, R) for samples (S, n)."""
        h = x[:, None, :, None]
        for layer in range(self.depth):
            h = h @ weights[layer] + weights[self.depth + layer]
            if layer < self.depth - 1:
                h = self.activation(h)
        loss = 0.5 * ((h[..., 0] - y[:, None]) ** 2).sum(dim=2)
        price = sum((part.abs() ** power).sum(dim=(2, 3)) for part in weights[: self.depth])
        return loss, beta[:, None] / power * price

    def bends(self, s: int, r: int, x: Floats, threshold: float) -> list[list[float]]:
        """Return the places of one network, as fractions of the hull of x, and its changes."""
        parts = [part[s, r].numpy() for part in self.weights]
        matrices, biases = parts[: self.depth], [part[0] for part in parts[self.depth :]]
        places, changes = breakpoints(matrices, biases, self.name, x[0], x[-1])
        places, changes = bends((places - x[0]) / (x[-1] - x[0]), changes, threshold)
        return [
            [round(float(place), DIGITS), float(f"{change:.3g}")]
            for place, change in zip(places, changes, strict=True)
        ]


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Train a cell, and return where its networks end and bend."""
    seeds, rates = config["seeds"], config["rates"]
    depth, part = config["depth"], config["part"]
    raw = [samples(config["set"], seed) for seed in seeds]
    pairs = [(standardised(inputs), standardised(targets)) for inputs, targets in raw]
    x, y = (torch.from_numpy(np.array(values)) for values in zip(*pairs, strict=True))
    betas, optima = [], []
    for inputs, targets in pairs if config["set"] == "drawn" else pairs[:1]:
        lasso = Mirrors(inputs, targets, beta=1.0, depth=depth, activation=config["activation"])
        betas.append(beta_of(config, lasso.beta_max()))
        optima.append(solve(lasso.with_beta(betas[-1]), tol=1e-9).value)
    beta = torch.tensor(betas, dtype=torch.float64).expand(len(seeds))
    power = 2 if part == "squares" else depth
    networks = Networks(depth, config["width"], config["activation"], seeds, len(rates))
    initial = [networks.bends(s, 0, x[s].numpy(), config["threshold"]) for s in range(len(seeds))]
    order, n = torch.arange(len(seeds))[:, None], x.shape[1]

    def slopes(rows: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        leaves = tuple(part.detach().requires_grad_() for part in networks.weights)
        own = order, rows.long()
        loss, price = networks.objectives(leaves, x[own], y[own], beta, power)
        total = (loss * (n / rows.shape[1]) + price).sum()
        return torch.autograd.grad(total, leaves)

    size = n if config["optimizer"] == "adam" else n // 2
    steps = config["steps"]
    grid = Grid(f"{config['optimizer']}-cosine", tuple(rates), tuple(seeds), steps, np.inf, size, 1)
    # Every seed has samples of its own, so batches are drawn of their numbers.
    numbers = torch.arange(n, dtype=torch.float64)
    descend(grid, numbers, numbers, networks.weights, slopes, lambda *_: None)
    loss, price = networks.objectives(networks.weights, x, y, beta, power)
    final = (loss + price).numpy()
    final = np.where(np.isfinite(final), final, np.inf)  # (S, R)
    best = int(np.median(final, axis=0).argmin())
    ended = np.isfinite(final[:, best])
    trained = [
        networks.bends(s, best, x[s].numpy(), config["threshold"]) if ended[s] else []
        for s in range(len(seeds))
    ]
    tallies = [
        {"reach": reach, **tally([Places.of(*pair, reach) for pair in pairs], trained, initial)}
        for reach in config["reach"]
    ]
    return {
        "beta": betas,
        "lasso": optima,
        "rate": rates[best],
        "diverged": [int(count) for count in np.isinf(final).sum(axis=0)],
        "objective": [_short(value) for value in final[:, best]],
        "by_rate": [_short(value) for value in np.median(final, axis=0)],
        "bends": trained,
        "tallies": tallies,
    }


def tally(
    places: list[Places], trained: list[list[list[float]]], initial: list[list[list[float]]]
) -> dict[str, Any]:
    """Count the bends of all seeds by what they are near, and what chance would give.

    Parameters
    ----------
    places : list of Places
        Of every seed's samples.
    trained, initial : list
        The places and changes of every seed's bends.
    """
    at = [[np.array([place for place, _ in own]) for own in part] for part in (trained, initial)]
    kinds = [[one.kinds(points) for one, points in zip(places, part, strict=True)] for part in at]
    free = [points[kind >= MIRROR] for points, kind in zip(at[0], kinds[0], strict=True)]
    hits = [int((kind == MIRROR).sum()) for kind in kinds[0]]
    reflected = [
        bool(near(points, one.corners[one.reflected], one.reach).any())
        for one, points in zip(places, at[0], strict=True)
    ]
    shares, counts = [one.share for one in places], [len(points) for points in free]
    law = hit_at_random(shares, counts)
    seeds = sum(hit > 0 for hit in hits)
    # Seeds with the same samples share a draw, as they share their mirrors.
    draws, alike = np.random.default_rng(0), {}
    shifted = []
    for one, points in zip(places, free, strict=True):
        key = one.data.tobytes()
        if key not in alike:
            alike[key] = draws.random((DRAWS, len(one.pieces)))
        shifted.append(moved(points, one, alike[key]))
    elsewhere = np.sum(shifted, axis=0)
    return {
        "trained": _counts(kinds[0]),
        "initial": _counts(kinds[1]),
        # Seeds with a bend at a mirror; with one there or at a corner that is a mirror.
        "seeds": seeds,
        "seeds_reflected": sum(hit > 0 or at for hit, at in zip(hits, reflected, strict=True)),
        "seeds_initial": sum(bool((kind == MIRROR).any()) for kind in kinds[1]),
        "seeds_even": float(f"{law @ np.arange(len(law)):.4g}"),
        "seeds_moved": float(f"{np.mean(np.sum([s > 0 for s in shifted], axis=0)):.4g}"),
        "even": float(f"{np.dot(shares, counts):.4g}"),
        "moved": float(f"{elsewhere.mean():.4g}"),
        "p_even": float(f"{law[seeds:].sum():.3g}"),
        "p_moved": float(f"{(1 + (elsewhere >= sum(hits)).sum()) / (1 + DRAWS):.3g}"),
    }


def _counts(kinds: list[Ints]) -> dict[str, int]:
    """How many bends are near what."""
    found = np.bincount(np.concatenate(kinds), minlength=len(KINDS))
    return {kind: int(count) for kind, count in zip(KINDS, found, strict=True)}


def _short(value: float) -> float | None:
    """Six digits; None for a run that has diverged."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
