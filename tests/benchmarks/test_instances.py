"""The instances are those of the published optima."""

import numpy as np
import pytest
import torch

import convexlib as cl
from benchmarks.instances import instance


@pytest.mark.parametrize(
    ("name", "ratio", "optimum"),
    [
        ("s", 1e-2, 4.21586921),
        ("a", 1e-1, 72.438532885),
        ("a", 1e-2, 10.8774817905),
        ("c", 1e-2, 42.396205841),
    ],
)
def test_gated_optima(name, ratio, optimum):
    data = instance(name)
    patterns = cl.Arrangements(torch.from_numpy(data.masks), torch.from_numpy(data.gates))
    problem = cl.TwoLayer(
        data.X, data.y, beta=ratio * data.beta_max, arrangements=patterns, gated=True
    )
    result = cl.solve(problem, tol=1e-8)
    assert result.value == pytest.approx(optimum, rel=2e-8)


@pytest.mark.parametrize("name", ["s", "c", "60x4x30"])
def test_scaling_and_patterns(name):
    data = instance(name)
    assert np.linalg.norm(data.X, axis=0) == pytest.approx(np.ones(data.X.shape[1]))
    assert data.y @ data.y == pytest.approx(len(data.y))
    assert np.array_equal(data.masks, (data.X @ data.gates.T >= 0).T)
    assert len(np.unique(data.masks, axis=0)) == len(data.masks)
    assert data.masks.any(axis=1).all()


def test_beta_max_is_where_zero_becomes_optimal():
    data = instance("60x4x30")
    largest = max(np.linalg.norm(data.X.T @ (mask * data.y)) for mask in data.masks)
    assert data.beta_max == pytest.approx(largest, rel=1e-12)


def test_heartbeats_have_no_patterns():
    data = instance("ecg2x100")
    assert data.X.shape == (100, 3)
    assert data.masks.shape == (0, 100)
    assert (data.X[:, 2] == 1).all()


@pytest.mark.parametrize("name", ["q", "10x3", "ecg2"])
def test_unknown_name(name):
    with pytest.raises(KeyError, match=f"no instance '{name}'"):
        instance(name)
