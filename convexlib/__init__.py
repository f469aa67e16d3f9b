"""Convex training of ReLU networks, with certificates of global optimality."""

from convexlib import datasets
from convexlib.arrangements import (
    Arrangements,
    count_bound,
    enumerate_arrangements,
    sample_arrangements,
)
from convexlib.certify import Certificate, certify
from convexlib.certify_batchnorm import certify_batchnorm
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from convexlib.problems.batchnorm import BatchNorm, batchnorm_closed_form
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.solve import solve

__all__ = [
    "Arrangements",
    "BatchNorm",
    "Certificate",
    "Mirrors",
    "Result",
    "Status",
    "TwoLayer",
    "TwoLayerGatedReLU",
    "TwoLayerReLU",
    "batchnorm_closed_form",
    "certify",
    "certify_batchnorm",
    "count_bound",
    "datasets",
    "enumerate_arrangements",
    "sample_arrangements",
    "solve",
]
