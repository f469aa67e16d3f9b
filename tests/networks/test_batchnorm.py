"""Batch-normalised PyTorch networks: made from a solution, and read back."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, NotCertifiableError
from convexlib.networks.batchnorm import read_batchnorm, whiten
from tests.helpers.batchnorm import instance
from tests.helpers.refusals import refused

CONSTANT = np.array([[0.1, 0.0], [0.1, 1.0], [0.1, 2.0]])  # the mean of 0.1 is another number


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eval_and_train_outputs_are_equal(dtype):
    X, y = (torch.from_numpy(part).to(dtype) for part in instance(3, n=8))
    problem = cl.BatchNorm(X, y, beta=0.05)
    result = cl.solve(problem, tol=1e-5)
    before = torch.get_rng_state()
    network = problem.to_network(result)
    assert torch.equal(before, torch.get_rng_state())  # nothing is drawn
    assert [type(layer).__name__ for layer in network] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
    ]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert not network.training
    assert network[0].weight.dtype == dtype
    in_eval = network(X)
    for _ in range(2):  # training on all data must not move the statistics either
        torch.testing.assert_close(network.train()(X), in_eval, atol=tolerance, rtol=0)
    torch.testing.assert_close(network.eval()(X), in_eval, atol=0, rtol=0)
    torch.testing.assert_close(in_eval[:, 0], problem.fitted(result.weights), atol=1e-4, rtol=0)
    # One sample alone: only eval mode can do that.
    torch.testing.assert_close(network(X[:1]), in_eval[:1], atol=tolerance, rtol=0)


def test_objective_counts_scale_shift_and_output_but_not_the_first_layer():
    X, y = instance(0)
    problem = cl.BatchNorm(X, y, beta=0.1)
    network = problem.to_network(cl.solve(problem))
    value = problem.objective(network)
    with torch.no_grad():
        network[0].weight.mul_(7.0)  # another scale of the first layer is the same network
        network[1].running_var.fill_(9.0)  # and the running statistics are not the batch's
    assert problem.objective(network) == pytest.approx(value, rel=1e-12)
    with torch.no_grad():
        network[1].weight.mul_(2.0)
        network[1].bias.mul_(2.0)
        network[3].weight.div_(2.0)
    # The same function with unbalanced weights has a larger penalty.
    squares = [float((p.detach() ** 2).sum()) for p in network.parameters()][1:]
    unbalanced = 0.05 * (6 * (squares[0] + squares[1]) + squares[2])
    balanced = 0.05 * (6 * (squares[0] + squares[1]) / 4 + squares[2] * 4)
    assert problem.objective(network) - value == pytest.approx(unbalanced - balanced)
    assert unbalanced > balanced


def test_whitening():
    X = torch.from_numpy(instance(0, n=9, d=4)[0])
    white = whiten(X)
    data = white.features
    torch.testing.assert_close(data.T @ data, torch.eye(5).double())
    torch.testing.assert_close(white.U @ torch.diag(white.singular) @ white.V.T, X - X.mean(dim=0))
    assert white.proven
    assert 0 < white.rounding < 1e-12
    assert not whiten(X, truncate=2).proven
    # Rank-deficient, shown by integers; and with a column that is only rounding, not shown.
    whole = (8 * X).round()
    assert whiten(torch.column_stack([whole, whole[:, 0] - whole[:, 1]])).proven
    noisy = torch.column_stack([X, X[:, 0] / 3 + X[:, 1] / 7])
    assert whiten(noisy).U.shape[1] == 4
    assert not whiten(noisy).proven


def normalised(X, w, eps):
    """The outputs of one neuron, normalised."""
    network = nn.Sequential(nn.Linear(len(w), 1), nn.BatchNorm1d(1, eps=eps), nn.ReLU())
    network = network.append(nn.Linear(1, 1)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([w], dtype=torch.float64))
    return read_batchnorm(network).normalised(torch.from_numpy(X))[:, 0].numpy()


@pytest.mark.parametrize(
    ("X", "w"),
    [
        (CONSTANT, [-1e16, 0.0]),
        (CONSTANT * [1e9, 1.0], [-3.0, 0.0]),
        (np.array([[0.1, 0.3], [0.2, 0.6], [0.7, 2.1]]) / 3, [0.0, 0.0]),
        (np.array([[1.0, 3.0], [2.0, 6.0], [7.0, 21.0]]) / 8, [0.3, -0.1]),
        (np.array([[1.0, 3.0], [2.0, 6.0], [7.0, 21.0]]) * 1e8, [3e9, -1e9]),
        (np.array([[1e9, 1.0], [np.nextafter(1e9, 2e9), 2.0], [1e9, 4.0]]), [1.0, 0.0]),
    ],
)
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_what_rounding_leaves_of_a_neuron_is_not_magnified(X, w, eps):
    rows = [[Fraction(value) for value in row] for row in X.tolist()]
    outputs = [sum(a * Fraction(b) for a, b in zip(row, w, strict=True)) for row in rows]
    centred = [output - sum(outputs) / len(X) for output in outputs]
    square = sum(value**2 for value in centred) + len(X) * Fraction(eps)
    if square == 0:
        with pytest.raises(NotCertifiableError, match="neuron 0 of the network is constant on X"):
            normalised(X, w, eps)
        return
    exact = [float(value) / float(square) ** 0.5 for value in centred]
    np.testing.assert_allclose(normalised(X, w, eps), exact, rtol=0, atol=1e-8)


def refusals():
    problem = cl.BatchNorm(*instance(0), beta=0.1)

    def network(d=2, outputs=1, **options):
        norm = nn.BatchNorm1d(3, **options)
        return nn.Sequential(nn.Linear(d, 3), norm, nn.ReLU(), nn.Linear(3, outputs)).double()

    constant, broken = network(eps=0.0), network()
    with torch.no_grad():
        constant[0].weight[1] = 0.0
        broken[3].weight[0, 0] = np.nan
    cases = [
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
         NotCertifiableError, "cannot read Linear -> ReLU -> Linear; expected"),
        (network(affine=False), NotCertifiableError, "affine=False; expected a scale and a shift"),
        (network(d=5), InputError, "takes 5 features but X has shape"),
        (network(outputs=2), InputError, "has 2 outputs; expected 1"),
        (constant, NotCertifiableError, "neuron 1 of the network is constant on X"),
        (broken, NotCertifiableError, "non-finite weights"),
        ("network", InputError, "expected a torch.nn.Module"),
    ]  # fmt: skip
    return [(lambda bad=bad: problem.objective(bad), *rest) for bad, *rest in cases]


test_refusals = refused(refusals())
