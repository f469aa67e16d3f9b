r"""Column generation: two-layer training over all patterns without listing them.

The program restricted to a few patterns is solved exactly; its dual point z is priced, that is
:math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` is sought. A neuron above beta brings a new pattern; if
there is none, z is feasible for all neurons and the restricted optimum is the global one. Dividing
z by (an upper bound on) that maximum makes it feasible in every round, hence a lower bound on the
training objective of **every** two-layer network.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.arrangements import Arrangements
from convexlib.errors import ConvergenceWarning, SolverError
from convexlib.pricing import ascend, price
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status, relative_gap
from convexlib.solvers.base import Tracker
from convexlib.solvers.ssnal import ssnal
from convexlib.validation import check_positive_int

_STARTS = 100  # random directions per round
_ADDED = 200  # patterns at most added per round


def generate(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 60,
    max_nodes: int = 20_000_000,
    directions: Tensor | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    """Solve ``TwoLayer(X, y, beta=..., arrangements="generate")`` to a global relative gap.

    Parameters
    ----------
    tol : float
        Relative gap between the value and the bound over all networks.
    max_iter : int
        Rounds.
    max_nodes : int
        Cones that a proof may examine; more rank needs more (see `convexlib.pricing`).
    directions : Tensor (m, d), optional
        Neurons whose patterns start the search, for instance those of a trained network.
    seed : int
        Of the random starts of the pricing.
    progress : bool
        Show a progress bar on a terminal.
    """
    if not isinstance(problem, TwoLayer) or problem.arrangements is not None:
        raise SolverError(
            f'generate needs TwoLayer(..., arrangements="generate"); got {problem!r}. '
            "Use method='auto'."
        )
    check_positive_int(max_iter, "max_iter")
    X, y, beta = problem.X, problem.y, problem.beta
    generator = torch.Generator().manual_seed(seed)
    tracker = Tracker(problem, "generate")
    if directions is None:
        directions = X.new_zeros((0, X.shape[1]))
    new = torch.cat([directions, _maxima(X, y, _starts(X, directions, generator), 0.0)])
    if not len(new):  # no neuron correlates with y: any direction will do
        new = X.new_ones((1, X.shape[1]))
    arrangements, start, z = patterns_of(X, new), None, None
    inner_tol, status = 1e-3, Status.MAX_ITER
    bar = tqdm(total=max_iter, desc="rounds", disable=None if progress else True)
    for iteration in range(1, max_iter + 1):
        bar.update()
        restricted = problem.with_arrangements(arrangements)
        with warnings.catch_warnings():
            # What counts is the gap over all networks, and that is reported once, at the end.
            warnings.simplefilter("ignore", ConvergenceWarning)
            inner = ssnal(restricted, tol=inner_tol, start=start, start_z=z)
        z, weights = inner.z, inner.weights
        # Values above beta (1 + margin) would move the bound by more than a part of tol.
        margin = 0.2 * tol * inner.value / max(float(y @ z), 1e-300)
        starts = _starts(X, weights.reshape(-1, X.shape[1]), generator)
        new = _maxima(X, z, starts, beta * (1.0 + margin))
        if not len(new):
            # Climbing found nothing: search everywhere, and prove the bound.
            priced = price(X, z, target=beta, rtol=margin, max_nodes=max_nodes)
            limit = min(1.0, beta / priced.upper) if priced.upper > 0 else 1.0
            scaled = problem.loss.best_scale(z, y, limit) * z
            gap = tracker.update(iteration, weights, scaled, arrangements)
            if gap <= tol:
                status = Status.CONVERGED
                break
            if priced.lower > beta * (1.0 + margin):
                new = priced.direction[None].to(X)
            elif inner.gap > 0.2 * tol:
                inner_tol, start = 0.1 * tol, weights
                continue
            else:
                status = Status.UNPROVEN
                break
        tracker.update(iteration, weights, tracker.z, arrangements)
        highest = float((torch.relu(new @ X.T) @ z).abs().max())
        estimate = problem.dual_value(problem.loss.best_scale(z, y, beta / highest) * z)
        inner_tol = max(0.1 * tol, min(inner_tol, 0.05 * relative_gap(inner.value, estimate)))
        arrangements, start = _extended(arrangements, weights, patterns_of(X, new))
    bar.close()
    return tracker.result(status, iteration, scope="network")


def patterns_of(X: Tensor, directions: Tensor) -> Arrangements:
    """The distinct patterns of some neurons."""
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    masks = (X @ directions.T >= 0).T  # (m, n)
    first = _first_of_each(masks)
    return Arrangements(masks=masks[first], gates=directions[first], exhaustive=False)


def _first_of_each(masks: Tensor) -> Tensor:
    """Indices of the first occurrence of each distinct row, in order."""
    _, inverse = torch.unique(masks, dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(masks), device=masks.device)
    first = first.scatter_reduce(0, inverse, torch.arange(len(masks), device=masks.device), "amin")
    return first.sort().values


def _extended(
    arrangements: Arrangements, weights: Tensor, new: Arrangements
) -> tuple[Arrangements, Tensor]:
    """The patterns in use and the new ones, and the weights carried over to them."""
    used = torch.linalg.vector_norm(weights, dim=2).amax(dim=0) > 0  # (P,)
    masks = torch.cat([arrangements.masks[used], new.masks])
    gates = torch.cat([arrangements.gates[used], new.gates])
    first = _first_of_each(masks)
    start = weights.new_zeros((2, len(first), weights.shape[2]))
    start[:, : int(used.sum())] = weights[:, used]  # used patterns are distinct and come first
    return Arrangements(masks=masks[first], gates=gates[first], exhaustive=False), start


def _starts(X: Tensor, neurons: Tensor, generator: torch.Generator) -> Tensor:
    """Random directions, and the neurons with their neighbourhoods."""
    d = X.shape[1]
    random = torch.randn(_STARTS, d, generator=generator, dtype=torch.float64).to(X)
    sizes = torch.linalg.vector_norm(neurons, dim=1, keepdim=True)
    neurons, sizes = neurons[sizes[:, 0] > 0], sizes[sizes[:, 0] > 0]
    # Optimal neurons sit on the boundaries of their cells: look into the neighbours.
    noise = torch.randn(neurons.shape, generator=generator, dtype=torch.float64).to(X)
    return torch.cat([random, neurons, neurons + 0.3 * sizes * noise / d**0.5])


def _maxima(X: Tensor, z: Tensor, starts: Tensor, level: float) -> Tensor:
    """Local maxima of |z^T (Xu)_+| reached from the starts and above the level, best first."""
    if not len(starts):
        return starts
    values, found = ascend(X, z, starts)
    order = values.abs().argsort(descending=True)
    order = order[values[order].abs() > level]
    return found[order[:_ADDED]]
