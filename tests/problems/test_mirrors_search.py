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
def test_descent_on_fully_connected_networks_finds_the_mirror_from_some_starts():
    """The abstract's "reflections also occur": a share of the starts, neither none nor all."""
    x = torch.tensor([-4.0, -3.5, -2.2, -1.0, -0.4, 0.4, 1.0, 2.0], dtype=torch.float64)
    y = ((x + 1).abs() - 2).abs()
    generator = torch.Generator().manual_seed(1)
    draw = {"generator": generator, "dtype": torch.float64}
    shapes = [(1, 10), (10, 10), (10, 1)]
    weights = [torch.randn((24, *shape), **draw) / shape[0] ** 0.5 for shape in shapes]
    biases = [torch.randn((24, 1, shape[1]), **draw) for shape in shapes]
    parts = [part.requires_grad_() for part in weights + biases]

    def functions(points):
        h = (points[:, None] @ weights[0] + biases[0]).abs()
        return ((h @ weights[1] + biases[1]).abs() @ weights[2] + biases[2])[:, :, 0]

    descent = torch.optim.Adam(parts, lr=0.02)
    for step in range(2000):
        descent.param_groups[0]["lr"] = 0.02 * (1 - step / 2000)
        decay = sum((weight.abs() ** 3).sum(dim=(1, 2)) for weight in weights)
        values = 0.5 * ((functions(x) - y) ** 2).sum(dim=1) + 0.02 / 3 * decay
        descent.zero_grad()
        values.sum().backward()
        descent.step()
    share = {}
    with torch.no_grad():
        for place in (-3.0, -2.4, -1.0, 1.0):
            # Slopes to the right and left of a neighbourhood; the W's jump is 2.
            a, b, c, d = functions(place + torch.tensor([-0.16, -0.15, 0.15, 0.16]).double()).T
            share[place] = (((d - c) - (b - a)).abs() / 0.01 > 1).double().mean().item()
    # Three batches gave 8 to 13 of 24 at the mirror, 23 or 24 at the data, at most 2 elsewhere.
    assert 0.15 < share[-3.0] < 0.8
    assert min(share[-1.0], share[1.0]) > 0.75
    assert share[-2.4] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_no_sign_network_of_a_search_is_below(depth):
    best = float("inf")
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
        assert value * (1 - 1e-9) <= found
        best = min(best, found / value)
    assert best < 1.5  # the better of two searches: measured 1.00 and 1.13
