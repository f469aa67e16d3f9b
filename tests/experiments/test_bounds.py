"""The experiment on bounds above rank 5: its tables, one dual point for all times, its records."""

import os

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import convexlib as cl
from convexlib.errors import InputError
from convexlib.solvers.refine import refine
from experiments import runner
from experiments.bounds import (
    CLASSES,
    EXPERIMENT,
    LOGISTIC,
    SETS,
    compute,
    configs,
    load,
    load_classes,
    tables,
)
from experiments.bounds.methods import SLACK
from experiments.spot_check import compare

INSTALLED = ("diabetes", "wine", "breast-cancer-wisc-diag", "ecg-5", "ecg-6", "ecg-10")
QUICK = {**configs("quick")[0], "seconds": [0, 0.5]}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    (made,) = runner.run("bounds", compute, [QUICK], folder=tmp_path_factory.mktemp("results"))
    return made


@pytest.mark.parametrize("name", SETS)
def test_columns_and_targets_are_standardised_and_the_last_column_is_one(name):
    if name not in INSTALLED and not os.environ.get("CONVEXLIB_MIRROR"):
        # Tests go to no network: only some tables come with packages, the others need a mirror.
        pytest.skip("CONVEXLIB_MIRROR is not set: no mirror of the UCI tables")
    X, y = load(name)
    assert (X[:, -1] == 1).all()
    for values in (X[:, :-1], y):
        assert_allclose(values.mean(dim=0), 0.0, atol=1e-10)
        assert_allclose(values.std(dim=0, correction=0), 1.0, rtol=1e-10)
    assert 5 < torch.linalg.matrix_rank(X) <= 35
    assert 150 < len(X) < 4200


def test_lags_are_those_of_the_ecg_and_classes_are_signs():
    X, y = load("ecg-5")
    assert X.shape == (2000, 6)
    signal = torch.from_numpy(cl.datasets.load_ecg()[0][:2005])
    assert_allclose(torch.corrcoef(torch.stack([X[:, 0], signal[4:-1]]))[0, 1], 1.0, rtol=1e-9)
    assert_allclose(torch.corrcoef(torch.stack([y, signal[5:]]))[0, 1], 1.0, rtol=1e-9)
    _, y = load("breast-cancer-wisc-diag", "logistic")
    labels = cl.datasets.load_uci("breast-cancer-wisc-diag")[1]
    assert set(y.tolist()) == {-1.0, 1.0}
    np.testing.assert_array_equal(y > 0, labels == labels.max())


def test_every_table_has_every_beta_and_some_the_logistic_loss():
    full = configs("full")
    classes = [(c["set"], c["ratio"]) for c in full if "outputs" in c]
    assert sorted(classes) == sorted((s, r) for s in CLASSES for r in (0.5, 0.1, 0.01))
    squared = [
        (c["set"], c["ratio"]) for c in full if c["loss"] == "squared" and "outputs" not in c
    ]
    assert sorted(squared) == sorted((s, r) for s in SETS for r in (0.5, 0.1, 0.01, 0.001))
    assert [c["set"] for c in full if c["loss"] == "logistic"] == list(LOGISTIC)
    assert all(c["seconds"] == [0, 10] for c in full)


def test_classifiers_are_certified_as_a_whole(tmp_path):
    config = next(c for c in configs("full") if c["set"] == "wine" and "outputs" in c)
    config = {**config, "ratio": 0.5, "seconds": [0, 0.5]}
    (record,) = runner.run("bounds", compute, [config], folder=tmp_path)
    result = record["result"]
    X, Y = load_classes("wine")
    assert result["rows"] == [178, 14]
    assert result["classes"] == Y.shape[1] == 3
    assert Y.sum(dim=1).eq(1.0).all()
    none, some = result["certificates"]
    assert none["dual"] <= some["dual"] <= result["primal"]
    assert none["gap"] < 0.1
    assert result["beta_max_found"] <= result["beta_max"]
    # The zero network is worse, and so is the best one of which each neuron feeds one class.
    assert result["primal"] < 0.5 * float((Y**2).sum())
    columns = (
        cl.TwoLayer(X, y, beta=result["beta"], arrangements="generate") for y in Y.T.contiguous()
    )
    alone = sum(cl.solve(column, tol=1e-3, max_nodes=0).value for column in columns)
    assert result["primal"] < alone
    assert EXPERIMENT.missed(record) is None
    (row,) = tables.gaps([record], outputs="classes")
    assert row["classes"] == 3
    assert row["gaps"] == {0.5: {0: none["gap"], 0.5: some["gap"]}}
    assert tables.gaps([record]) == []
    assert "classes" in EXPERIMENT.table([record])


def test_certificates_bracket_one_network_and_time_does_no_harm(record):
    result = record["result"]
    X, y = load("wine")
    none, some = result["certificates"]
    assert (none["given"], some["given"]) == (0, 0.5)
    assert none["method"] == "quadratic"
    assert none["dual"] <= some["dual"] <= result["primal"]
    assert (
        some["gap"] < 0.5 * none["gap"]
    )  # the first dual points of a relaxation are not cut short
    assert result["rows"] == [178, 14]
    assert result["rank"] == 14
    assert result["beta_max_found"] <= result["beta_max"]
    assert result["beta"] == pytest.approx(0.1 * result["beta_max"])
    assert result["least"] == pytest.approx((1 - SLACK) * none["dual"])
    directions = torch.randn(200, 14, generator=torch.Generator().manual_seed(1)).double()
    again = refine(X, y, result["beta"], directions, rounds=20, tol=1e-4, max_nodes=0)
    assert result["primal"] == pytest.approx(again.value, rel=1e-3)
    assert EXPERIMENT.missed(record) is None


def test_the_least_bound_is_that_of_the_least_time():
    result = compute({**QUICK, "seconds": [0.25, 0], "rounds": 1})
    assert [one["given"] for one in result["certificates"]] == [0.25, 0]
    assert result["least"] == (1 - SLACK) * result["certificates"][1]["dual"]


def test_the_logistic_loss_has_certificates_too():
    result = compute({**QUICK, "set": "breast-cancer-wisc-diag", "loss": "logistic"})
    none, some = result["certificates"]
    assert none["dual"] <= some["dual"] <= result["primal"] < 569 * np.log(2)


def test_unknown_keys_are_refused():
    with pytest.raises(InputError, match="the keys second, which nothing reads"):
        compute({**QUICK, "second": 1})


def test_only_what_is_proven_is_compared_with_a_bound_that_had_time(record):
    """A fast machine may prove more, but nothing above a network; a slow one what needs no time."""
    result = record["result"]

    def rows(**changes):
        last = {**result["certificates"][1], **changes}
        again = {**record, "result": {**result, "certificates": [result["certificates"][0], last]}}
        return {row.entry: row.ok for row in compare(EXPERIMENT, record, again)}

    assert rows() == {"primal": True, "certificates.*.dual": True}
    assert rows(dual=result["certificates"][0]["dual"])["certificates.*.dual"]
    assert not rows(dual=result["primal"] * 1.01)["certificates.*.dual"]
    assert not rows(dual=0.9 * result["least"])["certificates.*.dual"]


def made_up(name, n, rank, ratio, gaps, loss="squared"):
    """A record with given gaps by the time."""
    certificates = [
        {"given": given, "gap": gap, "dual": 1 - gap, "method": "pairs", "rigorous": True}
        | {"seconds": given}
        for given, gap in gaps.items()
    ]
    result = {"rows": [n, rank], "rank": rank, "primal": 1.0, "certificates": certificates}
    return {"config": {"set": name, "ratio": ratio, "loss": loss}, "result": result}


def test_a_bound_that_fails_is_a_miss():
    assert EXPERIMENT.missed(made_up("a", 9, 6, 0.1, {0: 0.2, 10: 0.1})) is None
    assert "10 s is below that of 0 s" in EXPERIMENT.missed(
        made_up("a", 9, 6, 0.1, {0: 0.1, 10: 0.2})
    )
    assert "is above a network" in EXPERIMENT.missed(made_up("a", 9, 6, 0.1, {0: -0.1}))
    # Whatever the order in which they were asked for.
    assert EXPERIMENT.missed(made_up("a", 9, 6, 0.1, {1: 0.1, 0: 0.2})) is None
    assert "1 s is below that of 0 s" in EXPERIMENT.missed(
        made_up("a", 9, 6, 0.1, {1: 0.2, 0: 0.1})
    )
    record = made_up("a", 9, 6, 0.1, {0: 0.2})
    record["result"]["certificates"][0]["rigorous"] = False
    assert EXPERIMENT.missed(record) == "the bound of 0 s is not rigorous"


def test_the_tables_have_a_row_for_each_data_set():
    found = [
        made_up("b", 1200, 7, 0.1, {0: 0.4, 10: 0.123}),
        made_up("b", 1200, 7, 0.5, {0: 0.03, 10: 5e-5}),
        made_up("a", 20, 9, 0.1, {0: 0.4, 10: 0.2, 60: 0.1}),
        made_up("a", 20, 9, 0.1, {0: 0.9}, "logistic"),
    ]
    first, second = tables.gaps(found)
    assert (first["set"], first["n"], first["d"], first["rank"]) == ("b", 1200, 7, 7)
    assert second["gaps"] == {0.1: {0: 0.4, 10: 0.2, 60: 0.1}}
    assert tables.gaps(found, "logistic")[0]["gaps"] == {0.1: {0: 0.9}}
    assert len(EXPERIMENT.table(found).splitlines()) == 1 + 8
