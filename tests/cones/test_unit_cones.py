"""The highest unit of a cone: attained, bounded, and closed by a cone program."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.cones.unit_cones import UnitCones, sum_maximum
from tests.helpers.three_layer import circle


@pytest.mark.parametrize("by_sum", [False, True])
def test_maxima_are_attained_and_bounded(by_sum: bool) -> None:
    X, y, _ = circle()
    units = cl.enumerate_units(X)
    cones = UnitCones(X, units.leaves, units.nodes, units.outputs)
    everything = np.arange(len(units))
    z = np.random.default_rng(2).standard_normal(9)
    lower, upper, best = cones.maxima(z, everything, by_sum)
    blocks = best.reshape(-1, 2, 2)
    norm = np.linalg.norm(blocks, axis=2).sum(1) if by_sum else np.linalg.norm(best, axis=1)
    attained = lower > 1e-9
    np.testing.assert_allclose(norm[attained], 1.0, rtol=1e-12)
    np.testing.assert_allclose(cones.project(everything, best), best, atol=1e-9)
    # The value of the network itself, whose leaves are in the cone.
    hidden = np.maximum(np.einsum("td,kjd->ktj", X, blocks), 0.0)
    hidden = np.maximum((hidden * units.inner[0][:, 0][:, None]).sum(axis=2), 0.0)
    np.testing.assert_allclose((hidden @ z)[attained], lower[attained], rtol=1e-9)
    assert (upper >= lower).all()
    assert np.median((upper - lower)[attained] / upper[attained]) < 1e-10
    assert ((upper - lower) < 1e-3 * upper.max()).all()
    # A threshold decides the side without the value.
    level = np.median(lower[attained])
    low, high, _ = cones.maxima(z, everything, by_sum, level, 1e-9)
    assert (high[lower < 0.99 * level] <= level * (1 + 1e-9)).all()
    assert (low[lower > 1.01 * level] > level).all()


def test_maxima_of_three_leaves_are_closed_by_a_cone_program() -> None:
    X, _, _ = circle()
    units = cl.enumerate_units(X[:5], width=3)
    cones = UnitCones(X[:5], units.leaves, units.nodes, units.outputs)
    rng = np.random.default_rng(0)
    for _ in range(3):
        z = rng.standard_normal(5)
        lower, upper, best = cones.maxima(z, np.arange(len(units)), True, 0.0, 1e-9)
        assert (lower <= upper).all()
        assert ((upper - lower) <= 2e-8 * upper.max()).all()
        sums = np.linalg.norm(best.reshape(-1, 3, 2), axis=2).sum(axis=1)
        np.testing.assert_allclose(sums[lower > 1e-6], 1.0, rtol=1e-9)


def test_the_cone_program_bounds_a_maximum() -> None:
    # In the orthant negative entries are lost, and the maximum is the longest block.
    upper, point = sum_maximum(np.eye(4), np.array([3.0, 4.0, -1.0, 2.0]), 2)
    assert upper == pytest.approx(5.0, rel=1e-8)
    np.testing.assert_allclose(point, [0.6, 0.8, 0.0, 0.0], atol=1e-4)
    upper, _ = sum_maximum(np.eye(4), -np.ones(4), 2)
    assert 0.0 <= upper < 1e-7


@pytest.mark.parametrize("seed", [7, 63, 73, 82, 84, 147])
def test_nearly_equal_rows_bound_as_equal_ones(seed: int) -> None:
    # Walls as close as these have multipliers of 1e11 to 1e28, whose rounding was the bound.
    rng = np.random.default_rng(seed)
    x = 10.0 * rng.standard_normal(4)
    twice, near = rng.choice(4, 2, replace=False)
    distance = 10.0 ** rng.uniform(-11, -6)
    y = rng.standard_normal(4)
    bounds = []
    for apart in (distance, 0.0):
        x[near] = x[twice] + apart
        X = np.stack([x, np.ones(4)], axis=1)
        bounds.append(cl.PathRegularized(X, y, beta=1.0).beta_max())
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)


@pytest.mark.parametrize("seed", [84, 88])
def test_three_nearly_equal_rows_bound_as_equal_ones(seed: int) -> None:
    # Projections ended with multipliers of ordinary size that left all of the point.
    rng = np.random.default_rng(seed)
    x = 10.0 * rng.standard_normal(5)
    apart = [10.0 ** rng.uniform(-12, -5) * rng.choice([-1, 1]) for _ in range(2)]
    y = rng.standard_normal(5)
    bounds = []
    for distances in (np.array(apart), np.zeros(2)):
        x[1:3] = x[0] + distances
        X = np.stack([x, np.ones(5)], axis=1)
        bounds.append(cl.PathRegularized(X, y, beta=1.0).beta_max())
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)


def test_the_zero_network_is_certified_beside_nearly_equal_rows() -> None:
    x = np.array([18.905338179353308, -52.27484414807474, -41.30635433918934, 18.905338180353308])
    X, y = np.stack([x, np.ones(4)], axis=1), np.array([1.144, -0.325, 0.774, 0.281])
    zero = cl.ParallelReLU(torch.zeros(1, 2, 2), [torch.zeros(1, 1, 2)], torch.zeros(1))
    certificate = cl.certify(zero.double(), X, y, beta=40.0, regularizer="path")
    assert certificate.rigorous
    assert certificate.relative_gap < 1e-10
