"""Which samples lie on one line: one answer for enumeration, pricing and column generation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.arrangements.rowspace import DOUBLE, parallel_rows, reduce_rows
from convexlib.pricing.condense import condense
from convexlib.solvers.generate import merge_rows


def noisy_pairs(noise: float, seed: int = 0, pairs: int = 20, d: int = 4) -> np.ndarray:
    """Rows and multiples of them, moved by a relative `noise`."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((pairs, d))
    moved = rows * (1.0 + noise * (-1.0) ** np.arange(d))
    return np.concatenate([rows, rng.uniform(0.5, 2.0, (pairs, 1)) * moved])


def counts(X: np.ndarray) -> list[int]:
    """Lines according to each user."""
    z = np.random.default_rng(1).standard_normal(len(X))
    free = cl.TwoLayer(X, z, beta=0.1, arrangements="generate")
    condensed = condense(torch.from_numpy(X), torch.from_numpy(z))
    return [len(reduce_rows(X).rows), len(condensed.rows), len(merge_rows(free).problem.y)]


@pytest.mark.parametrize("scale", [1.0, np.array([1e-9, 1.0, 1e-3, 1e6])], ids=["one", "many"])
@pytest.mark.parametrize(("noise", "expected"), [(0.0, 20), (3e-14, 20), (1e-9, 40)])
def test_twenty_noisy_pairs_are_as_many_lines_for_all(noise, expected, scale):
    for seed in range(5):
        assert counts(noisy_pairs(noise, seed) * scale) == [expected] * 3


def test_a_row_is_near_the_one_that_stands_for_it():
    rng = np.random.default_rng(0)
    # Clouds of rows about a few lines, wider than the tolerance: groups must not chain.
    centres = rng.standard_normal((3, 5))
    rows = centres[rng.integers(3, size=300)]
    rows = rows + 2e-13 * rng.standard_normal(rows.shape)
    rows *= rng.choice([-1.0, 1.0], (300, 1)) * 10.0 ** rng.integers(-200, 200, (300, 1))
    label, side = parallel_rows(rows)
    assert (label <= np.arange(300)).all()
    assert (label[label] == label).all()
    assert 3 < len(set(label)) < 300
    unit = rows / np.abs(rows).max(axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    distance = np.linalg.norm(unit - side[:, None] * unit[label], axis=1)
    assert distance.max() <= 2 * 5**0.5 * DOUBLE.parallel
    # No two that stand for a line are on one line.
    kept = np.unique(label)
    assert (parallel_rows(rows[kept])[0] == np.arange(len(kept))).all()


def test_bounds_pay_for_what_was_merged():
    X = noisy_pairs(3e-14)
    rng = np.random.default_rng(2)
    y = rng.standard_normal(len(X))
    merged = merge_rows(cl.TwoLayer(X, y, beta=0.1, arrangements="generate"))
    z = torch.from_numpy(rng.standard_normal(20))
    lifted = merged.lift(z)
    data = condense(torch.from_numpy(X), lifted)
    # Both move a neuron's value by less than they say, and say little.
    for direction in rng.standard_normal((50, 4)):
        u = torch.from_numpy(direction / np.linalg.norm(direction))
        exact = float(lifted @ torch.relu(torch.from_numpy(X) @ u))
        small = float(z @ torch.relu(merged.problem.X @ u))
        assert abs(exact - small) <= merged.rounding(z) <= 1e-11
        v = (data.basis.T @ u).numpy()
        value = data.tilt @ v + data.weights @ np.maximum(data.rows @ v, 0.0)
        assert abs(exact - 2.0**data.exponent * value) <= 2.0**data.exponent * data.hidden <= 1e-11
