"""Plain torch networks: what a reader gets back, and what a certificate starts from."""

from convexlib.networks.parallel import ParallelReLU
from convexlib.networks.two_layer import (
    Neurons,
    TwoLayerGatedReLU,
    TwoLayerReLU,
    TwoLayerWeights,
    balanced,
    outputs,
    read_two_layer,
    side_by_side,
    squared_weights,
)

__all__ = [
    "Neurons",
    "ParallelReLU",
    "TwoLayerGatedReLU",
    "TwoLayerReLU",
    "TwoLayerWeights",
    "balanced",
    "outputs",
    "read_two_layer",
    "side_by_side",
    "squared_weights",
]
