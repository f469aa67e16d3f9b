"""Records on disk: one line of JSON for each configuration, complete or not there at all.

A record holds the configuration, what was computed, where it was computed, and a sha256 of all
that. Those of one kind (`kind`: a suite, part or method) are the lines of one file,
``results/<experiment>/<kind>.jsonl``, in the order of their configurations, so that the difference
of two runs reads like a table.

While a run is on, a record is a file of its own, ``results/<experiment>/.running/<first 16 digits
of sha256(config)>.json``: no run is ever in the way of another, and what is killed leaves whole
files. `fold` makes lines of them when a run ends. Until then both are read, and the file, which is
newer, counts before the line of the same configuration.

What is damaged, or belongs to another configuration, does not count: a warning names it, and `fold`
keeps a copy of a file before it leaves out lines of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch

from convexlib.datasets import atomic
from convexlib.errors import DataError, InputError

FORMAT = 1  # of a record
PACKAGES = ("convexlib", "numpy", "torch", "numba", "scipy", "scikit-learn")
SOURCE = Path(__file__).resolve().parents[1]
RUNNING = ".running"
NAME = re.compile(r"[0-9a-f]{16}\.json")
KIND = re.compile(r"\w[\w.-]*", re.ASCII)
KINDS = ("suite", "part", "method")  # the keys of a configuration that may name its file


def records(experiment: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """Return every intact record of an experiment, in the order of the configurations.

    Raises
    ------
    DataError
        If there is none.
    InputError
        If the name leads out of the folder.

    Warns
    -----
    UserWarning
        For each line or file that does not count.
    """
    place = folder_of(experiment, folder)
    found = stored(place)
    if not found:
        known = experiment.removesuffix("-other")
        name = known.removesuffix("-quick")
        profile = "--full" if name == known else "--quick"
        own = "" if known == experiment else " and the same --set, --data, --seeds or --device"
        raise DataError(
            f"{place} holds no intact record; expected some. Make them with "
            f"`python -m experiments run {name} {profile}`{own}."
        )
    return sorted(found.values(), key=lambda record: _order(record["config"]))


def stored(place: Path) -> dict[str, dict[str, Any]]:
    """Return the intact records of a folder by the digests of their configurations.

    Warns
    -----
    UserWarning
        For each line or file that does not count.
    """
    # The files first: one that another run folds meanwhile is among the lines when these are read.
    newer: dict[str, dict[str, Any]] = {}
    for path in _single(place):
        record, problem = inspect(path)
        if record is not None:
            newer[digest(record["config"])] = record
        elif problem:
            _warn(str(path), problem)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(place.glob("*.jsonl")):
        for number, line in enumerate(_lines(path), 1):
            record, problem = _parsed(line)
            if record is None:
                _warn(f"{path}, line {number},", problem)
            else:
                found[digest(record["config"])] = record
    return found | newer


def find(place: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of one configuration, None where none is intact.

    A line begins with its configuration, so that the others need not be read.
    """
    record, _ = inspect(place / RUNNING / file_name(config), digest(config))
    if record is not None:
        return record
    start = f'{{"config": {text(dict(config))}, '.encode()
    for line in _lines(place / f"{kind(config)}.jsonl"):
        if line.startswith(start) and (record := _parsed(line)[0]) is not None:
            return record
    return None


def kind(config: Mapping[str, Any]) -> str:
    """Return the name of the file for a configuration: its suite, part or method, if it has one."""
    named = next((config[key] for key in KINDS if key in config), None)
    return named if isinstance(named, str) and KIND.fullmatch(named) else "records"


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
    """Return the name of a configuration's record while a run is on."""
    return f"{digest(config)[:16]}.json"


def prepare(folder: Path) -> None:
    """Make a folder ready for records: it is there, can be written, and is rid of old parts.

    Raises
    ------
    DataError
        If nothing can be written there; better now than after hours of computing.
    """
    try:
        atomic.probe(folder / RUNNING)
    except OSError as error:
        raise _disk_error(folder, error) from error
    atomic.sweep(folder)
    atomic.sweep(folder / RUNNING)


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


def write(place: Path, record: Mapping[str, Any]) -> None:
    """Write a sealed record into a folder, as a file of its own.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written; no part of the record is left.
    """
    path = place / RUNNING / file_name(record["config"])
    try:
        atomic.write(path, _line(record))
    except OSError as error:
        raise _disk_error(path, error) from error


def fold(place: Path, without: Collection[str] = ()) -> None:
    """Make lines of a folder's single files, and remove these; leave out lines that do not count.

    A file with damaged lines, or two of one configuration, is first copied to NAME.jsonl.damaged:
    it may be whole in another encoding, or merged by hand.

    Parameters
    ----------
    place : Path
        Folder of an experiment. Other runs may go on there: they make files, and wait for each
        other here.
    without : collection of str
        Digests of configurations whose records are to go.

    Raises
    ------
    DataError
        If the disk is full or the folder cannot be written. Every record is still there, as a
        line or as a file.

    Warns
    -----
    UserWarning
        For each copy.
    """
    if not (without or _single(place) or _untidy(place)):
        return
    try:
        with _alone(place):
            paths = _single(place)
            new = [record for path in paths if (record := inspect(path)[0]) is not None]
            kinds = {kind(record["config"]) for record in new} | _untidy(place)
            if without:
                kinds |= {path.stem for path in place.glob("*.jsonl")}
            for name in sorted(kinds):
                _merge(place / f"{name}.jsonl", new, without)
            made = {file_name(record["config"]) for record in new}
            for path in paths:
                if path.name in made:
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise _disk_error(place, error) from error


def _merge(path: Path, new: list[dict[str, Any]], without: Collection[str]) -> None:
    """Write a file of lines anew, with those of some records that belong there."""
    lines = _lines(path)
    old = _intact(lines)
    if len(old) < len(lines):
        _set_aside(path)
    own = [record for record in new if kind(record["config"]) == path.stem]
    kept = old | {digest(record["config"]): record for record in own}
    rows = [record for key, record in kept.items() if key not in without]
    if rows:
        rows.sort(key=lambda record: _order(record["config"]))
        atomic.write(path, b"".join(map(_line, rows)))
    else:
        path.unlink(missing_ok=True)


def _intact(lines: list[bytes]) -> dict[str, dict[str, Any]]:
    """The records among some lines, the last one of each configuration."""
    found = (record for line in lines if (record := _parsed(line)[0]) is not None)
    return {digest(record["config"]): record for record in found}


def _untidy(place: Path) -> set[str]:
    """The kinds whose file has damaged lines, or two of one configuration."""
    files = {path.stem: _lines(path) for path in place.glob("*.jsonl")}
    return {name for name, lines in files.items() if len(_intact(lines)) < len(lines)}


def _set_aside(path: Path) -> None:
    """Copy a file, of which lines are to be left out, to a name that is free."""
    names = chain([f"{path.name}.damaged"], (f"{path.name}.damaged.{n}" for n in count(2)))
    copy = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    atomic.write(copy, path.read_bytes())
    warnings.warn(
        f"{path} had lines that do not count, or two of one configuration; as it was, it is now "
        f"{copy}. Delete that if nothing in it is missed.",
        stacklevel=4,
    )


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process folds in this folder, and keep others out."""
    (place / RUNNING).mkdir(parents=True, exist_ok=True)
    with (place / RUNNING / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _single(place: Path) -> list[Path]:
    """The files of records that are no lines yet."""
    return [path for path in sorted((place / RUNNING).glob("*.json")) if NAME.fullmatch(path.name)]


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, sort_keys=True) + "\n").encode()


def _lines(path: Path) -> list[bytes]:
    """The lines of a file, none if there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected a file of records. Restore it."
        ) from error
    return [line for line in content.split(b"\n") if line]


def _order(value: Any) -> Any:
    """Sort key of JSON values: numbers by size, and of dicts the values key by key."""
    if isinstance(value, Mapping):
        return 4, [(key, _order(value[key])) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return 3, [_order(part) for part in value]
    if isinstance(value, str):
        return 2, value
    return (0, 0) if value is None else (1, value)


def _warn(what: str, problem: str) -> None:
    warnings.warn(
        f"{what} does not count as a record: {problem}. "
        "`python -m experiments run` makes it again.",
        stacklevel=4,
    )


def inspect(path: Path, key: str | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return a record and nothing, or None and what is wrong with the file, if there is one."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    record, problem = _parsed(content)
    if record is not None:
        own = digest(record["config"])
        if own != (key or own) or path.name != f"{own[:16]}.json":
            return None, f"it belongs to another configuration, that of {own[:16]}.json"
    return record, problem


def _parsed(content: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return a record and nothing, or None and what is wrong with its text."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):  # of JSON, and of UTF-8; of brackets in brackets
        return None, "it is cut short or no JSON"
    try:
        if record["format"] != FORMAT:
            return None, f"its format is {record['format']!r}, expected {FORMAT}"
        if record["sha256"] != _checksum(record):
            return None, "its content does not have the sha256 that it states"
        digest(record["config"])
        if not isinstance(record["result"], dict) or not isinstance(record["environment"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "it lacks parts of a record"
    return record, ""


def text(value: Any) -> str:
    """Return the one JSON text of a value."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            "a configuration or result cannot be written as JSON "
            f"({_fault(value)}{error}); expected text, "
            "finite numbers, booleans, None, lists and dicts. Convert arrays with .tolist()."
        ) from error


def _fault(value: Any, name: str = "") -> str:
    """The place of the first entry that JSON has no word for, such as ``result.path.0.gap: ``."""
    if not isinstance(value, Mapping | list | tuple):
        with suppress(TypeError, ValueError):
            json.dumps(value, allow_nan=False)
            return ""
        return f"{name}: " if name else ""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    faults = (_fault(part, f"{name}.{key}" if name else str(key)) for key, part in parts)
    return next(filter(None, faults), "")


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


CODE = ("convexlib", "experiments", "data", "requirements.lock")  # what a record can depend on


@cache  # the code that runs is that of the start, whatever happens to the checkout meanwhile
def _commit() -> str | None:
    """Return the commit of the checkout, marked where its code differs; None outside one."""
    if not (SOURCE / ".git").exists():
        return None
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", *CODE)
    return commit if not (commit and changed) else f"{commit}-dirty"


def _git(*command: str) -> str | None:
    """Return what git says of the checkout; None where there is no git, or no answer."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(SOURCE), *command],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
