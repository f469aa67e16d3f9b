"""Solutions for a sequence of regularisations, each started from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from convexlib.problems.base import Problem
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.base import need_problem
from convexlib.solvers.lasso import solve_path
from convexlib.solvers.solve import solve
from convexlib.validation import check_betas


def solution_path(
    problem: Problem,
    betas: Sequence[float],
    *,
    tol: float = 1e-6,
    progress: bool = False,
    **options: Any,
) -> list[Result]:
    r"""Solve a problem for several beta, from the largest down, each from the one before.

    Parameters
    ----------
    problem : Problem
        Its own beta does not matter. `TwoLayer` and `BatchNorm` problems with given patterns and
        `Mirrors` start from the solution at the beta before, ``"generate"`` problems from its
        neurons. Other problems are solved one by one.
    betas : sequence of float
        All > 0, in any order.
    tol : float
        Relative duality gap of every solution, as in `solve`.
    progress : bool
        Show a progress bar on a terminal.
    **options
        Passed to the solver.

    Returns
    -------
    list of Result
        In the order of `betas`. What did not converge says so and a ConvergenceWarning is given.

    Raises
    ------
    InputError
        For something that is not a problem, no betas, or one that is not a positive number.

    Notes
    -----
    An interrupt ends the path; nothing is returned then. Checked by
    ``tests/solvers/test_solution_path.py``.
    """
    need_problem(problem)
    values = check_betas(betas)
    if isinstance(problem, Mirrors) and not options:
        return solve_path(problem, values, tol=tol)
    results: dict[int, Result] = {}
    last: Result | None = None
    order = sorted(range(len(values)), key=lambda place: -values[place])
    for place in tqdm(order, desc="betas", disable=None if progress else True):
        near = {} if last is None else _starts(problem, last)
        last = solve(problem.with_beta(values[place]), tol=tol, **(near | options))
        if last.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        results[place] = last
    return [results[place] for place in range(len(values))]


def _starts(problem: Problem, last: Result) -> dict[str, Any]:
    """Options that start a solver from another beta's result."""
    if not isinstance(problem, TwoLayer):
        return {}
    if problem.arrangements is not None:
        return {"start": last.weights, "start_z": last.z}
    neurons = last.weights.reshape(-1, last.weights.shape[-1])
    return {"directions": neurons[neurons.any(dim=1)]}
