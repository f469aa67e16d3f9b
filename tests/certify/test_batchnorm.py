"""Certificates of batch-normalised networks: valid, tight at the optimum, and honest about rank."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from tests.helpers.refusals import COUNT, EYE, PLAIN, refused


def instance(seed, n=8, d=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + 1.0, rng.standard_normal(n)


def trained(X, y, beta, *, eps=1e-5, output_bias=False, steps=150, seed=0):
    """A PyTorch network after some steps on the objective."""
    torch.manual_seed(seed)
    layers = nn.Linear(X.shape[1], 6), nn.BatchNorm1d(6, eps=eps), nn.ReLU()
    network = nn.Sequential(*layers, nn.Linear(6, 1, bias=output_bias)).double()
    data, targets, n = torch.from_numpy(X), torch.from_numpy(y), len(y)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        norm, last = network[1], network[3]
        decay = n * ((norm.weight**2).sum() + (norm.bias**2).sum())
        decay = decay + sum((p**2).sum() for p in last.parameters())
        loss = 0.5 * ((network(data)[:, 0] - targets) ** 2).sum() + 0.5 * beta * decay
        loss.backward()
        optimiser.step()
    return network


def test_the_optimum_is_certified():
    X, y = instance(0)
    problem = cl.BatchNorm(X, y, beta=0.1)
    result = cl.solve(problem, tol=1e-9)
    certificate = cl.certify_batchnorm(problem.to_network(result), X, y, beta=0.1)
    assert certificate.rigorous
    assert certificate.relative_gap < 1e-6
    assert certificate.primal == pytest.approx(result.value, rel=1e-10)
    assert certificate.max_neuron <= 0.1
    assert problem.dual_norm(certificate.z) <= 0.1 * (1 + 1e-12)
    given = cl.certify_batchnorm(
        problem.to_network(result), X, y, beta=0.1, arrangements=problem.arrangements
    )
    assert given.method == "given patterns"
    assert given.rigorous
    assert given.dual == pytest.approx(certificate.dual, rel=1e-6)


@pytest.mark.parametrize("eps", [1e-12, 1e-1])
def test_a_trained_network_is_bracketed(eps):
    X, y = instance(1)
    network = trained(X, y, 0.1, eps=eps)
    problem = cl.BatchNorm(X, y, beta=0.1)
    value = cl.solve(problem, tol=1e-9).value
    certificate = cl.certify_batchnorm(network, X, y, beta=0.1)
    assert certificate.rigorous
    assert certificate.dual == pytest.approx(value, rel=1e-5)
    assert certificate.dual <= value <= certificate.primal
    assert certificate.primal == pytest.approx(problem.objective(network), rel=1e-12)
    # In train mode the network's own outputs are those of the objective, eps included.
    fit = network(torch.from_numpy(X))[:, 0].detach().numpy() - y
    norm, last = network[1].requires_grad_(False), network[3].requires_grad_(False)
    decay = 8 * float((norm.weight**2 + norm.bias**2).sum()) + float((last.weight**2).sum())
    assert certificate.primal == pytest.approx(0.5 * fit @ fit + 0.05 * decay, rel=1e-10)


def test_the_dual_point_keeps_its_precision():
    """In float32 it would be feasible no more; the bound is about float64."""
    X, y = instance(1)
    network = trained(X, y, 0.1, steps=3).float()
    single = torch.from_numpy(X).float(), torch.from_numpy(y).float()
    certificate = cl.certify_batchnorm(network, *single, beta=0.1)
    z = certificate.z
    assert z.dtype is torch.float64
    value = float(single[1].double() @ z) - 0.5 * float(z @ z)
    assert value >= certificate.dual * (1 - 1e-12)


def test_an_output_bias_is_part_of_the_class():
    X, y = instance(2)
    network = trained(X, y + 2.0, 0.1, output_bias=True)
    certificate = cl.certify_batchnorm(network, X, y + 2.0, beta=0.1)
    assert certificate.dual <= certificate.primal
    # Without an output bias the optimum is larger: the bound must be of the larger class.
    assert certificate.dual < cl.solve(cl.BatchNorm(X, y + 2.0, beta=0.1), tol=1e-8).value - 1e-3


def test_directions_left_out_make_it_unproven():
    X, y = instance(3)
    X = np.column_stack([X, X[:, 0] / 3 + X[:, 1] / 7])  # a third direction of size 1e-17
    certificate = cl.certify_batchnorm(trained(X, y, 0.1, steps=3), X, y, beta=0.1)
    assert not certificate.rigorous
    whole = np.round(8 * X[:, :2])
    whole = np.column_stack([whole, whole[:, 0] - whole[:, 1]])
    assert cl.certify_batchnorm(trained(whole, y, 0.1, steps=3), whole, y, beta=0.1).rigorous


def test_bad_conditioning_loosens_the_bound_instead_of_breaking_it():
    X, y = instance(4)
    problem = cl.BatchNorm(X, y, beta=0.1)
    value = cl.solve(problem, tol=1e-10).value
    narrow = X * [1.0, 1e-9] + 1.0
    certificate = cl.certify_batchnorm(trained(narrow, y, 0.1, steps=3), narrow, y, beta=0.1)
    assert certificate.dual <= value * (1 + 1e-5)
    assert certificate.dual >= 0.9 * value


def test_a_neuron_that_is_constant_on_the_data_is_no_feature():
    """Rounding, normalised, was a feature beyond the data: the primal fell below the dual."""
    X, y, beta = np.array([[0.1, 0.0], [0.1, 1.0], [0.1, 2.0]]), np.ones(3), 0.1
    layers = nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.ReLU(), nn.Linear(1, 1, bias=False)
    network = nn.Sequential(*layers).double()
    size = 1.5**0.25
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[-1e16, 0.0]]))
        network[1].weight.fill_(size / 6**0.5)
        network[1].bias.fill_(size / 6**0.5)
        network[3].weight.fill_(size)
    certificate = cl.certify(network, X, y, beta=beta)
    assert certificate.rigorous
    # Only the shift is left: outputs of 1/2, and a decay of 2 sqrt(3/2).
    assert certificate.primal == pytest.approx(3 / 8 + beta * 1.5**0.5, rel=1e-12)
    # The optimum is the constant sqrt(3) - beta, in units of 1/sqrt(3).
    optimum = beta * 3**0.5 - 0.5 * beta**2
    assert certificate.dual == pytest.approx(optimum, rel=1e-6)
    assert certificate.primal >= optimum
    network[1].eps = 0.0
    with pytest.raises(NotCertifiableError, match="neuron 0 of the network is constant on X"):
        cl.certify(network, X, y, beta=beta)


def test_what_cannot_be_certified_is_refused():
    X, y = instance(0)
    plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with pytest.raises(NotCertifiableError, match="cannot read Linear -> ReLU -> Linear"):
        cl.certify_batchnorm(plain, X, y, beta=0.1)
    two = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).double()
    with pytest.raises(NotCertifiableError, match="2 outputs; expected 1"):
        cl.certify_batchnorm(two, X, y, beta=0.1)
    network = trained(X, y, 0.1, steps=3)
    with pytest.raises(InputError, match="arrangements is str; expected Arrangements or None"):
        cl.certify_batchnorm(network, X, y, beta=0.1, arrangements="generate")
    with pytest.raises(InputError, match="expected beta > 0"):
        cl.certify_batchnorm(two, X, y, beta=-1.0)


REFUSALS = [
    (lambda: cl.certify_batchnorm(PLAIN, EYE, COUNT, beta=1.0, max_nodes=1.5),
     InputError, "max_nodes is 1.5; ex"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
