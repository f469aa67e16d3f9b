"""ECG: where in a beat, and on which kind of beat, the network predicts better than a linear model.

The test part of record 100 is read in windows around the annotated R peaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convexlib.arrays import Floats
from convexlib.datasets import load_ecg_beats
from convexlib.experiments.ecg_compare import generate, setting
from convexlib.experiments.ecg_task import fit_linear, stored_network
from convexlib.networks import outputs

__all__ = ["AFTER", "BEFORE", "aligned", "predict_beats", "test_peaks"]

BEFORE, AFTER = 72, 120  # samples around an R peak; no two beats are nearer than their sum


def predict_beats(config: dict[str, Any]) -> dict[str, Any]:
    """Fit the convex network and the linear model, and return their errors by kind of beat."""
    task, problem, beta_max = setting(config)
    report = generate(problem, task, config, seed=config["seeds"][0], weights=True)
    linear = fit_linear(task)
    weights = torch.tensor(linear["coefficients"], dtype=torch.float64, device=task.X.device)
    predicted = {
        "network": outputs(stored_network(report).to(task.X.device), task.X_test),
        "linear": task.X_test @ weights,
    }
    errors = {
        name: ((task.y_test - values) ** 2).cpu().numpy() for name, values in predicted.items()
    }
    peaks, kinds = test_peaks(config["n_train"], config["lags"], len(task.y_test))
    between = np.ones(len(task.y_test), bool)
    between[(peaks[:, None] + np.arange(-BEFORE, AFTER)).ravel()] = False
    rows = {}
    for kind in sorted(set(kinds.tolist())):
        windows = {name: aligned(part, peaks[kinds == kind]) for name, part in errors.items()}
        rows[kind] = {
            "beats": int((kinds == kind).sum()),
            "won": int((windows["network"].mean(axis=1) < windows["linear"].mean(axis=1)).sum()),
            **{name: float(part.mean()) for name, part in windows.items()},
            "profile": {
                name: [float(f"{value:.6g}") for value in part.mean(axis=0)]
                for name, part in windows.items()
            },
        }
    return {
        "rows": list(problem.X.shape),
        "beta": problem.beta,
        "beta_max": beta_max,
        "convex": report,
        "linear": linear,
        "kinds": rows,
        "between": {name: float(part[between].mean()) for name, part in errors.items()},
    }


def test_peaks(n_train: int, lags: int, n_test: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the R peaks, as rows of the test part, whose windows are inside it; their kinds."""
    _, _, peaks, kinds = load_ecg_beats()
    rows = peaks - (n_train + lags)
    inside = (rows >= BEFORE) & (rows + AFTER <= n_test)
    return rows[inside], kinds[inside]


def aligned(values: Floats, peaks: NDArray[np.int64]) -> Floats:
    """Return windows (beats, BEFORE + AFTER) of a signal: column BEFORE is the R peak."""
    return values[peaks[:, None] + np.arange(-BEFORE, AFTER)]
