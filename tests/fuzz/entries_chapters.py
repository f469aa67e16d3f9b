"""Inputs for what the chapters import beside `solve`: limits, paths, prices."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import convexlib as cl
from convexlib.arrangements import patterns_of
from convexlib.pricing import ascend, price, price_outputs, search, spectral_bound
from convexlib.solvers import interpolate, interpolation_norm, lasso, pursue
from convexlib.training import train_parallel
from tests.fuzz.calls import Arguments, entry
from tests.fuzz.data import numbers, sizes
from tests.fuzz.entries_networks import NODES
from tests.fuzz.entries_problems import FEW, TASK, TOLS, tasks
from tests.fuzz.valid import best_network

MIRRORS = tasks(("Mirrors", "Mirrors", "Mirrors", "TwoLayer"))


def of_problem(call: Any) -> Any:
    """The same call, on a problem made from its kind and arguments."""

    def on(make: Any, arguments: Arguments, **options: Any) -> Any:
        return call(make(**arguments), **options)

    return on


entry("interpolation_norm", of_problem(interpolation_norm), MIRRORS, kept=TASK)
entry("interpolate", of_problem(interpolate), MIRRORS, options={"tol": TOLS}, kept=TASK)
entry(
    "pursue", of_problem(pursue), tasks(("TwoLayer",)), kept=TASK,
    options={"tol": TOLS, "max_iter": FEW, "below": st.sampled_from((None, 1.0))},
)  # fmt: skip
entry(
    "lasso_path", of_problem(lasso.lasso_path), MIRRORS, kept=TASK, always=("smallest",),
    options={"smallest": st.sampled_from((1e-3, 0.1, 1.0)), "max_kinks": FEW},
)  # fmt: skip
entry(
    "solve_path", of_problem(lasso.solve_path), MIRRORS, kept=TASK, always=("betas",),
    options={"betas": st.lists(st.sampled_from((1.0, 0.1, 3.0)), max_size=3), "tol": TOLS},
)  # fmt: skip


def all_optima(make: Any, arguments: Arguments, **options: Any) -> Any:
    """The polytope of the optima of a solved Lasso."""
    problem = make(**arguments)
    found = lasso.optimal_set(problem, cl.solve(problem, tol=1e-10), **options)
    return [found, found.unique]


entry(
    "lasso.optimal_set", all_optima, MIRRORS, kept=TASK,
    options={"slack": st.sampled_from((1e-7, 1e-5, 0.5))},
)  # fmt: skip
entry(
    "train_parallel", of_problem(train_parallel), tasks(("ThreeLayer", "PathRegularized")),
    kept=TASK, always=("n_subnetworks", "n_steps"),
    check=best_network,
    options={"n_subnetworks": st.integers(1, 3), "n_steps": st.integers(1, 3), "n_records": FEW},
)  # fmt: skip


@st.composite
def directions(draw: st.DrawFn) -> Arguments:
    """Data and a dual point, as tensors that the library has checked."""
    X = draw(numbers(draw(sizes(6, 3)), hostile=False))
    z = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(len(X))
    return {"X": torch.from_numpy(X), "z": torch.from_numpy(z)}


def priced(X: Any, z: Any, **options: Any) -> Any:
    """Bounds of the best neuron, which some random neurons do not exceed."""
    found = price(X, z, **options)
    U = torch.randn(50, X.shape[1], generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    U = U / torch.linalg.vector_norm(U, dim=1, keepdim=True)
    reached = float((torch.relu(X @ U.T).T @ z).abs().max())
    slack = 1e-9 * (abs(found.upper) + float(X.abs().max() * z.abs().sum()))
    assert found.lower <= found.upper + slack, "the lower bound is above the upper one"
    assert reached <= found.upper + slack, "a neuron exceeds the upper bound"
    assert reached <= spectral_bound(X, z) + slack, "a neuron exceeds the spectral bound"
    return [found.lower, found.upper, found.direction]


entry(
    "price", priced, directions(), kept=("X", "z", "max_nodes"), options={"max_nodes": NODES},
    covers=("price", "Pricing", "spectral_bound"),
)  # fmt: skip


@st.composite
def directions_of_outputs(draw: st.DrawFn) -> Arguments:
    """The same with several outputs."""
    arguments = draw(directions())
    z, c = arguments["z"], draw(st.integers(1, 4))
    mixed = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((len(z), c))
    return {"X": arguments["X"], "Z": torch.from_numpy(mixed) * z[:, None]}


def priced_together(X: Any, Z: Any, **options: Any) -> Any:
    """Bounds of the best neuron for all outputs, which some random neurons do not exceed."""
    found = price_outputs(X, Z, **options)
    U = torch.randn(50, X.shape[1], generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    U = U / torch.linalg.vector_norm(U, dim=1, keepdim=True)
    reached = float(torch.linalg.vector_norm(torch.relu(X @ U.T).T @ Z, dim=1).max())
    slack = 1e-9 * (abs(found.upper) + float(X.abs().max() * Z.abs().sum()))
    assert found.lower <= found.upper + slack, "the lower bound is above the upper one"
    assert reached <= found.upper + slack, "a neuron exceeds the upper bound"
    return [found.lower, found.upper, found.direction]


entry(
    "price_outputs", priced_together, directions_of_outputs(), kept=("X", "Z", "max_nodes"),
    options={"max_nodes": NODES}, covers=("price_outputs",),
)  # fmt: skip


def climbed(X: Any, z: Any, seed: int = 0) -> Any:
    """Local maxima from random directions, none below its start, and the patterns of them."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randn(5, X.shape[1], generator=generator, dtype=X.dtype)
    starts = starts / torch.linalg.vector_norm(starts, dim=1, keepdim=True)
    before = (torch.relu(X @ starts.T).T @ z).abs()
    heights, units = ascend(X, z, starts)
    slack = 1e-9 * float(X.abs().max() * z.abs().sum())
    assert bool((heights.abs() >= before - slack).all()), "a climb ended below its start"
    found = search(X, z, 0.0, generator, units)
    return [heights, units, found.neurons, found.highest, patterns_of(X, units).gates]


entry(
    "ascend, search and patterns_of", climbed, directions(), kept=("X", "z", "seed"),
    options={"seed": st.integers(0, 9)}, covers=("ascend", "search", "patterns_of"),
)  # fmt: skip
