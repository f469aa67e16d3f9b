r"""Standard networks of one input, trained by standard optimisers from standard starts.

Fully connected networks with two or three hidden layers minimise the objective of `cl.Mirrors`,

.. math:: \tfrac12 \|f(x) - y\|^2 + \tfrac\beta{L} \sum |\text{weight}|^L ,

with free biases, on standardised inputs and targets. A narrow network of `Mirrors` is one of them
(with zeros for weights), so the optimum of the Lasso is an upper bound on theirs. Part *squares*
has :math:`\tfrac\beta2 \sum \text{weight}^2` instead, for which no such program is known, part
*faint* almost no penalty. Part *parallel* trains what the program is about, narrow units in
parallel, in the same way: a check that bends at mirrors are found where they are.

The start is that of ``torch.nn.Linear``: everything uniform up to one over the root of the number
of a layer's inputs. Adam sees all samples, SGD half of them at a time, in an order of its own for
each seed; rates fall along half a cosine. All seeds and rates are one network with two leading
axes. The rate whose median final objective over the seeds is least is the one that counts: nobody
looks at bends for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from convexlib.arrays import Floats
from convexlib.checks import check_choice
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.mirrors.networks import ParallelUnits
from convexlib.result import Result
from convexlib.solvers.lasso import optimal_set
from convexlib.solvers.solve import solve
from convexlib.training.descent import Grid, descend
from experiments.reflections.chance import tally
from experiments.reflections.kinks import Places, bends, breakpoints
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
    masks : list of Tensor
        What each of them is multiplied by: a unit matrix where units are narrow and in parallel.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        activation: str,
        seeds: list[int],
        rates: int,
        parallel: bool = False,
    ) -> None:
        self.depth, self.name = depth, activation
        self.activation = {"abs": torch.abs, "relu": torch.relu}[activation]
        inputs = [1] + [width] * (depth - 1)
        fans = [1] * (depth - 1) + [width] if parallel else inputs
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]

        def uniform(fan: int, *shape: int) -> Tensor:
            draw = [torch.rand(shape, generator=source, dtype=torch.float64) for source in sources]
            return ((2.0 * torch.stack(draw) - 1.0) / fan**0.5)[:, None].repeat(1, rates, 1, 1)

        shapes = list(zip(fans, inputs, [*inputs[1:], 1], strict=True))
        layers = [
            (uniform(fan, shape, outputs), uniform(fan, 1, outputs))
            for fan, shape, outputs in shapes
        ]
        weights = tuple(part for parts in zip(*layers, strict=True) for part in parts)
        narrow = torch.eye(width, dtype=torch.float64)
        inner = range(1, depth - 1) if parallel else ()
        self.masks = [narrow if k in inner else torch.ones(()) for k in range(2 * depth)]
        self.weights = tuple(part * mask for part, mask in zip(weights, self.masks, strict=True))

    def outputs(self, weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
        """Return outputs (S, R, n) for inputs (S, n)."""
        h = x[:, None, :, None]
        for layer in range(self.depth):
            h = h @ weights[layer] + weights[self.depth + layer]
            if layer < self.depth - 1:
                h = self.activation(h)
        return h[..., 0]

    def objectives(
        self, weights: tuple[Tensor, ...], x: Tensor, y: Tensor, beta: Tensor, power: int
    ) -> tuple[Tensor, Tensor]:
        """Return losses and penalties (S, R) for samples (S, n)."""
        loss = 0.5 * ((self.outputs(weights, x) - y[:, None]) ** 2).sum(dim=2)
        price = sum((part.abs() ** power).sum(dim=(2, 3)) for part in weights[: self.depth])
        return loss, beta[:, None] / power * price

    def bends(self, s: int, r: int, x: Tensor, threshold: float) -> list[list[float]]:
        """Return the bends of one network (`bent`)."""
        parts = [part[s, r] for part in self.weights]
        biases = [part[0] for part in parts[self.depth :]]
        return bent(parts[: self.depth], biases, self.name, x, threshold)


def bent(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    x: Tensor,
    threshold: float,
) -> list[list[float]]:
    """Return the places of a network's bends, as fractions of the hull of x, and their changes."""
    low, high = float(x[0]), float(x[-1])
    matrices, shifts = ([part.numpy() for part in parts] for parts in (weights, biases))
    places, changes = breakpoints(matrices, shifts, activation, low, high)
    places, changes = bends((places - low) / (high - low), changes, threshold)
    return [
        [round(float(place), DIGITS), float(f"{change:.3g}")]
        for place, change in zip(places, changes, strict=True)
    ]


def narrow(problem: Mirrors, result: Result, threshold: float) -> list[list[float]]:
    """Return the bends of an optimal narrow network, as a connected one with zeros for weights."""
    units = cast(ParallelUnits, problem.to_network(result))
    first, *later = units.weights.detach()
    weights = [first[None], *map(torch.diag, later), units.alpha.detach()[:, None]]
    biases = [*units.biases.detach(), units.bias.detach()[None]]
    return bent(weights, biases, problem.activation, problem.X[:, 0], threshold)


def lassos(config: dict[str, Any]) -> list[Mirrors]:
    """Return the Lasso of every seed at beta 1; a single one where they share their samples."""
    seeds = config["seeds"] if config["set"] == "drawn" else config["seeds"][:1]
    kind = {"depth": config["depth"], "activation": config["activation"]}
    drawn = [map(standardised, samples(config["set"], seed)) for seed in seeds]
    return [Mirrors(*pair, beta=1.0, **kind) for pair in drawn]


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Train a cell, and return where its networks end and bend."""
    seeds, rates, threshold = config["seeds"], config["rates"], config["threshold"]
    raw = [samples(config["set"], seed) for seed in seeds]
    pairs = [(standardised(inputs), standardised(targets)) for inputs, targets in raw]
    betas, optima, dimensions, parallel = [], [], [], []
    for lasso in lassos(config):
        betas.append(beta_of(config, lasso.beta_max()))
        lasso = lasso.with_beta(betas[-1])
        result = solve(lasso, tol=1e-10)
        optima.append(result.value)
        dimensions.append(optimal_set(lasso, result).dimension)
        parallel.append(narrow(lasso, result, threshold))
    layers = config["depth"], config["width"], config["activation"]
    networks = Networks(*layers, seeds, len(rates), config["part"] == "parallel")
    X, Y = (torch.from_numpy(np.array(values)) for values in zip(*pairs, strict=True))
    initial = [networks.bends(s, 0, X[s], threshold) for s in range(len(seeds))]
    beta = torch.tensor(betas, dtype=torch.float64).expand(len(seeds))
    final = descended(networks, X, Y, beta, config)
    best = int(np.median(final, axis=0).argmin())
    trained = [
        networks.bends(s, best, X[s], threshold) if np.isfinite(final[s, best]) else []
        for s in range(len(seeds))
    ]
    return {
        "beta": betas,
        "lasso": optima,
        "dimensions": dimensions,  # of the set of optima of each Lasso
        "rate": rates[best],
        "diverged": [int(count) for count in np.isinf(final).sum(axis=0)],
        "objective": [_short(value) for value in final[:, best]],
        "by_rate": [_short(value) for value in np.median(final, axis=0)],
        "bends": trained,
        # To draw the first seed's function: its places and values at the ends and at its bends.
        "drawn": drawn(networks, best, X, trained[0]),
        "tallies": [
            {"reach": reach}
            | tally([Places.of(*pair, reach) for pair in pairs], trained, initial, parallel)
            for reach in config["reach"]
        ],
    }


def drawn(
    networks: Networks, r: int, X: Tensor, bends: list[list[float]]
) -> list[list[float | None]]:
    """Return places, as fractions of the hull, and values of the first seed's function."""
    places = torch.tensor([0.0, *(place for place, _ in bends), 1.0], dtype=torch.float64)
    points = X[0, 0] + places * (X[0, -1] - X[0, 0])
    values = networks.outputs(networks.weights, points.expand(len(X), -1))[0, r]
    return [
        [float(place), _short(float(value), 5)] for place, value in zip(places, values, strict=True)
    ]


def descended(
    networks: Networks, X: Tensor, Y: Tensor, beta: Tensor, config: dict[str, Any]
) -> Floats:
    """Train on samples (S, n) with a beta for each seed; the objectives (S, R) where it ends."""
    name, (seeds, n) = config["optimizer"], X.shape
    power = 2 if config["part"] == "squares" else config["depth"]
    own = torch.arange(seeds)[:, None]

    def slopes(rows: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        leaves = tuple(part.detach().requires_grad_() for part in networks.weights)
        batch = own, rows.long()
        loss, price = networks.objectives(leaves, X[batch], Y[batch], beta, power)
        found = torch.autograd.grad((loss * (n / rows.shape[1]) + price).sum(), leaves)
        return tuple(part * mask for part, mask in zip(found, networks.masks, strict=True))

    # Every seed has samples of its own, so batches are drawn of their numbers.
    numbers = torch.arange(n, dtype=torch.float64)
    size = n if name == "adam" else n // 2
    limits = config["steps"], np.inf
    grid = Grid(f"{name}-cosine", tuple(config["rates"]), tuple(config["seeds"]), *limits, size, 1)
    descend(grid, numbers, numbers, networks.weights, slopes, lambda *_: None)
    loss, price = networks.objectives(networks.weights, X, Y, beta, power)
    final = (loss + price).numpy()
    return np.where(np.isfinite(final), final, np.inf)


def _short(value: float, digits: int = 6) -> float | None:
    """Few digits; None for a run that has diverged."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
