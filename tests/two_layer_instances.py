"""Two-layer problems that several test files share."""

import numpy as np

import convexlib as cl


def reference_data(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((6, 2)), rng.standard_normal(6)


def at_fraction(X, y, fraction, **options):
    """The problem with beta a fraction of its beta_max (or 1 if that is 0)."""
    problem = cl.TwoLayer(X, y, beta=1.0, **options)
    top = problem.beta_max()
    return problem.with_beta(fraction * top) if top > 1e-12 else problem
