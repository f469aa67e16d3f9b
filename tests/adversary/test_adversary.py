"""No statement of the book gives way to the adversary, and every false one does."""

from pathlib import Path

import pytest
from theorem_index import chapters, statements

from tests.adversary.registry import FALSE, NO_CONCLUSION_TO_TEST, TRUE
from tests.adversary.search import Statement, worst

BOOK = Path(__file__).resolve().parents[2] / "book"
QUICK, PATIENT = 6, 60  # draws: of a true statement here, of a false one at most


@pytest.mark.parametrize("statement", TRUE.values(), ids=TRUE)
def test_no_counterexample_is_found(statement: Statement) -> None:
    found = worst(statement, QUICK)
    assert found.excess <= 1.0, f"draw {found.draw}: {found.excess:.3g} tolerances ({found.notes})"


@pytest.mark.parametrize("statement", FALSE.values(), ids=FALSE)
def test_false_statements_are_found_out(statement: Statement) -> None:
    assert worst(statement, PATIENT).excess > 1.0, statement.text


def test_every_statement_of_the_book_is_attacked() -> None:
    labels = {
        label
        for name in chapters(BOOK)
        for _, _, label in statements((BOOK / f"{name}.md").read_text(encoding="utf8"))
    }
    attacked = {statement.label for statement in TRUE.values()}
    assert not attacked & set(NO_CONCLUSION_TO_TEST)
    assert labels == attacked | set(NO_CONCLUSION_TO_TEST)
    assert {statement.label for statement in FALSE.values()} <= labels
