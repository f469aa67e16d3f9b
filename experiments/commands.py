"""The command line of the experiments: ``python -m experiments list | run | check | table``.

Exit codes are those of `convexlib.cli`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from convexlib.checks import check_device
from convexlib.cli import console
from convexlib.cli.console import DONE, FAILED, exit_code, tell, write_plainly
from convexlib.errors import ConvexlibError, DataError, InputError
from experiments import (
    bounds,
    cluster,
    ecg,
    images,
    nyse,
    recovery,
    reflections,
    runner,
    spot_check,
    three_layer,
    uci,
)
from experiments.provenance import other_code
from experiments.records import stored
from experiments.variations import parse

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        bounds.EXPERIMENT,
        ecg.EXPERIMENT,
        images.EXPERIMENT,
        nyse.EXPERIMENT,
        recovery.EXPERIMENT,
        reflections.EXPERIMENT,
        three_layer.EXPERIMENT,
        uci.EXPERIMENT,
    )
}


PROGRAM = "experiments"
_SEEDS = 10_000
complain = partial(console.complain, program=PROGRAM)
warnings_in_one_line = partial(console.warnings_in_one_line, PROGRAM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse exits with 2 by itself)."""
    write_plainly()
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description="The experiments behind the book's tables."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return exit_code(parser.parse_args(arguments), PROGRAM)


def add_list(commands: Any) -> None:
    text = "list the experiments"
    commands.add_parser("list", help=text, description=text).set_defaults(run=list_experiments)


def add_run(commands: Any) -> None:
    text = "run an experiment, continuing where an earlier run stopped"
    more = (
        ". Every setting has its record below results/ (the variable CONVEXLIB_RESULTS names "
        "another folder); what has one is not run again. Ctrl-C loses only what is being computed."
    )
    # Nobody is to find that --seed, which `check` has, is short for --seeds.
    parser = commands.add_parser("run", help=text, description=text + more, allow_abbrev=False)
    add_experiment(parser)
    add_options(parser)
    others = parser.add_mutually_exclusive_group()
    for name, meant, text in (
        ("replace", "replace", "make records that other code made again (quick ones always are)"),
        ("force", "keep", "add to records that other code made"),
    ):
        others.add_argument(
            f"--{name}", dest="others", action="store_const", const=meant, help=text
        )
    parser.set_defaults(run=run_experiment)


def add_check(commands: Any) -> None:
    """Add the command `check EXPERIMENT K`."""
    text = "make K random records of the book (with --quick: of quick runs) again and compare"
    parser = commands.add_parser("check", help=text, description=f"{text}; nothing is written.")
    add_experiment(parser, "full")
    parser.add_argument("count", type=positive, metavar="K")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the choice of records (default: 0)"
    )
    add_options(parser)
    parser.set_defaults(run=check_records)


def add_table(commands: Any) -> None:
    text = "print the table of an experiment from its records"
    parser = commands.add_parser("table", help=text, description=text)
    add_experiment(parser)
    parser.set_defaults(run=print_table)


def add_experiment(parser: argparse.ArgumentParser, usual: str = "quick") -> None:
    """Add the name of an experiment and its profile."""
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS))
    profile = parser.add_mutually_exclusive_group()
    for name, text in (("quick", "a minute on an idle machine"), ("full", "as in the book")):
        text += " (default)" if name == usual else ""
        profile.add_argument(
            f"--{name}", dest="profile", action="store_const", const=name, help=text
        )
    parser.set_defaults(profile=usual)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `run` and `check` have in common."""
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--jobs",
        type=jobs,
        help="processes, -1 for one per core (default: 1; they share caches, "
        "so use 1 where times are compared)",
    )
    parser.add_argument(
        "--set",
        dest="changes",
        type=setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value of a setting, such as beta=0.5, seeds=0,1 or rates.adam=0.1,0.03 (may "
        "be given several times); an unknown key is refused with those that there are",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE.csv",
        help="a table of your own: a series (ecg, nyse), or features and a class (uci)",
    )
    parser.add_argument("--seeds", type=seeds, help="such as 0-4 or 0,2,5 (default: the profile's)")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on a Dask cluster: the address of its scheduler, as tcp://10.0.0.1:8786, or a "
        "scheduler file (needs pip install 'convexlib[cluster]')",
    )


def list_experiments(_: argparse.Namespace) -> int:
    """List the experiments, and how many records of each profile are there."""
    code = DONE
    for name, experiment in sorted(EXPERIMENTS.items()):
        counts = []
        for profile in ("quick", "full"):
            folder = runner.results_dir() / runner.place(name, profile)
            wanted = {runner.digest(config) for config in experiment.configs(profile)}
            try:
                with warnings_in_one_line():
                    there = str(len(wanted & stored(folder).keys()))
            except DataError as error:  # of one folder; the others are listed all the same
                complain(error)
                code, there = FAILED, "?"
            counts.append(f"{profile} {there}/{len(wanted)}")
        tell(f"{name:13}{', '.join(counts):28}{experiment.title}")
    return code


def run_experiment(chosen: argparse.Namespace) -> int:
    """Run what has no record yet, print the table, and say which results miss their tolerance."""
    experiment = EXPERIMENTS[chosen.experiment]
    with on_workers(chosen):
        found = runner.run_experiment(
            experiment, **variation(chosen), jobs=chosen.jobs, others=chosen.others
        )
    with of_this_form(experiment):
        table = experiment.table(found)
        misses = [reason for record in found if (reason := experiment.missed(record))]
    tell(table)
    if count := other_code(found, experiment.function):
        complain(
            f"{experiment.name}: {count} of {len(found)} records were made by other code than "
            "today's; --replace makes them again"
        )
    return told(experiment, misses)


def check_records(chosen: argparse.Namespace) -> int:
    """Make some of the records again that belong to these configurations, and compare."""
    experiment = EXPERIMENTS[chosen.experiment]
    with on_workers(chosen):
        folder, configs = runner.planned(experiment, **variation(chosen))
        wanted = {runner.digest(config) for config in configs}
        there = runner.records(folder)
        known = [record for record in there if runner.digest(record["config"]) in wanted]
        if not known:
            raise DataError(
                f"none of the {len(there)} records in {runner.results_dir() / folder} is of the "
                f"present settings of {experiment.name}; expected some. Make them anew with "
                "`python -m experiments run`."
            )
        if len(known) < len(there):
            complain(f"{len(there) - len(known)} records of other settings are left out")
        rows = spot_check.spot_check(
            experiment, known, chosen.count, seed=chosen.seed, jobs=chosen.jobs
        )
    tell(spot_check.table(rows))
    return told(
        experiment,
        (
            f"{row.entry} of record {row.record} differs by {row.difference:.1e}, more than "
            f"{row.rtol:g}"
            for row in rows
            if not row.ok
        ),
    )


def variation(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what `runner.planned` is told of a command."""
    changes = dict(chosen.changes)
    if len(changes) < len(chosen.changes):
        raise InputError("got --set twice for one key; expected a value for each key.")
    if chosen.seeds is not None and "seeds" in changes:
        raise InputError("got --seeds and --set seeds=...; expected one of them.")
    return {
        "profile": chosen.profile,
        "device": str(check_device(chosen.device)),
        "seeds": chosen.seeds,
        "changes": changes,
        "data": chosen.data,
    }


@contextmanager
def on_workers(chosen: argparse.Namespace) -> Iterator[None]:
    """Let a command use the cluster that it names, and say its warnings in one line each."""
    if chosen.cluster and chosen.jobs:
        raise InputError(
            f"got --cluster and --jobs {chosen.jobs}; expected one of them, as a cluster has the "
            "workers that it has. Leave --jobs out."
        )
    with warnings_in_one_line(), cluster.workers(chosen.cluster):
        yield


def told(experiment: runner.Experiment, misses: Iterable[str]) -> int:
    """Say what misses its tolerance, and return the exit code."""
    lines = [f"{experiment.name}: {reason}" for reason in misses]
    for line in lines:
        complain(line)
    return FAILED if lines else DONE


def print_table(chosen: argparse.Namespace) -> int:
    """Print the table of the records that are there."""
    name = chosen.experiment
    with warnings_in_one_line():
        try:
            found = runner.records(runner.place(name, chosen.profile))
        except DataError as error:
            other = {"quick": "full", "full": "quick"}[chosen.profile]
            if not stored(runner.results_dir() / runner.place(name, other)):
                raise
            raise DataError(
                f"{error} There are others: `python -m experiments table {name} --{other}`."
            ) from error
    with of_this_form(EXPERIMENTS[name]):
        table = EXPERIMENTS[name].table(found)
    tell(table)
    return DONE


@contextmanager
def of_this_form(experiment: runner.Experiment) -> Iterator[None]:
    """Say in words that records, which are intact, are of another version of convexlib."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ConvexlibError):
            raise
        raise DataError(
            f"a record of {experiment.name} is not of the form that this version writes "
            f"({error!r}); expected records of one version. Make them anew with "
            "`python -m experiments run --replace`."
        ) from error


def setting(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE."""
    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole(text: str, meaning: str, least: int | None = None) -> int:
    """Read a whole number but 0, or one that is not below the least."""
    try:
        found = int(text)
    except ValueError:
        found = 0
    if not found or (least is not None and found < least):
        raise argparse.ArgumentTypeError(f"{text!r} is {meaning}")
    return found


# Negative numbers of processes count from the cores, as joblib has it.
jobs = partial(whole, meaning="no number of processes like 2, or -1")
positive = partial(whole, meaning="not like 1, 2, 3, ...", least=1)


def seeds(text: str) -> list[int]:
    """Read "0-4" or "0,2,5"."""
    try:
        ends = [part.partition("-") for part in text.split(",")]
        ranges = [range(int(a), int(b if dash else a) + 1) for a, dash, b in ends]
    except ValueError:
        ranges = []
    if sum(map(len, ranges)) > _SEEDS:  # before memory is filled with them
        raise argparse.ArgumentTypeError(f"{text!r} has more than {_SEEDS} seeds")
    found = [seed for part in ranges for seed in part]
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0-4 or 0,2,5, without repetition")
    return found


COMMANDS = (add_list, add_run, add_check, add_table)
