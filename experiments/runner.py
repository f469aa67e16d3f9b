"""Run a pure function over many configurations, and keep one record on disk for each.

A configuration whose record is intact is not run again, so that a run that was killed, at whatever
moment, continues where it was. Records are the business of `experiments.records`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numba
import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs
from tqdm import tqdm

from convexlib.checks import check_choice
from convexlib.errors import DataError, InputError, SolverError
from experiments import records as record_files
from experiments.provenance import code_of, other_code
from experiments.records import digest, environment, file_name, records, results_dir
from experiments.variations import FILE, changed, keys, own_data

__all__ = [
    "Between",
    "Experiment",
    "Median",
    "check_config",
    "digest",
    "environment",
    "file_name",
    "measure",
    "one_thread",
    "records",
    "results_dir",
    "run",
    "run_experiment",
]

# tqdm's own lock is a semaphore, over whose loss Python warns where a worker is killed.
tqdm.set_lock(RLock())

Config = Mapping[str, Any]
Function = Callable[[dict[str, Any]], Mapping[str, Any]]


class Median(float):
    """A relative difference that the medians of a group of entries may have, as of several seeds.

    A single one of them may differ by more.
    """


@dataclass(frozen=True)
class Between:
    """Two entries of a record between which every run of a method ends.

    For a single draw, as one descent from one seed: beyond a proven bound, where it ends is decided
    by the last digits of the machine, and no tolerance can be told.
    """

    low: str
    high: str


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
    compared : callable
        From a configuration to the entries of its result that a run made again must give again
        (`spot_check`), and to which relative difference: patterns, as of file names, of names such
        as ``methods.convex.0.objective``. The first one that fits counts. What is proven is held to
        the tolerance of its proof; where a search or a long descent ends depends on the last digits
        of the machine: it is a draw, and a `Median` over the seeds is held to what that leaves, a
        single one to lie `Between` what is proven of all.
    timed : tuple of str
        Patterns of those among them that are reached within a budget of processor time, and hence
        differ from run to run.
    replay : callable, optional
        From a record to those of its timed entries that can be made again from what it stores
        (steps, rate, seed), nested as in the result.
    with_data : callable, optional
        From a configuration and the name of a reader's table to the configuration for it, or None
        where a part needs the data of the book. Its function finds the file by `own_table`.
    """

    name: str
    title: str
    configs: Callable[..., list[dict[str, Any]]]
    function: Function
    table: Callable[[list[dict[str, Any]]], str]
    missed: Callable[[dict[str, Any]], str | None]
    compared: Callable[[Config], Mapping[str, float | Between]]
    timed: tuple[str, ...] = ()
    replay: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    with_data: Callable[[dict[str, Any], str], dict[str, Any] | None] | None = None


def run_experiment(
    experiment: Experiment,
    profile: str = "quick",
    *,
    device: str = "cpu",
    seeds: Sequence[int] | None = None,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    folder: Path | None = None,
    jobs: int | None = None,
    others: str | None = None,
) -> list[dict[str, Any]]:
    """Run a profile of an experiment, or a variation of one, and return the records.

    Parameters
    ----------
    experiment : Experiment
        Such as ``experiments.ecg.EXPERIMENT``.
    profile : {"quick", "full"}
    device, seeds
        As for `Experiment.configs`.
    changes : dict, optional
        Other values of settings, by their keys (`variations.changed`).
    data : path, optional
        A table of your own, where the experiment takes one: CSV in UTF-8 with a header. A series is
        its last column; in a table of classes that column has the class, as a number.
    folder, jobs
        As for `run`.
    others : str, optional
        As for `run`; by default ``"refuse"`` for the full profile, else ``"replace"``.

    Raises
    ------
    InputError
        If a key, a value or a file does not fit.

    Notes
    -----
    What is not of the profile itself has its records in a folder of its own, NAME-other, from which
    the book reads nothing. Checked by `tests/experiments/test_variations.py`.
    """
    name, configs = planned(
        experiment, profile, device=device, seeds=seeds, changes=changes, data=data
    )
    if others is None:
        others = "refuse" if profile == "full" else "replace"
    return run(name, experiment.function, configs, folder=folder, jobs=jobs, others=others)


def planned(
    experiment: Experiment,
    profile: str,
    *,
    device: str = "cpu",
    seeds: Sequence[int] | None = None,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of the folder of a run, and its configurations (see `run_experiment`)."""
    check_choice(profile, ("quick", "full"), "profile")
    if not isinstance(changes, Mapping | None):
        raise InputError(f"changes is {type(changes).__name__}; expected a dict of settings.")
    if not isinstance(data, str | Path | None):
        raise InputError(f"data is {type(data).__name__}; expected the path of a file.")
    configs = experiment.configs(profile, device=device, seeds=seeds)
    if data is not None:
        configs = _with_data(experiment, configs, Path(data))
    if changes:
        configs = changed(configs, changes, all_configs(experiment.configs))
    known = {digest(config) for config in experiment.configs(profile)}
    own = changes or data is not None or any(digest(config) not in known for config in configs)
    return place(experiment.name, profile) + ("-other" if own else ""), configs


def place(name: str, profile: str) -> str:
    """Return the folder of an experiment's records: quick ones are kept apart."""
    return name if profile == "full" else f"{name}-{profile}"


def _with_data(
    experiment: Experiment, configs: list[dict[str, Any]], path: Path
) -> list[dict[str, Any]]:
    """The configurations that can have a table of the reader's, with it."""
    if experiment.with_data is None:
        raise InputError(
            f"{experiment.name} makes its own data or has a fixed list of them; expected an "
            "experiment that takes a table, such as ecg, nyse or uci."
        )
    file = own_data(path)
    made = [
        {**taken, **file}
        for config in configs
        if (taken := experiment.with_data(config, path.stem)) is not None
    ]
    return list({digest(config): config for config in made}.values())


def run(
    experiment: str,
    function: Function,
    configs: Iterable[Config],
    *,
    folder: Path | None = None,
    jobs: int | None = None,
    others: str = "keep",
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
        ``joblib.parallel_config`` says (another backend, as in `cluster.workers`), and 1 without.
    others : {"keep", "refuse", "replace"}
        What to do where there are records that other code has made (see `provenance`): leave them
        and make what is missing, refuse to mix, or make them again too.

    Raises
    ------
    InputError
        If a configuration or a result cannot be written as JSON, or the name leads out of the
        folder.
    DataError
        If a record cannot be written, or would be mixed with those of other code.
    SolverError
        If a worker process was killed.
    KeyboardInterrupt
        Passed on, with a message that says how many records are done.

    Warns
    -----
    UserWarning
        If a line or file in the place of a record is damaged, or belongs to another configuration;
        the record is made again.

    Notes
    -----
    Checked by `tests/experiments/test_runner.py`, `test_runner_kill.py` and `test_cluster.py`.
    """
    # Absolute, because the workers of a cluster may run in another folder.
    place = record_files.folder_of(experiment, folder).absolute()
    try:
        configs = list(configs)
    except TypeError as error:
        kind = type(configs).__name__
        raise InputError(f"configs is {kind}; expected a list of dicts.") from error
    wanted = {digest(config): dict(config) for config in configs}
    found = record_files.stored(place)
    done = {key: found[key] for key in wanted if key in found}
    foreign = {key for key, record in done.items() if other_code([record], function)}
    if others == "replace":
        done = {key: record for key, record in done.items() if key not in foreign}
    missing = [key for key in wanted if key not in done]
    if others == "refuse" and missing and foreign:
        raise DataError(
            f"{len(foreign)} of the {len(done)} records in {place} were made by other code than "
            f"today's, and {len(missing)} are missing; expected records of one code. Make all of "
            "them with --replace, or add to them with --force."
        )
    if missing:
        record_files.prepare(place)
    tasks = (delayed(_keep)(function, wanted[key], place, others == "replace") for key in missing)
    # One configuration at a time, whatever its length: what is finished is known to be finished.
    # A cluster may have more workers later on: it gets all at once. Of more than its processes can
    # queue, loky leaves a traceback behind when it is interrupted.
    ahead = "all" if jobs is None else "2*n_jobs"
    options = {"batch_size": 1, "pre_dispatch": ahead, "return_as": "generator_unordered"}
    parallel = Parallel(n_jobs=jobs, **options)
    # On a terminal only.
    bar = tqdm(parallel(tasks), experiment, len(wanted), initial=len(done), disable=None)
    try:
        for record in bar:
            key = digest(record["config"])
            if record_files.find(place, wanted[key]) != record:  # the worker has other disks
                record_files.write(place, record)
            done[key] = record
    except KeyboardInterrupt:
        state = f"{len(done)} of {len(wanted)} records are done"
        raise KeyboardInterrupt(
            f"{experiment} was interrupted: {state}. The same command goes on from there."
        ) from None
    except BrokenExecutor as error:
        raise SolverError(
            f"{experiment}: a worker process was killed, perhaps for want of memory; {len(done)} "
            f"of {len(wanted)} records are done. Run the same command with fewer jobs: it goes on "
            "from there."
        ) from error
    finally:
        with suppress(DataError):  # what is no line yet is read all the same
            record_files.fold(place)
    return [done[key] for key in wanted]


def check_config(config: Mapping[str, Any], configs: Callable[..., list[dict[str, Any]]]) -> None:
    """Refuse a configuration with keys that no configuration of the profiles has beside the others.

    A key that nobody reads, as a misspelt one, would be part of the record's name and change
    nothing.

    Parameters
    ----------
    config : dict
        What is about to be run.
    configs : callable
        `Experiment.configs`.

    Raises
    ------
    InputError
        With the keys that are unknown, and those that are known.
    """
    known = [set(keys(one)) for one in all_configs(configs)]
    own = set(keys(config)) - set(FILE)
    if "ratio" not in own and "beta" in own:
        own = own - {"beta"} | {"ratio"}
    unknown = min((own - keys for keys in known), key=len)
    if unknown:
        nearest = min(known, key=lambda keys: len(own - keys))
        raise InputError(
            f"a configuration has the keys {', '.join(sorted(unknown))}, which nothing reads; "
            f"expected some of {', '.join(sorted(nearest))}. Start from one of configs()."
        )


def all_configs(configs: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the configurations of both profiles."""
    return [config for profile in ("quick", "full") for config in configs(profile)]


def measure(function: Function, config: dict[str, Any]) -> dict[str, Any]:
    """Run one configuration with one thread and return its record."""
    with one_thread():
        began = time.perf_counter()
        try:
            result = dict(function(dict(config)))
            body = {
                "format": record_files.FORMAT,
                "config": config,
                "result": result,
                "seconds": round(time.perf_counter() - began, 3),
                "environment": environment(config.get("device", "cpu"))
                | {"code": code_of(function, config)},
            }
            return record_files.sealed(body)  # which a result that is not finite fails
        except Exception as error:
            if not (isinstance(error, InputError) and "file" in config):  # it is the reader's file
                error.add_note(f"The configuration was {record_files.text(config)}")
            raise


def _keep(function: Function, config: dict[str, Any], place: Path, replace: bool) -> dict[str, Any]:
    """Return the record of one configuration and keep it, so that it survives the main process."""
    # Another run may have made it meanwhile, or a worker that was lost before it could say so.
    found = record_files.find(place, config)
    if found is not None and not (replace and other_code([found], function)):
        return found
    record = measure(function, config)
    with suppress(DataError):  # the main process tries again, and says what is wrong
        record_files.write(place, record)
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
