"""No one-dimensional network that a serious search finds is below the exact optimum."""

import pytest
import torch

import convexlib as cl
from tests.mirror_dictionaries import CHAINED, SLOPE, data, make
from tests.searches import least_found


def chain_objective(x, y, beta, activation, depth):
    """The training objective of parallel units, batched: weights and biases (S, L - 1, K)."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    sigma = {
        "relu": torch.relu,
        "abs": torch.abs,
        "leaky": lambda t: torch.where(t >= 0, t, SLOPE * t),
    }[activation]

    def objective(weights, biases, alpha, bias):
        h = inputs[None, :, None]
        for layer in range(depth - 1):
            h = sigma(h * weights[:, layer, None] + biases[:, layer, None])  # (S, n, K)
        fitted = (h * alpha[:, None]).sum(2) + bias
        powers = (weights.abs() ** depth).sum((1, 2)) + (alpha.abs() ** depth).sum(1)
        return 0.5 * ((fitted - targets) ** 2).sum(1) + beta / depth * powers

    return objective


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "depth"), CHAINED, ids=str)
def test_no_network_of_a_serious_search_is_below(activation, depth):
    x, y = data(4, 5 if (activation, depth) == ("abs", 4) else 6)
    problem = make(x, y, (activation, depth, None), beta=0.1)
    result = cl.solve(problem, tol=1e-10)
    objective = chain_objective(x, y, 0.1, activation, depth)
    shapes = [(depth - 1, 10), (depth - 1, 10), (10,), (1,)]
    found = least_found(objective, shapes)
    assert found >= result.value * (1 - 1e-9)
    # Random starts of four and more ReLU layers end in poor valleys; all others come close.
    if activation != "relu" or depth <= 3:
        assert found <= result.value * (1.01 if depth == 2 else 1.1)
    # The same search about the optimal network, with idle units to spare.
    network = problem.to_network(result)
    parts = network.weights, network.biases, network.alpha
    idle = 10 - network.n_units
    centre = [torch.nn.functional.pad(part.detach(), (0, idle)) for part in parts]
    near = least_found(objective, shapes, around=[*centre, network.bias.detach()[None]])
    assert result.value * (1 - 1e-9) <= near <= result.value * 1.01


def signs_with_slopes(t):
    """Signs whose gradient is that of a hard tanh: how sign networks are trained."""
    soft = t.clamp(-1, 1)
    return soft + (2.0 * (t >= 0) - 1.0 - soft).detach()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_no_sign_network_of_a_search_is_below(depth):
    for seed in (1, 2):
        x, y = data(seed, 7)
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        kind = ("sign", depth, None if depth == 2 else 2)
        value = cl.solve(make(x, y, kind, beta=0.1), tol=1e-10).value

        def objective(w, b, top, shift, alpha, bias, inputs=inputs, targets=targets):
            # Ten units of two neurons in the first layer, joined by another sign if deep.
            h = signs_with_slopes(inputs[:, None, None] * w[:, None] + b[:, None])
            if depth == 3:
                h = signs_with_slopes((h * top[:, None]).sum(3) + shift[:, None])
            else:
                h = h[..., 0]
            fitted = (h * alpha[:, None]).sum(2) + bias
            # The best amplitude of a unit is the square root of |alpha|: its price is |alpha|.
            price = alpha.abs().sum(1)
            return 0.5 * ((fitted - targets) ** 2).sum(1) + 0.1 * price

        shapes = [(10, 2), (10, 2), (10, 2), (10,), (10,), (1,)]
        found = least_found(objective, shapes, polished=0, seed=seed)
        assert value * (1 - 1e-9) <= found <= 2 * value
