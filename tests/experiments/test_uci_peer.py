"""pyscnn beside the gated method: the same program, in the peers' environment."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from convexlib.datasets import list_uci
from convexlib.errors import DataError, SolverError
from experiments import uci
from experiments.runner import digest
from experiments.uci import peer
from experiments.uci.methods import METHODS

CONFIG = {
    "data": "made-up",
    "lambda": 1e-2,
    "method": "pyscnn",
    "device": "cpu",
    "patterns": 20,
    "limit": 5.0,
    "tol": 1e-14,
}


@pytest.fixture
def task(monkeypatch):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((40, 3)) * [1.0, 20.0, 3.0]
    labels = np.digitize(X[:, 0] + 0.05 * X[:, 1], [-0.5, 0.5])
    monkeypatch.setattr(uci.methods, "load_uci", lambda name: (X, labels))
    return uci.load_task("made-up")


@pytest.mark.slow
@pytest.mark.skipif(
    not peer.PYTHON.exists(), reason="needs the peers' environment (`make bench` makes it)"
)
def test_the_peer_solves_our_gated_program(task):
    found = peer.pyscnn(CONFIG)
    ours = METHODS["gated"]({**CONFIG, "method": "gated", "tol": 1e-10})
    assert found["ended"]
    assert found["patterns"] == ours["patterns"]
    assert_allclose(found["objective"], ours["objective"], rtol=1e-8)
    assert_allclose(found["program_value"], found["objective"], rtol=1e-12)
    assert found["objective"] >= ours["dual"]
    seconds, values = (np.array(found["curve"][key]) for key in ("seconds", "objective"))
    assert values[0] == found["zero"]
    assert_allclose(values[-1], found["objective"], rtol=1e-7)  # a curve keeps eight digits
    assert (np.diff(values) <= 0).all()
    assert (np.diff(seconds) >= 0).all()
    assert seconds[-1] <= found["seconds"] + 1e-3


def test_without_the_environment_the_error_says_how_to_make_it(task, monkeypatch):
    monkeypatch.setattr(peer, "PYTHON", Path("nowhere/python"))
    with pytest.raises(DataError, match=r"nowhere/python is missing.*`make bench` makes it"):
        peer.pyscnn(CONFIG)


def test_a_child_that_fails_is_no_result(task, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named scnn' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(peer, "PYTHON", python)
    with pytest.raises(SolverError, match=r"status 3 \(No module named scnn\); expected weights"):
        peer.pyscnn(CONFIG)


def test_the_configurations_are_those_of_the_smaller_tables():
    known = peer.datasets.catalogue()
    found = peer.configs(rows=700)
    names = {name for name in list_uci() if known[name].shape[0] <= 700}
    assert {config["data"] for config in found} == names
    assert len({digest(config) for config in found}) == len(found) == 6 * len(names)
    gated = next(config for config in uci.configs("full") if config["method"] == "gated")
    assert {config["patterns"] for config in found} == {gated["patterns"]}
    assert peer.configs(rows=10**6)[-1]["data"] == "adult"
