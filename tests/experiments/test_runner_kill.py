"""Runs that are killed, doubled, or without a place to write to."""

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from convexlib.datasets import atomic
from convexlib.errors import DataError, SolverError
from experiments import records as record_files
from experiments.runner import digest, file_name, run
from tests.experiments import toys

COUNT = 8
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def start():
    """Start a function in a new process, as with `fork`; what it imports is imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experiments.toys"])
    context.Process(target=os.getpid).start()  # the server is there, and has imported

    def started(target, *arguments):
        process = context.Process(target=target, args=arguments)
        process.start()
        return process

    return started


def state(folder):
    """The records that are there, with the moment of their making; every one is intact."""
    found = record_files.stored(folder / "toy")  # a warning, which is an error here, if one is not
    return {file_name(r["config"]): r["result"].get("made") for r in found.values()}


def parts(folder):
    """What is neither a record nor the lock of `fold`."""
    return [
        path.name
        for path in (folder / "toy").rglob("*")
        if path.is_file() and path.suffix not in (".json", ".jsonl") and path.name != "lock"
    ]


def singles(folder):
    return sorted((folder / "toy" / record_files.RUNNING).glob("*.json"))


def calls(folder):
    """How often each configuration was computed to its end."""
    return Counter(toys.trace(folder / "log", "ended"))


def completed(folder, wanted):
    """Run to the end: every record is right, those that were there are kept, nothing else is."""
    kept = state(folder) if (folder / "toy").exists() else {}
    found = run("toy", toys.square, wanted, folder=folder)
    assert [record["result"]["square"] for record in found] == [c["seed"] ** 2 for c in wanted]
    assert kept.items() <= state(folder).items()
    assert set(state(folder)) == {file_name(config) for config in wanted}
    assert singles(folder) == []
    return found


def clean(folder, wanted):
    """The next run that makes a record leaves nothing half-written."""
    run("toy", toys.square, [*wanted, {**wanted[0], "seed": 99}], folder=folder)
    return parts(folder) == [] == singles(folder)


def test_killed_at_random_moments_nothing_is_lost_or_doubled(start, tmp_path):
    wanted = toys.configs(COUNT, log=str(tmp_path / "log"), sleep=0.005, filling=20_000)
    generator = random.Random(0)
    before, kills = {}, 0
    for _ in range(40):
        process = start(toys.run_squares, tmp_path, wanted)
        process.join(timeout=generator.uniform(0.0, 0.12))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        after = state(tmp_path) if (tmp_path / "toy").exists() else {}
        assert before.items() <= after.items()  # none is gone, none written a second time
        before = after
        if len(after) == COUNT:  # begin again
            gone = generator.choice([wanted, wanted[::2]])
            record_files.fold(tmp_path / "toy", without={digest(config) for config in gone})
            before = state(tmp_path)
    assert kills >= 10
    completed(tmp_path, wanted)
    assert clean(tmp_path, wanted)


@pytest.mark.parametrize("moment", ["open", "write", "fsync", "replace", "replaced"])
def test_killed_at_each_step_of_writing(start, tmp_path, moment):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    process = start(toys.run_until, tmp_path, wanted, moment)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(state(tmp_path)) == (2 if moment == "replaced" else 1)
    assert len(parts(tmp_path)) == (1 if moment in ("write", "fsync", "replace") else 0)
    completed(tmp_path, wanted)
    assert parts(tmp_path) == []
    assert calls(tmp_path) == {0: 1, 1: 1 if moment == "replaced" else 2, 2: 1}


@pytest.mark.parametrize("moment", ["open", "write", "fsync", "replace", "replaced", "unlink"])
def test_killed_at_each_step_of_folding(start, tmp_path, moment):
    """Every record is there, as a line or as a file, and the next run folds what is left."""
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    run("toy", toys.square, wanted[:1], folder=tmp_path)
    process = start(toys.run_and_fold_until, tmp_path, wanted, moment)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(state(tmp_path)) == 3
    assert len(singles(tmp_path)) == 2
    completed(tmp_path, wanted)
    assert set(calls(tmp_path).values()) == {1}
    assert clean(tmp_path, wanted)


@pytest.mark.parametrize("apart", [False, True], ids=["the same records", "others"])
def test_runs_at_once_lose_nothing(start, tmp_path, apart):
    """Two that want the same; or four, each of which folds one record at a time into one file."""
    wanted = toys.configs(24, log=str(tmp_path / "log"), sleep=0.0 if apart else 0.02)
    if apart:
        many = [start(toys.run_one_by_one, tmp_path, wanted[k::4]) for k in range(4)]
    else:
        many = [start(toys.run_squares, tmp_path, wanted) for _ in range(2)]
    for process in many:
        process.join()
        assert process.exitcode == 0
    assert set(calls(tmp_path)) == set(range(24))
    assert max(calls(tmp_path).values()) <= (1 if apart else 2)
    assert singles(tmp_path) == parts(tmp_path) == []
    before = calls(tmp_path)
    completed(tmp_path, wanted)
    assert calls(tmp_path) == before
    (lines,) = (tmp_path / "toy").glob("*.jsonl")
    assert len(lines.read_text().splitlines()) == 24


@pytest.mark.slow
def test_an_interrupt_of_many_waiting_configurations_says_nothing_else(tmp_path):
    """Ctrl-C goes to the workers too."""
    (log := tmp_path / "log").touch()
    code = "from tests.experiments.toys import *; run_until_interrupted(Path(sys.argv[1]), 20)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(toys.open_calls(log)) < 2:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said == (
        "toy was interrupted: 0 of 20 records are done. The same command goes on from there.\n"
    )


def test_a_full_disk_is_one_error_and_leaves_no_part(tmp_path, monkeypatch):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    second = digest(wanted[1])[:16]

    def full(descriptor):
        if second in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=rf"cannot write .*{second}.json \(No space left on device"):
        run("toy", toys.square, wanted, folder=tmp_path)
    assert len(state(tmp_path)) == 1
    assert parts(tmp_path) == []
    monkeypatch.undo()
    completed(tmp_path, wanted)


def test_what_cannot_be_folded_is_read_all_the_same(tmp_path, monkeypatch):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    real = atomic.write

    def full(path, content):
        if path.suffix == ".jsonl":
            raise FULL
        real(path, content)

    monkeypatch.setattr(atomic, "write", full)
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert len(singles(tmp_path)) == 3
    with pytest.raises(DataError, match=r"cannot write .*/toy \(No space left on device"):
        record_files.fold(tmp_path / "toy")
    monkeypatch.undo()
    assert completed(tmp_path, wanted) == found


def test_a_folder_that_may_only_be_read():
    """As an ordinary user also where the tests run as root, whom permissions do not bind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        wanted = toys.configs(2, log=str(folder / "log"))
        run("toy", toys.square, wanted[:1], folder=folder)
        places = (folder / "toy", folder / "toy" / record_files.RUNNING)
        for place in places:
            place.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            (kept,) = run("toy", toys.fails, wanted[:1], folder=folder)
            assert kept["result"]["square"] == 0  # nothing is missing, nothing need be written
            pattern = r"cannot write .*/toy \(Permission denied\).*Is the folder writable"
            with pytest.raises(DataError, match=pattern):  # before anything is computed
                run("toy", toys.fails, wanted, folder=folder)
        finally:
            os.seteuid(user)
            for place in places:
                place.chmod(0o755)
        assert len(state(folder)) == 1


@pytest.mark.slow
def test_a_worker_process_that_is_killed(tmp_path):
    """As the kernel does where memory is short: one error, and what is done stays done."""
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    run("toy", toys.square, wanted[:1], folder=tmp_path)
    kept = state(tmp_path)
    with pytest.raises(SolverError, match="was killed, .*1 of 3 records are done.*fewer jobs"):
        run("toy", toys.dies, wanted, folder=tmp_path, jobs=2)
    assert state(tmp_path) == kept
    completed(tmp_path, wanted)


@pytest.mark.slow
def test_the_main_process_of_workers_is_killed(start, tmp_path):
    """What its workers had finished is there, and what they finish afterwards is, too."""
    wanted = toys.configs(6, log=str(tmp_path / "log"), sleep=0.3)
    process = start(toys.run_squares, tmp_path, wanted, 2)
    deadline = time.monotonic() + 100
    while len(singles(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert 2 <= len(state(tmp_path)) < 6
    run("toy", toys.square, wanted, folder=tmp_path)
    assert set(state(tmp_path)) == {file_name(config) for config in wanted}
    assert max(calls(tmp_path).values()) <= 2
