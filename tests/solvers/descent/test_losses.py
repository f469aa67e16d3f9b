"""The baselines with the losses of classes and with several outputs."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.errors import InputError
from convexlib.losses import get_loss
from convexlib.training import train
from convexlib.training.descent import ROWS, initial_weights, objectives
from convexlib.training.two_layer import gradients, lbfgs
from tests.checks import as_numpy
from tests.reference_losses import NAMES, loss_value, targets_for

BETA = 0.1
SHAPES = [(), (3,)]  # of one row of y


def data(loss, outputs, n=9, d=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), targets_for(loss, rng.standard_normal((n, *outputs)))


def written_out(X, y, U, alpha, loss):
    """The training objective of the definition, one network, in plain numpy."""
    X, y, U, alpha = (as_numpy(part) for part in (X, y, U, alpha))
    outputs = sum(
        np.multiply.outer(np.maximum(X @ u, 0.0), a) for u, a in zip(U, alpha, strict=True)
    )
    return loss_value(loss, outputs, y) + 0.5 * BETA * ((U**2).sum() + (alpha**2).sum())


@pytest.mark.parametrize("outputs", SHAPES)
@pytest.mark.parametrize("loss", NAMES)
def test_objectives_are_those_written_out_also_in_pieces(loss, outputs):
    X, y = (torch.from_numpy(part) for part in data(loss, outputs, n=ROWS + 3))
    U, alpha = initial_weights([3, 5], 2, 4, X, outputs)
    found = objectives(X, y, U, alpha, BETA, get_loss(loss))
    for place in np.ndindex(2, 2):
        expected = written_out(X, y, U[place], alpha[place], loss)
        assert_allclose(found[place], expected, rtol=1e-12)


@pytest.mark.parametrize("outputs", SHAPES)
@pytest.mark.parametrize("loss", NAMES)
def test_gradients_by_differences(loss, outputs):
    X, y = (torch.from_numpy(part) for part in data(loss, outputs))
    U, alpha = initial_weights([3, 5], 1, 4, X, outputs)
    batch = X.expand(2, *X.shape), y.expand(2, *y.shape)
    slopes = gradients(*batch, U, alpha, BETA, 1.0, get_loss(loss))
    rng = np.random.default_rng(1)
    for _ in range(5):
        steps = [1e-6 * torch.from_numpy(rng.standard_normal(part.shape)) for part in (U, alpha)]
        ends = [
            objectives(X, y, U + s * steps[0], alpha + s * steps[1], BETA, get_loss(loss))
            for s in (1, -1)
        ]
        pairs = zip(slopes, steps, strict=True)
        expected = sum((g * s).flatten(2).sum(dim=2) for g, s in pairs)
        assert_allclose((ends[0] - ends[1]) / 2, expected, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("outputs", SHAPES)
@pytest.mark.parametrize("loss", NAMES)
def test_agrees_with_torch_optimizers(optimizer, loss, outputs):
    X, y = (torch.from_numpy(part) for part in data(loss, outputs))
    U, alpha = (
        part[0, 0].clone().requires_grad_() for part in initial_weights([0], 1, 5, X, outputs)
    )
    chosen = {
        "sgd": lambda: torch.optim.SGD([U, alpha], lr=0.05 / len(X)),
        "adam": lambda: torch.optim.Adam([U, alpha], lr=0.05),
    }[optimizer]()
    for _ in range(30):
        chosen.zero_grad()
        fitted = torch.relu(X @ U.T) @ alpha
        fit = {
            "squared": lambda f: 0.5 * (f - y) ** 2,
            "logistic": lambda f: torch.log1p(torch.exp(-y * f)),
            "squared_hinge": lambda f: 0.5 * torch.clamp(1 - y * f, min=0) ** 2,
        }[loss](fitted)
        (fit.sum() + 0.5 * BETA * ((U**2).sum() + (alpha**2).sum())).backward()
        chosen.step()
    run = train(
        X,
        y,
        beta=BETA,
        width=5,
        optimizer=optimizer,
        rates=(0.05,),
        seeds=(0,),
        n_steps=30,
        loss=loss,
    )
    expected = written_out(X, y, U, alpha, loss)
    assert_allclose(run.objective[0, 0, -1], expected, rtol=1e-10)


@pytest.mark.parametrize("outputs", SHAPES)
@pytest.mark.parametrize("loss", NAMES)
def test_best_network_has_the_best_objective(loss, outputs):
    X, y = data(loss, outputs)
    run = train(X, y, beta=BETA, width=10, n_steps=60, batch_size=4, loss=loss)
    kind = cl.VectorOutput if outputs else cl.TwoLayer
    problem = kind(X, y, beta=BETA, loss=loss)
    assert_allclose(problem.objective(run.best_network), run.best_objective, rtol=1e-12)
    assert run.best_network(problem.X).shape == y.shape
    alone = train(
        X,
        y,
        beta=BETA,
        width=10,
        n_steps=60,
        batch_size=4,
        loss=loss,
        rates=(run.best_rate,),
        seeds=(run.best_seed,),
    )
    row, column = run.seeds.index(run.best_seed), run.rates.index(run.best_rate)
    assert_allclose(alone.objective[0, 0], run.objective[row, column], rtol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_descends_to_but_never_below_the_global_optimum(loss):
    X, y = data(loss, ())
    best = cl.solve(cl.TwoLayer(X, y, beta=BETA, loss=loss), tol=1e-8, method="oracle").dual
    runs = [
        train(X, y, beta=BETA, width=20, rates=(0.03, 0.01), n_steps=1500, loss=loss),
        lbfgs(X, y, beta=BETA, width=20, n_steps=500, loss=loss),
    ]
    for run in runs:
        assert best * (1 - 1e-9) <= run.best_objective <= best * 1.02


@pytest.mark.parametrize("loss", NAMES)
def test_lbfgs_trains_several_outputs(loss):
    X, y = data(loss, (2,))
    run = lbfgs(X, y, beta=BETA, width=15, n_steps=300, loss=loss)
    U, alpha = run.best_network.U, run.best_network.alpha
    assert alpha.shape == (15, 2)
    assert_allclose(written_out(X, y, U, alpha, loss), run.best_objective, rtol=1e-12)
    # A joint network can do whatever separate ones can, at no greater cost.
    separate = cl.solve(cl.VectorOutput(X, y, beta=BETA, loss=loss), method="oracle")
    assert run.best_objective <= separate.value * 1.01


@pytest.mark.parametrize("method", [train, lbfgs])
def test_labels_and_shapes_are_checked(method):
    X, y = data("squared", ())
    with pytest.raises(InputError, match=r"entries of y are not labels .*loss='logistic'"):
        method(X, y, beta=BETA, width=3, n_steps=5, loss="logistic")
    with pytest.raises(InputError, match=r"Y has 5 rows; expected 9"):
        method(X, np.ones((5, 2)), beta=BETA, width=3, n_steps=5)
    with pytest.raises(InputError, match=r"loss is 'hinge'; expected one of"):
        method(X, y, beta=BETA, width=3, n_steps=5, loss="hinge")
