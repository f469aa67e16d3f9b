"""The baselines: descent on the non-convex training problem."""

from convexlib.solvers.descent.grid import OPTIMIZERS
from convexlib.solvers.descent.parallel import train_parallel
from convexlib.solvers.descent.training import Training, now
from convexlib.solvers.descent.two_layer import train

__all__ = ["OPTIMIZERS", "Training", "now", "train", "train_parallel"]
