"""What `outlook` says before a fit, against what fits then do."""

import warnings

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError
from tests.helpers.refusals import refused


def planted(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X = np.column_stack([X, np.ones(n)])
    return X, np.maximum(X @ rng.standard_normal((d + 1, 4)), 0).sum(axis=1) + rng.normal(0, 0.5, n)


def test_the_scale_of_beta_is_that_of_the_program():
    X, y = planted(50, 2)
    expected = cl.outlook(X, y, beta=1.0)
    top = cl.TwoLayer(X, y, beta=1.0, arrangements="generate").beta_max()
    assert top <= expected.beta_max <= 1.01 * top
    assert (expected.n, expected.d, expected.rank, expected.lines) == (50, 3, 3, 50)
    assert cl.outlook(X, y, beta=1.02 * top).reach == "zero"
    several = cl.outlook(X, np.column_stack([0.1 * y, y]), beta=1.0)
    assert several.beta_max == pytest.approx(expected.beta_max)
    labels = np.sign(y - np.median(y - 1e-9))
    assert cl.outlook(X, labels, beta=1.0, loss="logistic").beta_max < expected.beta_max


def test_samples_on_one_line_count_once():
    X = np.array([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.0, 1.0]])
    assert cl.outlook(X, np.ones(4), beta=0.1).lines == 2


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "part"), [(100, 2, 1e-3), (400, 3, 1e-2), (100, 4, 1e-1)])
def test_a_proof_that_is_announced_is_made(n, d, part):
    X, y = planted(n, d, seed=1)
    beta = part * cl.outlook(X, y, beta=1.0).beta_max
    assert cl.outlook(X, y, beta=beta).reach == "proof"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cl.ConvexReLURegressor(beta=beta, fit_bias=False).fit(X, y).gap_ <= 1e-4


def test_what_is_out_of_reach_is_said():
    X, y = planted(60, 8)
    said = str(cl.outlook(X, y, beta=1.0))
    assert "60 samples (60 directions), 9 features of rank 9" in said
    assert "a proof is out of reach" in said
    assert "sizes" not in said
    X[:, 0] *= 1e4
    assert "features have sizes" in str(cl.outlook(X, y, beta=1.0))


def test_no_data_and_no_targets_are_zero():
    assert cl.outlook(np.zeros((3, 2)), np.ones(3), beta=1.0).reach == "zero"
    assert cl.outlook(torch.ones(3, 2), torch.zeros(3), beta=1.0).beta_max == 0.0


def test_sizes_whose_squares_vanish_are_told_apart():
    X = np.array([[1.0, 1e-170, 0.0], [2.0, 3e-170, 0.0]])
    assert cl.outlook(X, np.ones(2), beta=1.0).apart == pytest.approx(1e170 / 2**0.5)


test_refusals = refused(
    [
        (lambda: cl.outlook(np.ones((3, 2)), np.ones(2), beta=1.0), InputError, "y"),
        (lambda: cl.outlook(np.ones((3, 2)), np.ones(3), beta=0.0), InputError, "beta is 0"),
        (lambda: cl.outlook(np.ones((3, 2)), np.ones(3), beta=1.0, loss="l1"), InputError, "loss"),
        (lambda: cl.outlook(np.ones((3, 2)), 2 * np.ones(3), beta=1.0, loss="logistic"),
         InputError, "are not labels"),
    ]
)  # fmt: skip
