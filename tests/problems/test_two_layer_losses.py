"""Logistic and squared hinge loss: the program against CVXPY, its network and its dual."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError
from tests.checks import check_result, network_objective
from tests.reference_losses import NAMES, loss_value, targets_for
from tests.reference_programs import program_value
from tests.searches import least_found

SEEDS = range(20)


def instance(seed, loss, *, gated=False, fraction=None):
    """A random problem with n <= 9, d <= 3 and beta between 0.01 and 0.8 of beta_max."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 10)), int(rng.integers(1, 4))
    X, y = rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal(n))
    fraction = fraction or 10 ** rng.uniform(-2, np.log10(0.8))
    problem = cl.TwoLayer(X, y, beta=1.0, gated=gated, loss=loss)
    return problem.with_beta(fraction * problem.beta_max())


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_value_is_that_of_the_program_written_out(seed, loss, gated):
    problem = instance(seed, loss, gated=gated)
    result = cl.solve(problem, tol=1e-7)
    check_result(problem, result, tol=1e-7)
    assert result.converged
    masks = problem.arrangements.masks
    expected = program_value(problem.X, problem.y, problem.beta, masks, gated=gated, loss=loss)
    assert result.value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_zero_network_from_beta_max_on(loss, gated):
    problem = instance(3, loss, gated=gated)
    top = problem.beta_max()
    above = cl.solve(problem.with_beta(top * (1 + 1e-6)))
    assert not above.weights.any()
    assert above.value == pytest.approx(loss_value(loss, 0 * problem.y, problem.y), rel=1e-14)
    below = cl.solve(problem.with_beta(top * (1 - 1e-3)), tol=1e-9)
    assert below.weights.any()
    assert below.value < above.value


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_beta_max_at_zero_outputs_is_half_or_all_of_the_squared_one(loss):
    problem = instance(4, loss)
    squared = cl.TwoLayer(problem.X, problem.y, beta=1.0)
    factor = {"logistic": 0.5, "squared_hinge": 1.0}[loss]  # the slope of each loss at 0
    assert problem.beta_max() == pytest.approx(factor * squared.beta_max(), rel=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_training_does_not_get_below_the_optimum(loss):
    problem = instance(5, loss, fraction=0.05)
    best = cl.solve(problem, tol=1e-9).value
    X, y = problem.X, problem.y

    def objective(U, alpha):
        outputs = torch.einsum("snm,sm->sn", torch.einsum("nd,smd->snm", X, U).relu(), alpha)
        margins = y * outputs
        fit = torch.nn.functional.softplus(-margins)
        if loss == "squared_hinge":
            fit = 0.5 * torch.relu(1 - margins) ** 2
        decay = (U**2).sum(dim=(1, 2)) + (alpha**2).sum(dim=1)
        return fit.sum(dim=1) + 0.5 * problem.beta * decay

    trained = least_found(objective, [(12, X.shape[1]), (12,)])
    assert trained >= best * (1 - 1e-9)
    assert trained <= best * (1 + 1e-3)  # the search is serious: it comes close


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_generated_patterns_give_the_optimum_over_all(loss, repeated):
    problem = instance(6, loss, fraction=0.05)
    if repeated:  # equal samples, with equal and with opposite labels
        X = torch.cat([problem.X, problem.X[:3]])
        y = torch.cat([problem.y, problem.y[:2], -problem.y[2:3]])
        problem = cl.TwoLayer(X, y, beta=problem.beta, loss=loss)
    generating = cl.TwoLayer(
        problem.X, problem.y, beta=problem.beta, arrangements="generate", loss=loss
    )
    generated = cl.solve(generating)
    check_result(generating, generated)
    assert generated.converged
    assert generated.scope == "network"
    assert generated.value == pytest.approx(cl.solve(problem).value, rel=2e-6)


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("fraction", [0.01, 0.5, 3.0])
def test_a_dual_point_is_scaled_to_the_best_multiple(loss, fraction):
    """No multiple on a grid up to the feasible ones is better; the norm is that of the cones."""
    problem = instance(5, loss, fraction=fraction)
    rng = np.random.default_rng(0)
    target = problem.loss.dual_point(torch.zeros_like(problem.y), problem.y)
    for noise in (0.0, 0.3, 2.0):
        z = target + noise * torch.from_numpy(rng.standard_normal(len(target)))
        scaled = problem.dual_scaling(z)
        restricted = problem.loss.restrict(z, problem.y)
        assert problem.dual_norm(scaled) <= problem.beta * (1 + 1e-12)
        limit = problem.beta / max(problem.dual_norm(restricted), 1e-300)
        grid = [
            problem.dual_value(s * restricted) for s in min(limit, 5.0) * np.linspace(0, 1, 200)
        ]
        assert problem.dual_value(scaled) >= max(grid) - 1e-9 * abs(max(grid))


@pytest.mark.parametrize("loss", NAMES)
def test_objective_of_any_network_is_that_of_its_loss(loss):
    problem = instance(7, loss)
    torch.manual_seed(0)
    d = problem.X.shape[1]
    network = torch.nn.Sequential(torch.nn.Linear(d, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    expected = network_objective(network, problem.X, problem.y, problem.beta, loss)
    assert problem.objective(network) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.0, 1.0, 1.0], r"1 of the 3 entries of y are not labels .*0, 1.*Use 2 \* y - 1"),
        ([0.5, -1.0, 2.0], r"2 of the 3 entries .*values are -1, 0\.5, 2.*Code one class as 1"),
    ],
)
def test_targets_that_are_no_labels_are_refused(loss, y, message):
    with pytest.raises(InputError, match=message + ".*") as caught:
        cl.TwoLayer(np.eye(3), y, beta=0.1, loss=loss)
    assert f"expected -1 and 1 for loss='{loss}'" in str(caught.value)


def test_a_problem_keeps_its_loss_and_says_so():
    problem = instance(8, "logistic")
    assert "logistic" in repr(problem)
    assert problem.with_beta(0.3).loss.name == "logistic"
    assert problem.with_arrangements(problem.arrangements).loss.name == "logistic"


def test_batch_normalisation_has_the_squared_loss_only():
    with pytest.raises(InputError, match=r"loss is 'logistic'; expected one of 'squared'"):
        cl.BatchNorm(np.eye(3), [1.0, -1.0, 1.0], beta=0.1, loss="logistic")
