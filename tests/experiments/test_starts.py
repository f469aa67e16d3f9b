"""Descent from other scales of the start: the same as scaling the start itself."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.training import descent, train, two_layer
from experiments.starts import descend_from

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((40, 3)), RNG.standard_normal(40)
X, Y = torch.from_numpy(X), torch.from_numpy(Y)
OPTIONS = {"beta": 0.3, "width": 6, "seeds": (0, 4), "n_steps": 60, "n_records": 5}
RATES = {"sgd": (0.1, 0.03), "sgd-cosine": (0.1,), "adam": (0.01, 0.03), "adam-cosine": (0.02,)}


@pytest.mark.parametrize("name", RATES)
def test_scale_one_is_train_itself(name):
    grid = {**OPTIONS, "rates": RATES[name], "batch_size": 10}
    ours, plain = descend_from(1.0, name, X, Y, **grid), train(X, Y, optimizer=name, **grid)
    assert (ours.objective == plain.objective).all()
    assert torch.equal(ours.best_network.U, plain.best_network.U)
    assert (ours.rates, ours.best_rate, ours.best_seed) == (
        plain.rates,
        plain.best_rate,
        plain.best_seed,
    )


def scaled_start(monkeypatch, scale):
    """Let `train` and `lbfgs` start from He's weights times `scale`."""
    real = descent.initial_weights

    def start(*arguments):
        return tuple(scale * part for part in real(*arguments))

    monkeypatch.setattr(two_layer, "initial_weights", start)


@pytest.mark.parametrize("scale", [0.3, 0.05])
@pytest.mark.parametrize("name", RATES)
def test_it_is_descent_from_the_scaled_start(name, scale, monkeypatch):
    grid = {**OPTIONS, "rates": RATES[name], "batch_size": 10}
    ours = descend_from(scale, name, X, Y, **grid)
    scaled_start(monkeypatch, scale)
    plain = train(X, Y, optimizer=name, **grid)
    # Adam's constant in the denominator is the only difference.
    assert_allclose(ours.objective, plain.objective, rtol=1e-9 if name.startswith("sgd") else 1e-3)
    assert (ours.rates, ours.best_rate) == (plain.rates, plain.best_rate)


def test_lbfgs_starts_there_with_another_first_step(monkeypatch):
    options = {**OPTIONS, "n_steps": 400}
    ours = descend_from(0.1, "lbfgs", X, Y, **options)
    scaled_start(monkeypatch, 0.1)
    plain = two_layer.lbfgs(X, Y, **options)
    assert_allclose(ours.objective[..., 0], plain.objective[..., 0], rtol=1e-12)
    for run in (ours, plain):  # which may end in other local minima
        assert run.best_objective < 0.9 * run.objective[..., 0].min()


@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs"])
def test_the_network_is_that_of_the_objective(name):
    grid = {} if name == "lbfgs" else {"rates": RATES[name], "batch_size": 10}
    run = descend_from(0.1, name, X, Y, **OPTIONS, **grid)
    problem = cl.TwoLayer(X, Y, beta=OPTIONS["beta"], arrangements="generate")
    assert_allclose(problem.objective(run.best_network), run.best_objective, rtol=1e-10)
    assert_allclose(run.best_objective, run.objective.min(), rtol=1e-12)
