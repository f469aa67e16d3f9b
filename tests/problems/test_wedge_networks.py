"""The networks of wedge programs with free biases."""

import numpy as np
import pytest
import torch

import convexlib as cl


def test_a_network_is_made_without_drawing_from_torch():
    x, y = np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 0.0, 4.0])
    problem = cl.WedgeLasso(x, y, beta=1e-3, bias=True)
    result = cl.solve(problem)
    state = torch.random.get_rng_state()
    network = problem.to_network(result)
    assert torch.equal(state, torch.random.get_rng_state())
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-12)
