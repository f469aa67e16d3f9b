"""Solvers: functions from a problem to a Result, one algorithm a file.

`convexlib.solve` chooses among them. Over given patterns: `ssnal` (the main one), `first_order` and
`oracle`. Over all patterns: `generate`. Deeper networks: `units`. One-dimensional networks and
wedge products: `lasso`. For beta to 0: `interpolation`. `convexlib.solution_path` solves for many
beta; `refine` and `optimal_set` start from a solution.
"""

from convexlib.solvers.interpolation import interpolate, interpolation_norm, pursue
from convexlib.solvers.lasso import lasso_path, solve_path

__all__ = ["interpolate", "interpolation_norm", "lasso_path", "pursue", "solve_path"]
