"""Contrast of two colours, by the definitions of WCAG 2."""

import numpy as np
from matplotlib.colors import to_rgb


def luminance(colour: object) -> float:
    """Return the relative luminance of a colour that matplotlib can read, alpha left out."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: object, second: object) -> float:
    """Return the contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
