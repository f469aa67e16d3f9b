"""`convexlib warm` compiles the kernels of the library, for the types that it calls them with."""

import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import runtime
from convexlib.cli import warm


def dispatchers() -> dict[str, Any]:
    """Every compiled function of the library, by its place."""
    found = {}
    for place, module in list(sys.modules.items()):
        if place.startswith("convexlib.") and isinstance(module, ModuleType):
            for name, value in vars(module).items():
                if hasattr(value, "overloads") and value.py_func.__module__ == place:
                    found[f"{place}.{name}"] = value
    return found


def types() -> dict[str, set[Any]]:
    """The types of arguments for which each of them has been compiled, or loaded."""
    return {place: set(kernel.overloads) for place, kernel in dispatchers().items()}


@pytest.fixture
def warmed(run, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(runtime.notice, "said", False)
    code, lines, errors = run("warm")
    assert (code, errors) == (0, [])
    return lines


def test_each_kernel_has_a_line_and_is_there_afterwards(warmed: list[str]) -> None:
    every = warm.signatures()
    pattern = re.compile(r" ?(\d+) of (\d+)  (\w+) +\d+\.\d s")
    matches = [pattern.fullmatch(line) for line in warmed]
    assert [match and match.groups() for match in matches] == [
        (str(number), str(len(every)), name) for number, (name, _, _) in enumerate(every, 1)
    ]
    assert all(arguments in kernel.overloads for _, kernel, arguments in every)


def test_where_nothing_can_be_kept_it_says_so(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "place", "/tmp/convexlib-gone")
    monkeypatch.setattr(warm, "signatures", list)
    code, lines, (error,) = run("warm")
    assert (code, lines) == (1, [])
    assert "name one that can in NUMBA_CACHE_DIR" in error


def readme() -> None:
    """The example of the README, on a part of its signal."""
    signal, _ = cl.datasets.load_ecg()
    X, y = cl.datasets.autoregression(signal[:202], lags=2)
    X = np.column_stack([(X - X.mean()) / X.std(), np.ones(len(X))])
    problem = cl.TwoLayer(X, y - y.mean(), beta=20.0, arrangements="generate")
    result = cl.solve(problem)
    network = problem.to_network(result)
    assert cl.certify(network, X, y - y.mean(), beta=20.0, z=result.z).rigorous


def data(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    X, y = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (d, 1))
    return X, y[:, 0]


def high_rank() -> None:
    """Above rank 5 the bound is one on pairs, for which a dual point is searched."""
    X, y = data(12, 7)
    network = nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    cl.certify(network, X, y, beta=1.0, max_seconds=0.3)


def outputs() -> None:
    """A network of two outputs, certified as a whole."""
    X, y = data(12, 2)
    Y = torch.stack([y, X[:, 0].relu()], dim=1)
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    cl.certify(network, X, Y, beta=0.5)


def parallel() -> None:
    """Three layers: the cones of units."""
    X, y = data(6, 2)
    problem = cl.ThreeLayer(X, y, beta=0.2)
    result = cl.solve(problem, tol=1e-3)
    cl.certify(problem.to_network(result), X, y, beta=0.2, regularizer="three layers")


def estimators() -> None:
    X, y = data(30, 2)
    cl.ConvexReLURegressor(beta=0.5).fit(X.numpy(), y.numpy())
    cl.ConvexReLUClassifier(beta=0.5).fit(X.numpy(), (y > 0).numpy())
    cl.MirrorRegressor(beta=0.5).fit(X[:, :1].numpy(), y.numpy())


@pytest.mark.parametrize("used", [readme, high_rank, outputs, parallel, estimators])
def test_the_library_calls_kernels_with_these_types_only(used: Any, warmed: list[str]) -> None:
    before = types()
    used()
    assert types() == before


def test_every_kernel_is_warmed_itself_or_within_another(warmed: list[str]) -> None:
    """One that only Python calls, and no line names, would be compiled while somebody waits."""
    every = dispatchers()
    named = {id(kernel) for _, kernel, _ in warm.signatures()}
    inner = {name for kernel in every.values() for name in kernel.py_func.__code__.co_names}
    left = {place for place, kernel in every.items() if id(kernel) not in named}
    assert len(every) > len(named)
    assert {place for place in left if place.rpartition(".")[2] not in inner} == set()


def test_no_kernel_takes_the_place_of_another_in_the_cache() -> None:
    """numba's cache tells functions apart by these, and not by how they are compiled."""
    every = {id(kernel): kernel.py_func for kernel in dispatchers().values()}
    places = [(f.__module__, f.__qualname__, f.__code__.co_firstlineno) for f in every.values()]
    assert len(set(places)) == len(places) > 10
