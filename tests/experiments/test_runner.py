"""A record for every configuration, whatever happens in between."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from convexlib.errors import DataError, InputError
from convexlib.experiments.runner import digest, environment, records, results_dir, run

CONFIGS = [{"seed": seed, "size": 3} for seed in range(4)]


@pytest.fixture
def counted(tmp_path):
    """A function of a configuration that leaves a trace of every call, in any process."""
    log = tmp_path / "calls"

    def function(config):
        with log.open("a") as file:
            file.write(f"{config['seed']}\n")
        return {"square": config["seed"] ** 2, "threads": torch.get_num_threads()}

    function.calls = lambda: sorted(log.read_text().split()) if log.exists() else []
    return function


def only_record(folder, seed):
    key = digest(CONFIGS[seed])
    return folder / "toy" / f"{key[:16]}.json"


def test_runs_each_configuration_once_and_returns_them_in_order(tmp_path, counted):
    found = run("toy", counted, [*CONFIGS, CONFIGS[0]], folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4, 9]
    assert counted.calls() == ["0", "1", "2", "3"]
    again = run("toy", counted, reversed(CONFIGS), folder=tmp_path)
    assert [record["config"]["seed"] for record in again] == [3, 2, 1, 0]
    assert counted.calls() == ["0", "1", "2", "3"]
    assert again == found[::-1]
    assert not list((tmp_path / "toy").glob("*.part"))


@pytest.mark.slow
def test_workers_keep_records_with_one_thread_each(tmp_path, counted):
    found = run("toy", counted, CONFIGS, folder=tmp_path, jobs=2)
    assert counted.calls() == ["0", "1", "2", "3"]
    assert {record["result"]["threads"] for record in found} == {1}
    assert records("toy", tmp_path) == found


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"square": 4', '"square": 5'),
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "config"}),
    ],
    ids=["truncated", "empty", "a list", "altered", "old format", "no config"],
)
def test_a_damaged_record_is_made_again(tmp_path, counted, damage):
    run("toy", counted, CONFIGS, folder=tmp_path)
    path = only_record(tmp_path, 2)
    intact = path.read_text()
    damaged = damage(intact)
    assert damaged != intact
    path.write_text(damaged)
    assert len(records("toy", tmp_path)) == 3
    again = run("toy", counted, CONFIGS, folder=tmp_path)
    assert [record["result"]["square"] for record in again] == [0, 1, 4, 9]
    assert counted.calls() == ["0", "1", "2", "2", "3"]
    assert len(records("toy", tmp_path)) == 4


def test_a_record_under_another_name_does_not_count(tmp_path, counted):
    run("toy", counted, CONFIGS[:1], folder=tmp_path)
    only_record(tmp_path, 0).rename(only_record(tmp_path, 1))
    found = run("toy", counted, CONFIGS[:2], folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1]


def test_what_was_finished_survives_a_failure(tmp_path, counted):
    def fails_at_two(config):
        if config["seed"] == 2:
            raise ValueError("no twos")
        return counted(config)

    with pytest.raises(ValueError, match="no twos"):
        run("toy", fails_at_two, CONFIGS, folder=tmp_path)
    assert counted.calls() == ["0", "1"]
    run("toy", counted, CONFIGS, folder=tmp_path)
    assert counted.calls() == ["0", "1", "2", "3"]


KILLED = """
import sys, time
from pathlib import Path
from convexlib.experiments.runner import run
def slow(config):
    time.sleep(0.0 if config["seed"] < 2 else 60.0)
    return {"square": config["seed"] ** 2}
run("toy", slow, [{"seed": seed, "size": 3} for seed in range(4)], folder=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_resumes(tmp_path, counted):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    deadline = time.monotonic() + 120
    while not only_record(tmp_path, 1).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = run("toy", counted, CONFIGS, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4, 9]
    assert counted.calls() == ["2", "3"]


def test_a_record_says_where_it_was_made(tmp_path, counted):
    (record,) = run("toy", counted, CONFIGS[:1], folder=tmp_path)
    made = record["environment"]
    assert made["threads"] == 1
    assert made["device"] == "cpu"
    assert made["versions"]["torch"] == torch.__version__
    assert made["cores"] == os.cpu_count()
    assert record["seconds"] >= 0
    text = json.dumps(made)
    assert os.path.expanduser("~") not in text
    assert "commit" in made


def test_digest_ignores_the_order_of_keys_and_sees_every_value():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, torch.zeros(2)])
def test_refuses_what_json_cannot_hold(tmp_path, value):
    with pytest.raises(InputError, match="cannot be written as JSON"):
        run("toy", lambda config: {"value": value}, [{"seed": 0}], folder=tmp_path)
    with pytest.raises(InputError, match="cannot be written as JSON"):
        digest({"value": value})


def test_refuses_a_folder_it_cannot_write_to(tmp_path, counted):
    (tmp_path / "toy").write_text("a file")
    with pytest.raises(DataError, match="Is the folder writable"):
        run("toy", counted, CONFIGS[:1], folder=tmp_path)


def test_says_that_there_are_no_records(tmp_path):
    with pytest.raises(DataError, match="holds no intact record.*`convexlib run`"):
        records("toy", tmp_path)


def test_results_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert results_dir() == tmp_path
    monkeypatch.delenv("CONVEXLIB_RESULTS")
    assert results_dir().name == "results"


def test_environment_names_versions():
    versions = environment()["versions"]
    assert set(versions) >= {"python", "convexlib", "torch", "numpy", "numba"}
