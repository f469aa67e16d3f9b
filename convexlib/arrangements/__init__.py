"""Activation patterns of a ReLU on data: which samples can be active together."""

from convexlib.arrangements.enumeration import count_bound, enumerate_arrangements
from convexlib.arrangements.patterns import Arrangements
from convexlib.arrangements.sampling import sample_arrangements

__all__ = ["Arrangements", "count_bound", "enumerate_arrangements", "sample_arrangements"]
