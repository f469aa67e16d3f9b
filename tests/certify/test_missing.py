"""The missing neuron: its violation is the largest, and its gain is what adding it gains."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerReLU
from tests.helpers.checks import network_objective, neuron_values
from tests.helpers.networks import sequential
from tests.helpers.references import NAMES, loss_value, targets_for
from tests.helpers.refusals import COUNT, EYE, PLAIN, refused
from tests.helpers.two_layer import gaussian


def fitted_of(network, X):
    with torch.no_grad():
        return network(torch.from_numpy(X)).numpy().reshape(-1)


def dual_point(loss, fitted, y):
    """The negative gradient of the loss, by central differences."""
    steps = 1e-6 * np.eye(len(y))
    return np.array(
        [(loss_value(loss, fitted - e, y) - loss_value(loss, fitted + e, y)) / 2e-6 for e in steps]
    )


def widened(network, direction, sign, size):
    """The network with one more balanced neuron."""
    first, last = network[0], network[2]
    root = np.sqrt(size)
    wider = nn.Sequential(
        nn.Linear(first.in_features, first.out_features + 1, first.bias is not None),
        nn.ReLU(),
        nn.Linear(first.out_features + 1, 1, last.bias is not None),
    ).double()
    weights = direction[: first.in_features]
    wider[0].weight.data = torch.cat([first.weight, root * weights[None]])
    wider[2].weight.data = torch.cat([last.weight, torch.full((1, 1), sign * root)], dim=1)
    if first.bias is not None:
        wider[0].bias.data = torch.cat([first.bias, root * direction[-1:]])
    if last.bias is not None:
        wider[2].bias.data = last.bias.data.clone()
    return wider


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(("first_bias", "last_bias"), [(True, True), (False, False)])
def test_adding_it_gains_what_it_says(loss, first_bias, last_bias):
    X, y = gaussian(n=12, seed=4)
    y, beta = targets_for(loss, y), 0.05
    network = sequential(2, m=3, first_bias=first_bias, last_bias=last_bias, seed=4)
    found = cl.missing_neuron(network, X, y, beta=beta, loss=loss)
    assert found.violation > 1
    assert torch.linalg.vector_norm(found.direction) == pytest.approx(1.0)

    data = np.column_stack([X, np.ones(12)]) if first_bias else X
    z = dual_point(loss, fitted_of(network, X), y)
    directions = np.random.default_rng(0).standard_normal((20000, data.shape[1]))
    sampled = neuron_values(data, z, directions).max() / beta
    assert sampled * (1 - 1e-6) <= found.violation <= found.bound
    assert found.bound <= found.violation * (1 + 1e-5)
    assert found.violation <= sampled * 1.05  # so many directions come close to the best
    # Samples on the neuron's hyperplane have outputs of 1e-16 either way, and do not count.
    assert found.active == (data @ found.direction.numpy() > 1e-12).sum()

    before = network_objective(network, X, y, beta, loss)
    after = network_objective(
        widened(network, found.direction, found.sign, found.size), X, y, beta, loss
    )
    assert before - after == pytest.approx(found.gain, rel=1e-9, abs=1e-12)

    def objective(size):
        wider = widened(network, found.direction, found.sign, size)
        return network_objective(wider, X, y, beta, loss)

    best = minimize_scalar(objective, bounds=(0, 4 * found.size), method="bounded")
    assert after <= best.fun + 1e-9


def test_the_gain_of_the_squared_loss_has_a_formula():
    X, y = gaussian(n=12, seed=5)
    network = sequential(2, m=3, seed=5)
    found = cl.missing_neuron(network, X, y, beta=0.1)
    image = np.maximum(np.column_stack([X, np.ones(12)]) @ found.direction.numpy(), 0)
    height = 0.1 * found.violation
    assert found.gain == pytest.approx((height - 0.1) ** 2 / (2 * image @ image), rel=1e-9)


def test_an_optimal_network_lacks_nothing():
    X, y = gaussian()
    problem = cl.TwoLayer(X, y, beta=0.2)
    network = problem.to_network(cl.solve(problem, tol=1e-10))
    found = cl.missing_neuron(network, X, y, beta=0.2)
    assert found.violation == pytest.approx(1.0, abs=1e-5)
    assert found.gain <= 1e-9
    top = problem.beta_max()
    nothing = cl.missing_neuron(network, X, 0 * y, beta=10 * top)
    assert nothing.gain == nothing.size == 0.0


def test_the_zero_network_lacks_the_neuron_of_beta_max():
    X, y = gaussian()
    network = TwoLayerReLU(torch.zeros(1, 2).double(), torch.zeros(1).double())
    top = cl.TwoLayer(X, y, beta=1.0).beta_max()
    assert cl.missing_neuron(network, X, y, beta=1.0).violation == pytest.approx(top, rel=1e-9)


def test_high_rank_says_what_it_may_have_missed():
    X, y = gaussian(n=15, d=9)
    network = sequential(9, first_bias=False, last_bias=False)
    found = cl.missing_neuron(network, X, y, beta=0.5)
    z = y - fitted_of(network, X)
    directions = np.random.default_rng(0).standard_normal((5000, 9))
    reached = neuron_values(X, z, directions).max() / 0.5
    assert reached <= found.bound  # proven
    assert reached <= found.violation  # not proven, but random directions stay 5 to 13 % below
    assert found.violation < found.bound


def test_the_neuron_of_the_fastest_rate_need_not_gain_most():
    X, y = np.array([[10.0], [-1.0]]), np.array([0.2, 1.9])
    network = TwoLayerReLU(torch.zeros(1, 1).double(), torch.zeros(1).double())
    found = cl.missing_neuron(network, X, y, beta=1.0)
    assert found.violation == pytest.approx(2.0)
    assert found.direction.item() == pytest.approx(1.0)
    assert found.gain == pytest.approx(1 / 200, rel=1e-9)
    other = TwoLayerReLU(torch.tensor([[-(0.9**0.5)]]).double(), torch.tensor([0.9**0.5]).double())
    before, after = (network_objective(one, X, y, 1.0) for one in (network, other))
    assert before - after == pytest.approx(0.81 / 2)


def test_deeper_networks_are_refused():
    X, y = gaussian()
    deep = cl.ParallelReLU(torch.ones(1, 2, 2).double(), [torch.ones(1, 1, 2).double()],
                           torch.ones(1).double())  # fmt: skip
    with pytest.raises(NotCertifiableError, match="3 layers; only two-layer"):
        cl.missing_neuron(deep, X, y, beta=0.1)


REFUSALS = [
    (lambda: cl.missing_neuron(cl.TwoLayerReLU(torch.eye(2).double(), torch.ones(2).double()), EYE,
        COUNT, beta=0.1, seed=1.5),
     InputError, "seed is 1.5; expected an integer"),
    (lambda: cl.missing_neuron(PLAIN, EYE, COUNT, beta=1.0, max_nodes="a"),
     InputError, "max_nodes is 'a'; expec"),
    (lambda: cl.missing_neuron(PLAIN, EYE, COUNT, beta=1.0, progress="yes"),
     InputError, "progress is 'yes'"),
    (lambda: cl.missing_neuron(PLAIN, EYE, EYE, beta=1.0),
     InputError, "missing_neuron takes networks of one output"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
