"""The Lasso with one-dimensional mirrors or wedge products as features, to rounding."""

from convexlib.solvers.lasso.dictionary import lasso, lasso_path, optimal_set, solve_path, wedge

__all__ = ["lasso", "lasso_path", "optimal_set", "solve_path", "wedge"]
