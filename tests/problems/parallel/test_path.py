"""Path regularisation: reference values, special cases, losses, trees and the low-rank bound."""

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import InputError, ProblemError, TooManyArrangementsError
from tests.helpers.networks import random_network, standard
from tests.helpers.refusals import COUNT, EYE, refused
from tests.helpers.three_layer import circle, forward, program_value, seed_one
from tests.helpers.two_layer import gaussian


def check_network(problem: cl.PathRegularized, result: cl.Result) -> cl.ParallelReLU:
    """The network has the program's value, in both forms."""
    network = problem.to_network(result)
    assert problem.objective(network) == pytest.approx(result.value, rel=1e-10)
    balanced = network.balanced()
    assert problem.objective(balanced) == pytest.approx(result.value, rel=1e-10)
    assert problem.decay_objective(balanced) == pytest.approx(result.value, rel=1e-10)
    assert problem.decay_objective(network) >= result.value * (1 - 1e-12)
    assert problem.violation(result.weights) <= 1e-10
    return network


def test_circle() -> None:
    X, y, beta = circle()
    problem = cl.PathRegularized(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-8)
    assert result.scope == "network"
    assert result.value == pytest.approx(0.0528538574, abs=2e-9)
    network = check_network(problem, result)
    assert network.n_subnetworks <= 10
    penalty = np.sqrt((network.U.detach().numpy() ** 2).sum(axis=(1, 2))).sum()
    value = 0.5 * np.sum((forward(network, X) - y) ** 2) + beta * penalty
    np.testing.assert_allclose(value, result.value, rtol=1e-10)


def test_seed_one_and_the_oracle() -> None:
    X, y, beta = seed_one()
    problem = cl.PathRegularized(X, y, beta=beta)
    for method in ("units", "oracle"):
        result = cl.solve(problem, tol=1e-8, method=method)
        assert result.value == pytest.approx(0.06083577, abs=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_the_program_without_reductions(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    n, d = int(rng.integers(2, 4)), 1 + seed % 2
    X, y, beta = rng.standard_normal((n, d)), rng.standard_normal(n), 10 ** rng.uniform(-2, -0.5)
    problem = cl.PathRegularized(X, y, beta=beta)
    result = cl.solve(problem, tol=1e-8)
    assert result.value == pytest.approx(
        program_value(X, y, beta, "group", accuracy=1e-8), rel=1e-6
    )
    check_network(problem, result)


@pytest.mark.parametrize("seed", range(4))
def test_width_one_and_depth_two_are_two_layers(seed: int) -> None:
    X, y = gaussian(7, 2, seed)
    two = cl.solve(cl.TwoLayer(X, y, beta=0.1), tol=1e-9)
    for arguments in ({"depth": 2}, {"width": 1}, {"width": 1, "depth": 4}):
        problem = cl.PathRegularized(X, y, beta=0.1, **arguments)
        result = cl.solve(problem, tol=1e-8)
        assert result.value == pytest.approx(two.value, rel=1e-7)
        check_network(problem, result)


def test_the_optimum_falls_with_the_width() -> None:
    X, y = gaussian(4, 2, 5)
    values = [cl.solve(cl.PathRegularized(X, y, beta=0.1, width=m)).value for m in (1, 2, 3)]
    assert values[0] > values[1] + 1e-4 > values[2] + 2e-4


def test_trees_of_four_layers() -> None:
    X, y = gaussian(3, 2, 7)
    three = cl.solve(cl.PathRegularized(X, y, beta=0.1), tol=1e-8).value
    for widths in ((1, 2), (2, 1)):  # a chain adds nothing
        problem = cl.PathRegularized(X, y, beta=0.1, width=widths, depth=4)
        assert cl.solve(problem, tol=1e-8).value == pytest.approx(three, rel=1e-7)
    problem = cl.PathRegularized(X[:, :1], y, beta=0.1, depth=4)
    result = cl.solve(problem, tol=1e-8)
    check_network(problem, result)
    assert result.value < cl.solve(cl.PathRegularized(X[:, :1], y, beta=0.1)).value - 1e-4
    # No network of that shape exceeds the dual bound.
    network = random_network(1, (2, 2), K=5000)
    with torch.no_grad():
        reached = result.z @ network.hidden(problem.X) * network.alpha / network.path_norms()
    assert float(reached.abs().max()) <= 0.1
    # A relaxation of fully connected sub-networks, which unroll into trees.
    for seed in range(20):
        full = standard(1, 2, 2, 1, seed=seed)
        with torch.no_grad():
            full[-1].weight.mul_(0.1)
        assert problem.objective(full) >= result.dual
        tree = cl.as_parallel(full)
        assert problem.objective(tree) == pytest.approx(problem.objective(full), rel=1e-12)


@pytest.mark.parametrize("loss", ["absolute", "hinge"])
def test_piecewise_linear_losses(loss: str) -> None:
    X, y = gaussian(4, 2, 3)
    y = np.sign(y) if loss == "hinge" else y
    problem = cl.PathRegularized(X, y, beta=0.2, loss=loss)
    result = cl.solve(problem, tol=1e-7)
    assert result.converged
    oracle = cl.solve(problem, tol=1e-6, method="oracle")
    assert result.value == pytest.approx(oracle.value, rel=1e-6)
    network = check_network(problem, result)
    fitted = forward(network, X)
    losses = np.maximum(1 - y * fitted, 0) if loss == "hinge" else np.abs(fitted - y)
    value = losses.sum() + 0.2 * cl.path_norm(network)
    assert value == pytest.approx(result.value, rel=1e-9)
    limit = problem.beta_max()
    assert not cl.solve(problem.with_beta(1.001 * limit)).weights.any()
    assert cl.solve(problem.with_beta(0.9 * limit)).weights.any()


@pytest.mark.parametrize("loss", ["absolute", "hinge"])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_low_rank_sandwich(loss: str, spread: float) -> None:
    X, y = gaussian(5, 3, 6)
    y = np.sign(y) if loss == "hinge" else y
    left, sizes, right = np.linalg.svd(X, full_matrices=False)
    X = left * (sizes * np.array([1.0, 1.0, spread])) @ right
    best = cl.solve(cl.PathRegularized(X, y, beta=0.3, loss=loss), tol=1e-7)
    for rank in (1, 2, 3):
        found = cl.low_rank_path(X, y, beta=0.3, rank=rank, loss=loss, tol=1e-7)
        assert found.lower <= best.value * (1 + 1e-7)
        # One factor 1 + eps is enough, as the network is worth the same on the truncated data.
        assert best.dual <= found.value <= found.factor * best.value * (1 + 1e-6)
        assert found.value == pytest.approx(found.result.value, rel=1e-9)
        problem = cl.PathRegularized(X, y, beta=0.3, loss=loss, units=cl.sample_units(X, 9))
        assert problem.objective(found.network) == pytest.approx(found.value, rel=1e-10)
        if rank == 2 and spread < 1:  # the theorem says something here
            assert found.factor < 1.1
            assert found.lower > 0.9 * best.value
    assert found.factor == 1.0
    assert found.value == pytest.approx(best.value, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_losses_with_kinks_do_not_make_the_units_come_and_go(seed):
    """Where a target is fitted exactly the multiplier is one of many: rounds went in a circle."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 1))
    x[1] = -x[0]
    problem = cl.PathRegularized(x, np.array([1.0, 0.0, -1.0]), beta=0.107, loss="absolute")
    result = cl.solve(problem)
    assert result.converged
    assert result.n_iter < 20


def refusals():
    X, y, beta = seed_one()
    problem = cl.PathRegularized(X, y, beta=beta)
    large = gaussian(60, 3)
    advice = r"more than max_units=100000\. Raise max_units, or pass units=sample_units\(X, n_units"
    return [
        *((lambda options=options: cl.PathRegularized(*large, beta=0.1, **options),
           TooManyArrangementsError, f"{count}.*{advice}") for options, count in (
            ({}, r"up to 1\.9e\+7 choices of"),
            ({"width": 4}, r"up to .*e\+\d+ choices of"),
            ({"depth": 4}, r"choices of units of width 2, 2"),
        )),
        (lambda: cl.PathRegularized(*gaussian(20, 4), beta=0.1, depth=5),
         TooManyArrangementsError, r"depth=5\), whose program gives an upper bound\.$"),
        (lambda: cl.PathRegularized(X, y, beta=beta, loss="hinge"),
         InputError, "labels -1 and 1 for loss"),
        (lambda: cl.low_rank_path(X, y, beta=beta, rank=1, tol=-1.0),
         InputError, "tol is -1; expected tol > 0"),
        (lambda: cl.PathRegularized(X, y, beta=beta, loss="logistic"),
         InputError, "loss is 'logistic'; expected one of 'squared'"),
        (lambda: cl.low_rank_path(X, y, beta=beta, rank=1, loss="squared"),
         InputError, "loss is 'squared'; expected one of 'absolute', 'hinge'"),
        (lambda: cl.low_rank_path(X, y, beta=beta, rank=3),
         InputError, "rank is 3; expected at most 2"),
        (lambda: cl.PathRegularized(X, y, beta=beta, depth=1),
         InputError, "depth is 1; expected an integer >= 2"),
        (lambda: problem.objective(nn.Sequential(nn.Linear(2, 1))),
         InputError, "A bias is a column of ones"),
        (lambda: cl.path_norm(nn.Sequential(nn.Linear(2, 2, bias=False))),
         InputError, "the network has 2 outputs; expected 1"),
        (lambda: cl.path_norm(nn.Linear(2, 1)),
         InputError, "network is Linear; expected a ParallelReLU"),
        (lambda: problem.decay_objective(random_network(2)),
         ProblemError, "other than -1, 0 and 1"),
        (lambda: problem.decay_objective(nn.Linear(2, 1)),
         ProblemError, "is Linear; expected a ParallelReLU with inner"),
        (lambda: cl.ParallelReLU(torch.ones(1, 2, 2), [torch.ones(1, 2, 1)], torch.ones(1)),
         InputError, r"expected \(K, m, d\), a \(K, parents, children\)"),
        (lambda: cl.low_rank_path(EYE, COUNT, beta=1.0, rank=1, tol=EYE), InputError, "tol is "),
        (lambda: cl.low_rank_path(EYE, COUNT, rank=1, beta=5e-324),
         InputError, "the factor is beyond floats; expect"),
        (lambda: cl.low_rank_path(EYE, COUNT, rank=1, beta=1.0, depth=torch.tensor(3.0)),
         InputError, "depth is tens"),
    ]  # fmt: skip


test_refusals = refused(refusals())
