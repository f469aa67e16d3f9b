"""Two-layer training over all patterns, which are generated as they are needed."""

from convexlib.solvers.column_generation.rounds import generate

__all__ = ["generate"]
