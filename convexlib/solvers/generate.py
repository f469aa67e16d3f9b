r"""Column generation: two-layer training over all patterns without listing them.

The program restricted to a few patterns is solved exactly; its dual point z is priced, that is
:math:`\max_{\|u\| \le 1} |z^\top (Xu)_+|` is sought. A neuron above beta brings a new pattern; if
there is none, z is feasible for all neurons and the restricted optimum is the global one. Dividing
z by (an upper bound on) that maximum makes it feasible in every round, hence a lower bound on the
training objective of **every** two-layer network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.arrangements import Arrangements
from convexlib.errors import SolverError
from convexlib.pricing import ascend, price
from convexlib.problems.base import Problem
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker
from convexlib.solvers.ssnal import ssnal

_STARTS = 200  # random directions per pricing round
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
        Cones that the final proof may examine; more rank needs more (see `convexlib.pricing`).
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
    X, y, beta = problem.X, problem.y, problem.beta
    generator = torch.Generator().manual_seed(seed)
    tracker = Tracker(problem, "generate")
    if directions is None:
        directions = X.new_zeros((0, X.shape[1]))
    new = _local_maxima(X, y, directions, generator, 0.0)
    neurons, z = directions, y
    weights, arrangements = problem.zeros(), None
    status, target = Status.MAX_ITER, beta
    bar = tqdm(total=max_iter, desc="rounds", disable=None if progress else True)
    for iteration in range(1, max_iter + 1):
        arrangements = patterns_of(X, torch.cat([neurons, new]))
        restricted = problem.with_arrangements(arrangements)
        inner = ssnal(restricted, tol=max(0.1 * tol, 1e-10), start_z=z)
        z, weights = inner.z, inner.weights
        used = torch.linalg.vector_norm(weights, dim=2) > 0  # (2, P)
        neurons = torch.cat([weights[0][used[0]], weights[1][used[1]]])
        new = _local_maxima(X, z, neurons, generator, beta * (1.0 + 0.1 * tol))
        if len(new):
            tracker.update(iteration, weights, tracker.z)
        else:
            # Nothing found by ascent: search everywhere, and prove the bound.
            slack = max(inner.value * tol / max(float(y @ z), 1e-300), 1e-12)
            priced = price(X, z, target=target, rtol=0.2 * slack, max_nodes=max_nodes)
            scaled = min(1.0, beta / priced.upper) if priced.upper > 0 else 1.0
            gap = tracker.update(iteration, weights, problem.loss.best_scale(z, y, scaled) * z)
            if gap <= tol:
                status = Status.CONVERGED
                break
            new = _local_maxima(X, z, priced.candidates, generator, beta)
            if not len(new):
                status = Status.UNPROVEN
                break
        bar.update()
    bar.close()
    scope = "network"
    return tracker.result(status, iteration, scope=scope, arrangements=arrangements)


def patterns_of(X: Tensor, directions: Tensor) -> Arrangements:
    """The distinct patterns of some neurons."""
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    masks = X @ directions.T >= 0  # (n, m)
    distinct, inverse = torch.unique(masks.T, dim=0, return_inverse=True)
    first = torch.empty(len(distinct), dtype=torch.long, device=X.device)
    first[inverse.flip(0)] = torch.arange(len(inverse) - 1, -1, -1, device=X.device)
    return Arrangements(masks=distinct, gates=directions[first], exhaustive=False)


def _local_maxima(
    X: Tensor, z: Tensor, starts: Tensor, generator: torch.Generator, level: float
) -> Tensor:
    """Distinct directions with |z^T (Xu)_+| above the level, best first."""
    d = X.shape[1]
    random = torch.randn(_STARTS, d, generator=generator, dtype=torch.float64).to(X)
    nudged = starts
    if len(starts):
        # Optimal neurons sit on the boundaries of their cells: look into the neighbours.
        noise = torch.randn(starts.shape, generator=generator, dtype=torch.float64).to(X)
        sizes = torch.linalg.vector_norm(starts, dim=1, keepdim=True)
        nudged = torch.cat([starts, starts + 0.3 * sizes * noise / d**0.5])
    values, found = ascend(X, z, torch.cat([nudged, random]))
    order = values.abs().argsort(descending=True)
    order = order[values[order].abs() > level]
    return found[order[:_ADDED]]
