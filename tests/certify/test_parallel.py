"""Certificates of deep parallel networks: tight where units can be listed, valid where not."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.certify.parallel import bound_positive
from tests.helpers.networks import random_network
from tests.helpers.three_layer import circle, program_value, seed_one
from tests.helpers.two_layer import gaussian

PROBLEMS = {"three layers": cl.ThreeLayer, "path": cl.PathRegularized}


def instance(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(300 + seed)
    n, d = int(rng.integers(2, 5)), 1 + seed % 2
    return rng.standard_normal((n, d)), rng.standard_normal(n), 10 ** rng.uniform(-2, -0.5)


def objective(network, X, y, beta, regularizer) -> float:
    """The objective by loops, from the module's own parameters."""
    U, (w,), alpha = network.U, network.inner, network.alpha
    U, w, alpha = (np.asarray(part.detach(), dtype=float) for part in (U, w, alpha))
    fitted, penalty = np.zeros(len(y)), 0.0
    for leaves, (weights,), output in zip(U, w, alpha, strict=True):
        hidden = sum(c * np.maximum(X @ u, 0) for c, u in zip(weights, leaves, strict=True))
        fitted += output * np.maximum(hidden, 0)
        if regularizer == "path":
            squares = [(u @ u) * (c * output) ** 2 for c, u in zip(weights, leaves, strict=True)]
            penalty += np.sqrt(sum(squares))
        else:
            assert np.sum(leaves**2) <= 1 + 1e-12
            penalty += 0.5 * (weights @ weights + output**2)
    return 0.5 * np.sum((fitted - y) ** 2) + beta * penalty


def trained(X, y, beta, regularizer, steps: int = 200) -> cl.ParallelReLU:
    """A network after some steps of Adam, written out, on the objective."""
    network = random_network(X.shape[1], K=6, seed=1)
    data, targets = torch.from_numpy(X), torch.from_numpy(y)
    parameters = list(network.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    for step in range(1, steps + 1):
        fit = 0.5 * ((network(data) - targets) ** 2).sum()
        if regularizer == "path":
            penalty = network.path_norms().sum()
        else:
            penalty = 0.5 * ((network.inner[0] ** 2).sum() + (network.alpha**2).sum())
        gradients = torch.autograd.grad(fit + beta * penalty, parameters)
        with torch.no_grad():
            for p, g, a, b in zip(parameters, gradients, first, second, strict=True):
                a.mul_(0.9).add_(0.1 * g)
                b.mul_(0.999).add_(0.001 * g**2)
                p -= 0.02 * a / (1 - 0.9**step) / ((b / (1 - 0.999**step)).sqrt() + 1e-12)
            if regularizer != "path":  # back to the constraint
                sizes = torch.linalg.vector_norm(network.U, dim=(1, 2), keepdim=True)
                network.U /= sizes.clamp(min=1.0)
    return network


@pytest.mark.parametrize(
    ("regularizer", "value"), [("three layers", 0.0726534221), ("path", 0.0528538574)]
)
def test_circle(regularizer: str, value: float) -> None:
    X, y, beta = circle()
    problem = PROBLEMS[regularizer](X, y, beta=beta)
    network = problem.to_network(cl.solve(problem, tol=1e-8))
    certificate = cl.certify(network, X, y, beta=beta, regularizer=regularizer)
    assert certificate.rigorous
    assert certificate.method == "enumeration"
    assert certificate.regularizer == regularizer
    assert certificate.primal == pytest.approx(value, abs=2e-9)
    assert value * (1 - 1e-6) <= certificate.dual <= value + 1e-10
    assert certificate.max_neuron <= beta


@pytest.mark.parametrize("regularizer", ["three layers", "path"])
@pytest.mark.parametrize("seed", range(12))
def test_optimal_trained_and_random_networks_are_bracketed(seed: int, regularizer: str) -> None:
    X, y, beta = instance(seed)
    best = program_value(X, y, beta, "group" if regularizer == "path" else "sum", accuracy=1e-8)
    problem = PROBLEMS[regularizer](X, y, beta=beta)
    optimal = problem.to_network(cl.solve(problem, tol=1e-7))
    certificate = cl.certify(optimal, X, y, beta=beta, regularizer=regularizer)
    assert certificate.relative_gap <= 1e-6
    assert certificate.rigorous
    for network in (trained(X, y, beta, regularizer), random_network(X.shape[1], seed=seed)):
        certificate = cl.certify(network, X, y, beta=beta, regularizer=regularizer)
        assert certificate.rigorous
        expected = objective(network, X, y, beta, regularizer)
        assert certificate.primal == pytest.approx(expected, rel=1e-12)
        assert certificate.dual <= best * (1 + 1e-7)  # the accuracy of `best`
        assert certificate.dual == pytest.approx(best, rel=1e-6)
        z = certificate.z.numpy()
        assert certificate.dual <= y @ z - 0.5 * z @ z
        # No unit of price 1 exceeds beta.
        other = random_network(X.shape[1], K=4000, seed=100 + seed)
        with torch.no_grad():
            reached = np.abs(z @ other.hidden(torch.from_numpy(X)).numpy())
        sizes = torch.linalg.vector_norm(other.inner[0][:, 0].detach(), dim=1)
        if regularizer == "path":
            sizes = other.path_norms().detach() / other.alpha.detach().abs()
        assert (reached / sizes.numpy()).max() <= beta


@pytest.mark.parametrize("regularizer", ["three layers", "path"])
@pytest.mark.parametrize("seed", range(12))
def test_a_bound_without_a_list_is_valid(seed: int, regularizer: str) -> None:
    X, y, beta = instance(seed)
    value = cl.solve(PROBLEMS[regularizer](X, y, beta=beta), tol=1e-8).value
    network = random_network(X.shape[1], seed=seed)
    loose = cl.certify(network, X, y, beta=beta, regularizer=regularizer, max_units=1)
    assert loose.method == "positive leaves"
    assert loose.rigorous
    assert 0 <= loose.dual <= value * (1 + 1e-9)
    # One unit that adds up its leaves is optimal here, so that nothing is lost.
    data = np.abs(X) @ np.ones((X.shape[1], 1)) * np.eye(1, X.shape[1])
    targets = 2.0 * data[:, 0]
    best = cl.solve(PROBLEMS[regularizer](data, targets, beta=beta), tol=1e-7).value
    tight = cl.certify(network, data, targets, beta=beta, regularizer=regularizer, max_units=1)
    assert best * (1 - 1e-6) <= tight.dual <= best * (1 + 1e-9)


@pytest.mark.parametrize("widths", [(2,), (3,), (2, 2)])
def test_positive_leaves_bound_every_unit(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    X, z = torch.from_numpy(rng.standard_normal((12, 3))), torch.from_numpy(rng.standard_normal(12))
    reach = bound_positive(X, z, 0.0, 100_000)
    network = random_network(3, widths, K=20_000)
    inner = [weights.sign() for weights in network.inner]
    hidden = cl.ParallelReLU(network.U, inner, network.alpha).hidden(X)
    leaves = torch.linalg.vector_norm(network.U, dim=2).sum(dim=1)
    reached = float(((z @ hidden).abs() / leaves).max().detach())
    assert 0.3 * reach <= reached <= reach


def test_larger_standard_networks_get_a_proven_bound() -> None:
    X, y = gaussian(40, 3, 2)
    torch.manual_seed(0)
    layers = [nn.Linear(3, 7, False), nn.ReLU(), nn.Linear(7, 5, False), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(5, 1, False)).double()
    certificate = cl.certify(network, X, y, beta=4.0, regularizer="path")
    assert certificate.method == "positive leaves"
    assert certificate.rigorous
    # An upper bound on the optimum from another side: the program over some units.
    units = cl.sample_units(X, 300, width=7)
    above = cl.solve(cl.PathRegularized(X, y, beta=4.0, width=7, units=units), tol=1e-6).value
    assert 0.2 * above < certificate.dual < above
    assert certificate.primal == pytest.approx(
        cl.certify(cl.as_parallel(network), X, y, beta=4.0, regularizer="path").primal, rel=1e-12
    )
    # In parallel form the penalty adds up over the neurons of the last hidden layer.
    paths = cl.as_parallel(network).path_norms().detach()
    fitted = network(torch.from_numpy(X)).detach().numpy()[:, 0]
    expected = 0.5 * np.sum((fitted - y) ** 2) + 4.0 * float(paths.sum())
    assert certificate.primal == pytest.approx(expected, rel=1e-12)
    both = cl.certify(nn.ModuleList([network, network]), X, y, beta=4.0, regularizer="path")
    expected = 0.5 * np.sum((2 * fitted - y) ** 2) + 8.0 * float(paths.sum())
    assert both.primal == pytest.approx(expected, rel=1e-12)


def test_deeper_networks() -> None:
    X, y, beta = seed_one()
    # One neuron per layer: the two-layer optimum at every depth, without a list of units.
    chain = random_network(2, (1, 1, 1))
    certificate = cl.certify(chain, X, y, beta=beta, regularizer="path")
    two = cl.solve(cl.TwoLayer(X, y, beta=beta), tol=1e-9).value
    assert certificate.rigorous
    assert two * (1 - 1e-6) <= certificate.dual <= two * (1 + 1e-9)
    # A tree of depth 4, whose units can be listed; and a standard network, bounded by trees.
    X, y = X[:3, :1], y[:3]
    problem = cl.PathRegularized(X, y, beta=beta, depth=4)
    result = cl.solve(problem, tol=1e-8)
    optimal = problem.to_network(result)
    certificate = cl.certify(optimal, X, y, beta=beta, regularizer="path")
    assert certificate.rigorous
    assert certificate.relative_gap <= 1e-6
    layers = [nn.Linear(1, 2, False), nn.ReLU(), nn.Linear(2, 2, False), nn.ReLU()]
    full = nn.Sequential(*layers, nn.Linear(2, 3, False), nn.ReLU(), nn.Linear(3, 1, False))
    shared = cl.certify(full, X, y, beta=beta, regularizer="path")
    assert shared.rigorous
    assert shared.dual == pytest.approx(result.value, rel=1e-6)


def test_two_layers_by_the_path_norm() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((9, 2)), rng.standard_normal(9)
    problem = cl.TwoLayer(X, y, beta=0.1)
    value = cl.solve(problem, tol=1e-9).value
    U, alpha = torch.from_numpy(rng.standard_normal((4, 2))), torch.from_numpy(np.ones(4))
    network = cl.TwoLayerReLU(U, alpha)
    first = nn.Sequential(nn.Linear(2, 4, False), nn.ReLU(), nn.Linear(4, 1, False)).double()
    with torch.no_grad():
        first[0].weight.copy_(U)
        first[2].weight.fill_(1.0)
    trees = cl.as_parallel(first)
    fitted = network(torch.from_numpy(X)).detach().numpy()
    expected = 0.5 * np.sum((fitted - y) ** 2) + 0.1 * float(
        torch.linalg.vector_norm(U, dim=1).sum()
    )
    for form in (network, first, trees, nn.ModuleList([first])):
        certificate = cl.certify(form, X, y, beta=0.1, regularizer="path")
        assert certificate.primal == pytest.approx(expected, rel=1e-12)
        assert certificate.dual == pytest.approx(value, rel=1e-6)
        assert certificate.rigorous


def test_given_units_prove_nothing() -> None:
    X, y, beta = circle()
    network = random_network(2)
    units = cl.sample_units(X, 60)
    guess = cl.certify(network, X, y, beta=beta, regularizer="path", units=units)
    assert guess.method == "given units"
    assert not guess.rigorous
    value = cl.solve(cl.PathRegularized(X, y, beta=beta, units=units), tol=1e-8).value
    assert guess.dual == pytest.approx(value, rel=1e-6)
    listed = cl.enumerate_units(X)
    everything = cl.certify(network, X, y, beta=beta, regularizer="path", units=listed)
    assert not everything.rigorous  # of which data they are, units do not say
    assert everything.dual == pytest.approx(0.0528538574, rel=1e-6)


def test_float32_networks_are_measured_in_float64() -> None:
    X, y, beta = seed_one()
    problem = cl.ThreeLayer(X, y, beta=beta)
    network = problem.to_network(cl.solve(problem, tol=1e-9)).float()
    certificate = cl.certify(network, X, y, beta=beta, regularizer="three layers")
    assert certificate.rigorous
    assert certificate.relative_gap <= 1e-5
    assert next(network.parameters()).dtype == torch.float32
