"""The library as scikit-learn estimators."""

from convexlib.estimators.mirrors import MirrorRegressor
from convexlib.estimators.relu import ConvexReLUClassifier, ConvexReLURegressor

__all__ = ["ConvexReLUClassifier", "ConvexReLURegressor", "MirrorRegressor"]
