"""Convex training of ReLU networks, with certificates of global optimality."""

from typing import TYPE_CHECKING, Any

import convexlib.runtime  # noqa: F401  # first: it finds a place for the kernels of the others
from convexlib import datasets
from convexlib.arrangements import (
    Arrangements,
    count_bound,
    enumerate_arrangements,
    sample_arrangements,
)
from convexlib.arrangements.zonotope import (
    cross_product,
    wedge_volumes,
    zonotope_vertices,
    zonotope_volume,
)
from convexlib.certify import (
    Certificate,
    MissingNeuron,
    Polished,
    certify,
    certify_batchnorm,
    missing_neuron,
    polish,
)
from convexlib.certify.outlook import Outlook, outlook
from convexlib.networks import ParallelReLU, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.networks.parallel import as_parallel, path_norm
from convexlib.networks.prune import prune_neurons
from convexlib.problems.batchnorm import BatchNorm, batchnorm_closed_form
from convexlib.problems.extensions.attention import Attention, token_pairs
from convexlib.problems.extensions.convolution import Convolution, image_patches
from convexlib.problems.extensions.threshold import Threshold
from convexlib.problems.looking_glass import ReflectionLasso
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.parallel import Units, enumerate_units, sample_units
from convexlib.problems.parallel.path import PathRegularized
from convexlib.problems.parallel.three_layer import ThreeLayer
from convexlib.problems.two_layer import TwoLayer
from convexlib.problems.vector_output import VectorOutput
from convexlib.problems.wedges import WedgeLasso
from convexlib.result import Result, Status
from convexlib.solvers.optimal_set import OptimalSet, optimal_set
from convexlib.solvers.solve import solution_path, solve
from convexlib.solvers.units import LowRankPath, low_rank_path

if TYPE_CHECKING:
    from convexlib.estimators import ConvexReLUClassifier, ConvexReLURegressor, MirrorRegressor

__all__ = [
    "Arrangements",
    "Attention",
    "BatchNorm",
    "Certificate",
    "ConvexReLUClassifier",
    "ConvexReLURegressor",
    "Convolution",
    "LowRankPath",
    "MirrorRegressor",
    "Mirrors",
    "MissingNeuron",
    "OptimalSet",
    "Outlook",
    "ParallelReLU",
    "PathRegularized",
    "Polished",
    "ReflectionLasso",
    "Result",
    "Status",
    "ThreeLayer",
    "Threshold",
    "TwoLayer",
    "TwoLayerGatedReLU",
    "TwoLayerReLU",
    "Units",
    "VectorOutput",
    "WedgeLasso",
    "as_parallel",
    "batchnorm_closed_form",
    "certify",
    "certify_batchnorm",
    "count_bound",
    "cross_product",
    "datasets",
    "enumerate_arrangements",
    "enumerate_units",
    "image_patches",
    "low_rank_path",
    "missing_neuron",
    "optimal_set",
    "outlook",
    "path_norm",
    "polish",
    "prune_neurons",
    "sample_arrangements",
    "sample_units",
    "solution_path",
    "solve",
    "token_pairs",
    "wedge_volumes",
    "zonotope_vertices",
    "zonotope_volume",
]


def __getattr__(name: str) -> Any:
    # The estimators need scikit-learn, which takes longer to import than all else.
    if name in {"ConvexReLUClassifier", "ConvexReLURegressor", "MirrorRegressor"}:
        from convexlib import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
