"""The one door to all solvers: a problem and a method, or a sequence of regularisations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from convexlib.checks import check_betas, check_choice, check_tol
from convexlib.errors import ConvergenceWarning
from convexlib.problems.base import Problem
from convexlib.problems.extensions.convolution import Convolution
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.problems.wedges import WedgeLasso
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, interrupted, need_problem, watching
from convexlib.solvers.first_order import MAX_SAMPLES, admm, fista, irls, proximal_gradient
from convexlib.solvers.generate import generate
from convexlib.solvers.lasso import lasso, solve_path, wedge
from convexlib.solvers.oracle import oracle
from convexlib.solvers.ssnal import ssnal
from convexlib.solvers.units import generate_units

SMALL_DESIGN = 1_000_000  # entries with which an interior-point solver is done in about a second

METHODS: dict[str, Callable[..., Result]] = {
    "oracle": oracle,
    "fista": fista,
    "ssnal": ssnal,
    "generate": generate,
    "lasso": lasso,
    "units": generate_units,
    "wedge": wedge,
    "proximal_gradient": proximal_gradient,
    "admm": admm,
    "irls": irls,
}


def solve(problem: Problem, tol: float = 1e-6, method: str = "auto", **options: Any) -> Result:
    r"""Solve a problem to a relative duality gap of `tol`.

    Parameters
    ----------
    problem : Problem
        For instance `TwoLayer(X, y, beta=...)`.
    tol : float
        Relative duality gap, ``(value - dual) / value``, at which to stop.
    method : str
        ``"auto"`` or one of the solvers below; ``result.method`` says what ran. ``"auto"`` takes

        * ``"ssnal"`` for `TwoLayer`, `BatchNorm`, `Threshold` and the columns of `VectorOutput`:
          its Newton steps reach high accuracy in tens of iterations, with cones or without,
          whatever the regularisation;
        * ``"generate"`` for a problem without patterns: it makes them;
        * ``"admm"`` for `Convolution`, `Attention` and `VectorOutput` with the nuclear norm up to
          10,000 samples: it factors one (n, n) matrix and then needs about a tenth of the
          iterations of ``"fista"``, which stands in above that. On the cones of a small
          `Convolution` it needs thousands, and ``"oracle"`` takes its place if the data are of
          moderate size (1e-3 to 1e3);
        * ``"lasso"`` for `Mirrors`, ``"wedge"`` for `WedgeLasso`, ``"units"`` for `ThreeLayer`
          and `PathRegularized`: the only ones that know these programs.

        The others are references: ``"oracle"`` (an interior-point solver, for small problems),
        ``"proximal_gradient"`` and ``"fista"`` (gated problems), ``"irls"`` (gated, kernel
        regression) and ``"admm"``.
    **options
        Passed to the solver (see its docstring).

    Returns
    -------
    Result
        If it did not converge, ``result.status`` says so and a ConvergenceWarning is given.

    Raises
    ------
    InputError
        For something that is not a problem, an unknown method or a bad tolerance.
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
        method = _chosen(problem)
    if isinstance(problem, VectorOutput) and problem.separable:
        return solve_columns(problem, METHODS[method], tol=tol, **options)
    with watching() as trackers:
        try:
            return METHODS[method](problem, tol=tol, **options)
        except KeyboardInterrupt:
            return interrupted(trackers, problem)


def _chosen(problem: Problem) -> str:
    """The method of "auto", for the reasons in the docstring of `solve`."""
    if isinstance(problem, Mirrors):
        return "lasso"
    if isinstance(problem, WedgeLasso):
        return "wedge"
    if isinstance(problem, UnitProgram):
        return "units"
    if isinstance(problem, TwoLayer) and problem.arrangements is None:
        return "generate"
    if isinstance(problem, TwoLayer) or (isinstance(problem, VectorOutput) and problem.separable):
        return "ssnal"
    if isinstance(problem, Convolution) and problem.constrained:
        small = problem.zeros().numel() * len(problem.rows.X) <= SMALL_DESIGN
        sizes = float(problem.X.abs().max()), float(problem.y.abs().max())
        # The interior-point solver's tolerances are absolute.
        moderate = min(sizes) >= 1e-3 and max(sizes) <= 1e3
        return "oracle" if small and moderate else "admm"
    return "admm" if len(problem.y) <= MAX_SAMPLES else "fista"


def solve_columns(
    problem: VectorOutput, solver: Callable[..., Result], *, tol: float, **options: Any
) -> Result:
    """Solve every column with `solver` to `tol`; values and bounds add up to one gap.

    Options that are tensors (starts) are split along their last axis. ``n_iter`` is the sum.
    """
    tracker = Tracker(problem, "columns")
    results = []
    with warnings.catch_warnings():
        # What counts is the gap of all columns together, and that is reported once, at the end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k, column in enumerate(problem.columns):
            own = {
                name: value[..., k] if isinstance(value, Tensor) else value
                for name, value in options.items()
            }
            results.append(solver(column, tol=tol, **own))
    tracker.method = results[0].method
    weights = torch.stack([result.weights for result in results], dim=-1)
    z = torch.stack([result.z for result in results], dim=-1)
    n_iter = sum(result.n_iter for result in results)
    gap = tracker.update(n_iter, weights, z)
    unfinished = [result.status for result in results if not result.converged]
    # Rounding may keep the sum from what every column has reached.
    status = Status.CONVERGED if gap <= tol else next(iter(unfinished), Status.STALLED)
    return tracker.result(status, n_iter, arrangements=problem.arrangements)


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
