"""Units are pruned as neurons are: the same outputs, at most n blocks, at no larger penalty."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.solvers.units.master import pruned


@pytest.mark.parametrize("kind", [cl.ThreeLayer, cl.PathRegularized])
@pytest.mark.parametrize("seed", range(3))
def test_pruned_units_have_the_same_outputs_and_cost_no_more(kind, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((4, 2)), rng.standard_normal(4)
    problem = kind(X, y, beta=0.1, width=2)
    weights = problem.project(torch.from_numpy(rng.standard_normal(problem.shape)))
    left = pruned(problem, weights)
    assert problem.violation(left) <= 1e-9
    torch.testing.assert_close(problem.fitted(left), problem.fitted(weights))
    assert int((problem.norms(left) > 0).sum()) <= 4 < int((problem.norms(weights) > 0).sum())
    # So many blocks at random waste most of what they cost.
    assert problem.penalty(left) < 0.7 * problem.penalty(weights)
    assert not pruned(problem, problem.zeros()).any()
