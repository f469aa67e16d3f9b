"""Attack every statement of the book: `python -m tests.adversary --draws 1000`."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

from tests.adversary.registry import FALSE, TRUE
from tests.adversary.search import Statement, worst
from tests.fuzz.record import source
from tests.fuzz.settings import quiet

PATIENT = 60  # draws for a false statement


def main() -> int:
    """Run attack after attack; print the worst draw of each, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversary", description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="for each true statement")
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--only", nargs="+", metavar="ATTACK", choices=sorted(TRUE | FALSE))
    parser.add_argument("--record", type=Path, help="write the summary into this file")
    chosen = parser.parse_args()
    quiet()
    attacked, broken = {}, 0
    for name, statement in (TRUE | FALSE).items():
        if chosen.only and name not in chosen.only:
            continue
        found = attacked[name] = summary(statement, chosen.draws, chosen.first)
        broken += not found["as_it_should_be"]
        mark = "" if found["as_it_should_be"] else "   <<<"
        print(f"{name:45}{found['draws']:6} draws  worst {found['worst']:9.2g}{mark}", flush=True)
        if mark:
            print(f"   {statement.label}: draw {found['draw']} ({found['notes']})")
    total = sum(found["draws"] for found in attacked.values())
    print(f"{len(attacked)} attacks, {total} draws, {broken} not as they should be")
    if chosen.record:
        body = {"draws": total, "first": chosen.first, "source": source(), "attacks": attacked}
        chosen.record.parent.mkdir(parents=True, exist_ok=True)
        chosen.record.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    return 1 if broken else 0


def summary(statement: Statement, draws: int, first: int) -> dict[str, object]:
    """What came of an attack: true statements hold in every draw, false ones fail in one."""
    false = bool(statement.text)
    count = PATIENT if false else draws
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = worst(statement, count, first)
    return {
        "label": statement.label,
        "false_statement": statement.text,
        "draws": found.draw - first + 1 if false and found.excess > 1.0 else count,
        "draw": found.draw,
        "worst": float(f"{max(found.excess, 0.0):.3g}"),
        "notes": found.notes,
        "as_it_should_be": (found.excess > 1.0) == false,
        "processor_seconds": round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
