"""One-dimensional networks as Lasso models."""

from convexlib.problems.mirrors.program import Mirrors

__all__ = ["Mirrors"]
