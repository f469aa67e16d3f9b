"""The command line: `convexlib` or `python -m convexlib`.

Every subcommand is a function that adds its parser and sets `run`, a function from the parsed
arguments to the exit code: 0 done, 1 a result missed its tolerance or a file is not intact, 2 bad
arguments or input. An error that convexlib raises on purpose is one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from convexlib import datasets, store
from convexlib.errors import ConvexlibError, DataError, InputError, SolverError
from convexlib.experiments import ecg, nyse, runner, three_layer, uci

DONE, FAILED, BAD_INPUT = 0, 1, 2
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (ecg.EXPERIMENT, nyse.EXPERIMENT, three_layer.EXPERIMENT, uci.EXPERIMENT)
}
GIVE_UP = 3  # downloads that fail one after the other before the rest is left out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse exits with 2 by itself)."""
    parser = argparse.ArgumentParser(prog="convexlib", description="Neural networks made convex.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except ConvexlibError as error:
        complain(error)
        return FAILED if isinstance(error, DataError | SolverError) else BAD_INPUT
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def complain(message: object) -> None:
    """Print one line on stderr."""
    print("convexlib:", " ".join(str(message).split()), file=sys.stderr)


def add_data(commands: Any) -> None:
    """Add `convexlib data fetch|verify|list`."""
    parser = commands.add_parser("data", help="fetch, verify or list the data files")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for action, run, text in (
        ("fetch", fetch, "make files available: downloaded and verified"),
        ("verify", verify, "check the sha256 of every file that is here"),
        ("list", show, "list the files and where they are found"),
    ):
        command = actions.add_parser(action, help=text, description=text)
        command.add_argument(
            "names", nargs="*", metavar="NAME", help="ecg, nyse, uci or one UCI name (default: all)"
        )
        command.set_defaults(run=run)


def add_list(commands: Any) -> None:
    """Add `convexlib list`."""
    text = "list the experiments"
    commands.add_parser("list", help=text, description=text).set_defaults(run=list_experiments)


def add_run(commands: Any) -> None:
    """Add `convexlib run EXPERIMENT`."""
    text = "run an experiment, continuing where an earlier run stopped"
    parser = commands.add_parser("run", help=text, description=text)
    add_experiment(parser)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--jobs",
        type=int,
        help="processes, -1 for one per core (default: 1; they share caches, "
        "so use 1 where times are compared)",
    )
    parser.add_argument("--seeds", type=seeds, help="such as 0-4 or 0,2,5 (default: the profile's)")
    parser.set_defaults(run=run_experiment)


def add_table(commands: Any) -> None:
    """Add `convexlib table EXPERIMENT`."""
    text = "print the table of an experiment from its records"
    parser = commands.add_parser("table", help=text, description=text)
    add_experiment(parser)
    parser.set_defaults(run=print_table)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the name of an experiment and its profile."""
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS))
    profile = parser.add_mutually_exclusive_group()
    for name, text in (("quick", "under a minute (default)"), ("full", "as in the book")):
        profile.add_argument(
            f"--{name}", dest="profile", action="store_const", const=name, help=text
        )
    parser.set_defaults(profile="quick")


COMMANDS = (add_data, add_list, add_run, add_table)


def entries(names: Iterable[str]) -> list[store.Entry]:
    """Return the manifest's entries of these names ("uci": all UCI tables; none: everything)."""
    known = store.catalogue()
    chosen: dict[str, store.Entry] = {}
    for name in list(names) or list(known):
        if name != "uci" and name not in known:
            raise InputError(
                f"unknown data set {name!r}; expected ecg, nyse, uci or a name that `convexlib "
                f"data list` shows.{datasets.suggestion(name, [*known, 'uci'])}"
            )
        wanted = datasets.list_uci() if name == "uci" else [name]
        chosen |= {one: known[one] for one in wanted}
    return list(chosen.values())


def fetch(chosen: argparse.Namespace) -> int:
    """Make files available; an intact one is left alone, a damaged one repaired."""
    failed = in_a_row = 0
    wanted = entries(chosen.names)
    for entry in wanted:
        try:
            label, path = store.fetch(entry)
        except DataError as error:
            complain(error)
            failed, in_a_row = failed + 1, in_a_row + 1
            if in_a_row == GIVE_UP and entry is not wanted[-1]:
                complain(f"gave up after {GIVE_UP} failures in a row; is there a network?")
                break
        else:
            if label != "data":  # what ships was here all along and says nothing of the network
                in_a_row = 0
            print(f"{entry.name}: {label}, {path}", flush=True)
    return FAILED if failed else DONE


def verify(chosen: argparse.Namespace) -> int:
    """Check every file that is here; one that is asked for by name, or ships, must be here."""
    failed = 0
    for entry in entries(chosen.names):
        place = store.locate(entry)
        if place is None and not (entry.ships or chosen.names):
            print(f"{entry.name}: not here")
            continue
        try:
            if place is None:
                raise store.missing(entry)
            store.read(entry, place)
        except DataError as error:
            complain(error)
            failed += 1
        else:
            print(f"{entry.name}: intact, {place[1]}")
    return FAILED if failed else DONE


def show(chosen: argparse.Namespace) -> int:
    """List files: name, shape, classes and the place where the loader finds them."""
    wanted = entries(chosen.names)
    print(f"{'name':32}{'shape':>14}{'classes':>9}  found in")
    for entry in wanted:
        place = store.locate(entry)
        shape = " x ".join(map(str, entry.shape))
        print(f"{entry.name:32}{shape:>14}{entry.classes or '':>9}  {place[0] if place else '-'}")
    return DONE


def list_experiments(_: argparse.Namespace) -> int:
    """List the experiments, and how many records of each profile are there."""
    for name, experiment in sorted(EXPERIMENTS.items()):
        counts = []
        for profile in ("quick", "full"):
            folder = runner.results_dir() / place(name, profile)
            wanted = {runner.file_name(config) for config in experiment.configs(profile)}
            there = wanted & {path.name for path in folder.glob("*.json")}
            counts.append(f"{profile} {len(there)}/{len(wanted)}")
        print(f"{name:13}{', '.join(counts):26}{experiment.title}")
    return DONE


def run_experiment(chosen: argparse.Namespace) -> int:
    """Run what has no record yet, print the table, and say which results miss their tolerance."""
    experiment = EXPERIMENTS[chosen.experiment]
    found = runner.run(
        place(experiment.name, chosen.profile),
        experiment.function,
        experiment.configs(chosen.profile, device=device(chosen.device), seeds=chosen.seeds),
        jobs=chosen.jobs,
    )
    print(experiment.table(found))
    misses = [reason for record in found if (reason := experiment.missed(record))]
    for reason in misses:
        complain(f"{experiment.name}: {reason}")
    return FAILED if misses else DONE


def print_table(chosen: argparse.Namespace) -> int:
    """Print the table of the records that are there."""
    experiment = EXPERIMENTS[chosen.experiment]
    print(experiment.table(runner.records(place(experiment.name, chosen.profile))))
    return DONE


def place(experiment: str, profile: str) -> str:
    """Return the folder of an experiment's records: quick ones are kept apart."""
    return experiment if profile == "full" else f"{experiment}-{profile}"


def device(name: str) -> str:
    """Return the name of a device that is there."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); expected cpu, or "
            "cuda on a machine that has it."
        ) from error
    return name


def seeds(text: str) -> list[int]:
    """Read "0-4" or "0,2,5"."""
    try:
        ends = [part.partition("-") for part in text.split(",")]
        found = [s for a, dash, b in ends for s in range(int(a), int(b if dash else a) + 1)]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0-4 or 0,2,5, without repetition")
    return found
