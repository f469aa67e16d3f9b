"""Logistic and squared hinge loss: the program against CVXPY, its network and its dual.

And what the theorem on other losses says of losses that the library does not have.
"""

import cvxpy as cp
import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError
from tests.checks import best_in_cone, check_result, network_objective
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
    assert trained <= best * (1 + 1e-3)  # the search is serious: it comes this close, and closer


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


# --- other losses: what remains, and what does not ---------------------------------------------


def absolute(outputs, y):
    """The sum of absolute errors."""
    return cp.norm(outputs - y, 1)


def hinge(outputs, y):
    """The hinge loss of labels."""
    return cp.sum(cp.pos(1 - cp.multiply(y, outputs)))


@pytest.mark.parametrize("loss", [absolute, hinge])
@pytest.mark.parametrize("seed", range(4))
def test_without_a_gradient_there_still_is_a_program_with_a_dual(seed, loss):
    """Primal and dual of a loss that is convex and no more, over all cones, and the network."""
    rng = np.random.default_rng(seed)
    n, d, beta = int(rng.integers(2, 7)), int(rng.integers(1, 4)), 10 ** rng.uniform(-1.5, 0)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    y = np.sign(y) if loss is hinge else y
    masks = cl.enumerate_arrangements(X).masks.numpy().astype(float)
    V, W, outputs = cp.Variable((len(masks), d)), cp.Variable((len(masks), d)), cp.Variable(n)
    link = outputs == cp.sum(cp.multiply(masks.T, X @ (V - W).T), axis=1)
    size = cp.sum(cp.norm(V, axis=1)) + cp.sum(cp.norm(W, axis=1))
    cones = [cp.multiply(2 * masks - 1, block @ X.T) >= 0 for block in (V, W)]
    program = cp.Problem(cp.Minimize(loss(outputs, y) + beta * size), [link, *cones])
    value = program.solve(solver=cp.CLARABEL)
    z = link.dual_value  # L(f) + z^T f is least at the outputs
    # The dual value of both losses is z^T y, where |z| <= 1 and where 0 <= y z <= 1.
    inside = np.abs(z) <= 1 + 1e-6 if loss is absolute else np.abs(y * z - 0.5) <= 0.5 + 1e-6
    assert inside.all()
    assert z @ y == pytest.approx(value, rel=1e-6, abs=1e-6)
    signed = [(sign, mask) for mask in masks for sign in (1, -1)]
    reach = max(best_in_cone(s * (X * mask[:, None]).T @ z, X, mask > 0) for s, mask in signed)
    assert reach <= beta * (1 + 1e-5)
    neurons, signs = np.concatenate([V.value, W.value]), np.repeat([1.0, -1.0], len(masks))
    fitted = np.maximum(X @ neurons.T, 0) @ signs
    network = float(loss(fitted, y).value) + beta * np.linalg.norm(neurons, axis=1).sum()
    assert network == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_outputs_of_the_absolute_loss_are_not_unique():
    for outputs in (0.0, 0.3, 1.0):  # x = y = beta = 1
        root = torch.tensor([[outputs**0.5]], dtype=torch.float64)
        value = cl.TwoLayerReLU(root, root[0])(torch.ones_like(root)).item()
        assert abs(value - 1) + 0.5 * 2 * outputs == pytest.approx(1.0, abs=1e-15)


def test_a_small_gap_of_the_logistic_loss_allows_large_distances():
    problem = cl.TwoLayer([[1.0]], [1.0], beta=0.1, loss="logistic")
    result = cl.solve(problem, tol=1e-10)
    best = problem.fitted(result.weights).item()
    assert best == pytest.approx(np.log(9), abs=1e-4)
    root = torch.tensor([[(best + 0.5) ** 0.5]], dtype=torch.float64)
    gap = problem.objective(cl.TwoLayerReLU(root, root[0])) - result.dual
    assert (2 * gap) ** 0.5 < 0.5 / 3  # at a distance of 0.5


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_outputs_of_the_squared_hinge_are_not_unique(share):
    X = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [10.0, 10.0]]
    problem = cl.TwoLayer(X, np.ones(5), beta=0.1, loss="squared_hinge")
    corners = torch.tensor([[1.0, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.float64) / 2**0.5
    parts = torch.tensor([share, share, 1 - share, 1 - share], dtype=torch.float64)
    roots = (2**0.5 * (1 - 0.1 / 2**0.5) * parts).sqrt()
    network = cl.TwoLayerReLU(roots[:, None] * corners, roots)
    assert problem.objective(network) == pytest.approx(cl.solve(problem, tol=1e-9).value, rel=1e-8)
    assert network(problem.X)[4].item() == pytest.approx(20 * share * (1 - 0.1 / 2**0.5))
