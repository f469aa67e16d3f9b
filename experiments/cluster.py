"""Run experiments on a Dask cluster: the same call, with other workers.

``with workers(address): run(...)`` lets joblib send every configuration to the cluster. A worker
that is lost is made up for by the others: the scheduler gives its configurations to them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import parallel_config

import convexlib
from convexlib.errors import InputError, SolverError

if TYPE_CHECKING:
    from distributed import Client

GO_ON = "What is done is kept: the same command goes on from there."
PACKAGES = (Path(convexlib.__file__).parent, Path(__file__).parent)


@contextmanager
def workers(address: str | None, *, timeout: float = 30.0) -> Iterator[None]:
    """Let `run` use a Dask cluster.

    Parameters
    ----------
    address : str, optional
        Of the scheduler, such as ``"tcp://10.0.0.1:8786"``, or the path of a scheduler file, which
        ends in .json. With None, this machine is used.
    timeout : float
        Seconds to wait for the scheduler, and then for its first worker.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers, it has no worker, or a worker has another
        convexlib or more than one thread.
    SolverError
        If a configuration ended several workers, or the connection was lost.

    Warns
    -----
    UserWarning
        At once, if there is no such scheduler file yet.

    Notes
    -----
    Checked by `tests/experiments/test_cluster.py`.
    """
    if address is None:
        yield
        return
    try:
        from distributed import CancelledError, KilledWorker
    except ImportError as error:
        raise InputError(
            f"a cluster needs Dask, which cannot be imported ({error}); expected the packages dask "
            "and distributed. Install them: pip install 'convexlib[cluster]'."
        ) from error
    client = _connect(address, timeout)
    with client:
        _check(client, address, timeout)
        with parallel_config(backend=_backend(client)):
            try:
                yield
            except KilledWorker as error:
                raise SolverError(
                    f"a configuration ended several workers of {address}, perhaps for want of "
                    f"memory ({error}). {GO_ON} Give the workers more memory."
                ) from error
            except CancelledError as error:
                raise SolverError(
                    f"the connection to {address} was lost ({error}). {GO_ON}"
                ) from error


def _backend(client: Client) -> Any:
    """Return joblib's backend for Dask, less two of its habits."""
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        def effective_n_jobs(self, n_jobs: int) -> int:
            # With one worker (at the start), joblib would compute here and use no worker at all.
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func: Any, callback: Any = None) -> Any:
            # joblib is not told of a task that Dask gives up, and would wait for it for ever.
            def report(done: Any) -> None:
                if done.exception() is not None:
                    callback(done.exception())

            future = super().submit(func, callback)
            future.add_done_callback(report)
            return future

    return Backend(client=client)


def _connect(address: str, timeout: float) -> Client:
    """Return a client of the scheduler at an address or in a file."""
    from distributed import Client

    try:
        place = _address(Path(address), timeout) if address.endswith(".json") else address
        _knock(place, timeout)
        return Client(place, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"no Dask scheduler answers at {address!r} within {timeout:g} s ({reason}); expected "
            "an address such as tcp://10.0.0.1:8786, or a scheduler file (.json). Start one "
            "with `dask scheduler --scheduler-file FILE`, and look for a firewall."
        ) from error


def _knock(place: str, timeout: float) -> None:
    """Raise OSError or ValueError if nobody answers, before there is a client.

    One that fails leaves its half behind, whose finaliser waits for a lock: if the garbage is
    collected while the next client starts, for ever.
    """
    from distributed.comm import connect
    from distributed.security import Security

    async def call() -> None:
        secured = Security().get_connection_args("client")
        comm = await connect(place, timeout=timeout, **secured)
        await comm.close()

    with ThreadPoolExecutor(1) as pool:  # a notebook has a running loop in the main thread
        pool.submit(asyncio.run, call()).result()


def _address(file: Path, timeout: float) -> str:
    """Return the address in a scheduler file, once the scheduler has written it."""
    end = time.monotonic() + timeout
    if not file.exists():  # perhaps only because the scheduler was started just now
        warnings.warn(
            f"{file} is not there; waiting {timeout:g} s for a scheduler to write it.", stacklevel=2
        )
    while True:
        try:
            found: str = json.loads(file.read_bytes())["address"]
        except (OSError, ValueError, KeyError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return found


def _check(client: Client, address: str, timeout: float) -> None:
    """Refuse a cluster without workers, or with some whose records would be worth nothing."""
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise InputError(
            f"the Dask scheduler at {address!r} has no worker after {timeout:g} s; expected one at "
            f"least. Start one with `dask worker {address} --nthreads 1`."
        ) from error
    many = {name: n for name, n in client.nthreads().items() if n != 1}
    if many:
        name, n = next(iter(many.items()))
        raise InputError(
            f"worker {name} has {n} threads, expected 1: processor time, in which results are "
            "measured, is that of a whole process. Start workers with `--nthreads 1`, several to "
            "a machine with `--nworkers`."
        )
    try:
        found = client.run(_identity)
    except OSError as error:
        raise InputError(
            f"the connection to {address!r} was lost ({error}); expected a scheduler that stays. "
            "Look at its log, and start it again."
        ) from error
    except Exception as error:  # what the worker raised, of any kind
        raise InputError(
            f"a worker of {address} cannot run experiments ({type(error).__name__}: {error}); "
            f"expected {_identity()}. Every machine needs the same checkout, installed with "
            "`pip install -e .`."
        ) from error
    for name, identity in found.items():
        if identity != _identity():
            raise InputError(
                f"worker {name} has {identity}, but here is {_identity()}; expected the same, as "
                "records would not agree. Install the same versions on every machine, or let them "
                "share an environment."
            )


@cache
def _identity() -> str:
    """Return what has to be the same on every machine: Python, versions, and our source."""
    source = hashlib.sha256()
    for path in (path for package in PACKAGES for path in sorted(package.rglob("*.py"))):
        source.update(path.read_bytes())
    names = ("convexlib", "numpy", "torch", "numba")
    versions = [f"{name} {metadata.version(name)}" for name in names]
    python = f"Python {platform.python_version()}"
    return ", ".join([python, *versions, f"source {source.hexdigest()[:12]}"])
