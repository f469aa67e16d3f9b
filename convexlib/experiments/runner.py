"""Run a pure function over many configurations, and keep one record on disk for each.

A record is ``results/<experiment>/<first 16 digits of sha256(config)>.json`` and holds the
configuration, what the function returned, and where it was computed. It is written under a
temporary name and renamed, so that it is complete or not there at all; a configuration whose
record is intact is not run again. A run that was killed therefore continues where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs
from tqdm import tqdm

from convexlib.errors import DataError, InputError

__all__ = ["Experiment", "digest", "environment", "file_name", "records", "results_dir", "run"]

Config = Mapping[str, Any]
Function = Callable[[dict[str, Any]], Mapping[str, Any]]

FORMAT = 1  # of a record
PACKAGES = ("convexlib", "numpy", "torch", "numba", "scipy", "scikit-learn")
SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Experiment:
    """What the command line needs to know of an experiment.

    Attributes
    ----------
    name, title : str
        Its folder below `results`, and one line about it.
    configs : callable
        ``configs(profile, device, seeds)``: the configurations of ``"quick"`` or ``"full"``.
    function : callable
        From a configuration to its result (see `run`).
    table : callable
        From records to a table as text.
    missed : callable
        From a record to the reason why it misses its tolerance, or None.
    """

    name: str
    title: str
    configs: Callable[..., list[dict[str, Any]]]
    function: Function
    table: Callable[[list[dict[str, Any]]], str]
    missed: Callable[[dict[str, Any]], str | None]


def run(
    experiment: str,
    function: Function,
    configs: Iterable[Config],
    *,
    folder: Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Return the record of every configuration, in their order, running those that have none.

    Parameters
    ----------
    experiment : str
        Name of the folder below `folder`.
    function : callable
        From a configuration to its result, both of what JSON can hold. It must be importable by
        its name (for the workers) and depend on nothing but the configuration; ``device`` and
        ``seed`` belong there.
    configs : iterable of dict
        Equal ones are run once.
    folder : Path, optional
        Where the experiments are kept; `results_dir()` by default.
    jobs : int, optional
        Processes, each with one thread; -1 for one per core. None takes what
        ``joblib.parallel_config`` says (another backend, such as Dask's, too), and 1 without it.
    progress : bool
        Show a progress bar on a terminal.

    Raises
    ------
    InputError
        If a configuration or a result cannot be written as JSON.
    DataError
        If a record cannot be written.
    """
    place = (results_dir() if folder is None else Path(folder)) / experiment
    wanted = {digest(config): dict(config) for config in configs}
    done = {key: record for key in wanted if (record := _read(place / _name(key), key))}
    missing = [(key, config) for key, config in wanted.items() if key not in done]
    tasks = (delayed(_compute)(function, config, place / _name(key)) for key, config in missing)
    # Every worker writes its own record, so that whatever was finished survives this process.
    finished = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    bar = tqdm(finished, experiment, len(missing), disable=None if progress else True)
    done |= {digest(record["config"]): record for record in bar}
    return [done[key] for key in wanted]


def records(experiment: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """Return every intact record of an experiment, in the order of the configurations' text.

    Raises
    ------
    DataError
        If there is none.
    """
    place = (results_dir() if folder is None else Path(folder)) / experiment
    found = [record for path in sorted(place.glob("*.json")) if (record := _read(path))]
    if not found:
        raise DataError(
            f"{place} holds no intact record; expected some. Make them with `convexlib run`."
        )
    return sorted(found, key=lambda record: _text(record["config"]))


def digest(config: Config) -> str:
    """Return the sha256 of a configuration, which does not depend on the order of its keys."""
    return hashlib.sha256(_text(dict(config)).encode()).hexdigest()


def results_dir() -> Path:
    """Return CONVEXLIB_RESULTS if set, else `results` of the checkout, else of this folder."""
    named = os.environ.get("CONVEXLIB_RESULTS")
    if named:
        return Path(named)
    checkout = SOURCE / "results"
    return checkout if (SOURCE / "pyproject.toml").exists() else Path("results")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return versions, hardware and source of the present process, as every record keeps them."""
    names = {name: _version(name) for name in PACKAGES}
    hardware = torch.cuda.get_device_name(device) if device != "cpu" else platform.machine()
    return {
        "versions": {"python": platform.python_version(), **names},
        "system": sys.platform,
        "device": device,
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _compute(function: Function, config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Run one configuration with one thread, write its record and return it."""
    with one_thread():
        began = time.perf_counter()
        result = dict(function(dict(config)))
        body = {
            "format": FORMAT,
            "config": config,
            "result": result,
            "seconds": round(time.perf_counter() - began, 3),
            "environment": environment(config.get("device", "cpu")),
        }
    # What is returned is what a later run will read: keys are strings, tuples are lists.
    record = json.loads(_text(body))
    record["sha256"] = _checksum(record)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(record, sort_keys=True) + "\n", encoding="utf8")
        part.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}. Is the folder writable?") from error
    return record


@contextmanager
def one_thread() -> Iterator[None]:
    """Let every library use one thread: runs side by side then have equal shares."""
    before = torch.get_num_threads(), numba.get_num_threads()
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        numba.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            numba.set_num_threads(before[1])


def _read(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """Return a record, or None where it is missing, damaged or of another configuration."""
    try:
        record = json.loads(path.read_text(encoding="utf8"))
        intact = record["format"] == FORMAT and record["sha256"] == _checksum(record)
        own = digest(record["config"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if intact and own == (key or own) and path.name == _name(own) else None


def _checksum(record: Mapping[str, Any]) -> str:
    """Return the sha256 of all of a record but this very number."""
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(_text(body).encode()).hexdigest()


def _text(value: Any) -> str:
    """Return the one JSON text of a value."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a configuration or result cannot be written as JSON ({error}); expected text, "
            "finite numbers, booleans, None, lists and dicts. Convert arrays with .tolist()."
        ) from error


def file_name(config: Config) -> str:
    """Return the name of a configuration's record."""
    return _name(digest(config))


def _name(key: str) -> str:
    return f"{key[:16]}.json"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """Return the commit of the checkout, marked where files differ from it; None outside one."""
    if not (SOURCE / ".git").exists():
        return None
    command = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
