"""No statement of the book gives way to the adversary, and every false one does."""

import json
from pathlib import Path

import pytest
from chapters import names, read, statements

from tests.adversary.registry import FALSE, TRUE
from tests.adversary.search import Statement, worst

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
RECORD = ROOT / "results" / "adversary" / "summary.json"
QUICK, PATIENT = 6, 60  # draws: of a true statement here, of a false one at most


@pytest.mark.parametrize("statement", TRUE.values(), ids=TRUE)
def test_no_counterexample_is_found(statement: Statement) -> None:
    found = worst(statement, QUICK)
    assert found.excess <= 1.0, f"draw {found.draw}: {found.excess:.3g} tolerances ({found.notes})"


@pytest.mark.parametrize("statement", FALSE.values(), ids=FALSE)
def test_false_statements_are_found_out(statement: Statement) -> None:
    assert worst(statement, PATIENT).excess > 1.0, statement.text


def test_every_statement_of_the_book_is_attacked() -> None:
    labels = {label for name in names(BOOK) for _, _, label in statements(read(BOOK, name).source)}
    assert {statement.label for statement in TRUE.values()} == labels
    assert {statement.label for statement in FALSE.values()} <= labels


def test_the_long_run_is_on_record_and_found_no_counterexample() -> None:
    record = json.loads(RECORD.read_text(encoding="utf8"))
    assert set(record["attacks"]) == set(TRUE | FALSE)
    assert record["draws"] >= 500 * len(TRUE)
    assert all(one["as_it_should_be"] for one in record["attacks"].values())
