"""The interactive figures' data: stored files against a new run, and the path against its proof."""

import json
import re

import numpy as np
import pytest
import torch

from book.tools import interactive
from book.tools.notebooks import BOOK
from convexlib.networks import TwoLayerReLU


def read(name):
    return json.loads((interactive.FOLDER / f"{name}.json").read_text(encoding="utf8"))


def outputs(x, neurons):
    rows = np.array(neurons).reshape(-1, 3)
    return np.maximum(np.outer(x, rows[:, 0]) + rows[:, 1], 0) @ rows[:, 2]


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_stored_files_are_those_of_a_new_run(name):
    fresh, stored = interactive.FIGURES[name](), read(name)
    assert fresh.keys() == stored.keys()
    texts = {"examples", "most"}
    assert all(fresh[key] == stored[key] for key in fresh.keys() & texts)
    for key in fresh.keys() - texts - {"neurons"}:
        assert np.allclose(fresh[key], stored[key], rtol=1e-7, atol=1e-8), key
    line = np.linspace(-1.15, 1.15, 47)
    for new, old in zip(fresh.get("neurons", []), stored.get("neurons", []), strict=True):
        assert len(new) == len(old)
        assert np.allclose(outputs(line, new), outputs(line, old), atol=1e-5)


def test_the_stored_networks_of_the_path_are_optimal():
    # Primal by the definition; the dual bound from the residual, over a fine grid of neurons.
    path = read("path")
    x, y = np.array(path["x"]), np.array(path["y"])
    angles = np.linspace(-np.pi, np.pi, 100_001)
    atoms = np.maximum(np.outer(x, np.cos(angles)) + np.sin(angles), 0)  # (n, angles)
    assert abs(np.abs(y @ atoms).max() - path["beta_max"]) < 1e-6
    for beta, dual, neurons in zip(path["beta"], path["dual"], path["neurons"], strict=True):
        r = y - outputs(x, neurons)
        primal = 0.5 * r @ r + 0.5 * beta * np.sum(np.square(neurons))
        z = r * min(1.0, beta / np.abs(r @ atoms).max())
        assert abs(primal - dual) < 1e-6 * primal
        assert abs(y @ z - 0.5 * z @ z - primal) < 1e-5 * primal
        assert (len(neurons) == 0) == (beta >= path["beta_max"])
    counts = [len(neurons) for neurons in path["neurons"]]
    assert counts[0] == 6
    assert 1 in counts


def test_neurons_with_one_direction_are_merged_and_no_others():
    u = np.array([[3.0, 4.0], [1.5, 2.0], [-3.0, -4.0], [3.0, 4.0]])
    alpha = np.array([1.0, 2.0, 1.0, -1.0])
    rows = interactive.merged(TwoLayerReLU(*map(torch.tensor, (u, alpha))))
    assert len(rows) == 3
    t = np.linspace(-2, 2, 41)
    X = np.column_stack([t, np.ones(41)])
    assert np.allclose(outputs(t, rows), np.maximum(X @ u.T, 0) @ alpha)
    assert np.allclose(np.linalg.norm(rows[:, :2], axis=1), np.abs(rows[:, 2]))


def test_every_figure_is_small_and_used_once():
    sources = "".join(path.read_text(encoding="utf8") for path in BOOK.glob("*.md"))
    used = re.findall(r"^```\{interactive\} (\w+)$", sources, re.MULTILINE)
    assert sorted(used) == sorted(interactive.FIGURES)
    for path in interactive.FOLDER.iterdir():
        assert path.stat().st_size < (30_000 if path.suffix == ".pdf" else 12_000), path.name
        if path.suffix == ".pdf":
            continue
        source = path.read_text(encoding="utf8")
        assert set(re.findall(r"https?://[^\"]+", source)) <= {"http://www.w3.org/2000/svg"}
