"""Solvers: functions from a problem to a Result, one algorithm a file.

`solve` chooses among them. Over given patterns: `ssnal` (the main one), `first_order` and
`oracle`. Over all patterns: `column_generation`. Deeper networks: `units`. One-dimensional networks
and wedge products: `lasso`. For beta to 0: `interpolation`. Without convexity: `descent`.
`solution_path` solves for many beta; `prune`, `refine` and `optimal_set` start from a solution.
"""
