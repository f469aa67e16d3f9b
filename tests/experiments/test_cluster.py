"""The same run on a Dask cluster of real processes, one of which is killed on the way."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from convexlib.errors import InputError, SolverError
from experiments import cluster
from experiments.runner import records, run
from tests.experiments import toys

Client = pytest.importorskip("distributed", reason="the extra `cluster` is not installed").Client

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100.0  # seconds; only a machine with much else to do needs more than a few


@contextmanager
def started(folder, n_workers, threads=1):
    """A `LocalCluster` in a process of its own; yield its scheduler file."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "tests.experiments.local_cluster", str(file)]
    with subprocess.Popen(
        [*command, str(n_workers), str(threads)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            yield str(file)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def refused(error, pattern, address, timeout=PATIENCE, use=lambda: pytest.fail("accepted")):
    """Expect an error of the cluster, or of what is then run on it."""
    with pytest.raises(error, match=pattern), cluster.workers(address, timeout=timeout):
        use()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Two worker processes of one thread each; one that ends is started again."""
    with started(tmp_path_factory.mktemp("cluster"), n_workers=2) as file:
        until(Path(file).exists)  # whichever test comes first
        yield file


def until(condition):
    """Wait for a condition, for a while."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.mark.slow
def test_a_worker_is_killed_and_no_record_is_lost_or_doubled(running, tmp_path):
    log = tmp_path / "log"
    log.touch()
    wanted = toys.configs(24, log=str(log), sleep=0.1)
    killed = []

    def kill():
        """Kill a worker in the middle of a call, which is made sure of by stopping it before."""
        until(lambda: len(toys.trace(log, "ended")) >= 4)
        while not killed:
            seed, worker = toys.open_calls(log)[-1]
            os.kill(worker, signal.SIGSTOP)
            time.sleep(0.02)
            if (seed, worker) in toys.open_calls(log):
                os.kill(worker, signal.SIGKILL)
                killed.append((seed, worker))
            else:
                os.kill(worker, signal.SIGCONT)

    thread = threading.Thread(target=kill)
    with cluster.workers(running, timeout=PATIENCE):
        thread.start()
        found = run("toy", toys.square, wanted, folder=tmp_path)
    thread.join()
    assert [record["result"]["square"] for record in found] == [seed**2 for seed in range(24)]
    assert len((tmp_path / "toy" / "records.jsonl").read_text().splitlines()) == 24
    assert [path.name for path in (tmp_path / "toy" / ".running").iterdir()] == ["lock"]
    assert records("toy", tmp_path) == found
    ((seed, worker),) = killed
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    assert worker in workers
    assert os.getpid() not in workers
    assert len(workers) >= 2
    begun, ended = (Counter(toys.trace(log, word)) for word in ("begun", "ended"))
    assert begun[seed] == 2  # the killed call was made again, by another worker
    assert set(ended) == set(range(24))
    assert sum(ended.values()) == 24
    assert sum(begun.values()) == 25


@pytest.mark.slow
def test_the_cluster_continues_what_was_begun_here(running, tmp_path):
    wanted = toys.configs(6, log=str(tmp_path / "log"))
    here = run("toy", toys.square, wanted[:3], folder=tmp_path)
    with cluster.workers(running, timeout=PATIENCE):
        found = run("toy", toys.square, wanted, folder=tmp_path)
        with pytest.raises(ValueError, match="no 77"):
            run("toy", toys.fails, [{"seed": 77}], folder=tmp_path)
    assert found[:3] == here
    assert sorted(toys.trace(tmp_path / "log", "ended")) == list(range(6))


@pytest.mark.slow
def test_workers_without_our_disk_send_their_records(running, tmp_path):
    """Their own attempt to write fails, as where the path does not exist on their machine."""
    place = tmp_path / "results"
    wanted = toys.configs(3, log=str(tmp_path / "log"), moved=str(place))
    with cluster.workers(running, timeout=PATIENCE):
        found = run("toy", toys.square_without_disk, wanted, folder=place)
    assert [record["result"]["square"] for record in found] == [0, 1, 4]
    assert records("toy", place) == found


@pytest.mark.slow
def test_another_version_on_the_workers_is_refused(running, monkeypatch):
    monkeypatch.setattr(cluster, "_identity", cluster._identity.__wrapped__)
    monkeypatch.setattr(cluster.metadata, "version", lambda name: "0.0.7")
    pattern = r"worker tcp://.* has .*convexlib 0\.1.*, but here is .*convexlib 0\.0\.7"
    refused(InputError, pattern, running)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_workers", "threads", "pattern"),
    [
        (0, 1, "has no worker after 2 s; expected one.*`dask worker .* --nthreads 1`"),
        (1, 3, "worker .* has 3 threads, expected 1: .*`--nthreads 1`"),
    ],
    ids=["no worker", "three threads"],
)
def test_workers_that_do_not_serve_are_refused(tmp_path, n_workers, threads, pattern):
    with started(tmp_path, n_workers, threads) as file:
        until(lambda: Path(file).exists() and Path(file).read_text().endswith("}"))
        refused(InputError, pattern, file, timeout=PATIENCE if n_workers else 2.0)


def test_a_scheduler_that_is_not_there_is_refused(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    files = {tmp_path / "half.json": "{", tmp_path / "empty.json": "{}"}
    for file, content in files.items():
        file.write_text(content)
    absent = "no.such.folder/scheduler.json"
    for wrong in (address, absent, "abacus://1", *map(str, files)):
        pattern = f"no Dask scheduler answers at '{wrong}' within 0.3 s"
        waits = pytest.warns(UserWarning, match=f"{absent} is not there; waiting 0.3 s for a")
        with waits if wrong == absent else nullcontext():
            refused(InputError, pattern, wrong, timeout=0.3)
        # Half a client is none to leave behind: collected at the wrong moment, it blocks the next.
        gc.collect()
        assert not [made for made in gc.get_objects() if type(made) is Client]


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(InputError, r"pip install 'convexlib\[cluster\]'", "tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_configuration_that_ends_its_worker_is_given_up(running, tmp_path):
    """With one worker left: the main process does not take its place, or it would end here."""
    with Client(json.loads(Path(running).read_text())["address"], set_as_default=False) as client:
        client.retire_workers([*client.nthreads()][1:])
        client.run_on_scheduler(forgive_nothing)
    refused(
        SolverError, "ended several workers.*What is done is kept", running,
        use=lambda: run("toy", toys.dies, toys.configs(1), folder=tmp_path),
    )  # fmt: skip


def forgive_nothing(dask_scheduler):
    """Give up a task whose worker is killed once."""
    dask_scheduler.allowed_failures = 0
