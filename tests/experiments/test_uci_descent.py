"""Descent as the authors run it: gradients, starts, failed runs, and what is kept of a grid."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from experiments.uci import descent
from experiments.uci.descent import Problem, descend, start

GRID = {
    "method": "adam",
    "rates": [0.3, 0.03],
    "seeds": [0, 1],
    "epochs": 8,
    "batches": 4,
    "records": 6,
}


def problem(c=2, gated=False, n=22, d=3, m=5, dtype=torch.float64):
    source = torch.Generator().manual_seed(3)
    X = torch.randn(n, d, generator=source, dtype=dtype)
    Y = torch.randn(n, c, generator=source, dtype=dtype)
    masks = (torch.randn(n, m, generator=source) > 0).to(dtype) if gated else None
    return Problem(X, Y, 0.03, masks)


@pytest.mark.parametrize("gated", [False, True], ids=["relu", "gated"])
@pytest.mark.parametrize("c", [1, 2])
def test_slopes_are_those_of_the_objective_as_written(c, gated):
    task = problem(c, gated)
    source = torch.Generator().manual_seed(4)
    U = torch.randn(2, 5, 3, generator=source, dtype=torch.float64).requires_grad_()
    A = torch.randn(2, 5, c, generator=source, dtype=torch.float64).requires_grad_()

    def written(rows):
        X, Y = task.X[rows], task.Y[rows]
        total = 0.0
        for u, a in zip(U, A, strict=True):
            hidden = X @ u.T
            hidden = hidden.relu() if task.masks is None else hidden * task.masks[rows]
            total = total + ((hidden @ a - Y) ** 2).sum() / (2 * len(X))
            total = total + 0.015 * ((u**2).sum() + (a.abs().sum(dim=1) ** 2).sum())
        return total

    everything, batch = torch.arange(22), torch.tensor([3, 8, 1, 20])
    assert_allclose(
        float(task.objective(U, A).sum().detach()), float(written(everything).detach()), rtol=1e-12
    )
    expected = torch.autograd.grad(written(batch), (U, A))
    with torch.no_grad():
        found = task.slopes(batch, U, A)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one.numpy(), other.numpy(), rtol=1e-10, atol=1e-12)


def test_the_start_is_that_of_torch():
    task = problem(c=2, d=7)
    U, A = start(task, 400, seed=5)
    assert U.shape == (400, 7)
    assert A.shape == (400, 2)
    for part, inputs in ((U, 7), (A, 400)):
        assert float(part.abs().max()) <= 1 / math.sqrt(inputs)
        # Uniform: the variance of 2,800 draws has a standard error of 1.7 percent, of 800 3.2.
        assert_allclose(float((part**2).mean()), 1 / (3 * inputs), rtol=0.13)
    layer = torch.nn.Linear(7, 400, bias=False)
    assert float(layer.weight.detach().abs().max()) <= (1 + 1e-6) / math.sqrt(7)  # in float32
    he = start(task, 400, seed=5, kind="he")
    assert_allclose(float((he[0] ** 2).mean()), 2 / 7, rtol=0.11)


@pytest.mark.parametrize("method", ["sgd", "adam"])
@pytest.mark.parametrize("gated", [False, True], ids=["relu", "gated"])
def test_steps_are_those_of_torch(method, gated):
    """One rate and one seed, against torch.optim on the same batches."""
    task = problem(c=2, gated=gated)
    config = {**GRID, "method": method, "rates": [0.05], "seeds": [2]}
    found = descend(task, 5, config)
    U, A = (part.clone().requires_grad_() for part in start(task, 5, 2))
    kind = torch.optim.Adam if method == "adam" else torch.optim.SGD
    optimizer = kind([U, A], lr=0.05)
    source, values, step = torch.Generator().manual_seed(2), [], 0
    n_steps = 8 * 4
    due = set(np.rint(n_steps * (np.arange(7) / 6) ** 2).astype(int).tolist())
    with torch.no_grad():
        values.append(float(task.objective(U, A)))
    for _ in range(8):
        for rows in torch.randperm(22, generator=source).split(6):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * 0.5 ** (20 * step // n_steps)
            optimizer.zero_grad()
            hidden = task.X[rows] @ U.T
            hidden = hidden.relu() if task.masks is None else hidden * task.masks[rows]
            loss = ((hidden @ A - task.Y[rows]) ** 2).sum() / (2 * len(rows))
            decay = (U**2).sum() + (A.abs().sum(dim=1) ** 2).sum()
            (loss + 0.015 * decay).backward()
            optimizer.step()
            step += 1
            if step in due:
                with torch.no_grad():
                    values.append(float(task.objective(U, A)))
    assert_allclose(found.alone[1], values, rtol=1e-8)
    assert_allclose(found.grid[1], np.minimum.accumulate(values), rtol=1e-8)


def test_a_run_that_reaches_ten_times_its_start_does_not_count():
    """However low it has been: and those beside it go on as if it were not there."""
    config = {**GRID, "method": "sgd", "rates": [1e4, 0.05], "seeds": [0]}
    task = problem()
    found = descend(task, 5, config)
    alone = descend(task, 5, {**config, "rates": [0.05]})
    assert found.failed == 1
    assert alone.failed == 0
    assert found.rate == 0.05
    assert_allclose(found.alone[1], alone.alone[1], rtol=1e-9)
    for one, other in zip(found.weights, alone.weights, strict=True):
        assert_allclose(one.numpy(), other.numpy(), rtol=1e-8, atol=1e-12)
    hopeless = descend(task, 5, {**config, "rates": [1e4, 1e5]})
    assert hopeless.failed == 2
    assert math.isfinite(float(task.objective(*hopeless.weights)))


@pytest.mark.parametrize("size", [1, 10**6], ids=["one by one", "together"])
def test_groups_do_not_change_the_runs(size, monkeypatch):
    monkeypatch.setattr(descent, "CACHE", size)
    found = descend(problem(), 5, GRID)
    assert found.alone[1].shape == (4 * 7,)
    assert_allclose(float(problem().objective(*found.weights)), found.grid[1][-1], rtol=1e-12)
    reference = [
        descend(problem(), 5, {**GRID, "rates": [rate], "seeds": [seed]}).grid[1][-1]
        for rate in GRID["rates"]
        for seed in GRID["seeds"]
    ]
    assert_allclose(found.grid[1][-1], min(reference), rtol=1e-8)


def test_single_precision_is_near_double():
    found = descend(problem().single(), 5, {**GRID, "epochs": 2})
    assert found.weights[0].dtype == torch.float32
    exact = descend(problem(), 5, {**GRID, "epochs": 2})
    assert_allclose(found.grid[1], exact.grid[1], rtol=1e-3)
