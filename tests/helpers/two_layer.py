"""Two-layer problems that several test files share."""

import numpy as np
import torch

import convexlib as cl
from tests.helpers.references import targets_for


def gaussian(n=10, d=2, seed=0):
    """Standard normal samples (n, d) and targets (n,)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def tensors(n, d, seed=0):
    """The same as tensors."""
    return tuple(torch.from_numpy(part) for part in gaussian(n, d, seed))


def random_problem(n, d, seed=0, fraction=0.1, *, loss="squared", n_patterns=None, **options):
    """A program on Gaussian data, over all patterns or a sample, beta a fraction of beta_max."""
    X, y = gaussian(n, d, seed)
    if n_patterns:
        options["arrangements"] = cl.sample_arrangements(X, n_patterns, seed=seed)
    return at_fraction(X, targets_for(loss, y), fraction, loss=loss, **options)


def at_fraction(X, y, fraction, **options):
    """The problem with beta a fraction of its beta_max (or 1 if that is 0)."""
    problem = cl.TwoLayer(X, y, beta=1.0, **options)
    top = problem.beta_max()
    return problem.with_beta(fraction * top) if top > 1e-12 else problem


def small_instance(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A random (X, y, beta / beta_max) with n <= 12, d <= 3 and beta from 1e-3 to 0.9 beta_max."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 13)), int(rng.integers(1, 4))
    fraction = 10 ** rng.uniform(-3, np.log10(0.9))
    return rng.standard_normal((n, d)), rng.standard_normal(n), fraction
