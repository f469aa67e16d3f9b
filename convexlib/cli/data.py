"""`convexlib data fetch|verify|list`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from convexlib import datasets
from convexlib.cli.console import DONE, FAILED, complain, tell
from convexlib.datasets.loaders import suggestion
from convexlib.errors import DataError, InputError

GIVE_UP = 3  # downloads that fail one after the other before the rest is left out


def define(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for action, run, text in (
        ("fetch", fetch, "make files available: downloaded and verified"),
        ("verify", verify, "check the sha256 of every file that is here"),
        ("list", show, "list the files and where they are found"),
    ):
        command = actions.add_parser(action, help=text, description=text)
        command.add_argument(
            "names",
            nargs="*",
            metavar="NAME",
            help="ecg, nyse, mnist, uci or one UCI name (default: all)",
        )
        command.set_defaults(run=run)


def entries(names: Iterable[str]) -> list[datasets.Entry]:
    """Return the manifest's entries of these names ("uci": all UCI tables; none: everything)."""
    known = datasets.catalogue()
    chosen: dict[str, datasets.Entry] = {}
    for name in list(names) or list(known):
        if name != "uci" and name not in known:
            raise InputError(
                f"unknown data set {name!r}; expected ecg, nyse, mnist, uci or a name that "
                f"`convexlib data list` shows.{suggestion(name, [*known, 'uci'])}"
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
            label, path = datasets.fetch(entry)
        except DataError as error:
            complain(error)
            failed, in_a_row = failed + 1, in_a_row + 1
            if in_a_row == GIVE_UP and entry is not wanted[-1]:
                complain(f"gave up after {GIVE_UP} failures in a row; is there a network?")
                break
        else:
            if label not in ("data", datasets.SCIKIT_LEARN):  # they say nothing of the network
                in_a_row = 0
            tell(f"{entry.name}: {label}, {path}")
    return FAILED if failed else DONE


def verify(chosen: argparse.Namespace) -> int:
    """Check every file that is here; one that is asked for by name, or ships, must be here."""
    failed = 0
    for entry in entries(chosen.names):
        place = datasets.locate(entry)
        if place is None and not (entry.ships or chosen.names):
            tell(f"{entry.name}: not here")
            continue
        try:
            if place is None:
                raise datasets.missing(entry)
            datasets.read(entry, place)
        except DataError as error:
            complain(error)
            failed += 1
        else:
            tell(f"{entry.name}: intact, {place[1]}")
    return FAILED if failed else DONE


def show(chosen: argparse.Namespace) -> int:
    """List files: name, shape, classes and the place where the loader finds them."""
    wanted = entries(chosen.names)
    tell(f"{'name':32}{'shape':>14}{'classes':>9}  found in")
    for entry in wanted:
        place = datasets.locate(entry)
        shape = " x ".join(map(str, entry.shape))
        tell(f"{entry.name:32}{shape:>14}{entry.classes or '':>9}  {place[0] if place else '-'}")
    return DONE
