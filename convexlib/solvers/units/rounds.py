r"""Column generation over units: three layers and path regularisation to a certified gap.

A program over few units is solved by an interior-point method. Its multiplier z is priced by the
support functions of **all** units' cones, each a projection or a few of them: units above beta
join, and z divided by the largest of their upper bounds (over beta) is feasible for all of them.
At most n blocks are needed, so the programs solved stay small while the list may be long. Problems
without a list go to `convexlib.solvers.units.search`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convexlib.checks import check_positive_int
from convexlib.errors import InputError
from convexlib.problems.base import Problem
from convexlib.problems.parallel import UnitProgram
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, check_options, need
from convexlib.solvers.units.master import pruned, restricted
from convexlib.solvers.units.search import search_units

_ADDED = 24  # blocks at most added per round
_FALL = 1e-9  # of the value, relative: less may be the inner solver's error


def generate_units(
    problem: Problem, *, tol: float = 1e-6, max_iter: int = 200, **options: Any
) -> Result:
    """Solve a `ThreeLayer` or `PathRegularized` program.

    Parameters
    ----------
    tol : float
        Relative gap between the value and the bound over all units of the problem.
    max_iter : int
        Rounds.
    **options
        For a problem with ``units="generate"``: see
        `convexlib.solvers.units.search.search_units`.

    Raises
    ------
    SolverError
        For another problem, or if the interior-point method fails.
    InputError
        For an option that the problem has no use for.
    """
    problem = need(problem, UnitProgram, "units")
    check_positive_int(max_iter, "max_iter")
    if problem.generates:
        check_options(search_units, "units", options)
        return search_units(problem, tol=tol, max_iter=max_iter, **options)
    if options:
        raise InputError(
            f"units does not know the option {next(iter(options))!r} for a problem with a list of "
            'units; expected tol and max_iter. Others are for units="generate".'
        )
    tracker = Tracker(problem, "units", tol)
    problem = tracker.problem
    z = problem.loss.dual_point(torch.zeros_like(problem.y), problem.y)
    tracker.update(0, problem.zeros(), problem.dual_scaling(z))
    blocks = _violated(problem, z, 0.0)
    iteration, lowest = 0, np.inf
    while tracker.gap > tol and len(blocks) and iteration < max_iter:
        iteration += 1
        weights, z = restricted(problem, blocks)
        tracker.update(iteration, pruned(problem, weights), problem.dual_scaling(z))
        # A violation below the margin moves the bound by less than the gap asked for.
        margin = 0.1 * tol * tracker.primal / max(float(problem.y @ z), 1e-300)
        new = np.setdiff1d(_violated(problem, z, problem.beta * (1.0 + margin)), blocks)
        if not len(new):
            break  # no unit is missing: what is left of the gap is the inner solver's
        # Blocks that are not used go, but only where the value has fallen: a loss with kinks has
        # many multipliers, and the same blocks would come and go for ever.
        value = problem.value(weights)
        if value < lowest * (1.0 - _FALL):
            used = problem.norms(weights).cpu().numpy().ravel()
            blocks = np.flatnonzero(used > 1e-9 * used.max())
        lowest = min(lowest, value)
        blocks = np.union1d(blocks, new)
    return tracker.result(Status.MAX_ITER if iteration == max_iter else Status.STALLED, iteration)


def _violated(problem: UnitProgram, z: Tensor, level: float) -> NDArray[np.int64]:
    """The blocks whose support function at z is the furthest above the level."""
    point, everything = z.double().cpu().numpy(), np.arange(len(problem.units))
    sides = [
        problem.cones.maxima(side * point, everything, problem.by_sum, level, 1e-9)[0]
        for side in (1.0, -1.0)
    ]
    heights = np.concatenate(sides)
    order = np.argsort(-heights, kind="stable")[:_ADDED]
    return order[heights[order] > level]
