"""Which networks have certificates, and what to say about the others."""

from __future__ import annotations

from torch import nn

from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import ParallelReLU, TwoLayerReLU
from convexlib.networks.two_layer import layers_of
from convexlib.validation import check_choice

REGULARIZERS = ("weight decay", "three layers", "path")
BATCHNORM = ["Linear", "BatchNorm1d", "ReLU", "Linear"]

_MIRRORS = "It belongs to a Mirrors problem, whose result.gap is its certificate."
_SMOOTH = "Only piecewise linear networks have a finite convex program; use ReLU."
_PATCHES = "Only fully connected layers are read: certify the part that follows, on its inputs."
_ADVICE = {
    "Threshold": 'Networks of one feature with thresholds are Mirrors(activation="threshold"), '
    "whose result.gap is their certificate.",
    "LeakyReLU": 'Those of one feature are Mirrors(activation="leaky"), whose result.gap is their '
    "certificate.",
    "Dropout": "It changes the objective; without it the network can be certified.",
    "BatchNorm1d": "It is read in Linear -> BatchNorm1d -> ReLU -> Linear.",
    **dict.fromkeys(("ParallelUnits", "SwitchingUnits"), _MIRRORS),
    **dict.fromkeys(("Tanh", "Sigmoid", "GELU", "SiLU", "ELU", "Softplus"), _SMOOTH),
    **dict.fromkeys(("Conv1d", "Conv2d", "MultiheadAttention", "LSTM", "GRU"), _PATCHES),
}


def depth_of(network: nn.Module) -> int:
    """Layers of weights of a network that has a certificate; others are refused by name."""
    if isinstance(network, TwoLayerReLU):
        return 2
    if isinstance(network, ParallelReLU):
        return len(network.inner) + 2
    if isinstance(network, nn.ModuleList) and len(network):
        return depth_of(network[0])
    kinds = kinds_of(network)
    if kinds == BATCHNORM:
        return 2
    depth = (len(kinds) + 1) // 2
    if depth < 2 or kinds != ["Linear", "ReLU"] * (depth - 1) + ["Linear"]:
        advice = next((f" {_ADVICE[kind]}" for kind in kinds if kind in _ADVICE), "")
        raise NotCertifiableError(
            f"cannot certify {' -> '.join(kinds)}; expected a TwoLayerReLU, a ParallelReLU, or an "
            f"nn.Sequential of Linear and ReLU in turn, from Linear to Linear.{advice}"
        )
    return depth


def kinds_of(network: nn.Module) -> list[str]:
    """Names of the layers of an nn.Sequential, or of the network."""
    return [type(layer).__name__ for layer in layers_of(network)] or [type(network).__name__]


def regularizer_of(network: nn.Module, depth: int, regularizer: str | None) -> str:
    """The penalty that is meant, or the reason why there is none."""
    if regularizer is not None:
        check_choice(regularizer, REGULARIZERS, "regularizer")
    if kinds_of(network) == BATCHNORM and regularizer not in (None, "weight decay"):
        raise InputError(
            f"regularizer is {regularizer!r}, but a batch-normalised network is measured by "
            '"weight decay" only.'
        )
    if depth == 2 and regularizer == "three layers":
        raise InputError(
            'regularizer is "three layers" but the network has 2; expected "weight decay" or '
            '"path".'
        )
    if depth == 2:
        return regularizer or "weight decay"
    choices = '"three layers" or "path"' if depth == 3 else '"path"'
    if regularizer == "weight decay":
        raise NotCertifiableError(
            f"weight decay on all {depth} layers has no convex program of this kind: it is not "
            "positively homogeneous of degree one in the sub-networks. Certify the network with "
            f"regularizer={choices}."
        )
    if regularizer is None or (regularizer == "three layers" and depth != 3):
        got = "not given" if regularizer is None else f'"{regularizer}"'
        raise InputError(
            f"regularizer is {got} and the network has {depth} layers; expected {choices}. "
            "Weight decay on all layers has no convex program of this kind."
        )
    return regularizer
