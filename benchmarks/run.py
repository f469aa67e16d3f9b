"""Run the measurements that have no record yet, then print the table.

    python -m benchmarks.run                 the table of the book, about half an hour on two cores
    python -m benchmarks.run --quick         every kind of measurement once, under two minutes
    python -m benchmarks.run --full          all cases, and time against n, d, P and beta
    python -m benchmarks.run --only relu     one suite (several: --only relu path)
    python -m benchmarks.run --list          what would run, and what has a record

Records are the lines of results/benchmarks/*.jsonl, one per solve, written as they come: a run that
was stopped continues. ``--again`` measures anew. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, suites, summary
from benchmarks.measure import PEERS, MeasurementError, is_ours, measure
from experiments import records, runner

Config = dict[str, Any]


def with_reference(configs: list[Config], folder: Path, name: str) -> list[Config]:
    """Give every program of a suite the lower bound of its reference solve."""
    programs = [c for c in configs if c["scores"] == "program"]
    cases = {(c["instance"], c["ratio"], c["gated"]): c for c in programs}
    wanted = [suites.reference(*case) for case in cases]
    found = [attempt(c, folder, name) for c in wanted]
    lowers = {case: r["result"]["lower"] for case, r in zip(cases, found, strict=True) if r}
    kept = [c for c in configs if c["scores"] != "program"]
    for c in programs:
        lower = lowers.get((c["instance"], c["ratio"], c["gated"]))
        kept += [{**c, "lower": lower}] if lower is not None else []
    return kept


def execute(names: list[str], profile: str, folder: Path, again: bool) -> None:
    """Run suites: the first repeat of everything, then the others in turns."""
    place = "benchmarks-quick" if profile == "quick" else "benchmarks"
    wanted = 2 if profile == "quick" else suites.REPEATS
    for name in names:
        configs = suites.suite(name, profile)
        if again:
            _forget(configs, folder / place)
        configs = with_reference(configs, folder, place)
        first = [(c, attempt(c, folder, place)) for c in configs]
        queues = [suites.repeats(c, record, wanted) for c, record in first if record]
        for turn in range(1, wanted):
            for queue in queues:
                for c in queue:
                    if c["repeat"] == turn:
                        attempt(c, folder, place)


def attempt(config: Config, folder: Path, place: str) -> dict[str, Any] | None:
    """Return the record of a configuration, measured if there is none; None if it fails."""
    try:
        return runner.run(place, _shown, [config], folder=folder, jobs=1)[0]
    except MeasurementError as error:
        print(f"{_title(config)} failed: {error}", file=sys.stderr, flush=True)
        return None


def _shown(config: Config) -> dict[str, Any]:
    result = measure(config)
    took = f"{result['seconds']:9.3f} s" if "seconds" in result else " " * 11
    verdict = "" if result["reached"] else f"  not reached {result.get('ending', '')}"
    if "gap" in result:
        verdict = f"  excess {result['excess']:.0e} gap {result['gap']:.0e}{verdict}"
    print(f"{_title(config)} {took}{verdict}", flush=True)
    return result


def _title(config: Config) -> str:
    kind = "gated" if config["gated"] else "relu"
    return (
        f"{config['suite']:9} {config['instance']:>11} {config['ratio']:<6g} {kind:5} "
        f"{config['method']:20} #{config['repeat']}"
    )


def _forget(configs: list[Config], place: Path) -> None:
    """Remove the records of these measurements, whatever their repeat and reference."""
    known = {report.key(config) for config in configs}
    old = [r["config"] for r in report.load(place) if report.key(r["config"]) in known]
    records.fold(place, without={runner.digest(config) for config in old})


def show(names: list[str], profile: str, folder: Path) -> None:
    """List the first repeats of suites, marked where there is a record."""
    place = folder / ("benchmarks-quick" if profile == "quick" else "benchmarks")
    done = [report.key(record["config"]) for record in report.load(place)]
    for name in names:
        for config in suites.suite(name, profile):
            count = done.count(report.key(config))
            print(f"{_title(config)} {count or 'no'} record{'' if count == 1 else 's'}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: 0 done, 2 if the peers' environment is missing."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    profile = parser.add_mutually_exclusive_group()
    profile.add_argument("--quick", action="store_const", const="quick", dest="profile")
    profile.add_argument("--full", action="store_const", const="full", dest="profile")
    parser.add_argument("--only", nargs="+", choices=suites.SUITES, default=list(suites.SUITES))
    parser.add_argument("--list", action="store_true", help="measure nothing")
    parser.add_argument("--again", action="store_true", help="replace the records there are")
    options = parser.parse_args(arguments)
    folder, chosen = runner.results_dir(), options.profile or "default"
    if options.list:
        show(options.only, chosen, folder)
        return 0
    configs = (config for name in options.only for config in suites.suite(name, chosen))
    if not PEERS.exists() and not all(map(is_ours, configs)):
        print(f"The peers' environment is missing: no {PEERS}. Run `make bench`.", file=sys.stderr)
        return 2
    if os.getloadavg()[0] > 0.5:
        print(f"This machine is busy (load {os.getloadavg()[0]:.1f}); times will be too long.")
    execute(options.only, chosen, folder, options.again)
    place = folder / ("benchmarks-quick" if chosen == "quick" else "benchmarks")
    print(report.text(report.load(place)))
    if chosen != "quick":
        summary.write(place)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
