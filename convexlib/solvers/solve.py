"""The one door to all solvers: a problem and a method, or a sequence of regularisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch

from convexlib.checks import check_choice, check_seconds, check_tol
from convexlib.errors import unwarned
from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.runtime import clock, time_limit
from convexlib.solvers.base import (
    Tracker,
    check_options,
    check_start,
    down_the_path,
    interrupted,
    need,
    need_problem,
    uninterrupted,
    watching,
)

# Where each solver is: its module, which is imported when it runs, and its name there.
METHODS = {
    "oracle": ("oracle", "oracle"),
    "fista": ("first_order", "fista"),
    "ssnal": ("ssnal", "ssnal"),
    "generate": ("generate", "generate"),
    "lasso": ("lasso", "lasso"),
    "units": ("units", "generate_units"),
    "wedge": ("lasso", "wedge"),
    "proximal_gradient": ("first_order", "proximal_gradient"),
    "admm": ("first_order", "admm"),
    "irls": ("first_order", "irls"),
}


def solve(
    problem: Problem,
    tol: float = 1e-6,
    method: str = "auto",
    *,
    max_seconds: float | None = None,
    **options: Any,
) -> Result:
    r"""Solve a problem to a relative duality gap of `tol`.

    Parameters
    ----------
    problem : Problem
        For instance `TwoLayer(X, y, beta=...)`.
    tol : float
        Relative duality gap, ``(value - dual) / value``, at which to stop.
    method : str
        ``"auto"`` or one of ``problem.methods``; ``result.method`` says what ran. ``"auto"`` takes
        the first of those:

        * ``"ssnal"`` for `TwoLayer`, `BatchNorm`, `Threshold` and the columns of `VectorOutput`:
          its Newton steps reach high accuracy in tens of iterations, with cones or without,
          whatever the regularisation;
        * ``"generate"`` for a problem without patterns: it makes them;
        * ``"admm"`` for `Convolution`, `Attention` and `VectorOutput` with the nuclear norm up to
          10,000 samples: it factors one (n, n) matrix and then needs about a tenth of the
          iterations of ``"fista"``, which stands in above that. On the cones of a small
          `Convolution` it needs thousands, and ``"oracle"`` takes its place;
        * ``"lasso"`` for `Mirrors`, ``"wedge"`` for `WedgeLasso` and `ReflectionLasso`, which no
          other knows, ``"units"`` for `ThreeLayer` and `PathRegularized`.

        The others are references: ``"oracle"`` (an interior-point solver, for small problems),
        ``"proximal_gradient"`` and ``"fista"`` (gated problems), ``"irls"`` (gated, kernel
        regression) and ``"admm"``.
    max_seconds : float, optional
        Seconds on the wall, those of compiling kernels aside, after which the best so far is
        returned, with a valid bound and ``Status.OUT_OF_TIME``. A solver looks at the clock in
        every iteration; ``"oracle"``, which has none of its own, ends late. What is returned then
        depends on the speed of the machine; without a limit it does not.
    **options
        Passed to the solver (see its docstring).

    Returns
    -------
    Result
        If it did not converge, ``result.status`` says so and a ConvergenceWarning is given.

    Raises
    ------
    InputError
        For something that is not a problem, an unknown method or option, a bad tolerance or time.
    SolverError
        If the method cannot solve this kind of problem.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1)
    >>> result = cl.solve(problem)
    >>> round(result.value, 4), result.converged, result.method
    (0.3583, True, 'ssnal')
    >>> round(cl.solve(problem, method="oracle").value, 4)
    0.3583
    """
    need_problem(problem)
    tol = check_tol(tol)
    check_choice(method, ("auto", *METHODS), "method")
    if method == "auto":
        method = problem.methods[0]
    need(problem, Problem, method)
    module, name = METHODS[method]
    solver = getattr(import_module(f"convexlib.solvers.{module}"), name)
    check_options(solver, method, options)
    seconds = math.inf if max_seconds is None else check_seconds(max_seconds)
    run = _solve_columns if problem.separable else _solve_within
    return run(problem, solver, seconds, tol=tol, **options)


def _solve_within(
    problem: Problem, solver: Callable[..., Result], seconds: float, **options: Any
) -> Result:
    """What a solver returns, or the best that it has when it is stopped."""
    with time_limit(seconds), watching() as trackers:
        try:
            return solver(problem, **options)
        except KeyboardInterrupt as stop:
            return interrupted(trackers, stop)


def _solve_columns(
    problem: Problem, solver: Callable[..., Result], seconds: float, *, tol: float, **options: Any
) -> Result:
    """Solve every column with `solver` to `tol`; values and bounds add up to one gap.

    Starts are split along their last axis. ``n_iter`` is the sum. Each column gets its share of the
    seconds that are left.
    """
    tracker = Tracker(problem, "columns", tol)
    results: list[Result] = []
    columns, end = problem.each_output(), clock() + seconds
    starts = {
        name: check_start(options[name], (..., len(columns)), name)
        for name in ("start", "start_z")
        if options.get(name) is not None
    }
    with unwarned():  # the gap of all columns together is reported once, at the end
        for k, column in enumerate(columns):
            own = {name: value[..., k] for name, value in starts.items()}
            share = max(end - clock(), 0.0) / (len(columns) - k)
            result = _solve_within(column, solver, share, tol=tol, **(options | own))
            results.append(uninterrupted(result))
    tracker.method = results[0].method
    weights = torch.stack([result.weights for result in results], dim=-1).to(tracker.problem.X)
    z = torch.stack([result.z for result in results], dim=-1)
    n_iter = sum(result.n_iter for result in results)
    tracker.update(n_iter, weights, z)
    unfinished = [result.status for result in results if not result.converged]
    # Rounding may keep the sum from what every column has reached.
    return tracker.result(next(iter(unfinished), Status.STALLED), n_iter)


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
        Its own beta does not matter. ``"ssnal"`` and ``"lasso"`` start from the solution at the
        beta before, ``"generate"`` from its neurons. Other methods solve one by one.
    betas : sequence of float
        All > 0, in any order.
    tol : float
        Relative duality gap of every solution, as in `solve`.
    progress : bool
        Show a progress bar on a terminal.
    **options
        Passed to `solve`: a method, and what its solver knows.

    Returns
    -------
    list of Result
        In the order of `betas`. What did not converge says so and a ConvergenceWarning is given.

    Raises
    ------
    InputError
        For something that is not a problem, no betas, one that is not a positive number, or an
        unknown option.

    Notes
    -----
    An interrupt ends the path; nothing is returned then. Checked by
    ``tests/solvers/test_solve.py``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> problem = cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=1.0)
    >>> betas = [0.5 * problem.beta_max(), problem.beta_max()]
    >>> [round(result.value, 2) for result in cl.solution_path(problem, betas)]
    [2.13, 2.5]
    """
    need_problem(problem)

    def solved(beta: float, last: Result | None) -> Result:
        return uninterrupted(solve(problem.with_beta(beta), tol=tol, **(_starts(last) | options)))

    return down_the_path(betas, solved, progress)


def _starts(last: Result | None) -> dict[str, Any]:
    """Options that start the same solver from another beta's result."""
    if last is None:
        return {}
    if last.method == "ssnal":
        return {"start": last.weights, "start_z": last.z}
    if last.method == "lasso":
        return {"start": last}
    if last.method == "generate":
        neurons = last.weights.reshape(-1, last.weights.shape[-1])
        return {"directions": neurons[neurons.any(dim=1)]}
    return {}
