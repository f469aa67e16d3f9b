"""The short training that seeds column generation."""

import numpy as np
import pytest
import torch

import convexlib as cl
from convexlib.arrangements.patterns import patterns_of
from convexlib.solvers.generate import trained_neurons


def planted(n=80, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.maximum(X @ rng.standard_normal((d, 4)), 0) @ np.array([1.0, -1.0, 1.0, -1.0])
    return X, y + 0.1 * rng.standard_normal(n)


def problem_of(X, y, beta=0.5, **options):
    return cl.TwoLayer(X, y, beta=beta, arrangements="generate", **options)


def test_the_seed_decides():
    problem = problem_of(*planted())
    first = trained_neurons(problem, 0)
    assert torch.equal(first, trained_neurons(problem, 0))
    assert not torch.equal(first[:5], trained_neurons(problem, 1)[:5])
    assert first.dtype == problem.X.dtype
    assert bool(torch.isfinite(first).all())


def test_patterns_beat_as_many_random_ones():
    problem = problem_of(*planted())
    patterns = patterns_of(problem.X, trained_neurons(problem))
    seeded = cl.solve(problem.with_arrangements(patterns), tol=1e-3).value
    drawn = cl.sample_arrangements(problem.X, len(patterns))
    random = cl.solve(problem.with_arrangements(drawn), tol=1e-3).value
    assert seeded < 0.9 * random


@pytest.mark.parametrize(("c", "s"), [(100.0, 1.0), (1.0, 0.01), (2.0**-10, 2.0**7)])
def test_units_do_not_matter(c, s):
    X, y = planted()
    plain = trained_neurons(problem_of(X, y, beta=0.5))
    scaled = trained_neurons(problem_of(c * X, s * y, beta=0.5 * c * s))
    X = torch.from_numpy(X)
    plain, scaled = (set(map(tuple, patterns_of(X, U).masks.tolist())) for U in (plain, scaled))
    # Single precision ends up on the other side of a hyperplane now and then.
    assert len(plain & scaled) >= 0.8 * len(plain)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_labels_train_too(loss):
    X, y = planted()
    problem = problem_of(X, np.sign(y), beta=0.1, loss=loss)
    patterns = patterns_of(problem.X, trained_neurons(problem))
    seeded = cl.solve(problem.with_arrangements(patterns), tol=1e-3).value
    drawn = cl.sample_arrangements(problem.X, len(patterns))
    random = cl.solve(problem.with_arrangements(drawn), tol=1e-3).value
    assert seeded < random


@pytest.mark.parametrize(("x", "target"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_to_learn_gives_no_neurons(x, target):
    problem = problem_of(np.full((3, 2), x), np.full(3, target))
    assert trained_neurons(problem).shape == (0, 2)
