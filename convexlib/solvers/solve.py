"""The one door to all solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convexlib.errors import InputError
from convexlib.problems.base import Problem
from convexlib.problems.geometry import WedgeLasso
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.parallel import UnitProgram
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result
from convexlib.solvers.fista import fista
from convexlib.solvers.generate import generate
from convexlib.solvers.lasso import lasso
from convexlib.solvers.oracle import oracle
from convexlib.solvers.ssnal import ssnal
from convexlib.solvers.units import generate_units
from convexlib.solvers.wedge import wedge
from convexlib.validation import check_choice, check_real

METHODS: dict[str, Callable[..., Result]] = {
    "oracle": oracle,
    "fista": fista,
    "ssnal": ssnal,
    "generate": generate,
    "lasso": lasso,
    "units": generate_units,
    "wedge": wedge,
}


def solve(problem: Problem, tol: float = 1e-6, method: str = "auto", **options: Any) -> Result:
    r"""Solve a problem to a relative duality gap of `tol`.

    Parameters
    ----------
    problem : Problem
        For instance `TwoLayer(X, y, beta=...)`.
    tol : float
        Relative duality gap, ``(value - dual) / value``, at which to stop.
    method : {"auto", "ssnal", "fista", "generate", "lasso", "units", "wedge", "oracle"}
        ``"auto"`` takes ``"lasso"`` for `Mirrors`, ``"wedge"`` for `WedgeLasso`, ``"units"`` for
        `ThreeLayer` and `PathRegularized`, ``"generate"`` for a problem without patterns and
        ``"ssnal"`` otherwise;
        ``result.method`` says what ran.
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
    if not isinstance(problem, Problem):
        raise InputError(
            f"problem is {type(problem).__name__}; expected a problem such as "
            "TwoLayer(X, y, beta=...)."
        )
    tol = check_real(tol, "tol")
    if tol <= 0:
        raise InputError(f"tol is {tol:g}; expected tol > 0, a relative duality gap.")
    check_choice(method, ("auto", *METHODS), "method")
    if method == "auto":
        generates = isinstance(problem, TwoLayer) and problem.arrangements is None
        method = "generate" if generates else "ssnal"
        if isinstance(problem, Mirrors):
            method = "lasso"
        elif isinstance(problem, UnitProgram):
            method = "units"
        elif isinstance(problem, WedgeLasso):
            method = "wedge"
    return METHODS[method](problem, tol=tol, **options)
