"""Certificates: valid for every network, tight where they can be, and never called proven idly."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.networks import TwoLayerReLU
from convexlib.solvers import refine
from tests.helpers.checks import check_certificate, neuron_values, optimum
from tests.helpers.networks import sequential
from tests.helpers.patterns import EXACT
from tests.helpers.two_layer import at_fraction, gaussian, small_instance


@pytest.mark.parametrize("seed", range(8))
def test_optimal_networks_are_certified(seed):
    X, y, fraction = small_instance(200 + seed)
    problem = at_fraction(X, y, fraction)
    result = cl.solve(problem, tol=1e-8)
    network = problem.to_network(result)
    for options in ({}, {"refine": False}, {"arrangements": problem.arrangements}):
        certificate = cl.certify(network, X, y, beta=problem.beta, **options)
        check_certificate(certificate, network, X, y, problem.beta)
        assert certificate.rigorous
        assert certificate.dual <= result.value * (1 + 1e-12)
        if options != {"refine": False}:
            assert certificate.relative_gap <= 2e-6


@pytest.mark.parametrize("last_bias", [False, True])
@pytest.mark.parametrize("first_bias", [False, True])
@pytest.mark.parametrize(("seed", "beta"), [(0, 1.0), (1, 0.1), (2, 0.01)])
def test_the_bound_is_the_optimum_however_bad_the_network(first_bias, last_bias, seed, beta):
    X, y = gaussian(n=8, seed=seed)
    y = y + 1.5  # so that an output bias matters
    network = sequential(2, first_bias=first_bias, last_bias=last_bias, seed=seed)
    best = optimum(X, y, beta, first_bias, last_bias)
    certificate = cl.certify(network, X, y, beta=beta)
    check_certificate(certificate, network, X, y, beta)
    assert certificate.rigorous
    assert certificate.primal > 1.5 * best
    assert best * (1 - 1e-6) <= certificate.dual <= best * (1 + 2e-8)
    rough = cl.certify(network, X, y, beta=beta, refine=False)
    check_certificate(rough, network, X, y, beta)
    assert rough.dual <= best * (1 + 2e-8)


def test_an_output_bias_lowers_the_optimum():
    X, y = gaussian()
    values = [optimum(X, y + 3, 0.1, last_bias=bias) for bias in (False, True)]
    assert values[1] < values[0] * 0.95


def test_a_trained_float32_network():
    X, y = gaussian(n=20)
    network = sequential(2, m=20, dtype=torch.float32)
    data, targets = torch.from_numpy(X).float(), torch.from_numpy(y).float()
    # Plain gradient descent: importing torch.optim takes seconds.
    for _ in range(1500):
        decay = sum((p**2).sum() for p in network.parameters())
        loss = 0.5 * ((network(data)[:, 0] - targets) ** 2).sum() + 0.15 * decay
        for p, gradient in zip(
            network.parameters(), torch.autograd.grad(loss, network.parameters()), strict=True
        ):
            p.data -= 0.003 * gradient
    certificate = cl.certify(network, X, y, beta=0.3)
    check_certificate(certificate, network, X, y, 0.3)
    assert certificate.rigorous
    best = optimum(X, y, 0.3, True, True)
    # Descent ends where it ends, 5 to 9 percent above the optimum from three starts.
    assert best * (1 - 1e-8) <= certificate.primal < 1.3 * best
    assert best * (1 - 1e-6) <= certificate.dual <= best * (1 + 2e-8)
    assert next(network.parameters()).dtype == torch.float32
    # Data in float32 are other data, and so is their certificate; it is still computed in float64.
    single = cl.certify(network, data, targets, beta=0.3)
    assert single.z.dtype == torch.float64
    assert single.primal == pytest.approx(certificate.primal, rel=1e-5)


@pytest.mark.parametrize("name", ["grid 3", "duplicates", "antipodal", "one-hot", "zero rows"])
def test_degenerate_data(name):
    X = EXACT[name][0]
    y = np.random.default_rng(1).standard_normal(len(X))
    network = TwoLayerReLU(torch.ones(2, X.shape[1]).double(), torch.tensor([1.0, -0.5]).double())
    problem = cl.TwoLayer(X, y, beta=0.1)
    best = cl.solve(problem, method="oracle")
    certificate = cl.certify(network, X, y, beta=0.1)
    check_certificate(certificate, network, X, y, 0.1)
    assert best.dual * (1 - 1e-6) <= certificate.dual <= best.value * (1 + 1e-12)


def test_proof_by_enumeration_above_the_rank_of_branching():
    X, y = gaussian(n=9, d=6)
    network = sequential(6, first_bias=False, last_bias=False)
    certificate = cl.certify(network, X, y, beta=0.5)
    check_certificate(certificate, network, X, y, 0.5)
    assert certificate.method == "enumeration"
    assert certificate.rigorous
    best = cl.solve(cl.TwoLayer(X, y, beta=0.5), tol=1e-8)
    # Patterns were found by ascent alone, so the bound is proven but not quite tight: on five draws
    # it is off by 1e-4 to 3e-4.
    assert best.value * (1 - 1e-3) <= certificate.dual <= best.value * (1 + 1e-12)


def test_high_rank_has_a_loose_but_valid_bound():
    X, y = gaussian(n=30, d=12)
    network = sequential(12, first_bias=False, last_bias=False)
    certificate = cl.certify(network, X, y, beta=0.1, refine=False)
    check_certificate(certificate, network, X, y, 0.1)
    assert certificate.method == "quadratic"
    assert certificate.rigorous
    assert 0 < certificate.dual < certificate.primal


@pytest.mark.parametrize("last_bias", [False, True])
@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
def test_at_high_rank_dual_points_are_chosen_for_their_bound(loss, last_bias):
    X, y = gaussian(n=40, d=10)
    y = y if loss == "squared" else np.sign(y)
    network = sequential(10, last_bias=last_bias)
    options = {"beta": 5.0, "loss": loss}
    network = cl.polish(network, X, y, max_seconds=0, **options).network
    loose = cl.certify(network, X, y, max_seconds=0, **options)
    tight = cl.certify(network, X, y, max_seconds=1, **options)
    directions = np.random.default_rng(0).standard_normal((3000, 11))
    reached = neuron_values(np.column_stack([X, np.ones(40)]), tight.z.numpy(), directions).max()
    assert reached <= tight.max_neuron <= 5.0
    assert tight.method in ("moments", "pairs")
    assert tight.rigorous
    assert tight.relative_gap < 0.7 * loose.relative_gap


def test_a_small_budget_is_valid():
    X, y = gaussian(n=30, d=4)
    network = sequential(4, last_bias=False)
    tight = cl.certify(network, X, y, beta=1.0, refine=False)
    for max_nodes in (1, 30):
        loose = cl.certify(network, X, y, beta=1.0, refine=False, max_nodes=max_nodes)
        check_certificate(loose, network, X, y, 1.0)
        assert loose.rigorous
        assert loose.dual <= tight.dual * (1 + 1e-9)


def test_rigour_depends_on_what_is_known_of_the_patterns():
    X, y = gaussian()
    network = sequential(2, first_bias=False, last_bias=False)
    listed = cl.enumerate_arrangements(X)
    certificate = cl.certify(network, X, y, beta=0.1, arrangements=listed)
    assert certificate.rigorous
    assert certificate.method == "given patterns"
    assert "rigorous" in repr(certificate)
    assert cl.certify(network, X, y, beta=0.1).dual == pytest.approx(certificate.dual, rel=1e-6)
    sampled = cl.sample_arrangements(X, 5)
    guess = cl.certify(network, X, y, beta=0.1, arrangements=sampled)
    assert not guess.rigorous
    assert guess.dual >= certificate.dual * (1 - 1e-9)
    assert "not proven" in repr(guess)


def test_patterns_of_other_data_prove_nothing_though_they_fit():
    """One line has two patterns, which fit any samples whose first coordinates are the same."""
    X, y = gaussian()
    line = X * [1.0, 0.0]
    listed = cl.enumerate_arrangements(line)
    assert listed.exhaustive
    restricted = cl.TwoLayer(X, y, beta=0.05, arrangements=listed)
    network = restricted.to_network(cl.solve(restricted, tol=1e-9))
    guess = cl.certify(network, X, y, beta=0.05, arrangements=listed, refine=False)
    assert guess.dual > 1.1 * optimum(X, y, 0.05)  # no bound: other patterns do better
    assert not guess.rigorous
    same = cl.enumerate_arrangements(torch.from_numpy(X).float().double())
    assert not cl.certify(network, X, y, beta=0.05, arrangements=same).rigorous
    single = torch.from_numpy(X).float(), torch.from_numpy(y).float()
    patterns = cl.enumerate_arrangements(single[0])
    assert cl.certify(network, *single, beta=0.05, arrangements=patterns).rigorous


def test_the_zero_network_and_zero_targets():
    X, y = gaussian()
    network = TwoLayerReLU(torch.zeros(0, 2).double(), torch.zeros(0).double())
    top = cl.TwoLayer(X, y, beta=1.0).beta_max()
    certificate = cl.certify(network, X, y, beta=1.01 * top)
    assert certificate.primal == pytest.approx(0.5 * y @ y)
    assert certificate.relative_gap <= 1e-12
    assert cl.certify(network, X, y, beta=0.5 * top).relative_gap > 1e-3
    nothing = cl.certify(network, X, 0 * y, beta=0.1)
    assert nothing.primal == nothing.dual == nothing.relative_gap == 0.0
    full = sequential(2, first_bias=False, last_bias=False)
    assert cl.certify(full, X, 0 * y, beta=0.1).dual == 0.0
    assert cl.certify(full, 0 * X, y, beta=0.1).dual == pytest.approx(0.5 * y @ y)


def test_dead_and_duplicate_neurons():
    X, y = gaussian()
    U = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]).double()
    network = TwoLayerReLU(U, torch.tensor([1.0, 0.5, 0.5]).double())
    certificate = cl.certify(network, X, y, beta=0.2)
    check_certificate(certificate, network, X, y, 0.2)
    best = cl.solve(cl.TwoLayer(X, y, beta=0.2)).value
    assert certificate.dual == pytest.approx(best, rel=2e-6)


def test_the_network_is_left_alone():
    X, y = gaussian()
    network = sequential(2, dtype=torch.float32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cl.certify(network, X, y, beta=0.2)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_the_output_bias_is_found_where_the_data_are_nearly_dependent(monkeypatch):
    """Slopes that are rounding once made the secant creep through 15 solves."""
    solves = []
    generate = refine.generate
    monkeypatch.setattr(refine, "generate", lambda *a, **k: solves.append(1) or generate(*a, **k))
    x = np.array([[7.5e-7, -3138.2], [-1.6e-6, -14657.0], [7.2e-6, 6868.8], [-1.3e-6, 4645.4]])
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    certificate = cl.certify(network, x, [1.0, 0.0, 0.0, 0.0], beta=1e-12, max_nodes=0)
    assert len(solves) <= 5
    assert 0.0 <= certificate.dual <= certificate.primal


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-6])
@pytest.mark.parametrize("fraction", [1e-1, 1e-3])
def test_the_output_bias_is_found_whatever_the_units_of_the_data(scale, fraction):
    """In small units the slope in the bias jumps, between stretches where it hardly changes."""
    X = scale * np.array([[1.0, 0.0], [0.3, 1.0], [-1.0, 0.5], [-0.2, -1.0]])
    y, beta = np.array([1.0, -1.0, 0.5, 2.0]), fraction * scale
    network = sequential(2, first_bias=False)
    polished = cl.polish(network, X, y, beta=beta).certificate
    certificate = cl.certify(network, X, y, beta=beta)
    for found in (certificate, polished):
        assert found.rigorous
        assert found.dual <= polished.primal <= (1 + 2e-6) * found.dual


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
@pytest.mark.parametrize("beta", [1e-3, 1e-9, 1e-15])
def test_rounding_of_a_sum_counts_once_and_not_by_its_size(loss, beta):
    """Without data there is the bias alone; what rounding may add to its slope is squared."""
    X, y = np.zeros((6, 2)), np.array([1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    network = sequential(2, first_bias=False)
    certificate = cl.polish(network, X, y, beta=beta, loss=loss).certificate
    # The bias log 2, or 1/3, without its penalty.
    free = 6 * np.log(3) - 4 * np.log(2) if loss == "logistic" else 8 / 3
    assert certificate.rigorous
    assert certificate.dual >= (1 - 1e-6) * free
    assert certificate.primal == pytest.approx(free, rel=1e-4)
