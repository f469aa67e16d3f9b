"""Units: the linear pieces of whole sub-networks, their lists, and the programs over them."""

from convexlib.problems.parallel.program import UnitProgram
from convexlib.problems.parallel.units import Units, enumerate_units, sample_units

__all__ = ["UnitProgram", "Units", "enumerate_units", "sample_units"]
