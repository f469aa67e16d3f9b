"""The baselines: descent on the non-convex training problem."""

from convexlib.training.descent import OPTIMIZERS, Training, now
from convexlib.training.parallel import train_parallel
from convexlib.training.two_layer import train

__all__ = ["OPTIMIZERS", "Training", "now", "train", "train_parallel"]
