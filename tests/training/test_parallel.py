"""Descent on parallel three-layer networks: right gradients, one objective, nothing below it."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.errors import InputError, SolverError
from convexlib.training import OPTIMIZERS, train_parallel
from convexlib.training.parallel import gradients, initial
from tests.helpers.refusals import COUNT, EYE, refused
from tests.helpers.three_layer import PROVEN, circle, searched, value_of


@pytest.mark.parametrize("norm", ["sum", "group"])
def test_gradients_are_those_of_the_training_form(norm: str) -> None:
    problem = searched(norm)
    X, y = problem.X, problem.y
    weights = [part.requires_grad_() for part in initial([0, 1], 2, 3, 2, X)]
    V, w_2, w_3 = weights
    # All of a first layer has norm one, or every neuron of it.
    W = V / torch.linalg.vector_norm(V, dim=(3, 4) if norm == "sum" else 4, keepdim=True)
    hidden = torch.einsum("td,srkjd->srtkj", X, W).relu()
    fitted = ((hidden * w_2[:, :, None]).sum(dim=4).relu() * w_3[:, :, None]).sum(dim=3)
    value = 0.5 * ((fitted - y) ** 2).sum()
    value = value + 0.5 * problem.beta * ((w_2**2).sum() + (w_3**2).sum())
    expected = torch.autograd.grad(value, weights)
    with torch.no_grad():
        batch = X.expand(2, 9, 2), y.expand(2, 9)
        found = gradients(*batch, weights, problem.beta, 9, problem.by_sum)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_batches_give_the_gradient_of_all_data_on_average() -> None:
    problem = searched("sum")
    X, y = problem.X[:8], problem.y[:8]
    weights = initial([0], 1, 3, 2, X)
    whole = gradients(X[None], y[None], weights, 0.1, 8, True)
    halves = [gradients(X[None, i::2], y[None, i::2], weights, 0.1, 8, True) for i in (0, 1)]
    for full, *parts in zip(whole, *halves, strict=True):
        np.testing.assert_allclose(full, sum(parts) / 2, atol=1e-13)


@pytest.mark.parametrize("norm", ["sum", "group"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_runs_improve_and_stay_above_the_proven_optimum(optimizer: str, norm: str) -> None:
    problem = searched(norm)
    run = train_parallel(
        problem, 16, optimizer=optimizer, rates=(0.1, 0.03), seeds=(0, 1), n_steps=200
    )
    assert run.optimizer == optimizer
    assert run.objective.shape == (2, 2, len(run.steps))
    assert (run.objective >= PROVEN[norm] * (1 - 1e-9)).all()
    assert run.objective[:, :, -1].min() < 0.5 * run.objective[:, :, 0].min()
    network = run.best_network
    assert problem.objective(network) == pytest.approx(run.best_objective, rel=1e-10)
    assert value_of(problem, network) == pytest.approx(run.best_objective, rel=1e-10)
    assert run.best_curve[-1] == pytest.approx(run.best_objective)


def test_a_silent_sub_network_is_a_network() -> None:
    # Penalties drive sub-networks to subnormal sizes; the first layers' norms stay at most 1.
    X, y, _ = circle()
    problem = cl.ThreeLayer(X, y, beta=5.0, units="generate")
    run = train_parallel(problem, 4, rates=(0.1,), seeds=(0,), n_steps=3000, n_records=2)
    assert problem.objective(run.best_network) <= 0.5 * y @ y * (1 + 1e-9)


def refusals():
    problem = searched("sum")
    X, y, beta = circle()
    deep = cl.PathRegularized(X[:3, :1], y[:3], beta=beta, depth=4)
    hinge = cl.PathRegularized(X[:3], [1.0, -1.0, 1.0], beta=beta, loss="hinge")
    return [
        (lambda: train_parallel(cl.TwoLayer(EYE, COUNT, beta=0.1), 3, n_steps=5),
         InputError, "problem is TwoLayer; expected a ThreeLayer or PathRegularized"),
        (lambda: train_parallel(problem, 2), InputError, "neither n_steps nor seconds"),
        (lambda: train_parallel(problem, 0, n_steps=1), InputError, "n_subnetworks is 0"),
        (lambda: train_parallel(problem, 10**30, n_steps=3),
         InputError, r"have 6\.3e\+31 weights; expected at most 9e\+09"),
        (lambda: train_parallel(problem, 2, n_steps=3, foo=1),
         InputError, "an option is 'foo'; expected one of 'optimizer', 'rates'"),
        (lambda: train_parallel(problem, 2, optimizer="newton", n_steps=1),
         InputError, "optimizer is 'newton'"),
        (lambda: train_parallel(deep, 2, n_steps=1),
         SolverError, "train_parallel got depth=4 and loss='squared'"),
        (lambda: train_parallel(hinge, 2, n_steps=1),
         SolverError, "train_parallel got depth=3 and loss='hinge'"),
    ]  # fmt: skip


test_refusals = refused(refusals())
