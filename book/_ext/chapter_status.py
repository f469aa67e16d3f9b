"""The directives `{chapter-status}` and `{record-status}`: what the committed files have in them.

What the notebook of each chapter holds, and which code made the records of each experiment, is
counted when the book is built, so that the page cannot fall behind. No times are read: they differ
from machine to machine, and the page must not.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from theorem_index import HEADING, chapters, statements

from convexlib.cli.experiments import EXPERIMENTS
from convexlib.experiments.provenance import UNKNOWN, code_of, codes, other_code
from convexlib.experiments.runner import Experiment, records

__all__ = ["ChapterStatus", "RecordStatus", "code_of", "record_rows", "status"]

RECORDS = re.compile(r"""records\("(\w+)"\)|results_dir\(\) / "(\w+)\"""")
ASSERTION = re.compile(r"^\s*assert\b", re.MULTILINE)
BLOCK = r"^`{{3,}}\{{{}\}}"
NOT_COMPARED = {"nbval-skip", "nbval-ignore-output"}  # tags by which nbval leaves a cell out
COLUMNS = (
    "Chapter",
    "Cells",
    "Compared",
    "Asserts",
    "Figures",
    "Theorems",
    "Exercises",
    "Records",
)


@dataclass(frozen=True)
class Status:
    """The counts of one chapter."""

    cells: int
    executed: int  # without an error
    compared: int  # cells whose printed output another run has to give again
    assertions: int
    figures: int
    statements: int
    exercises: int
    solutions: int
    records: tuple[str, ...]  # folders below results/


def has_text(cell: dict[str, Any]) -> bool:
    """Say whether a cell shows anything but pictures."""
    return any(
        out["output_type"] == "stream" or any(kind.startswith("text/") for kind in out["data"])
        for out in cell["outputs"]
        if out["output_type"] != "error"
    )


def status(notebook: dict[str, Any], source: str) -> Status:
    """Count what a notebook and its source hold."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    programs = "\n".join("".join(cell["source"]) for cell in code)
    failed = [any(out["output_type"] == "error" for out in cell["outputs"]) for cell in code]
    compared = [not NOT_COMPARED & set(cell["metadata"].get("tags", ())) for cell in code]

    def blocks(name: str) -> int:
        return len(re.findall(BLOCK.format(name), source, re.MULTILINE))

    return Status(
        cells=len(code),
        executed=sum(
            cell["execution_count"] is not None and not bad
            for cell, bad in zip(code, failed, strict=True)
        ),
        compared=sum(has_text(cell) and kept for cell, kept in zip(code, compared, strict=True)),
        assertions=len(ASSERTION.findall(programs)),
        figures=blocks("figure")
        + blocks("interactive")
        + sum("figure" in cell["metadata"].get("mystnb", {}) for cell in code),
        statements=len(statements(source)),
        exercises=blocks("exercise(?:-start)?"),
        solutions=blocks("solution(?:-start)?"),
        records=tuple(sorted({a or b for a, b in RECORDS.findall(programs)})),
    )


def row(title: str, name: str, one: Status) -> str:
    """Write the counts of a chapter as a row of the table."""
    records = ", ".join(f"`{folder}`" for folder in one.records)
    cells = (
        f"[{title}]({name}.ipynb)",
        f"{one.executed}/{one.cells}",
        one.compared,
        one.assertions,
        one.figures,
        one.statements,
        f"{one.exercises} ({one.solutions})",
        records or "none",
    )
    return f"| {' | '.join(map(str, cells))} |"


class ChapterStatus(SphinxDirective):
    """A table with a row for each chapter."""

    def run(self) -> list[Node]:
        folder = Path(self.env.srcdir)
        self.env.note_dependency(str(folder / "_toc.yml"))
        lines = [f"| {' | '.join(COLUMNS)} |", f"|:--|{'--:|' * 6}:--|"]
        for name in chapters(folder):
            notebook, source = folder / f"{name}.ipynb", folder / f"{name}.md"
            self.env.note_dependency(str(notebook))
            self.env.note_dependency(str(source))
            text = source.read_text(encoding="utf8")
            title = HEADING.search(text)
            found = status(json.loads(notebook.read_text(encoding="utf8")), text)
            lines.append(row(title[1] if title else name, name, found))
        return self.parse_text_to_nodes("\n".join(lines))


def record_rows(experiments: Mapping[str, Experiment]) -> list[str]:
    """Count the records of each experiment, and those that today's code has made."""
    rows = []
    for name, experiment in sorted(experiments.items()):
        found = records(name)
        versions, current = codes(found), len(found) - other_code(found, experiment.function)
        unknown = versions.pop(UNKNOWN, 0)
        cells = [f"`{name}`", len(found), len(versions), unknown, f"{current / len(found):.0%}"]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


class RecordStatus(SphinxDirective):
    """A table with a row for each experiment."""

    def run(self) -> list[Node]:
        names = ("Experiment", "Records", "Versions of the code", "Records that name none")
        heading = f"| {' | '.join(names)} | By today's code |"
        lines = [heading, "|:--|--:|--:|--:|--:|", *record_rows(EXPERIMENTS)]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("chapter-status", ChapterStatus)
    app.add_directive("record-status", RecordStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
