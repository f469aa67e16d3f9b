"""The image experiment: right rows, one objective, bounds below everything, networks as claimed."""

import copy

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import convexlib as cl
from convexlib import datasets
from convexlib.errors import ConvergenceWarning
from convexlib.pricing import price
from convexlib.pricing.best_neuron import spectral_bound
from experiments.images import EXPERIMENT, compute, configs, methods, tables
from experiments.images.methods import (
    BASELINES,
    NETWORKS,
    as_two_layers,
    load,
    replay,
    setting,
    units_in_use,
)
from experiments.runner import run

SMALL = {"n_train": 60, "n_test": 100, "patterns": 8, "relu_patterns": 3, "neurons": 6}
TEN = {**configs("quick")[0], **SMALL, "seconds": 0.1}
PARITY = {c["network"]: {**c, **SMALL, "subnetworks": 3} for c in configs("quick")[1:]}
HERE = datasets.locate(datasets.catalogue()["mnist"])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """One record of ten classes and one of each network of two, on 60 small images."""
    return run("images", compute, [TEN, *PARITY.values()], folder=tmp_path_factory.mktemp("made"))


def test_rows_are_the_images_in_one_order_and_the_first_ones_train() -> None:
    task, source = load("digits", 300, 400), load_digits()
    order = np.random.default_rng(0).permutation(1797)[:700]
    X = torch.cat([task.X, task.X_test])
    np.testing.assert_array_equal(X[:, :-1] * 16, source.data[order])
    assert (X[:, -1] == 1).all()
    labels = torch.cat([task.labels, task.labels_test])
    np.testing.assert_array_equal(labels, source.target[order])
    assert (len(task.X), len(task.X_test)) == (300, 400)


@pytest.mark.skipif(HERE is None, reason="no digits of MNIST: `convexlib data fetch mnist`")
def test_the_full_profile_has_all_pixels_and_all_classes() -> None:
    task = methods.task_of(configs("full")[0])
    assert (task.X.shape, task.X_test.shape) == ((1000, 785), (1000, 785))
    assert float(task.X.max()) == 1.0
    assert task.labels.bincount(minlength=10).min() > 70
    assert task.labels_test.bincount(minlength=10).min() > 70


def test_targets_are_one_hot_or_the_parity() -> None:
    at = setting(TEN)
    assert torch.equal(at.Y.argmax(dim=1), at.task.labels)
    assert torch.equal(at.Y.sum(dim=1), torch.ones(60))
    y = setting(PARITY["two"]).Y
    assert torch.equal(y > 0, at.task.labels % 2 == 0)
    assert at.beta == 60 * TEN["lambda"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_cheap_bound_is_above_the_height_of_every_sub_network(kind: str) -> None:
    problem = setting(PARITY[kind]).problem
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(60, generator=generator, dtype=torch.float64)
    bound = problem.dual_norm(z)
    m = problem.widths[0]
    leaves = torch.randn(2000, m, 65, generator=generator, dtype=torch.float64)
    signs = 2.0 * torch.randint(0, 2, (2000, m), generator=generator).double() - 1.0
    outputs = (torch.relu(torch.einsum("nd,kmd->nkm", problem.X, leaves)) * signs).sum(dim=2)
    sizes = torch.linalg.vector_norm(leaves, dim=2)
    sizes = sizes.sum(dim=1) if problem.by_sum else (sizes**2).sum(dim=1).sqrt()
    heights = (z @ torch.relu(outputs)).abs() / sizes
    assert 0.0 < float(heights.max()) < bound
    if kind == "two":
        assert bound >= price(problem.X, z, max_nodes=10).lower


def test_sub_networks_of_width_one_are_neurons() -> None:
    at = setting(PARITY["two"])
    with pytest.warns(ConvergenceWarning, match="Relative gap"):
        result = methods._search(at.problem, PARITY["two"], 0)
    network, parallel = as_two_layers(at.problem, result), at.problem.to_network(result)
    with torch.no_grad():
        torch.testing.assert_close(network(at.task.X), parallel(at.task.X))
    assert at.referee.objective(network) == pytest.approx(at.problem.objective(parallel), rel=1e-9)
    assert at.referee.objective(network) == pytest.approx(result.value, rel=1e-9)


def test_one_gate_that_is_always_open_is_the_linear_function(records) -> None:
    at, row = setting(PARITY["two"]), records[1]["result"]["methods"]["linear"]
    w = cp.Variable(65)
    loss = 0.5 * cp.sum_squares(at.task.X.numpy() @ w - at.Y.numpy())
    value = cp.Problem(cp.Minimize(loss + at.beta * cp.norm(w, 2))).solve(solver=cp.CLARABEL)
    assert value * (1 - 1e-6) <= row["objective"] <= value * (1 + PARITY["two"]["tol"])
    assert row["patterns"] == 1


def test_nothing_is_below_the_bound_and_no_program_above_no_network_at_all(records) -> None:
    for record in records:
        result, config = record["result"], record["config"]
        assert EXPERIMENT.missed(record) is None
        for name in result["methods"]:
            for made in tables.runs_of(result, name):
                above = result["zero"]
                if name in BASELINES:  # how far below its start it comes is the machine's
                    run_of = [made["rate"]], [made["seed"]]
                    first = methods._train(setting(config), name, config, *run_of, n_steps=1)
                    above = float(first.objective[0, 0, 0]) * (1 + 1e-6)
                assert 0.0 < made["objective"] <= above
                assert 0.0 <= made["test_accuracy"] <= 1.0
                assert 0.0 <= made["train_accuracy"] <= 1.0
                assert made["units"] > 0


def test_shared_neurons_cost_no_more_than_separate_ones(records) -> None:
    """The nuclear norm of a matrix is at most the sum of the norms of its columns."""
    rows = records[0]["result"]["methods"]
    assert rows["nuclear"]["objective"] <= rows["gated"]["objective"] * (1 + TEN["tol"])


def test_the_bound_of_shared_neurons_holds_for_a_network_that_shares_them() -> None:
    at = setting(TEN)
    run_ = methods._train(at, "adam", TEN, [0.01], [0], n_steps=600)
    bound = methods._shared_bound(at, run_.best_network)
    assert 0.0 < bound < at.referee.objective(run_.best_network)
    # Enough neurons at hand, a dual point may not have a larger height than beta at any of them.
    with torch.no_grad():
        Z = at.Y - run_.best_network(at.task.X)
        U = torch.randn(500, 65, generator=torch.Generator().manual_seed(0)).double()
        heights = torch.linalg.vector_norm(torch.relu(at.task.X @ U.T).T @ Z, dim=1)
    norm = sum(spectral_bound(at.task.X, z) ** 2 for z in Z.T) ** 0.5
    assert float((heights / torch.linalg.vector_norm(U, dim=1)).max()) < norm


@pytest.mark.parametrize("place", [0, 1, 2])
def test_descents_come_out_again_from_their_steps(place: int, records) -> None:
    made = replay(records[place])["methods"]
    for name in BASELINES:
        stored = records[place]["result"]["methods"][name]
        for old, new in zip(stored["runs"], made[name]["runs"], strict=True):
            assert new["objective"] > 0.0
            # The cosine of a run whose steps are counted is not that of one whose seconds are.
            assert new["objective"] == pytest.approx(old["objective"], rel=0.5)
        assert len(stored["by_rate"]) == len(records[place]["config"]["rates"][name])
        assert stored["runs"][0]["rate"] in records[place]["config"]["rates"][name]


def test_units_far_below_the_largest_one_are_not_in_use() -> None:
    U = torch.tensor([[1.0, 0.0], [0.0, 2e-4], [3.0, 4.0]], dtype=torch.float64)
    network = cl.TwoLayerReLU(U, torch.ones(3, dtype=torch.float64))
    assert units_in_use(network) == 2
    assert units_in_use(cl.TwoLayerReLU(U[:0], torch.ones(0, dtype=torch.float64))) == 0


def test_a_run_below_the_bound_or_with_a_wide_gap_is_a_miss(records) -> None:
    low, wide = copy.deepcopy(records[0]), copy.deepcopy(records[0])
    low["result"]["methods"]["adam"]["runs"][0]["objective"] = 0.0
    assert "adam ends below the lower bound" in EXPERIMENT.missed(low)
    wide["result"]["methods"]["gated"]["gap"] = 0.5
    assert EXPERIMENT.missed(wide) == "gated: relative gap 5.0e-01 > tol 1.0e-03"


def test_the_table_and_the_leads(records) -> None:
    text = EXPERIMENT.table(records[::-1])
    lines = text.splitlines()
    assert lines[1].startswith("ten            0.001 gated, one output a neuron")
    assert sum("proven bound" in line for line in lines) == 4
    found = tables.leads(records)
    assert list(found) == [(kind, 0.001) for kind in NETWORKS]
    rows = records[1]["result"]["methods"]
    best = min(np.median([r["objective"] for r in rows[name]["runs"]]) for name in BASELINES)
    ours = np.median([r["objective"] for r in rows["generated"]])
    assert found["two", 0.001] == pytest.approx(best / ours - 1.0)
