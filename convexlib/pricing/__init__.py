"""The best neuron for a dual point: climbed to, bounded, and proved to be the best."""

from convexlib.pricing.ascent import ascend, search
from convexlib.pricing.best_neuron import Pricing, price, spectral_bound
from convexlib.pricing.condense import row_space
from convexlib.pricing.joint import price_outputs

__all__ = ["Pricing", "ascend", "price", "price_outputs", "row_space", "search", "spectral_bound"]
