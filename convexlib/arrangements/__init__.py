"""Activation patterns of a ReLU on data: which samples can be active together."""

from convexlib.arrangements.patterns import (
    Arrangements,
    count_bound,
    enumerate_arrangements,
    patterns_of,
    sample_arrangements,
)

__all__ = [
    "Arrangements",
    "count_bound",
    "enumerate_arrangements",
    "patterns_of",
    "sample_arrangements",
]
