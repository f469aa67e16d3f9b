"""A few inputs for every entry, the same ones each time; `python -m tests.fuzz` tries thousands."""

import json
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from convexlib.errors import InputError
from tests.fuzz import ENTRIES
from tests.fuzz.judge import VALID, Case, judge
from tests.fuzz.surface import public_names

RECORD = Path(__file__).resolve().parents[2] / "results" / "fuzz" / "summary.json"


def test_every_public_name_has_inputs() -> None:
    covered = {name for entry in ENTRIES.values() for name in entry.covers}
    assert public_names() - covered == set()


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_result_or_an_error_on_purpose(name: str) -> None:
    @settings(
        max_examples=8,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=ENTRIES[name].cases)
    def one(case: Case) -> None:
        outcome = judge(case, limit=60.0)  # a kernel may have to be compiled first
        assert not outcome.fault, f"{case.text}\n{outcome.trace}"

    one()


def spin() -> None:
    """Never return."""
    while True:
        pass


def stated() -> None:
    raise InputError("x is 1; expected 2.")


JUDGED = {
    "hang": (spin, "hang", "hang at "),
    "signature": (lambda: stated(1), "signature", ""),
    "ValueError": (lambda: int("x"), "ValueError", "ValueError at"),
    "SystemExit": (exit, "SystemExit", "SystemExit at"),
    "warning": (lambda: warnings.warn("w", stacklevel=1), "UserWarning", "UserWarning at"),
    "on purpose": (stated, "InputError", ""),
    "silent": (lambda: (_ for _ in ()).throw(InputError("")), "InputError", "without a message"),
    "value": (lambda: 1.0, VALID, ""),
    "no value": (lambda: float("nan"), "AssertionError", "AssertionError at"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_the_judge_knows_every_outcome(name: str) -> None:
    from tests.fuzz.valid import valid

    call, kind, fault = JUDGED[name]
    began = time.process_time()
    outcome = judge(Case(name, call, valid), limit=0.05 if name == "hang" else 5.0)
    assert outcome.kind == kind
    assert fault in outcome.fault
    assert bool(fault) == bool(outcome.fault)
    assert time.process_time() - began < 10.0


def test_the_long_run_met_its_number_and_no_fault() -> None:
    record = json.loads(RECORD.read_text())
    assert record["inputs"] >= 10_000
    assert record["inputs"] == sum(sum(e["outcomes"].values()) for e in record["entries"].values())
    assert record["faults"] == 0
    assert set(record["entries"]) == set(ENTRIES)
