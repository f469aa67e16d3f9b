"""Records on disk: one JSON file for each configuration, complete or not there at all.

A record is ``results/<experiment>/<first 16 digits of sha256(config)>.json`` and holds the
configuration, what was computed, where it was computed, and a sha256 of all that. A file that is
damaged, or belongs to another configuration, does not count: a warning names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from convexlib.datasets import atomic
from convexlib.errors import DataError, InputError

__all__ = [
    "FORMAT",
    "digest",
    "environment",
    "file_name",
    "folder_of",
    "inspect",
    "prepare",
    "read",
    "records",
    "results_dir",
    "sealed",
    "text",
    "write",
]

FORMAT = 1  # of a record
PACKAGES = ("convexlib", "numpy", "torch", "numba", "scipy", "scikit-learn")
SOURCE = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[0-9a-f]{16}\.json")


def records(experiment: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """Return every intact record of an experiment, in the order of the configurations' text.

    Raises
    ------
    DataError
        If there is none.
    InputError
        If the name leads out of the folder.
    """
    place = folder_of(experiment, folder)
    paths = [path for path in sorted(place.glob("*.json")) if NAME.fullmatch(path.name)]
    found = [record for path in paths if (record := read(path))]
    if not found:
        name = experiment.removesuffix("-quick")
        profile = "--full" if name == experiment else "--quick"
        raise DataError(
            f"{place} holds no intact record; expected some. Make them with "
            f"`python -m experiments run {name} {profile}`."
        )
    return sorted(found, key=lambda record: text(record["config"]))


def folder_of(experiment: str, folder: Path | None = None) -> Path:
    """Return the folder of an experiment's records, below `folder` or `results_dir()`.

    Raises
    ------
    InputError
        If the name is no relative path, or leads out of that folder.
    """
    parts = Path(experiment).parts if isinstance(experiment, str) else ()
    if not parts or ".." in parts or Path(experiment).is_absolute() or "\0" in experiment:
        raise InputError(
            f"experiment is {experiment!r}; expected the name of a folder below results, as 'uci'."
        )
    return (results_dir() if folder is None else Path(folder)) / experiment


def results_dir() -> Path:
    """Return CONVEXLIB_RESULTS if set, else `results` of the checkout, else of this folder."""
    named = os.environ.get("CONVEXLIB_RESULTS")
    if named:
        return Path(named)
    checkout = SOURCE / "results"
    return checkout if (SOURCE / "pyproject.toml").exists() else Path("results")


def digest(config: Mapping[str, Any]) -> str:
    """Return the sha256 of a configuration, which does not depend on the order of its keys."""
    if not isinstance(config, Mapping):
        raise InputError(f"a configuration is {type(config).__name__}; expected a dict.")
    return hashlib.sha256(text(dict(config)).encode()).hexdigest()


def file_name(config: Mapping[str, Any]) -> str:
    """Return the name of a configuration's record."""
    return f"{digest(config)[:16]}.json"


def prepare(folder: Path) -> None:
    """Make a folder ready for records: it is there, can be written, and is rid of old parts.

    Raises
    ------
    DataError
        If nothing can be written there; better now than after hours of computing.
    """
    try:
        atomic.probe(folder)
    except OSError as error:
        raise _disk_error(folder, error) from error
    atomic.sweep(folder)


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a record as a later run will read it (tuples are lists), with its sha256.

    Raises
    ------
    InputError
        If it holds what JSON cannot.
    """
    record = json.loads(text(body))
    record["sha256"] = _checksum(record)
    return record


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a sealed record.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written; no part of the record is left.
    """
    try:
        atomic.write(path, (json.dumps(record, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise _disk_error(path, error) from error


def read(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """Return a record (of the configuration with digest `key`), or None where none is intact.

    Warns
    -----
    UserWarning
        If there is a file that does not count.
    """
    record, problem = inspect(path, key)
    if problem:
        warnings.warn(
            f"{path} does not count as a record: {problem}. "
            "`python -m experiments run` makes it again.",
            stacklevel=3,
        )
    return record


def inspect(path: Path, key: str | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return a record and nothing, or None and what is wrong with the file, if there is one."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except (ValueError, RecursionError):  # of JSON, and of UTF-8; of brackets in brackets
        return None, "it is cut short or no JSON"
    try:
        if record["format"] != FORMAT:
            return None, f"its format is {record['format']!r}, expected {FORMAT}"
        if record["sha256"] != _checksum(record):
            return None, "its content does not have the sha256 that it states"
        own = digest(record["config"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "it lacks parts of a record"
    if own != (key or own) or path.name != f"{own[:16]}.json":
        return None, f"it belongs to another configuration, that of {own[:16]}.json"
    return record, ""


def text(value: Any) -> str:
    """Return the one JSON text of a value."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a configuration or result cannot be written as JSON ({error}); expected text, "
            "finite numbers, booleans, None, lists and dicts. Convert arrays with .tolist()."
        ) from error


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return versions, hardware and source of the present process, as every record keeps them."""
    # torch's own name says for which device it was built; its package's may not.
    names = {name: _version(name) for name in PACKAGES} | {"torch": str(torch.__version__)}
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


def _checksum(record: Mapping[str, Any]) -> str:
    """Return the sha256 of all of a record but this very number."""
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(text(body).encode()).hexdigest()


def _disk_error(path: Path, error: OSError) -> DataError:
    """Return the error for a place where records cannot be kept."""
    return DataError(
        f"cannot write {path} ({error.strerror or error}); no part of a record is left there. Is "
        "the folder writable, and the disk not full? The variable CONVEXLIB_RESULTS names another "
        "folder for results."
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache  # the code that runs is that of the start, whatever happens to the checkout meanwhile
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
