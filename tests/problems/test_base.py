"""What every problem promises: a sharp beta_max, its network's objective, its data's precision."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.errors import ConvexlibError, unwarned
from convexlib.problems.base import LinearProgram
from tests.helpers.checks import check_maps, check_record
from tests.helpers.two_layer import tensors

FAMILIES = {
    "two layers": cl.TwoLayer,
    "gated": partial(cl.TwoLayer, gated=True),
    "generated": partial(cl.TwoLayer, arrangements="generate"),
    **{
        f"{loss}, gated={gated}": partial(
            lambda X, y, **options: cl.TwoLayer(X, y.sign(), **options), loss=loss, gated=gated
        )
        for loss in ("logistic", "squared_hinge")
        for gated in (False, True)
    },
    "outputs": lambda X, y, beta: cl.VectorOutput(X, two(y), beta=beta),
    "gated outputs": lambda X, y, beta: cl.VectorOutput(X, two(y), beta=beta, gated=True),
    "nuclear": lambda X, y, beta: cl.VectorOutput(
        X, two(y), beta=beta, gated=True, penalty="nuclear"
    ),
    "batch normalisation": cl.BatchNorm,
    "convolution": lambda X, y, beta: cl.Convolution(X[:, :, None], y, beta=beta),
    "gated patches": lambda X, y, beta: cl.Convolution(X[:, :, None], y, beta=beta, gated=True),
    "attention": lambda X, y, beta: cl.Attention(X.reshape(3, 2, 2), y.reshape(3, 2, 1), beta=beta),
    "threshold": lambda X, y, beta: cl.Threshold(torch.cat([X, 1 + 0 * X], dim=1), y, beta=beta),
    "wedges": cl.WedgeLasso,
    "free biases": partial(cl.WedgeLasso, bias=True),
    "mirrors": lambda X, y, beta: cl.Mirrors(X[:, 0], y, beta=beta, depth=3),
    "absolute values": partial(cl.ReflectionLasso, depth=2),
    "reflections": cl.ReflectionLasso,
    "signs": lambda X, y, beta: cl.Mirrors(X[:, 0], y, beta=beta, activation="sign"),
    "three layers": lambda X, y, beta: cl.ThreeLayer(X[:4], y[:4], beta=beta),
    "paths": lambda X, y, beta: cl.PathRegularized(X[:4], y[:4], beta=beta),
}


def two(y):
    return torch.stack([y, y.flip(0)], dim=1)


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def family(request):
    return lambda X, y, beta: request.param(X, y, beta=beta)


def test_zero_weights_are_best_from_beta_max_on(family):
    problem = family(*tensors(6, 2, 3), 1.0)
    top = problem.beta_max()
    above, below = (problem.with_beta(factor * top) for factor in (1 + 1e-6, 0.99))
    zero = problem.value(problem.zeros())
    result = cl.solve(above)
    assert above.penalty(result.weights) <= 1e-9
    assert result.value == pytest.approx(zero, rel=1e-12)
    for weights in (result, problem.zeros()):
        assert above.objective(above.to_network(weights)) == pytest.approx(zero, rel=1e-12)
    assert cl.solve(below, tol=1e-9).value < zero * (1 - 1e-9)


def test_the_network_has_the_value_and_the_precision_of_the_program(family):
    X, y = tensors(6, 2, 3)
    beta = 0.2 * family(X, y, 1.0).beta_max()
    exact, single = family(X, y, beta), family(X.float(), y.float(), beta)
    best = cl.solve(exact, tol=1e-8)
    check_record(exact, best, 1e-8)
    network = exact.to_network(best)
    assert exact.objective(network) == pytest.approx(best.value, rel=1e-9)
    result = cl.solve(single, tol=1e-3)
    # Outputs of float32 have a rounding of their own, which either side of the gap may lose.
    rounding = 16.0 * torch.finfo(torch.float32).eps
    assert (1.0 - 1e-3) * result.value <= result.dual <= result.value * (1.0 + rounding)
    assert result.converged
    assert result.value == pytest.approx(best.value, rel=1.1e-3)
    network = single.to_network(result)
    floats = [value for value in network.state_dict().values() if value.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float32}
    with torch.no_grad():
        assert network(single.inputs).dtype == torch.float32
    assert single.objective(network) == pytest.approx(result.value, rel=1e-5)


def plain(*layers):
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (cl.TwoLayerReLU(torch.ones(1, 9), torch.ones(1)), "Expected a network of this X"),
        (plain(nn.Linear(9, 2), nn.ReLU(), nn.Linear(2, 1)), "Expected a network of this X"),
        (plain(nn.Conv1d(9, 2, 1), nn.Flatten(), nn.Linear(2, 1)), "Expected a network of this X"),
        (nn.ModuleList([nn.Linear(2, 1)]).double(), "missing the required"),
        (nn.LSTM(2, 1).double(), "returns tuple"),
        (nn.ModuleList(), ""),
        (None, ""),
    ],
)
def test_objectives_refuse_networks_of_other_data(family, network, message):
    problem = family(*tensors(6, 2, 3), 1.0)
    with pytest.raises(ConvexlibError) as refusal:
        problem.objective(network)
    if type(problem) is cl.TwoLayer:
        assert re.search(message, str(refusal.value))


def test_every_method_that_a_problem_names_solves_it(family):
    problem = family(*tensors(6, 2, 3), 1.0)
    problem = problem.with_beta(0.3 * problem.beta_max())
    best = cl.solve(problem, tol=1e-8).value
    for method in problem.methods:
        result = cl.solve(problem, method=method)
        check_record(problem, result, 1e-6)
        assert result.converged
        assert result.method == method
        assert result.value == pytest.approx(best, rel=1e-6)
        network = problem.to_network(result)
        assert problem.objective(network) == pytest.approx(result.value, rel=1e-9)


@pytest.mark.parametrize(("size", "height"), [(1e-8, 1e9), (1e6, 1e-7)])
def test_the_interior_point_solver_takes_data_of_any_size(family, size, height):
    X, y = tensors(6, 2, 3)
    problem, scaled = family(X, y, 1.0), family(size * X, height * y, 1.0)
    if "oracle" not in problem.methods:
        return
    best, result = (
        cl.solve(program.with_beta(0.1 * program.beta_max()), method="oracle")
        for program in (problem, scaled)
    )
    assert result.converged
    units = height**2 if problem.loss.name == "squared" else 1.0
    assert result.value == pytest.approx(units * best.value, rel=2e-6)


def test_float32_is_solved_and_proved_in_float64(family):
    X, y = (part.float() for part in tensors(6, 2, 3))
    beta = 0.3 * family(X, y, 1.0).beta_max()
    single, exact = family(X, y, beta), family(X.double(), y.double(), beta)
    # The same numbers over the same patterns: those of single data are told apart more coarsely.
    if hasattr(exact, "with_arrangements") and exact.arrangements is not None:
        exact = exact.with_arrangements(single.double().arrangements)
    best = cl.solve(exact, tol=1e-10)
    for method in single.methods:
        with unwarned():  # rounded weights may be worth more than the gap allows
            result = cl.solve(single, tol=1e-9, method=method)
        assert result.weights.dtype == torch.float32
        assert result.z.dtype == torch.float64
        assert result.dual <= best.value * (1.0 + 1e-12)
        assert result.dual == pytest.approx(min(exact.dual_value(result.z), result.value))
        assert result.dual == pytest.approx(best.value, rel=1e-6)
        assert result.value == exact.value(result.weights.double())


def test_outputs_and_correlations_are_adjoint(family):
    problem = family(*tensors(6, 2, 3), 1.0)
    if isinstance(problem, LinearProgram) and problem.methods != ("generate",):
        check_maps(problem)


def test_a_problem_keeps_all_but_its_beta(family):
    problem = family(*tensors(6, 2, 3), 1.0)
    other = problem.with_beta(np.float64(0.3))
    assert (other.beta, problem.beta) == (0.3, 1.0)
    assert type(problem).__name__ in repr(problem)
    assert repr(other).replace("beta=0.3", "beta=1") == repr(problem)
