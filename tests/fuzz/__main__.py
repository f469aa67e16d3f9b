"""Fuzz the public surface: `python -m tests.fuzz --inputs 12000`, see CONTRIBUTING.md."""

import argparse
import faulthandler
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import ENTRIES
from tests.fuzz.judge import VALID, Case, judge
from tests.fuzz.record import merge, source
from tests.fuzz.settings import quiet

WATCHDOG = 300  # seconds on the clock after which a call that ignores its timer ends the run
MEMORY = 12 * 2**30  # bytes of address space: no input may fill the machine


def main() -> int:
    """Run entry after entry; print what comes of it, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=12_000, help="in total, over all entries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="ENTRY", choices=sorted(ENTRIES))
    parser.add_argument(
        "--part", default="0/1", metavar="K/N", help="every N-th entry from the K-th"
    )
    parser.add_argument("--record", type=Path, help="write the summary into this file")
    parser.add_argument("--keep", type=Path, help="write the inputs that failed into this folder")
    chosen = parser.parse_args()
    quiet()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    first, step = map(int, chosen.part.split("/"))
    total = sum(entry.share for entry in ENTRIES.values())
    sound, faults, inputs = 0, 0, 0
    for name in (chosen.only or sorted(ENTRIES))[first::step]:
        count = max(round(chosen.inputs * ENTRIES[name].share / total), 10)
        found = fuzz(name, count, chosen.seed, chosen.keep)
        outcomes = found["outcomes"]
        inputs += sum(outcomes.values())
        sound += outcomes.get(VALID, 0)
        faults += len(found["faults"])
        if chosen.record:
            merge(chosen.record, {name: found}, chosen.seed)
        print(
            f"{name:26}{sum(outcomes.values()):6}{found['processor_seconds']:7.1f} s"
            f"{len(found['faults']):5} faults  {outcomes}",
            flush=True,
        )
    print(f"{inputs} inputs, {sound} valid, {faults} kinds of faults")
    return 1 if faults else 0


def fuzz(name: str, inputs: int, start: int, keep: Path | None) -> dict[str, Any]:
    """Judge `inputs` inputs of one entry; return the outcomes, and how often each fault came."""
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    began = time.process_time()

    @seed(start)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=ENTRIES[name].cases)
    def one(case: Case) -> None:
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        outcome = judge(case, ENTRIES[name].limit)
        faulthandler.cancel_dump_traceback_later()
        outcomes[outcome.kind] += 1
        if not outcome.fault:
            return
        faults[outcome.fault] += 1
        if faults[outcome.fault] == 1:
            print(f"## {outcome.fault}\n   {case.text[:1500]}", flush=True)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                place = "".join(c if c.isalnum() else "_" for c in outcome.fault)[:90]
                (keep / f"{place}.txt").write_text(f"{case.text}\n\n{outcome.trace}")

    one()
    return {
        "outcomes": dict(outcomes.most_common()),
        "faults": dict(faults),
        "processor_seconds": round(time.process_time() - began, 1),
        "source": source(),
    }


if __name__ == "__main__":
    sys.exit(main())
