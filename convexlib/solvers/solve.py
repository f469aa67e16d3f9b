"""The one door to all solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convexlib.problems.base import Problem
from convexlib.problems.convolution import Convolution
from convexlib.problems.geometry import WedgeLasso
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.units import UnitProgram
from convexlib.problems.vector_output import VectorOutput
from convexlib.result import Result
from convexlib.solvers.base import interrupted, need_problem, watching
from convexlib.solvers.column_generation import generate
from convexlib.solvers.columns import solve_columns
from convexlib.solvers.first_order.admm import MAX_SAMPLES, admm
from convexlib.solvers.first_order.fista import fista
from convexlib.solvers.first_order.irls import irls
from convexlib.solvers.first_order.proximal_gradient import proximal_gradient
from convexlib.solvers.lasso import lasso, wedge
from convexlib.solvers.oracle import oracle
from convexlib.solvers.ssnal import ssnal
from convexlib.solvers.units import generate_units
from convexlib.validation import check_choice, check_tol

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
