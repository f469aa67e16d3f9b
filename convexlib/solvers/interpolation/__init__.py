"""Minimum-norm interpolation: the limit of the programs as beta falls to 0."""

from convexlib.solvers.interpolation.mirrors import interpolate
from convexlib.solvers.interpolation.two_layer import pursue

__all__ = ["interpolate", "pursue"]
