"""Runs that are killed, interrupted, doubled, or without a place to write to."""

import errno
import multiprocessing
import os
import random
import resource
import signal
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


@pytest.fixture(scope="module")
def fork():
    """Start functions in new processes; what they import is imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experiments.toys"])
    context.Process(target=os.getpid).start()  # the server is there, and has imported
    return context


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


def test_killed_at_random_moments_nothing_is_lost_or_doubled(fork, tmp_path):
    wanted = toys.configs(COUNT, log=str(tmp_path / "log"), sleep=0.005, filling=20_000)
    generator = random.Random(0)
    before, kills = {}, 0
    for _ in range(40):
        process = fork.Process(target=toys.run_squares, args=(str(tmp_path), wanted))
        process.start()
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
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [k**2 for k in range(COUNT)]
    assert before.items() <= state(tmp_path).items()
    assert set(state(tmp_path)) == {file_name(config) for config in wanted}
    run("toy", toys.square, [*wanted, {**wanted[0], "seed": 99}], folder=tmp_path)
    assert parts(tmp_path) == []
    assert singles(tmp_path) == []


@pytest.mark.parametrize("moment", ["open", "write", "fsync", "replace", "replaced"])
def test_killed_at_each_step_of_writing(fork, tmp_path, moment):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    process = fork.Process(target=toys.run_until, args=(str(tmp_path), wanted, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = state(tmp_path)
    assert len(kept) == (2 if moment == "replaced" else 1)
    assert len(parts(tmp_path)) == (1 if moment in ("write", "fsync", "replace") else 0)
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4]
    assert kept.items() <= state(tmp_path).items()
    assert parts(tmp_path) == []
    assert singles(tmp_path) == []
    calls = Counter(toys.trace(tmp_path / "log", "ended"))
    assert calls == {0: 1, 1: 1 if moment == "replaced" else 2, 2: 1}


def test_two_runs_at_once_agree(fork, tmp_path):
    wanted = toys.configs(20, log=str(tmp_path / "log"), sleep=0.02, filling=2_000)
    both = [
        fork.Process(target=toys.run_squares, args=(str(tmp_path), order))
        for order in (wanted, wanted)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert set(state(tmp_path)) == {file_name(config) for config in wanted}
    assert parts(tmp_path) == []
    assert singles(tmp_path) == []
    calls = Counter(toys.trace(tmp_path / "log", "ended"))
    assert set(calls) == set(range(20))
    assert max(calls.values()) <= 2
    again = run("toy", toys.fails, wanted, folder=tmp_path)
    assert [record["result"]["square"] for record in again] == [k**2 for k in range(20)]


def test_a_full_disk_is_one_error_and_leaves_no_part(tmp_path, monkeypatch):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    first = digest(wanted[1])[:16]

    def full(descriptor):
        if first in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=rf"cannot write .*{first}.json \(No space left on device"):
        run("toy", toys.square, wanted, folder=tmp_path)
    assert len(state(tmp_path)) == 1
    assert parts(tmp_path) == []
    monkeypatch.undo()
    assert len(run("toy", toys.square, wanted, folder=tmp_path)) == 3


def test_a_file_that_may_not_grow_leaves_no_part(tmp_path):
    wanted = toys.configs(1, log=str(tmp_path / "log"), filling=100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    try:
        with pytest.raises(DataError, match="File too large.*no part of a record is left"):
            run("toy", toys.square, wanted, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert parts(tmp_path) == []
    assert state(tmp_path) == {}


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path, monkeypatch):
    wanted = toys.configs(1, log=str(tmp_path / "log"))

    def full(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="Disk quota exceeded"):
        run("toy", toys.square, wanted, folder=tmp_path)
    assert not (tmp_path / "log").exists()


def test_a_folder_that_may_only_be_read():
    """As an ordinary user also where the tests run as root, whom permissions do not bind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        wanted = toys.configs(2, log=str(folder / "log"))
        run("toy", toys.square, wanted[:1], folder=folder)
        for place in (folder / "toy", folder / "toy" / record_files.RUNNING):
            place.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            (kept,) = run("toy", toys.fails, wanted[:1], folder=folder)
            assert kept["result"]["square"] == 0  # nothing is missing, nothing need be written
            pattern = r"cannot write .*/toy \(Permission denied\).*Is the folder writable"
            with pytest.raises(DataError, match=pattern):
                run("toy", toys.fails, wanted, folder=folder)
        finally:
            os.seteuid(user)
            for place in (folder / "toy", folder / "toy" / record_files.RUNNING):
                place.chmod(0o755)
        assert len(state(folder)) == 1


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "toy").write_text("a file")
    with pytest.raises(DataError, match=r"cannot write .*/toy \(Not a directory\)"):
        run("toy", toys.fails, toys.configs(1), folder=tmp_path)


def test_an_interrupt_says_how_many_are_done(tmp_path):
    def interrupted(config):
        if config["seed"] == 2:
            raise KeyboardInterrupt
        return {"square": config["seed"] ** 2}

    wanted = toys.configs(4)
    run("toy", interrupted, wanted[:1], folder=tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        run("toy", interrupted, wanted, folder=tmp_path)
    assert str(caught.value) == (
        "toy was interrupted: 2 of 4 records are done. The same command goes on from there."
    )
    assert len(state(tmp_path)) == 2


@pytest.mark.slow
def test_a_worker_process_that_is_killed(tmp_path):
    """As the kernel does where memory is short: one error, and what is done stays done."""
    log = tmp_path / "log"
    run("toy", toys.square, toys.configs(1, log=str(log)), folder=tmp_path)
    kept = state(tmp_path)
    wanted = toys.configs(3, log=str(log))
    with pytest.raises(SolverError, match="was killed, .*1 of 3 records are done.*fewer jobs"):
        run("toy", toys.dies, wanted, folder=tmp_path, jobs=2)
    assert state(tmp_path) == kept
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4]
    assert kept.items() <= state(tmp_path).items()


@pytest.mark.slow
def test_the_main_process_of_workers_is_killed(fork, tmp_path):
    """What its workers had finished is there, and what they finish afterwards is, too."""
    wanted = toys.configs(6, log=str(tmp_path / "log"), sleep=0.3)
    process = fork.Process(target=toys.run_squares, args=(str(tmp_path), wanted, 2))
    process.start()
    deadline = time.monotonic() + 100
    while len(singles(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    kept = state(tmp_path)
    assert 2 <= len(kept) < 6
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [k**2 for k in range(6)]
    assert set(kept) <= set(state(tmp_path))
    assert max(Counter(toys.trace(tmp_path / "log", "ended")).values()) <= 2


def test_the_probe_of_a_killed_run_is_swept(tmp_path):
    running = tmp_path / "toy" / record_files.RUNNING
    with atomic._part(running / "probe", b"half") as part:
        abandoned = part.with_name(f"probe.{atomic._node()}.{2**22 + 1}.part")
        part.rename(abandoned)
    run("toy", toys.square, toys.configs(1, log=str(tmp_path / "log")), folder=tmp_path)
    assert parts(tmp_path) == []


STEPS = ["open", "write", "fsync", "replace", "replaced", "unlink"]


@pytest.mark.parametrize("moment", STEPS)
def test_killed_at_each_step_of_folding(fork, tmp_path, moment):
    """Every record is there, as a line or as a file, and the next run folds what is left."""
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    run("toy", toys.square, wanted[:1], folder=tmp_path)
    process = fork.Process(target=toys.run_and_fold_until, args=(str(tmp_path), wanted, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = state(tmp_path)
    assert len(kept) == 3
    assert len(singles(tmp_path)) == 2
    run("toy", toys.fails, wanted, folder=tmp_path)
    assert state(tmp_path) == kept
    assert singles(tmp_path) == []
    run("toy", toys.square, [*wanted, {**wanted[0], "seed": 99}], folder=tmp_path)
    assert parts(tmp_path) == []


def test_runs_that_fold_at_once_lose_nothing(fork, tmp_path):
    """Every run begins with one record and folds it; all share one file of lines."""
    wanted = toys.configs(24, log=str(tmp_path / "log"))
    chunks = [wanted[k::4] for k in range(4)]
    many = [
        fork.Process(target=toys.run_one_by_one, args=(str(tmp_path), chunk)) for chunk in chunks
    ]
    for process in many:
        process.start()
    for process in many:
        process.join()
    assert [process.exitcode for process in many] == [0] * 4
    assert set(state(tmp_path)) == {file_name(config) for config in wanted}
    (lines,) = (tmp_path / "toy").glob("*.jsonl")
    assert len(lines.read_text().splitlines()) == 24
    assert singles(tmp_path) == []
    assert max(Counter(toys.trace(tmp_path / "log", "ended")).values()) == 1


def test_what_cannot_be_folded_is_read_all_the_same(tmp_path, monkeypatch):
    wanted = toys.configs(3, log=str(tmp_path / "log"))
    real = atomic.write

    def full(path, content):
        if path.suffix == ".jsonl":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr(atomic, "write", full)
    found = run("toy", toys.square, wanted, folder=tmp_path)
    assert len(singles(tmp_path)) == 3
    with pytest.raises(DataError, match=r"cannot write .*/toy \(No space left on device"):
        record_files.fold(tmp_path / "toy")
    monkeypatch.undo()
    assert run("toy", toys.fails, wanted, folder=tmp_path) == found
    assert singles(tmp_path) == []
