"""Errors by kind of beat: the windows are around the annotated peaks, the sums are right."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from convexlib.datasets import load_ecg_beats
from experiments.ecg import EXPERIMENT, compute, configs, methods
from experiments.ecg.methods import AFTER, BEFORE, aligned, load_task, stored_network

CONFIG = {**configs("quick")[-1], "n_train": 150, "n_test": 9000}


@pytest.fixture(scope="module")
def result():
    return compute(CONFIG)


@pytest.fixture(scope="module")
def task():
    return load_task(CONFIG["lags"], CONFIG["n_train"], CONFIG["n_test"], record=100)


def test_windows_are_around_the_peaks_and_do_not_overlap(task):
    signal, _, peaks, kinds = load_ecg_beats()
    rows, inside = methods.test_peaks(CONFIG["n_train"], CONFIG["lags"], CONFIG["n_test"])
    windows = aligned((task.mean + task.scale * task.y_test).numpy(), rows)
    assert windows.shape == (len(rows), BEFORE + AFTER)
    chosen = peaks[(peaks >= 152 + BEFORE) & (peaks + AFTER <= 9152)]
    assert_allclose(windows[:, BEFORE], signal[chosen], atol=1e-12)
    assert_allclose(windows[3], signal[chosen[3] - BEFORE : chosen[3] + AFTER], atol=1e-12)
    assert (inside == kinds[np.isin(peaks, chosen)]).all()
    assert np.diff(peaks).min() >= BEFORE + AFTER


def test_errors_by_kind_are_those_of_the_stored_network(result, task):
    network = stored_network(result["convex"])
    with torch.no_grad():
        squares = ((network(task.X_test) - task.y_test) ** 2).numpy()
    _, _, peaks, kinds = load_ecg_beats()
    total = {"N": [], "V": []}
    left = np.ones(len(squares), bool)
    for at, kind in zip(peaks - 152, kinds, strict=True):
        if at >= BEFORE and at + AFTER <= 9000:
            total[kind].append(squares[at - BEFORE : at + AFTER])
            left[at - BEFORE : at + AFTER] = False
    assert {kind: row["beats"] for kind, row in result["kinds"].items()} == {
        kind: len(windows) for kind, windows in total.items()
    }
    for kind, windows in total.items():
        row = result["kinds"][kind]
        assert_allclose(row["network"], np.mean(windows), rtol=1e-9)
        assert_allclose(row["profile"]["network"], np.mean(windows, axis=0), rtol=1e-4)
        assert 0 <= row["won"] <= row["beats"]
    assert_allclose(result["between"]["network"], squares[left].mean(), rtol=1e-9)
    inside = sum(row["beats"] * row["network"] for row in result["kinds"].values())
    whole = inside * (BEFORE + AFTER) + result["between"]["network"] * left.sum()
    assert_allclose(whole / 9000, result["convex"]["test_mse"], rtol=1e-9)


def test_the_network_is_certified_and_the_line_is_least_squares(result, task):
    assert EXPERIMENT.missed({"config": CONFIG, "result": result}) is None
    assert result["convex"]["rigorous"] is True
    expected, *_ = np.linalg.lstsq(task.X.numpy(), task.y.numpy(), rcond=None)
    assert_allclose(result["linear"]["coefficients"], expected, rtol=1e-8)
    for name, X, y in (("train", task.X, task.y), ("test", task.X_test, task.y_test)):
        errors = X.numpy() @ expected - y.numpy()
        assert_allclose(result["linear"][f"{name}_mse"], (errors**2).mean(), rtol=1e-9)
    row = result["kinds"]["N"]
    assert_allclose(np.mean(row["profile"]["linear"]), row["linear"], rtol=1e-4)


def test_the_table_names_every_kind(result):
    lines = EXPERIMENT.table([{"config": CONFIG, "result": result}]).splitlines()
    assert lines[1] == "record 100, 2 lags, 0.01 beta_max"
    assert [line.split()[2] for line in lines[2:]] == ["N:", "V:"]
