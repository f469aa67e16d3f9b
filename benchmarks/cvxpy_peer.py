"""CVXPY with an interior-point or operator-splitting solver, the program written out by hand.

The time is that of ``problem.solve()``, so CVXPY's own translation is in it; the solver's share is
kept beside it.
"""

from __future__ import annotations

from functools import partial

import cvxpy as cp
import numpy as np

from benchmarks.child import Output, Task

# Interior points: Clarabel, ECOS, and QOCO, which has quadratic objectives. SCS splits operators.
SETTINGS = {
    "clarabel": {"tol_gap_rel": 1e-8, "tol_gap_abs": 1e-8, "tol_feas": 1e-8},
    "ecos": {"abstol": 1e-8, "reltol": 1e-8, "feastol": 1e-8},
    "qoco": {"abstol": 1e-8, "reltol": 1e-8},
    "scs": {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 10**6},
}


def _solve(task: Task, output: Output, solver: str) -> None:
    P, d = task.gates.shape
    masks = task.masks.astype(float)
    variables = [cp.Variable((P, d)) for _ in range(1 if task.gated else 2)]
    signed = variables[0] if task.gated else variables[0] - variables[1]
    fitted = cp.sum(cp.multiply(task.X @ signed.T, masks.T), axis=1)
    norms = sum(cp.sum(cp.norm(variable, 2, axis=1)) for variable in variables)
    constraints = []
    if not task.gated:
        signs = 2 * masks - 1
        constraints = [cp.multiply(signs, variable @ task.X.T) >= 0 for variable in variables]
    objective = 0.5 * cp.sum_squares(fitted - task.y) + task.beta * norms
    problem = cp.Problem(cp.Minimize(objective), constraints)
    began = output.begin()
    problem.solve(solver=solver.upper(), **SETTINGS[solver])
    seconds = output.now() - began
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        output.write(failed=problem.status)
        return
    output(
        seconds,
        arrays={"weights": np.stack([variable.value for variable in variables])},
        label=problem.status,
        solver_seconds=problem.solver_stats.solve_time,
    )


clarabel, ecos, qoco, scs = (partial(_solve, solver=solver) for solver in SETTINGS)
