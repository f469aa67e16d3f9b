"""The polish step: never worse, optimal where that can be proved, and of the same kind."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import TwoLayerReLU
from tests.helpers.checks import check_certificate, network_objective, optimum
from tests.helpers.networks import sequential
from tests.helpers.references import NAMES, program_value, targets_for
from tests.helpers.refusals import COUNT, EYE, PLAIN, refused
from tests.helpers.two_layer import gaussian

BIASES = [(True, True), (True, False), (False, True), (False, False)]


def own_optimum(network, X, y, beta, loss):
    """The convex program over the patterns of the network, written out, with its biases."""
    U, data = network[0].weight.detach().numpy(), X
    if network[0].bias is not None:
        U = np.column_stack([U, network[0].bias.detach().numpy()])
        data = np.column_stack([X, np.ones(len(X))])
    masks = np.unique(data @ U.T >= 0, axis=1).T
    output_bias = network[2].bias is not None
    return program_value(data, y, beta, masks, loss=loss, output_bias=output_bias)


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(("first_bias", "last_bias"), BIASES)
def test_own_patterns_are_solved_to_their_optimum(first_bias, last_bias, loss):
    X, y = gaussian(n=12, seed=6)
    y, beta = targets_for(loss, y + 0.5), 0.2
    network = sequential(2, m=4, first_bias=first_bias, last_bias=last_bias, seed=6)
    result = cl.polish(network, X, y, beta=beta, loss=loss, rounds=0)
    expected = own_optimum(network, X, y, beta, loss)
    found = network_objective(result.network, X, y, beta, loss)
    assert found == pytest.approx(expected, rel=2e-6)
    assert found == pytest.approx(result.certificate.primal, rel=1e-12)
    assert result.certificate.dual <= expected * (1 + 1e-7)


def test_a_sum_of_networks_keeps_its_precision():
    X, y = gaussian(n=10, seed=8)
    parts = [sequential(2, 3, False, False, seed=s, dtype=torch.float32) for s in (0, 1)]
    for dtype in (torch.float32, torch.float64):
        given = nn.ModuleList(parts).to(dtype)
        result = cl.polish(given, X, y, beta=0.1)
        assert isinstance(result.network, TwoLayerReLU)
        assert result.network.U.dtype is dtype
        assert result.certificate.relative_gap <= 2e-6
        assert result.stages[0].objective == pytest.approx(
            sum_objective(given.double(), X, y, 0.1), rel=1e-12
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [True, False])
def test_the_mode_is_kept(layers, training):
    X, y = gaussian(n=10, seed=8)
    given = sequential(2, 3, False, False, seed=8)
    if not layers:
        given = TwoLayerReLU(given[0].weight, given[2].weight[0])
    polished = cl.polish(given.train(training), X, y, beta=0.1).network
    assert polished is not given
    assert [part.training for part in polished.modules()] == [training] * (4 if layers else 1)


def sum_objective(parts, X, y, beta):
    """The objective of a sum of networks of two layers."""
    data = torch.from_numpy(X)
    fitted = sum(part(data)[:, 0] for part in parts).detach().numpy()
    decay = sum(float((weight.detach() ** 2).sum()) for weight in parts.parameters())
    return 0.5 * ((fitted - y) ** 2).sum() + 0.5 * beta * decay


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(("first_bias", "last_bias"), BIASES)
def test_low_rank_ends_at_the_global_optimum(first_bias, last_bias, loss):
    X, y = gaussian(n=8, seed=7)
    y, beta = targets_for(loss, y + 0.5), 0.1
    network = sequential(2, m=4, first_bias=first_bias, last_bias=last_bias, seed=7)
    result = cl.polish(network, X, y, beta=beta, loss=loss, rounds=30)
    assert result.certificate.rigorous
    assert result.certificate.relative_gap <= 2e-6
    if loss == "squared":
        best = optimum(X, y, beta, first_bias, last_bias)
        check_certificate(result.certificate, result.network, X, y, beta)
        assert result.certificate.primal == pytest.approx(best, rel=2e-6)
    objectives = [stage.objective for stage in result.stages]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[0] == pytest.approx(network_objective(network, X, y, beta, loss), rel=1e-12)
    assert len(result.network[0].weight) == result.stages[-1].neurons <= 8


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_the_result_is_of_the_same_kind_and_never_worse(dtype, seed):
    X, y = gaussian(n=15, d=3, seed=seed)
    network = sequential(3, m=5, seed=seed, dtype=dtype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for again in range(2):
        result = cl.polish(network, X, y, beta=0.3, rounds=3)
        polished = result.network
        assert [type(layer) for layer in polished] == [nn.Linear, nn.ReLU, nn.Linear]
        assert all(weights.dtype == dtype for weights in polished.parameters())
        given, found = (network_objective(one, X, y, 0.3) for one in (network, polished))
        # In the arithmetic that decides, and up to the last digits where sums have another order.
        assert result.stages[-1].objective <= result.stages[0].objective
        assert found <= given * (1 + 1e-14)
        assert found == pytest.approx(result.certificate.primal, rel=1e-12)
        assert polished[0].out_features == polished[2].in_features == len(polished[0].weight)
        if again == 0:  # the given network is left alone, and polishing is repeatable
            assert all(
                torch.equal(value, network.state_dict()[key]) for key, value in before.items()
            )
            network = polished


def test_the_first_moves_gain_what_they_must():
    X, y = gaussian(n=10, seed=3)
    U = torch.tensor([[1.0, 0.2], [2.0, 0.41], [-0.5, 1.0], [0.0, 0.0]]).double()
    network = TwoLayerReLU(U, torch.tensor([0.3, 2.0, -1.0, 5.0]).double())
    beta = 0.4
    stages = cl.polish(network, X, y, beta=beta).stages
    assert [stage.name for stage in stages] == [
        "given", "balanced", "merged", "own patterns", "new patterns",
    ]  # fmt: skip
    norms, alpha = torch.linalg.vector_norm(U, dim=1), network.alpha.detach()
    gain = 0.5 * beta * float(((norms - alpha.abs()) ** 2).sum())
    assert stages[0].objective - stages[1].objective == pytest.approx(gain, rel=1e-9)
    signs = X @ U.numpy().T > 0
    assert (signs[:, 0] == signs[:, 1]).all()  # one pattern, so they add up
    assert [stage.neurons for stage in stages[:3]] == [4, 3, 2]
    first = (U * alpha.abs()[:, None])[:2]
    apart = torch.linalg.vector_norm(first, dim=1).sum()
    together = torch.linalg.vector_norm(first.sum(dim=0))
    gain = beta * float(apart - together)
    assert stages[1].objective - stages[2].objective == pytest.approx(gain, abs=1e-12)
    assert gain > 1e-9


def test_large_beta_gives_the_zero_network():
    X, y = gaussian()
    top = cl.TwoLayer(X, y, beta=1.0).beta_max()
    for network in (sequential(2, first_bias=False, last_bias=False), sequential(2)):
        result = cl.polish(network, X, 0 * y, beta=2 * top)
        assert result.certificate.primal == 0.0
    own = TwoLayerReLU(torch.ones(3, 2).double(), torch.ones(3).double())
    result = cl.polish(own, X, y, beta=2 * top)
    assert isinstance(result.network, TwoLayerReLU)
    assert result.certificate.primal == pytest.approx(0.5 * y @ y)
    assert result.certificate.relative_gap <= 1e-12


def test_a_network_that_has_decayed_to_nothing_is_improved():
    X, y = gaussian()
    U, alpha = torch.randn(3, X.shape[1], generator=torch.manual_seed(0)).double(), torch.ones(3)
    for scale in (1e-40, 1e-80):
        given = TwoLayerReLU(scale * U, scale * alpha.double())
        certificate = cl.polish(given, X, y, beta=1.0).certificate
        assert certificate.primal < 0.99 * 0.5 * y @ y


def test_the_path_norm():
    X, y = gaussian(n=10, seed=3)
    network = sequential(2, last_bias=False)
    result = cl.polish(network, X, y, beta=0.3, regularizer="path")
    assert result.certificate.regularizer == "path"
    assert result.certificate.relative_gap <= 2e-6
    # Balanced networks have one value under both penalties.
    decay = cl.certify(result.network, X, y, beta=0.3)
    assert decay.primal == pytest.approx(result.certificate.primal, rel=1e-12)
    assert result.stages[1].objective == pytest.approx(result.stages[0].objective, rel=1e-12)


@pytest.mark.slow
def test_high_rank_is_improved_too():
    X, y = gaussian(n=20, d=9)
    network = sequential(9, m=4, first_bias=False, last_bias=False)
    result = cl.polish(network, X, y, beta=1.0, rounds=1, max_nodes=1000)
    objectives = [stage.objective for stage in result.stages]
    assert objectives[2] > objectives[3] > objectives[4]
    assert result.certificate.rigorous
    check_certificate(result.certificate, result.network, X, y, 1.0)


def test_a_beta_of_the_smallest_float_has_a_certificate():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), np.array([1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
    for loss in ("squared", "logistic"):
        polished = cl.polish(
            network, x, y, beta=5e-324, loss=loss, max_nodes=30, rounds=1, tol=1e-3
        )
        certificate = polished.certificate
        assert 0.0 <= certificate.dual <= certificate.primal < np.inf
        assert 0.0 <= certificate.relative_gap <= 1.0


def refusals():
    X, y = gaussian()
    deep = nn.Sequential(*sequential(2), nn.ReLU(), nn.Linear(1, 1)).double()
    return [
        (lambda: cl.polish(deep, X, y, beta=0.1, regularizer="path"),
         NotCertifiableError, "has 3 layers; polish improves two-layer"),
        (lambda: cl.polish(sequential(2), X, y, beta=0.1, rounds=-1), InputError, "rounds is -1"),
        (lambda: cl.polish(sequential(2), X, y, beta=0.1, tol=0),
         InputError, "tol is 0; expected tol > 0"),
        (lambda: cl.polish(sequential(2), X, y, beta=0.1, regularizer="path"),
         NotCertifiableError, "lies on no path"),
        (lambda: cl.polish(PLAIN, EYE, COUNT, beta=1.0, max_nodes=-1),
         InputError, "max_nodes is -1; expected"),
        (lambda: cl.polish(PLAIN, EYE, COUNT, beta=1.0, regularizer=EYE),
         InputError, "regularizer is array"),
        (lambda: cl.polish(PLAIN, EYE, COUNT, beta=1.0, progress="yes"),
         InputError, "progress is 'yes'"),
        (lambda: cl.polish(PLAIN, EYE, EYE, beta=1.0),
         InputError, "polish takes networks of one output"),
    ]  # fmt: skip


test_refusals = refused(refusals())
