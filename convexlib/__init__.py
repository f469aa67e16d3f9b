"""Convex training of ReLU networks, with certificates of global optimality.

Each name is imported where it is first used, so that `import convexlib` itself loads neither
torch nor numba.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from convexlib import datasets
    from convexlib import errors as errors
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
        certify,
        certify_batchnorm,
        missing_neuron,
    )
    from convexlib.certify.outlook import Outlook, outlook
    from convexlib.certify.polish import Polished, polish
    from convexlib.estimators import ConvexReLUClassifier, ConvexReLURegressor, MirrorRegressor
    from convexlib.networks import ParallelReLU, TwoLayerGatedReLU, TwoLayerReLU
    from convexlib.networks.parallel import as_parallel, path_norm
    from convexlib.networks.prune import prune_neurons
    from convexlib.problems.attention import Attention, token_pairs
    from convexlib.problems.batchnorm import BatchNorm, batchnorm_closed_form
    from convexlib.problems.convolution import Convolution, image_patches
    from convexlib.problems.looking_glass import ReflectionLasso
    from convexlib.problems.mirrors import Mirrors
    from convexlib.problems.parallel import Units, enumerate_units, sample_units
    from convexlib.problems.parallel.path import PathRegularized
    from convexlib.problems.parallel.three_layer import ThreeLayer
    from convexlib.problems.threshold import Threshold
    from convexlib.problems.two_layer import TwoLayer
    from convexlib.problems.vector_output import VectorOutput
    from convexlib.problems.wedges import WedgeLasso
    from convexlib.result import Result, Status
    from convexlib.solvers.optimal_set import OptimalSet, optimal_set
    from convexlib.solvers.solve import solution_path, solve
    from convexlib.solvers.units import LowRankPath, low_rank_path

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

# What is where; type checkers read the imports above.
_PLACES = {
    "arrangements": "Arrangements count_bound enumerate_arrangements sample_arrangements",
    "arrangements.zonotope": "cross_product wedge_volumes zonotope_vertices zonotope_volume",
    "certify": "Certificate MissingNeuron certify certify_batchnorm missing_neuron",
    "certify.outlook": "Outlook outlook",
    "certify.polish": "Polished polish",
    "estimators": "ConvexReLUClassifier ConvexReLURegressor MirrorRegressor",
    "networks": "ParallelReLU TwoLayerGatedReLU TwoLayerReLU",
    "networks.parallel": "as_parallel path_norm",
    "networks.prune": "prune_neurons",
    "problems.batchnorm": "BatchNorm batchnorm_closed_form",
    "problems.attention": "Attention token_pairs",
    "problems.convolution": "Convolution image_patches",
    "problems.threshold": "Threshold",
    "problems.looking_glass": "ReflectionLasso",
    "problems.mirrors": "Mirrors",
    "problems.parallel": "Units enumerate_units sample_units",
    "problems.parallel.path": "PathRegularized",
    "problems.parallel.three_layer": "ThreeLayer",
    "problems.two_layer": "TwoLayer",
    "problems.vector_output": "VectorOutput",
    "problems.wedges": "WedgeLasso",
    "result": "Result Status",
    "solvers.optimal_set": "OptimalSet optimal_set",
    "solvers.solve": "solution_path solve",
    "solvers.units": "LowRankPath low_rank_path",
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names.split()}


if not TYPE_CHECKING:  # which would otherwise take every name to be there

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return _version()
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in _MODULES:
            found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
            globals()[name] = found  # from now on without this function
            return found
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    """The version of what is installed."""
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError as error:
        raise AttributeError(
            "convexlib has no __version__ here, since it is not installed; expected what "
            "`pip install -e .` in its checkout leaves."
        ) from error


class _Library(ModuleType):
    """The module itself, in which `certify` is the function, not the package of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python puts a package that it has imported into the one above it, whoever imported it.
        if name == "certify" and isinstance(value, ModuleType):
            value = value.certify
        super().__setattr__(name, value)


def _one_thread() -> None:
    """Give a forked child one thread.

    It inherits torch's pool as a number of threads without threads behind it, and would wait for
    ever at its first threaded product. This is so for torch alone, and for the workers of every
    pool that forks.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


sys.modules[__name__].__class__ = _Library
os.register_at_fork(after_in_child=_one_thread)
