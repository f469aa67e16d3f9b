"""Make some records again and compare: committed numbers should come out once more.

Which entries are compared, and how closely they must agree, is the experiment's to say
(`Experiment.compared`). What was reached within a budget of processor time is made again by the
steps, rate and seed that the record holds (`Experiment.replay`), so that both sides of a comparison
are; what cannot be is left out, and said to be.
"""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from joblib import Parallel, delayed
from tqdm import tqdm

from convexlib.errors import DataError
from experiments.records import digest
from experiments.runner import Between, Experiment, Median, measure, one_thread

ROUNDING = 1e-9  # relative: beyond a bound by rounding only
TIMED = "not compared: reached within a budget of processor time"


@dataclass(frozen=True)
class Agreement:
    """The entries of one record whose names differ in numbers only: their medians, or the worst.

    Attributes
    ----------
    record, entry : str
        First digits of the configuration's digest; name of the entries, with * for numbers.
    count : int
        How many entries there are.
    stored, again : float or None
        Of the entry that differs most, or the medians; None where there is none, or where none was
        compared.
    difference : float
        ``|again - stored| / |stored|``, inf where only one of them is there; of what has to lie
        `Between` two others, how far it is outside.
    rtol : float
        How large that may be.
    note : str
        Why the entries were not compared.
    """

    record: str
    entry: str
    count: int
    stored: float | None = None
    again: float | None = None
    difference: float = 0.0
    rtol: float = 0.0
    note: str = ""
    drawn: bool = False

    @property
    def ok(self) -> bool:
        """Whether the entries agree, or were not compared."""
        return self.difference <= self.rtol


def spot_check(
    experiment: Experiment,
    stored: Sequence[Mapping[str, Any]],
    count: int,
    *,
    seed: int = 0,
    jobs: int | None = None,
) -> list[Agreement]:
    """Draw `count` records that can be compared, run their configurations again, and compare.

    A record none of whose entries can be made again is reported and not run.

    Parameters
    ----------
    experiment : Experiment
        Says what to run and what to compare.
    stored : sequence of dict
        Records to draw from.
    count : int
        How many to run again; all of them where there are fewer.
    seed : int
        Of the draw.
    jobs : int, optional
        As for `runner.run`. Nothing is written.

    Raises
    ------
    DataError
        If no record has an entry that can be compared.

    Notes
    -----
    Checked by `tests/experiments/test_spot_check.py`.
    """
    shuffled = list(stored)
    random.Random(seed).shuffle(shuffled)
    chosen: list[Mapping[str, Any]] = []
    left_out: list[Agreement] = []
    for record in shuffled:
        if len(chosen) == count:
            break
        rows = compare(experiment, record, record)
        # Without a single entry it is a damaged one, and no reason to pass.
        if experiment.replay is None and rows and all(row.note for row in rows):
            left_out += rows
        else:
            chosen.append(record)
    if not chosen:
        raise DataError(
            f"none of the {len(shuffled)} records of {experiment.name} has an entry that can be "
            "compared; expected one that does not depend on a budget of processor time."
        )
    tasks = (delayed(_again)(experiment, record) for record in chosen)
    made = Parallel(n_jobs=jobs, batch_size=1, return_as="generator")(tasks)
    bar = tqdm(made, f"{experiment.name} again", len(chosen), disable=None)
    pairs = zip(chosen, bar, strict=True)
    rows = [row for pair in pairs for row in compare(experiment, *pair) or [_empty(pair[0])]]
    return rows + left_out


def _again(experiment: Experiment, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the same configuration, made anew, and its timed entries replayed."""
    config = dict(record["config"])
    made: dict[str, Any] = {"config": config, "result": {}, "replayed": {}}
    rows = compare(experiment, record, record)
    if not rows or not all(row.note for row in rows):
        made |= measure(experiment.function, config)
    if rows and experiment.replay is not None:
        with one_thread():
            made["replayed"] = experiment.replay(record)
    return made


def _empty(record: Mapping[str, Any]) -> Agreement:
    """The failed comparison of a record that has no entry, and has none again."""
    return Agreement(digest(record["config"])[:16], "no entry", 0, difference=math.inf)


def compare(
    experiment: Experiment, stored: Mapping[str, Any], again: Mapping[str, Any]
) -> list[Agreement]:
    """Compare the results of two records of one configuration; `again` may be a replay, too."""
    record = digest(stored["config"])[:16]
    rules = experiment.compared(stored["config"])
    was, now, replayed = (
        dict(_entries(part))
        for part in (stored["result"], again["result"], again.get("replayed", {}))
    )
    now = {name: now[name] for name in now if not _like(name, experiment.timed)} | replayed
    groups: dict[str, list[str]] = {}
    for name in {**was, **now}:
        if _like(name, rules):
            groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name), []).append(name)
    rows = []
    for group, names in groups.items():
        if _like(names[0], experiment.timed) and not any(name in replayed for name in names):
            rows.append(Agreement(record, group, len(names), note=TIMED))
            continue
        rule = next(rules[pattern] for pattern in rules if _like(names[0], [pattern]))
        if isinstance(rule, Median):
            pair = _median(was, names), _median(now, names)
            rows.append(Agreement(record, group, len(names), *pair, _difference(*pair), rule))
            continue
        if drawn := isinstance(rule, Between):
            ends, rtol = (was.get(rule.low), was.get(rule.high)), ROUNDING
            differences = {name: _outside(now.get(name), *ends) for name in names}
        else:
            rtol = rule
            differences = {name: _difference(was.get(name), now.get(name)) for name in names}
        worst = max(names, key=differences.__getitem__)
        found = was.get(worst), now.get(worst), differences[worst]
        rows.append(Agreement(record, group, len(names), *found, rtol, drawn=drawn))
    return rows


def table(rows: Sequence[Agreement]) -> str:
    """Return the comparison as text."""
    width = max([5, *(len(_label(row)) for row in rows)])
    lines = [f"{'record':17}{'entry':{width}} {'stored':>15}{'again':>15} {'rel. diff.':>10}"]
    for row in rows:
        start = f"{row.record:17}{_label(row):{width}} "
        if row.note:
            lines.append(start + row.note)
        else:
            numbers = "".join(f"{_digits(value):>15}" for value in (row.stored, row.again))
            verdict = "" if row.ok else f"  more than {row.rtol:g}"
            distance = "in bounds" if row.drawn and row.ok else f"{row.difference:.1e}"
            lines.append(f"{start}{numbers} {distance:>10}{verdict}")
    return "\n".join(lines)


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield the numbers of nested dicts and lists, with names such as ``path.3.objective``."""
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in items:
            yield from _entries(part, f"{name}.{key}" if name else str(key))
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield name, value


def _like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _difference(was: float | None, now: float | None) -> float:
    if was is None or now is None:
        return 0.0 if was is now else math.inf
    if was == now:
        return 0.0
    return abs(now - was) / abs(was) if was else math.inf


def _outside(value: float | None, low: float | None, high: float | None) -> float:
    """By how much a value misses an interval, relative to its nearer end; inf where one is None."""
    if value is None or low is None or high is None or math.isnan(value):
        return math.inf
    return _difference(min(max(value, low), high), value)


def _median(entries: Mapping[str, float | None], names: Sequence[str]) -> float | None:
    """The median of some entries, None where one is not there."""
    values = [value for name in names if (value := entries.get(name)) is not None]
    return statistics.median(values) if len(values) == len(names) else None


def _label(row: Agreement) -> str:
    return row.entry if row.count == 1 else f"{row.entry} ({row.count})"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"
