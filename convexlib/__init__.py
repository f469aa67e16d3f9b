"""Convex training of ReLU networks, with certificates of global optimality."""

from convexlib import datasets
from convexlib.arrangements import (
    Arrangements,
    count_bound,
    enumerate_arrangements,
    sample_arrangements,
)
from convexlib.certify import Certificate, certify
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from convexlib.problems.mirrors import Mirrors
from convexlib.problems.two_layer import TwoLayer
from convexlib.result import Result, Status
from convexlib.solvers.solve import solve

__all__ = [
    "Arrangements",
    "Certificate",
    "Mirrors",
    "Result",
    "Status",
    "TwoLayer",
    "TwoLayerGatedReLU",
    "TwoLayerReLU",
    "certify",
    "count_bound",
    "datasets",
    "enumerate_arrangements",
    "sample_arrangements",
    "solve",
]
