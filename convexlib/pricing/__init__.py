"""The best neuron for a dual point: climbed to, bounded, and proved to be the best."""

from convexlib.pricing.ascent import ascend, search
from convexlib.pricing.best_neuron import Pricing, price, spectral_bound
from convexlib.pricing.condense import row_space

__all__ = ["Pricing", "ascend", "price", "row_space", "search", "spectral_bound"]
