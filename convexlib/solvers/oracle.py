"""The oracle: the program handed to an interior-point solver, for small problems.

It shares no code with the other solvers but the problem's definition in CVXPY and the projection
onto cones that its answer takes, so agreement with it is evidence.

The interior-point solver's tolerances are absolute. So it is given the program of data of size one,
by powers of two, which round nothing; the answer is judged in the given units.
"""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from convexlib.errors import SolverError
from convexlib.problems.base import Problem
from convexlib.result import Result, Status
from convexlib.solvers.base import Tracker, need

# Entries of the dense design matrix beyond which an interior-point method takes minutes and
# gigabytes.
MAX_DESIGN = 20_000_000
_ROUNDING = 1e-12  # of columns, against the largest


def oracle(problem: Problem, *, tol: float = 1e-6, max_design: int = MAX_DESIGN) -> Result:
    """Solve with CVXPY and Clarabel.

    The solver's answer satisfies the cones only to its tolerance; it is projected onto them before
    its value is taken, so the value returned is that of a feasible point.

    Raises
    ------
    SolverError
        If the problem is too large, or the solver's status is not optimal.
    """
    import cvxpy as cp

    problem = need(problem, Problem, "oracle")
    entries = problem.zeros().numel() * len(problem.y)
    if entries > max_design:
        raise SolverError(
            f"the oracle would build a design of {entries:.1e} entries, more than "
            f"max_design={max_design:.0e}. Use method='auto'."
        )
    tracker = Tracker(problem, "oracle", tol)
    problem = tracker.problem
    # By the smallest column that is not rounding beside the largest: Clarabel balances what is
    # larger than one, and misses what is far below.
    columns = problem.X.abs().reshape(-1, problem.X.shape[-1]).amax(dim=0)
    size = _power_of_two(columns[columns >= _ROUNDING * columns.max()].min())
    # Labels are of size one, and the other losses have no units.
    height = _power_of_two(problem.y) if problem.loss.name == "squared" else 1.0
    program = problem._scaled(size, height).to_cvxpy()
    others = [name for name in problem.methods if name != "oracle"]
    advice = f"Use method={others[0]!r}." if others else "No other method solves it."
    accuracy = min(1e-9, 1e-3 * tol)
    settings = {"tol_gap_abs": accuracy, "tol_gap_rel": accuracy, "tol_feas": accuracy}
    with warnings.catch_warnings():
        # CVXPY warns when Clarabel stops short of these strict settings; the gap decides here.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        try:
            program.problem.solve(solver=cp.CLARABEL, **settings)
        except cp.SolverError as error:
            raise SolverError(f"Clarabel failed ({error}). {advice}") from error
    if program.problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise SolverError(
            f"Clarabel ended with status {program.problem.status!r}; expected 'optimal'. {advice}"
        )
    weights: Tensor = program.read_weights() * (height / size**problem._degree)
    z = problem.dual_scaling(program.read_z() * height)
    tracker.update(1, problem.project(weights), z)
    return tracker.result(Status.STALLED, 1)


def _power_of_two(values: Tensor) -> float:
    """The power of two below the largest entry."""
    return math.ldexp(0.5, math.frexp(float(values.abs().max()))[1])
