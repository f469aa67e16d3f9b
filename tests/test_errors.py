"""Warnings point at the line that called the library, however deep they arise."""

import numpy as np
import pytest

import convexlib as cl
from convexlib.errors import ConvergenceWarning
from convexlib.training import train

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((60, 6)), rng.standard_normal(60)
PROBLEM = cl.TwoLayer(X, Y, beta=0.01, arrangements="generate")
CALLS = {
    "solve": lambda: cl.solve(PROBLEM, max_iter=1),
    "path": lambda: cl.solution_path(PROBLEM, [0.01], max_iter=1),
    "fit": lambda: cl.ConvexReLURegressor(beta=0.01, max_iter=1).fit(X, Y),
    "train": lambda: train(X, Y, beta=0.01, width=2, rates=[1e9], seeds=[0], n_steps=3),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_caller(name):
    with pytest.warns(ConvergenceWarning) as caught:
        CALLS[name]()
    assert {one.filename for one in caught} == {__file__}
