"""Three layers and path regularisation: units from a list, or found by search."""

from convexlib.solvers.units.low_rank import LowRankPath, low_rank_path
from convexlib.solvers.units.rounds import generate_units

__all__ = ["LowRankPath", "generate_units", "low_rank_path"]
