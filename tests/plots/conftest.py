"""Data in the plane, and the rule that no test leaves a figure open."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

FAN = np.array([[2.0, 0.6], [1.2, 1.5], [-0.5, 1.7], [-1.5, 0.3]])
PLANAR = {
    "fan": FAN,
    "gaussian": np.random.default_rng(0).standard_normal((7, 2)),
    "zero row": np.vstack([FAN, np.zeros(2)]),
    "collinear and antipodal": np.vstack([FAN, 3 * FAN[0], -FAN[1]]),
    "rank one": np.outer([1.0, -2.0, 3.0], [0.3, 0.1]),
    "bias column": np.column_stack([[-1.0, 0.0, 0.0, 2.0], np.ones(4)]),
    "grid": np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=2))),
    "all zero": np.zeros((2, 2)),
}


@pytest.fixture
def fan():
    return FAN.copy()


@pytest.fixture(params=PLANAR)
def planar(request):
    """Data with two columns, in general and in degenerate position."""
    return PLANAR[request.param].copy()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def drawn():
    """Render, so that what fails or warns only when drawn does so in the test."""

    def draw(ax):
        ax.figure.draw_without_rendering()
        return ax

    return draw
