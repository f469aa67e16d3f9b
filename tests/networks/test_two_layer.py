"""The plain networks: forward passes, balancing, and what is read from foreign networks."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks import (
    TwoLayerGatedReLU,
    TwoLayerReLU,
    balanced,
    outputs,
    read_two_layer,
    squared_weights,
)
from tests.helpers.refusals import ONE, refused


def tensors(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def test_forward_is_the_sum_over_neurons():
    X, U, alpha = tensors((5, 3), (4, 3), 4)
    network = TwoLayerReLU(U, alpha)
    expected = [
        sum(max(float(x @ u), 0.0) * float(a) for u, a in zip(U, alpha, strict=True)) for x in X
    ]
    np.testing.assert_allclose(network(X).detach(), expected)
    assert network.n_neurons == 4
    assert "d=3, neurons=4" in repr(network)


def test_gates_and_not_weights_decide_in_the_gated_network():
    X, U, alpha, gates = tensors((5, 3), (4, 3), 4, (4, 3))
    network = TwoLayerGatedReLU(U, alpha, gates)
    expected = ((X @ gates.T >= 0).double() * (X @ U.T)) @ alpha
    torch.testing.assert_close(network(X).detach(), expected)
    assert "gates" in network.state_dict()
    assert len(list(network.parameters())) == 2
    same = TwoLayerGatedReLU(U, alpha, U)
    torch.testing.assert_close(same(X), TwoLayerReLU(U, alpha)(X))


def test_networks_keep_no_reference_to_their_arguments():
    U, alpha, gates = tensors((4, 3), 4, (4, 3))
    network = TwoLayerGatedReLU(U, alpha, gates)
    before = [tensor.clone() for tensor in network.state_dict().values()]
    for tensor in (U, alpha, gates):
        tensor.zero_()
    for tensor, kept in zip(network.state_dict().values(), before, strict=True):
        assert torch.equal(tensor, kept)


def test_balanced_neurons_have_the_least_weight_decay():
    vectors, signs = tensors((6, 3), 6)
    signs = signs.sign()
    U, alpha = balanced(vectors, signs)
    norms = torch.linalg.vector_norm(vectors, dim=1)
    torch.testing.assert_close(U * alpha.abs()[:, None], vectors)
    assert torch.equal(alpha.sign(), signs)
    decay = 0.5 * ((U**2).sum(dim=1) + alpha**2)
    torch.testing.assert_close(decay, norms)
    for scale in (0.9, 1.1):
        rival = 0.5 * (((scale * U) ** 2).sum(dim=1) + (alpha / scale) ** 2)
        assert (rival > norms).all()


def test_squared_weights_counts_every_parameter():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    expected = sum(float((p.detach() ** 2).sum()) for p in network.parameters())
    assert float(squared_weights(network)) == pytest.approx(expected)
    assert float(squared_weights(nn.ReLU())) == 0.0


def test_outputs_are_flat_and_other_shapes_refused():
    X = torch.ones(5, 3)
    column = nn.Linear(3, 1)
    assert outputs(column, X).shape == (5,)
    assert not outputs(column, X).requires_grad
    with pytest.raises(InputError, match=r"network returns shape \(5, 2\).*expected \(5,\) or"):
        outputs(nn.Linear(3, 2), X)


@pytest.mark.parametrize("first_bias", [True, False])
@pytest.mark.parametrize("last_bias", [True, False])
def test_sequential_is_read_with_its_biases(first_bias, last_bias):
    network = nn.Sequential(
        nn.Linear(3, 4, bias=first_bias), nn.ReLU(), nn.Linear(4, 1, bias=last_bias)
    )
    X = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 3)))
    parts = read_two_layer(network)
    assert parts.has_bias == first_bias
    assert (parts.output_bias is not None) == last_bias
    data = parts.augment(X)
    assert data.dtype == torch.float64
    assert data.shape == (6, 4 if first_bias else 3)
    fitted = torch.relu(data @ parts.U.T) @ parts.alpha + (parts.output_bias or 0.0)
    torch.testing.assert_close(fitted, network.double()(X).ravel().detach())


def test_own_network_is_read_in_float64():
    U, alpha = tensors((4, 3), 4)
    parts = read_two_layer(TwoLayerReLU(U.float(), alpha.float()))
    assert parts.U.dtype == parts.alpha.dtype == torch.float64
    assert torch.equal(parts.U, U.float().double())
    assert parts.output_bias is None


def refusals():
    U, alpha = tensors((4, 3), 5)
    unread = [
        (TwoLayerGatedReLU(*tensors((4, 3), 4, (4, 3))), r"the network is gated"),
        (nn.Linear(3, 1), r"cannot certify Linear; expected a TwoLayerReLU or"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)),
            r"cannot certify Linear -> ReLU -> Linear -> ReLU -> Linear; expected",
        ),
        (
            nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
            r"cannot certify Linear -> Tanh -> Linear",
        ),
        (
            nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
            r"the output layer has 2 outputs; expected 1 for targets",
        ),
        (nn.Sequential(), r"cannot certify Sequential"),
        (
            nn.Sequential(nn.Linear(2, 2, False), nn.ReLU(), nn.Linear(3, 1)),
            "layers with weights that fit",
        ),
        (nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(1)), "cannot certify LazyLinear"),
    ]
    return [
        *((lambda network=network: read_two_layer(network), NotCertifiableError, message)
          for network, message in unread),
        (lambda: TwoLayerReLU(U, alpha),
         InputError, r"U has shape \(4, 3\) and alpha \(5,\); expected"),
        (lambda: TwoLayerReLU(alpha, alpha), InputError, r"U has shape \(5,\) and alpha \(5,\)"),
        (lambda: TwoLayerGatedReLU(U, alpha[:4], U[:3]),
         InputError, r"gates has shape \(3, 3\); expected \(4, 3\)"),
        (lambda: cl.TwoLayerReLU(ONE.long(), ONE[0].long()),
         InputError, "U is torch.int64; expected a fl"),
        (lambda: cl.TwoLayerReLU([[1.0]], ONE[0]), InputError, "U is list; expected a fl"),
        (lambda: cl.TwoLayerGatedReLU(ONE, ONE[0], [[1.0]]), InputError, "gates is list"),
        (lambda: cl.TwoLayerReLU(ONE.to_sparse(), ONE[0]),
         InputError, "U is a sparse tensor .* expected a de"),
    ]  # fmt: skip


test_refusals = refused(refusals())
