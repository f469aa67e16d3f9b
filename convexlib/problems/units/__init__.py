"""Units: the linear pieces of whole sub-networks, their lists, and the programs over them."""

from convexlib.problems.units.enumeration import enumerate_units
from convexlib.problems.units.pieces import Units, sample_units
from convexlib.problems.units.program import UnitProgram

__all__ = ["UnitProgram", "Units", "enumerate_units", "sample_units"]
