"""Samples that are nearly equal: units that are told apart, and bounds in exact arithmetic.

Mirrors of samples at a distance of 1e-10 differ by as little, and beside a weak beta that decides.
The largest correlation of all units with the dual point of a result is computed in fractions.
"""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.arrangements.zonotope import subset_normals
from convexlib.errors import ConvergenceWarning
from convexlib.problems.looking_glass import AbsoluteUnits

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"
)


def test_a_network_below_what_was_a_bound():
    """Mirrors of samples nearer than 1e-10 were one: the bound was 2.2167."""
    x = np.array([-1.0, 0.3, 1.0, -0.9999999999519953, 0.29999999982294717])
    y = np.array([1.09664928622225, 0.272187751724020, 1.35652183313720, -0.710463436217125,
                  -2.09447365121968])  # fmt: skip
    beta = 1.504128511249239e-10
    lasso = cl.ReflectionLasso(x[:, None], y, beta=beta, depth=2)
    assert lasso.n_features == 5
    line = cl.Mirrors(x, y, beta=beta, activation="abs", depth=2)
    found = line.to_network(cl.solve(line))
    nothing = torch.zeros(0, found.n_units, dtype=torch.float64)
    network = AbsoluteUnits(
        found.weights[0][:, None], found.biases[0], nothing, nothing, found.alpha, found.bias
    )
    assert lasso.objective(network) == pytest.approx(2.105267, abs=1e-6)


@pytest.mark.parametrize(
    ("beta", "value"), [(3.579e-11, 0.124106), (3.579e-10, 0.138583), (3.579e-9, 0.227201)]
)
def test_columns_of_nearly_equal_samples_are_told_apart(beta, value):
    """Of columns that agreed to nine digits one was kept: the first value was 0.128862."""
    x = np.array([-1.0, 0.3, 1.0, -0.9999999998769846, 0.30000002987455376])
    y = np.array([-0.274137855362218, -0.890591838757274, -0.454670785171723, -0.991646554996462,
                  0.0601436025974385])  # fmt: skip
    line = cl.Mirrors(x, y, beta=beta, activation="abs", depth=3)
    assert cl.solve(line, tol=1e-8).value == pytest.approx(value, abs=1e-6)
    plane = cl.ReflectionLasso(x[:, None], y, beta=beta, depth=3)
    assert cl.solve(plane, tol=1e-8).value == pytest.approx(value, abs=1e-6)


def test_wedges_of_samples_that_share_twelve_digits():
    """Normals that agreed to twelve digits were one: the bound was 1.255."""
    rng = np.random.default_rng(249)
    distance, part = 10 ** -rng.uniform(9, 12), 10 ** -rng.uniform(8, 12)
    base = np.array([-1.0, 0.3, 1.0])
    x = np.concatenate([base, base[:2] + distance * rng.normal(size=2)])
    y = rng.normal(size=5)
    line = cl.Mirrors(x, y, beta=1.0)
    line = line.with_beta(part * line.beta_max())
    wedges = cl.WedgeLasso(x[:, None], y, beta=line.beta, bias=True)
    assert wedges.n_features == 8  # two ramps at each sample, but for those that are zero


@pytest.mark.parametrize("step", [1.0, 0.1, 0.7 / 3])
def test_ties_of_a_grid_are_found_in_spite_of_rounding(step):
    x, y = step * np.arange(8), np.zeros(8)
    sizes = [
        cl.Mirrors(x, y, beta=1.0, activation=activation, depth=depth).n_features
        for activation in ("abs", "leaky")
        for depth in (3, 4)
    ]
    assert sizes == [40, 215, 85, 377]
    sizes = [
        cl.ReflectionLasso(x[:, None], y, beta=1.0, depth=depth).n_features for depth in (2, 3)
    ]
    assert sizes == [8, 68]
    grid = step * np.array([[a, b] for a in range(3) for b in range(3)], dtype=float)
    assert cl.WedgeLasso(grid, np.zeros(9), beta=1.0, bias=True).n_features == 36


@pytest.mark.parametrize("distance", [1e-6, 1e-9, 1e-12, 1e-14])
def test_normals_of_nearly_parallel_rows_are_told_apart(distance):
    rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.6 - 0.8 * distance, 0.8 + 0.6 * distance]])
    assert len(subset_normals(rows)) == 3
