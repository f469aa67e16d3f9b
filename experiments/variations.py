"""A reader's own variation of an experiment: other settings, other data.

``python -m experiments run ecg --set beta=0.5 --set rates.adam=0.1,0.03`` and
``runner.run_experiment(ecg.EXPERIMENT, "quick", changes={"beta": 0.5, "rates.adam": [0.1, 0.03]})``
are the same. A variation is made of the configurations that have all of the keys named, so that
nothing is run that it does not change. Its records are kept apart from those of the book.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convexlib.arrays import Floats
from convexlib.checks import check_scale
from convexlib.cli.console import read_bytes
from convexlib.cli.tables import Table, load_table
from convexlib.errors import DataError, InputError
from experiments.records import KINDS, digest

Config = Mapping[str, Any]
FILE = ("file", "sha256")  # what a configuration with data of the reader's has beside the others
INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
NAME = re.compile(r"[A-Za-z][\w.+-]*", re.ASCII)
DATA = ("data", "set")  # names of data sets, of which there are more than the configurations have
REAL = ("seconds",)  # settings that are no numbers of things, even if all there are whole
LARGEST = 1e300
CONSTANT = 1e-12  # part of the largest entry that a standard deviation has by rounding
WORDS = {"true": True, "false": False, "none": None}


def parse(text: str) -> tuple[str, Any]:
    """Read ``key=value``: a number, a name, true, false or none, or a list of them with commas.

    Raises
    ------
    InputError
        If it is none of these.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"got {text!r}; expected key=value, such as beta=0.5 or rates=0.1,0.01.")
    parts = value.strip().removeprefix("[").removesuffix("]").split(",")
    found = [_scalar(part.strip(), text) for part in parts]
    return key.strip(), found if len(found) > 1 or value.strip().startswith("[") else found[0]


def _scalar(word: str, text: str) -> Any:
    if word in WORDS:
        return WORDS[word]
    if INTEGER.fullmatch(word):
        return int(word)
    if NUMBER.fullmatch(word) and math.isfinite(float(word)):
        return float(word)
    if NAME.fullmatch(word) and word.lower() not in ("nan", "inf", "infinity"):
        return word
    raise InputError(
        f"got {word!r} in {text!r}; expected a finite number, a name, true, false or none, or a "
        "list of them, such as 0.1,0.01."
    )


def changed(
    configs: Sequence[Config], changes: Mapping[str, Any], known: Sequence[Config]
) -> list[dict[str, Any]]:
    """Return the configurations that have all keys of `changes`, with these values.

    Parameters
    ----------
    configs : sequence of dict
        Those of a profile.
    changes : dict
        Values by keys such as ``"width"`` or, inside another one, ``"rates.adam"``. A suite, part
        or method chooses: only its configurations are kept. ``"beta"`` stands in the place of
        ``"ratio"``, that is, of beta divided by beta_max.
    known : sequence of dict
        Configurations of all profiles, whose values say what kind a key's value is.

    Raises
    ------
    InputError
        With the keys, values or kinds that there are, if a change fits none.
    """
    chosen = [dict(config) for config in configs]
    for key in KINDS:
        if key in changes:
            there = sorted({str(config[key]) for config in chosen if key in config})
            chosen = [config for config in chosen if config.get(key) == changes[key]]
            if not chosen:
                among = f"one of {', '.join(there)}" if there else f"no {key}, as none has one"
                raise InputError(f"{key} is {changes[key]!r}; expected {among}.")
    settings = {key: value for key, value in changes.items() if key not in KINDS}
    if "beta" in settings and "ratio" in settings:
        raise InputError("got beta and ratio, which is beta / beta_max; expected one of them.")
    wanted = {"ratio" if key == "beta" else key for key in settings}
    settable = sorted({key for config in chosen for key in _settings(config)})
    for key in sorted(wanted):
        if key not in settable:
            beta = ["beta"] if "ratio" in settable else []
            named = "beta" if "beta" in settings and key == "ratio" else key
            raise InputError(
                f"{named!r} is not among the settings; expected some of "
                f"{', '.join(sorted({*settable, *beta}))}."
            )
    chosen = [config for config in chosen if wanted <= set(_settings(config))]
    if not chosen:
        raise InputError(
            f"no configuration has all of {', '.join(sorted(settings))}; expected settings that "
            "belong together. Change them in one run each."
        )
    for key, value in settings.items():
        old = [_at(config, "ratio" if key == "beta" else key) for config in known]
        fitting = _fitting(key, value, [entry for entry in old if entry is not _ABSENT])
        chosen = [_with(config, key.split("."), fitting) for config in chosen]
    if "beta" in settings:
        chosen = [{k: v for k, v in config.items() if k != "ratio"} for config in chosen]
    return list({digest(config): config for config in chosen}.values())


def keys(config: Config, above: str = "") -> Iterator[str]:
    """Yield the keys of nested dicts, such as ``rates.adam``."""
    for key, value in config.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from keys(value, f"{above}{key}.")


def _settings(config: Config) -> list[str]:
    """The keys that a change may name; devices have an option of their own."""
    apart = {*KINDS, *FILE, "device"}
    return [
        key
        for key in keys(config)
        if key not in apart and not isinstance(_at(config, key), Mapping)
    ]


_ABSENT = object()


def _at(config: Config, key: str) -> Any:
    """The value of a key such as ``rates.adam``."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return found


def _with(config: Config, parts: list[str], value: Any) -> dict[str, Any]:
    first, *others = parts
    return {**config, first: _with(config[first], others, value) if others else value}


def _fitting(key: str, value: Any, old: list[Any]) -> Any:
    """A value of the kind of those that there are, a list of one for a single one."""
    if value is None and None in old:
        return value
    lists = [entry for entry in old if isinstance(entry, list)]
    if lists:
        parts = value if isinstance(value, list | tuple) else [value]
        if any(part in parts[:place] for place, part in enumerate(parts)):
            raise InputError(f"{key} is {value!r}; expected each value once. Leave one out.")
        return [_fitting(key, part, [one for entry in lists for one in entry]) for part in parts]
    there = [entry for entry in old if entry is not None]
    kinds = {type(entry) for entry in there}
    if kinds <= {int, float} and type(value) in (int, float) and abs(value) <= LARGEST:
        least = min(there, default=0)
        if value > 0 or least < 0 or value == least == 0:
            if float in kinds:
                return float(value)
            if type(value) is int or key in REAL:
                return value
    elif type(value) in kinds and (type(value) is bool or key in DATA or value in there):
        return value
    samples = ", ".join(sorted({repr(entry) for entry in there})[:12])
    raise InputError(f"{key} is {value!r}; expected a value of the kind and sign of {samples}.")


def beta_of(config: Config, beta_max: float) -> float:
    """Return beta, which a configuration names itself or as a part of beta_max."""
    return float(config["beta"] if "beta" in config else config["ratio"] * beta_max)


def ratio_of(record: Mapping[str, Any]) -> float:
    """Return beta / beta_max of a record."""
    config, result = record["config"], record["result"]
    return float(config["ratio"] if "ratio" in config else result["beta"] / result["beta_max"])


def own_data(path: Path) -> dict[str, str]:
    """Return what a configuration says of a file: where it is, and the sha256 of its content."""
    content = read_bytes(path, "the data file")
    return {"file": str(path.resolve()), "sha256": hashlib.sha256(content).hexdigest()}


def own_table(config: Config, **columns: Any) -> Table:
    """Read the file of a configuration, whose columns are told as to `load_table`.

    Raises
    ------
    DataError
        If it is no longer the file that the configuration is about.
    InputError
        If it is no table as experiments read it.
    """
    path = Path(config["file"])
    if own_data(path)["sha256"] != config["sha256"]:
        raise DataError(f"{path} has changed; expected the file of sha256 {config['sha256']}.")
    try:
        return load_table(path, **columns)
    except InputError as error:
        what, _, advice = str(error).rpartition("; expected")
        if "--" not in advice:
            raise
        # Of options of `convexlib fit`, which no experiment has.
        raise InputError(
            f"{what}; expected names in the first line, commas between cells and points in "
            "numbers. Write the table so."
        ) from error


def own_series(config: Config) -> Floats:
    """Return the last column of the file of a configuration, (n,)."""
    series = own_table(config, target=None, features="last").X[:, -1]
    check_scale(torch.from_numpy(series), f"the series in {config['file']}")
    return series


def check_varies(seen: Floats, name: str) -> None:
    """Refuse training samples (n, ...) that are constant but for rounding: they have no scale."""
    if not (seen.std(axis=0) > CONSTANT * np.abs(seen).max(axis=0)).all():
        raise InputError(
            f"{name} is constant over the {len(seen)} samples that train; expected a series that "
            "varies there. Begin it later, or let more samples train."
        )


def check_rows(name: str, there: int, least: int, because: str) -> None:
    """Refuse a table with fewer rows than the settings ask for."""
    if there < least:
        raise InputError(
            f"{name} has {there} rows; expected {least} or more, as {because}. Set smaller "
            "numbers, or take more data."
        )
