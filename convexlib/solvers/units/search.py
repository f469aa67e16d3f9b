r"""Sub-networks found by search: three layers on data whose units cannot be listed.

On larger data the search starts from the sub-networks of briefly trained networks. Every round
climbs to sub-networks whose height at the residual z exceeds beta , from random ones
and from the neighbourhood of the present ones, takes the best in, and solves a master problem:

* on small data **exactly**: the program over the units that the sub-networks found lie in, as
  `convexlib.solvers.units.rounds` does, and the climbs end at the exact maximum over their unit;
* on larger data the cones have too many walls for that. Then the multiples of the sub-networks are
  found by a nonnegative Lasso, and all leaves descend together by L-BFGS on

  .. math:: \tfrac12 \|f(X) - y\|^2 + \beta \sum_k \|U_k\| .

The value is that of a network, so it is an **upper bound** on the optimum; that no better
sub-network was found proves nothing. The lower bound is `UnitProgram.dual_norm`'s.

**Where it starts.** The networks are trained side by side from different seeds. All their
sub-networks together have at least the optimum of each network alone, since the best multiples are
found jointly.

**Local ascent**: many starts at once, cheap, and no proof. The height of a sub-network at a dual
point z,

.. math:: \phi(U) = \frac{z^\top \big(\sum_j s_j (X u_j)_+\big)_+}{\|U\|} ,

does not change with the size of U and is smooth inside of every cone. Each start follows its own
gradient with its own step, which is doubled while it climbs and halved when it does not.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from torch import Tensor

from convexlib.checks import check_choice, check_positive_int, check_seed
from convexlib.errors import SolverError
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.parallel.units import units_of, weights_from
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker
from convexlib.solvers.units.master import pruned, restricted
from convexlib.training.descent import Grid, descend
from convexlib.training.parallel import Weights, gradients, initial, leaves_of

_ADDED = 24  # sub-networks at most added per round
_ALIKE = 1.0 - 1e-6  # cosine of the outputs of sub-networks that are taken for one
_EXACT_SIZE = 40_000  # nonzeros in the walls of the largest program solved exactly
_PATIENCE = 3  # searches without a find, or rounds without progress, before giving up
_NOISE = (0.1, 0.3, 1.0)  # relative sizes of the steps from the present sub-networks
_DESCENT = 100  # steps of L-BFGS per round
_SMALL = 1e-3  # a leaf below this part of its sub-network's norm is left out of a descent


def search_units(
    problem: UnitProgram,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    n_starts: int = 128,
    seeding: str = "auto",
    seed: int = 0,
) -> Result:
    """Solve a problem with ``units="generate"``, heuristically; its bounds are valid.

    Parameters
    ----------
    tol : float
        Relative gap for ``CONVERGED``; the search ends where rounds gain less than a tenth.
    max_iter : int
        Rounds.
    n_starts : int
        Random sub-networks that climb in every round, beside steps from the present ones.
    seeding : {"auto", "adam", "none"}
        ``"adam"`` starts from the sub-networks of briefly trained networks; ``"auto"`` does so
        where the data are too large for exact rounds.
    seed : int
        Of the training and of the random starts.

    Raises
    ------
    SolverError
        For another loss than the squared one.
    """
    if problem.loss.name != "squared":
        raise SolverError(
            f'units="generate" needs loss="squared"; got {problem.loss.name!r}. Use '
            "units=sample_units(X, n_units=...)."
        )
    check_positive_int(n_starts, "n_starts")
    check_choice(seeding, ("auto", "adam", "none"), "seeding")
    generator = torch.Generator().manual_seed(check_seed(seed))
    tracker = Tracker(problem, "units", tol)
    problem = tracker.problem
    X, y = problem.X.cpu(), problem.y.cpu()
    m, d = problem.widths[0], X.shape[1]

    def solved(found: Found, exact: bool) -> tuple[Found, Tensor]:
        """The sub-networks after a master problem, and the residual."""
        if not len(found[0]):
            return found, y
        # Exact: over the cones of the units in which they lie. On larger data the leaves move by
        # descent, between two Lassos over the multiples, which drop what has become useless.
        if exact:
            return _solved(problem, X, found)
        found = rescaled(problem, X, y, found)
        if len(found[0]):  # no multiple is positive from beta_max on
            found = rescaled(problem, X, y, _descended(problem, X, y, found))
        return found, y - (_outputs(X, *found[:2]) * found[2]).sum(dim=1)

    present: Found = X.new_zeros(0, m, d), X.new_zeros(0, m), X.new_zeros(0)
    z, iteration, idle = y, 0, 0
    exact = _size(problem, _ADDED) <= _EXACT_SIZE
    if seeding == "adam" or (seeding == "auto" and not exact):
        present = trained_units(problem, seed)
        present, z = solved(present, _size(problem, len(present[0])) <= _EXACT_SIZE)
        tracker.update(0, weights_from(*present).to(problem.X), tracker.z)
    while iteration < max_iter and idle < _PATIENCE:
        exact = _size(problem, len(present[0]) + _ADDED) <= _EXACT_SIZE
        # Sub-networks that exceed beta by less cost the bound less than a tenth of tol.
        margin = 0.1 * tol * tracker.primal / max(float(y @ z), 1e-300)
        level = problem.beta * (1.0 + margin)
        new = _candidates(problem, X, z, level, present, n_starts, generator, exact)
        if not len(new[0]) and (exact or not len(present[0])):
            idle += 1  # the master problem is solved already
            continue
        iteration += 1
        leaves, signs, side = (torch.cat(pair) for pair in zip(present, new, strict=True))
        present, z = solved((leaves, signs, side), exact)
        before = tracker.primal
        tracker.update(iteration, weights_from(*present).to(problem.X), tracker.z)
        idle = idle + 1 if tracker.primal >= before * (1.0 - 0.1 * tol) else 0
    tracker.update(iteration, tracker.weights, problem.dual_scaling(z.to(problem.y)))
    return tracker.result(Status.UNPROVEN if idle == _PATIENCE else Status.MAX_ITER, iteration)


def _size(problem: UnitProgram, count: int) -> int:
    """Nonzeros in the walls of the program over `count` units with both output signs."""
    m = problem.widths[0]
    return 2 * count * len(problem.y) * (m + 1) * m * problem.X.shape[1]


def _outputs(X: Tensor, leaves: Tensor, signs: Tensor) -> Tensor:
    """Outputs (n, B) of sub-networks."""
    hidden = torch.einsum("td,kjd->tkj", X, leaves).relu()
    return (hidden * signs).sum(dim=2).relu()


def _candidates(
    problem: UnitProgram,
    X: Tensor,
    z: Tensor,
    level: float,
    present: Found,
    n_starts: int,
    generator: torch.Generator,
    exact: bool,
) -> Found:
    """Sub-networks of norm one whose height at z is above the level, no two alike, best first."""
    leaves, signs, side = present
    m, d = problem.widths[0], X.shape[1]
    random = torch.randn(n_starts, m, d, generator=generator, dtype=torch.float64)
    random_signs = 1.0 - 2.0 * torch.randint(0, 2, (n_starts, m), generator=generator).double()
    random_signs[:, 0] = 1.0
    random_side = 1.0 - 2.0 * (torch.arange(n_starts) % 2).double()
    # Optimal leaves sit on the walls of their unit: look into the neighbours, near and far.
    sizes = torch.linalg.vector_norm(leaves, dim=(1, 2), keepdim=True) / (m * d) ** 0.5
    starts = [random]
    for scale in _NOISE:
        noise = torch.randn(leaves.shape, generator=generator, dtype=torch.float64)
        starts.append(leaves + scale * sizes * noise)
    signs = torch.cat([random_signs, signs.repeat(len(_NOISE), 1)])
    side = torch.cat([random_side, side.repeat(len(_NOISE))])
    heights, climbed = ascend_units(problem, z[:, None] * side, torch.cat(starts), signs)
    if exact:
        heights, climbed, signs, side = _exact_maxima(problem, X, z, climbed, signs, side)
    order = heights.argsort(descending=True, stable=True)
    order = order[heights[order] > level][: 4 * _ADDED]
    outputs = _outputs(X, climbed[order], signs[order]) * side[order]
    outputs = outputs / torch.linalg.vector_norm(outputs, dim=0).clamp(min=1e-300)
    cosines = outputs.T @ outputs
    chosen: list[int] = []
    for i in range(len(order)):
        if len(chosen) < _ADDED and not bool((cosines[i, chosen] > _ALIKE).any()):
            chosen.append(i)
    order = order[chosen]
    return climbed[order], signs[order], side[order]


def _exact_maxima(
    problem: UnitProgram, X: Tensor, z: Tensor, leaves: Tensor, signs: Tensor, side: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Exact heights and maximisers of the units in which sub-networks lie, with their signs."""
    parts = []
    for sign in (1.0, -1.0):
        chosen = side == sign
        outputs = _outputs(X, leaves[chosen], signs[chosen])
        active = outputs.any(dim=0)
        if not bool(active.any()):
            continue
        units = units_of(X, leaves[chosen][active], [signs[chosen][active][:, None]])
        listed = problem.with_units(units)
        index = np.arange(len(units))
        highest, _, best = listed.cones.maxima(sign * z.numpy(), index, problem.by_sum, 0.0, 1e-9)
        U = torch.from_numpy(best).reshape(len(units), *leaves.shape[1:])
        found = torch.from_numpy(units.inner[0][:, 0].astype(np.float64))
        parts.append((torch.from_numpy(highest), U, found, torch.full((len(U),), sign).double()))
    if not parts:
        return side[:0], leaves[:0], signs[:0], side[:0]
    heights, U, found, sides = (torch.cat(group) for group in zip(*parts, strict=True))
    return heights, U, found, sides


def _solved(problem: UnitProgram, X: Tensor, found: Found) -> tuple[Found, Tensor]:
    """The optimum over the units in which sub-networks lie, and its multiplier."""
    leaves, signs, _ = found
    listed = problem.with_units(units_of(X, leaves, [signs[:, None]]))
    weights, z = restricted(listed, np.arange(2 * len(listed.units)))
    leaves, (signs,), side = listed.blocks_of(pruned(listed, weights))
    return (leaves.double(), signs[:, 0].double(), side.double()), z.double()


def rescaled(problem: UnitProgram, X: Tensor, y: Tensor, found: Found) -> Found:
    """The best nonnegative multiples of sub-networks: a small Lasso; zero ones leave."""
    leaves, signs, side = found
    norms = problem.norms(leaves)
    leaves, signs, side, norms = (part[norms > 0] for part in (leaves, signs, side, norms))
    if not len(leaves):
        return leaves, signs, side
    atoms = leaves / norms[:, None, None]
    columns = _outputs(X, atoms, signs) * side  # (n, B)
    gram = (columns.T @ columns).numpy()
    gram[np.diag_indices(len(gram))] += 1e-10 * gram.trace() / len(gram)
    # min 1/2 c^T G c - q^T c over c >= 0, as nonnegative least squares with a root of G.
    root = np.linalg.cholesky(gram)
    target = np.linalg.solve(root, (columns.T @ y).numpy() - problem.beta)
    multiples = torch.from_numpy(nnls(root.T, target)[0])
    kept = multiples > 1e-9 * multiples.max()
    return (atoms * multiples[:, None, None])[kept], signs[kept], side[kept]


def _descended(problem: UnitProgram, X: Tensor, y: Tensor, found: Found) -> Found:
    """All leaves after some steps of L-BFGS on the objective in leaves.

    Leaves that have nearly vanished are set to zero, where they stay: the norm has a kink there,
    at which line searches end.
    """
    leaves, signs, side = found
    shape = leaves.shape
    sizes = torch.linalg.vector_norm(leaves, dim=2, keepdim=True)
    leaves = torch.where(sizes > _SMALL * sizes.sum(dim=1, keepdim=True), leaves, 0.0)

    def evaluate(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        U = torch.from_numpy(values).reshape(shape)
        before, inner = _forward(X, U, signs)
        residual = inner.relu() @ side - y
        slopes = _pulled_back(X, residual[:, None] * side, before, inner, signs)
        if problem.by_sum:
            lengths = torch.linalg.vector_norm(U, dim=2, keepdim=True)
        else:
            lengths = torch.linalg.vector_norm(U, dim=(1, 2), keepdim=True)
        slopes += problem.beta * U / lengths.clamp(min=1e-300)
        value = 0.5 * float(residual @ residual) + problem.beta * float(lengths.sum())
        return value, slopes.numpy().ravel()

    options = {"maxiter": _DESCENT, "maxcor": 20}
    done = minimize(evaluate, leaves.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(done.x).reshape(shape), signs, side


Found = tuple[Tensor, Tensor, Tensor]  # leaves (B, m, d), signs (B, m), output signs (B,)

_NETWORKS = 3
_SUBNETWORKS = 32
_STEPS = 600
_RATE = 0.03
_BATCH = 100
_LIVE = 1e-4  # a sub-network counts if its norm exceeds this part of the largest


def trained_units(problem: UnitProgram, seed: int = 0) -> Found:
    r"""The sub-networks of networks after a short run of Adam, in float64.

    The run is deterministic, on data and targets of unit scale: for :math:`X = c \tilde X` and
    :math:`y = s \tilde y` the networks are those for :math:`\tilde X, \tilde y` and
    :math:`\beta / (c s)`. Checked by ``tests/solvers/units/test_search.py``.
    """
    X, y, m = problem.X.double().cpu(), problem.y.double().cpu(), problem.widths[0]
    size, height = (float(part.square().mean().sqrt()) for part in (X, y))
    if size == 0.0 or height == 0.0:
        return X.new_zeros(0, m, X.shape[1]), X.new_zeros(0, m), X.new_zeros(0)
    beta = problem.beta / (size * height)
    seeds = tuple(_NETWORKS * seed + k for k in range(_NETWORKS))
    weights = initial(seeds, 1, _SUBNETWORKS, m, X)
    grid = Grid("adam-cosine", (_RATE,), seeds, _STEPS, math.inf, _BATCH, n_records=1)

    def slopes(batch_X: Tensor, batch_y: Tensor) -> Weights:
        return gradients(batch_X, batch_y, weights, beta, len(X), problem.by_sum)

    descend(grid, X / size, y / height, weights, slopes, lambda *_: None)
    leaves = (leaves_of(weights, problem.by_sum) * (height / size)).flatten(0, 2)
    norms = problem.norms(leaves)
    live = torch.isfinite(norms) & (norms > _LIVE * norms.nan_to_num(0.0).max())
    signs, side = weights[1].flatten(0, 2).sign(), weights[2].flatten().sign()
    return leaves[live], signs[live], side[live]


_CLIMB = 60  # steps of an ascent
_TINY = 1e-300


def ascend_units(
    problem: UnitProgram, z: Tensor, starts: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Climb from leaves `starts` (B, m, d) with the signs (B, m) at the dual points z (n, B).

    Returns heights (B,), never below those of the starts, and the leaves that have them, of norm
    one.
    """
    X = problem.X.double().cpu()
    U = starts / problem.norms(starts)[:, None, None].clamp(min=_TINY)
    heights, slopes = _heights(X, z, U, signs, problem.by_sum)
    steps = torch.ones_like(heights)
    for _ in range(_CLIMB):
        lengths = torch.linalg.vector_norm(slopes, dim=(1, 2)).clamp(min=_TINY)
        trial = U + (steps / lengths)[:, None, None] * slopes
        trial = trial / problem.norms(trial)[:, None, None].clamp(min=_TINY)
        ahead, next_slopes = _heights(X, z, trial, signs, problem.by_sum)
        better = ahead > heights
        heights = torch.where(better, ahead, heights)
        U = torch.where(better[:, None, None], trial, U)
        slopes = torch.where(better[:, None, None], next_slopes, slopes)
        steps = torch.where(better, (2.0 * steps).clamp(max=1.0), 0.5 * steps)
    return heights, U


def _heights(X: Tensor, z: Tensor, U: Tensor, signs: Tensor, by_sum: bool) -> tuple[Tensor, Tensor]:
    """Heights (B,) of leaves of norm one, and the gradients of the quotient (B, m, d)."""
    before, inner = _forward(X, U, signs)
    heights = (z * inner.relu()).sum(dim=0)
    slopes = _pulled_back(X, z, before, inner, signs)
    sizes = torch.linalg.vector_norm(U, dim=2, keepdim=True).clamp(min=_TINY)
    along = U / sizes if by_sum else U
    return heights, slopes - heights[:, None, None] * along


def _forward(X: Tensor, U: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """What the ReLUs of the first layer (n, B, m) and of the second (n, B) take."""
    before = (X @ U.flatten(0, 1).T).reshape(len(X), *U.shape[:2])
    return before, (before.relu() * signs).sum(dim=2)


def _pulled_back(X: Tensor, z: Tensor, before: Tensor, inner: Tensor, signs: Tensor) -> Tensor:
    """Gradients (B, m, d) in the leaves of the outputs' products with z (n, B), summed."""
    back = (z * (inner > 0))[:, :, None] * signs * (before > 0)  # (n, B, m)
    return (back.flatten(1).T @ X).reshape(*signs.shape, X.shape[1])
