"""Pruning keeps outputs and objective, and leaves at most n neurons."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from tests.helpers.checks import network_objective
from tests.helpers.refusals import EYE, ONE, refused
from tests.helpers.two_layer import at_fraction, small_instance, tensors


def random_network(m, d, seed):
    return cl.TwoLayerReLU(*tensors(m, d, seed))


def images(network, X):
    return (network.hidden(torch.as_tensor(X)) * network.alpha).detach().numpy()


def rank(A):
    """Rank of the columns, each brought to unit length."""
    A = A[:, A.any(axis=0)]
    return np.linalg.matrix_rank(A / np.linalg.norm(A, axis=0)) if A.size else 0


def check_pruned(network, pruned, X, scale=None):
    before, after = images(network, X).sum(axis=1), images(pruned, X).sum(axis=1)
    np.testing.assert_allclose(after, before, atol=1e-10 * (scale or np.abs(before).max() + 1))
    assert pruned.n_neurons <= rank(images(network, X)) <= len(X)
    assert pruned.n_neurons == rank(images(pruned, X))


@pytest.mark.parametrize(("n", "d", "m"), [(10, 2, 60), (20, 3, 15), (30, 4, 200), (5, 5, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_any_network_keeps_its_outputs_and_never_costs_more(n, d, m, seed):
    X = np.random.default_rng(seed + 10).standard_normal((n, d))
    y = np.random.default_rng(seed + 20).standard_normal(n)
    network = random_network(m, d, seed)
    pruned = cl.prune_neurons(network, X)
    check_pruned(network, pruned, X)
    before = network_objective(network, X, y, 0.1)
    assert network_objective(pruned, X, y, 0.1) <= before * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_an_optimum_stays_one(seed):
    X, y, fraction = small_instance(seed)
    problem = at_fraction(X, y, fraction)
    # An interior method's optimum uses many more neurons than needed: split every one further.
    result = cl.solve(problem, tol=1e-9)
    network = problem.to_network(result)
    pieces = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).sqrt()
    U = (pieces[:, None, None] * network.U).reshape(-1, X.shape[1])
    split = cl.TwoLayerReLU(U, (pieces[:, None] * network.alpha).ravel())
    assert problem.objective(split) == pytest.approx(result.value, rel=1e-12)
    pruned = cl.prune_neurons(split, X)
    check_pruned(split, pruned, X)
    assert problem.objective(pruned) == pytest.approx(result.value, rel=1e-10)
    assert pruned.n_neurons <= network.n_neurons


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4), st.integers(0, 30))
def test_integer_data_with_many_dependencies(seed, n, d, m):
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (n, d)).astype(float)
    U = torch.from_numpy(rng.integers(-2, 3, (m, d)).astype(float))
    alpha = torch.from_numpy(rng.integers(-2, 3, m).astype(float))
    network = cl.TwoLayerReLU(U, alpha)
    pruned = cl.prune_neurons(network, X)
    check_pruned(network, pruned, X)
    y = rng.standard_normal(n)
    before = network_objective(network, X, y, 0.1)
    assert network_objective(pruned, X, y, 0.1) <= before * (1 + 1e-10)


def test_equal_patterns_are_added_up():
    X = np.eye(3)
    U = torch.tensor([[1.0, 2.0, -1.0], [2.0, 1.0, -3.0], [1.0, -1.0, 1.0]], dtype=torch.float64)
    network = cl.TwoLayerReLU(U, torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    pruned = cl.prune_neurons(network, X)
    assert pruned.n_neurons == 2
    vectors = sorted((pruned.U * pruned.alpha[:, None]).detach().numpy().round(9).tolist())
    assert vectors == [[-1.0, 1.0, -1.0], [3.0, 3.0, -4.0]]


def test_what_comes_in_and_out():
    X = np.random.default_rng(0).standard_normal((6, 2))
    plain = nn.Sequential(nn.Linear(2, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False))
    pruned = cl.prune_neurons(plain.double(), X)
    expected = plain(torch.from_numpy(X)).detach().ravel()
    torch.testing.assert_close(pruned(torch.from_numpy(X)).detach(), expected)
    single = cl.prune_neurons(random_network(20, 2, 0).float(), torch.from_numpy(X).float())
    assert single.U.dtype == torch.float32
    mixed = cl.prune_neurons(random_network(20, 2, 0), torch.from_numpy(X).float())
    assert mixed.U.dtype == mixed.alpha.dtype == torch.float64
    assert cl.prune_neurons(random_network(0, 2, 0), X).n_neurons == 0


def test_neurons_whose_outputs_cancel_all_go():
    U = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64).repeat(2, 1)
    network = cl.TwoLayerReLU(U, torch.tensor([1.0, 2.0, -1.0, -2.0], dtype=torch.float64))
    assert cl.prune_neurons(network, np.eye(2) + 0.5).n_neurons == 0


@pytest.mark.parametrize("scale", [1e-140, 1e-80, 1e80, 1e140])
def test_the_scale_of_the_neurons_does_not_matter(scale):
    U = torch.tensor([[1, 0.5], [-0.3, 1], [1, 0.5], [2, 1], [1, -1]], dtype=torch.float64)
    alpha, X = torch.tensor([1, -0.7, 2, 0.5, 1], dtype=torch.float64), np.eye(2) + 0.5
    expected = cl.prune_neurons(cl.TwoLayerReLU(U, alpha), X)
    pruned = cl.prune_neurons(cl.TwoLayerReLU(scale * U, alpha), X)
    neurons = pruned.U * pruned.alpha.abs()[:, None] / scale
    torch.testing.assert_close(neurons, expected.U * expected.alpha.abs()[:, None])
    # Below, squares are no numbers.
    assert cl.prune_neurons(cl.TwoLayerReLU(1e-155 * U, alpha), X).n_neurons == 0


BIASED = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
REFUSALS = [
    (lambda: cl.prune_neurons(BIASED, EYE), InputError, "append a column of ones"),
    (lambda: cl.prune_neurons(random_network(4, 3, 0), EYE), InputError, "takes 3 features"),
    (lambda: cl.prune_neurons(cl.TwoLayerGatedReLU(ONE, ONE[0], ONE), ONE), InputError, "gated"),
    (lambda: cl.prune_neurons(nn.Linear(2, 1), EYE), NotCertifiableError, "cannot certify"),
    (lambda: cl.prune_neurons(cl.TwoLayerReLU(1e300 * ONE, 1e300 * ONE[0]), ONE),
     InputError, "neurons' outputs on X contains 1 non-finite"),
    (lambda: cl.prune_neurons(cl.TwoLayerReLU(1e200 * ONE, ONE[0]), ONE),
     InputError, "largest entry of the neurons is 1.0e"),
]  # fmt: skip
test_refusals = refused(REFUSALS)


@pytest.mark.parametrize("seed", range(20))
def test_neurons_that_vanish_at_once_leave_nothing_behind(seed):
    # The images of the corners of a square are dependent by alternating signs, so that opposite
    # corners go together; what one of them kept by rounding was a neuron.
    turn, share = np.random.default_rng(seed).random(2)
    angles = np.arange(4) * np.pi / 2 + turn
    X = torch.from_numpy(np.column_stack([np.cos(angles), np.sin(angles)]))
    U = X + X.roll(1, dims=0)
    amounts = torch.tensor([share, 1.0 - share] * 2, dtype=torch.float64)
    network = cl.TwoLayerReLU(U * amounts.sqrt()[:, None], amounts.sqrt())
    left = cl.prune_neurons(network, X)
    assert left.n_neurons == 2
    torch.testing.assert_close(left(X), network(X))
