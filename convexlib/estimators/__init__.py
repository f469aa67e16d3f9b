"""The library as scikit-learn estimators."""

from convexlib.estimators.classifier import ConvexReLUClassifier
from convexlib.estimators.mirrors import MirrorRegressor
from convexlib.estimators.regressor import ConvexReLURegressor

__all__ = ["ConvexReLUClassifier", "ConvexReLURegressor", "MirrorRegressor"]
