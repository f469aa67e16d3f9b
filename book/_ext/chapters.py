"""Pages that are read off the chapters: `{theorem-index}`, `{figure-index}` and `{chapter-status}`.

What a chapter states, draws and holds is counted in its source and its executed notebook when the
book is built, so that no page can fall behind; `{record-status}` does the same for the records of
the experiments. No times are read: they differ from machine to machine, and the pages must not.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from experiments.commands import EXPERIMENTS
from experiments.provenance import clean, other_code
from experiments.runner import Experiment, records

HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
STATEMENT = re.compile(
    r"^`{3,}\{prf:(?P<kind>\w+)\} *(?P<title>.*)\n:label: *(?P<label>\S+)", re.MULTILINE
)
LISTED = ("theorem", "proposition", "lemma", "corollary")
RECORDS = re.compile(r"""records\("(\w+)"\)|results_dir\(\) / "(\w+)\"""")
ASSERTION = re.compile(r"^\s*assert\b", re.MULTILINE)
BLOCK = r"^`{{3,}}\{{{}\}}"
RULE = re.compile(r"^\|[ :|-]+\|$", re.MULTILINE)  # below the head of a table
NOT_COMPARED = {"nbval-skip", "nbval-ignore-output"}  # tags by which nbval leaves a cell out
# The command that makes a folder below results/ again, and on what.
COMMANDS = {
    "benchmarks": ("make bench BENCH=--full", "2 idle cores"),
    "bounds": ("python -m experiments run bounds --full", "1 idle core"),
    "ecg": ("python -m experiments run ecg --full", "2 cores"),
    "images": ("python -m experiments run images --full", "2 cores"),
    "nyse": ("python -m experiments run nyse --full", "2 cores"),
    "recovery": ("python -m experiments run recovery --full", "2 cores"),
    "reflections": ("python -m experiments run reflections --full", "1 core"),
    "three_layer": ("python -m experiments run three_layer --full", "2 cores"),
    "uci": ("python -m experiments run uci --full", "workstation, GPU or cluster"),
}


def names(folder: Path) -> list[str]:
    """Return the names of the chapters with notebooks, in the order of the book."""
    parts = yaml.safe_load((folder / "_toc.yml").read_text(encoding="utf8"))["parts"]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    return [name.removesuffix(".ipynb") for name in files if name.endswith(".ipynb")]


def statements(source: str) -> list[tuple[str, str, str]]:
    """Return kind, title and label of the statements of a chapter."""
    found = [(m["kind"], m["title"].strip(), m["label"]) for m in STATEMENT.finditer(source)]
    return [one for one in found if one[0] in LISTED]


@dataclass(frozen=True)
class Chapter:
    """A chapter: its source, and its notebook with what the cells have shown."""

    name: str
    source: str
    notebook: dict[str, Any]

    @property
    def link(self) -> str:
        title = HEADING.search(self.source)
        return f"[{title[1] if title else self.name}]({self.name}.ipynb)"

    @cached_property
    def code(self) -> list[dict[str, Any]]:
        """The chapter's own, without the one that `book/tools/notebooks.py` puts first."""
        cells = [cell for cell in self.notebook["cells"] if cell["cell_type"] == "code"]
        return [cell for cell in cells if "remove-cell" not in cell["metadata"].get("tags", ())]

    @cached_property
    def programs(self) -> str:
        return "\n".join("".join(cell["source"]) for cell in self.code)

    def records(self) -> list[str]:
        """Return the folders below results/ that cells read."""
        return sorted({a or b for a, b in RECORDS.findall(self.programs)})

    def figures(self) -> list[str]:
        """Return the names of the figures that cells draw."""
        metadata = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in self.code]
        return [figure["name"] for figure in metadata if figure.get("name")]

    def tables(self) -> int:
        """Count the tables that cells show."""
        return sum(
            len(RULE.findall("".join(out.get("data", {}).get("text/markdown", ""))))
            for cell in self.code
            for out in cell["outputs"]
        )

    def status(self) -> dict[str, int]:
        """Count what the notebook and the source hold.

        Cells are *executed* where they ended without an error, and *compared* where another run
        has to print the same again.
        """
        clean = [all(out["output_type"] != "error" for out in c["outputs"]) for c in self.code]
        kept = [c for c in self.code if not NOT_COMPARED & set(c["metadata"].get("tags", ()))]

        def blocks(name: str) -> int:
            return len(re.findall(BLOCK.format(name), self.source, re.MULTILINE))

        drawn = sum("figure" in cell["metadata"].get("mystnb", {}) for cell in self.code)
        return {
            "cells": len(self.code),
            "executed": sum(
                ended and cell["execution_count"] is not None
                for cell, ended in zip(self.code, clean, strict=True)
            ),
            "compared": sum(map(_has_text, kept)),
            "assertions": len(ASSERTION.findall(self.programs)),
            "figures": drawn + blocks("figure") + blocks("interactive"),
            "statements": len(statements(self.source)),
            "exercises": blocks("exercise(?:-start)?"),
            "solutions": blocks("solution(?:-start)?"),
        }


def _has_text(cell: dict[str, Any]) -> bool:
    """Say whether a cell shows anything but pictures."""
    return any(
        out["output_type"] == "stream" or any(kind.startswith("text/") for kind in out["data"])
        for out in cell["outputs"]
        if out["output_type"] != "error"
    )


def read(folder: Path, name: str) -> Chapter:
    """Read a chapter of the book."""
    source = (folder / f"{name}.md").read_text(encoding="utf8")
    return Chapter(name, source, json.loads((folder / f"{name}.ipynb").read_text(encoding="utf8")))


class ChapterPage(SphinxDirective):
    """What the chapters say, as text that the parser of the page turns into tables."""

    def run(self) -> list[Node]:
        folder = Path(self.env.srcdir)
        self.env.note_dependency(str(folder / "_toc.yml"))
        chapters = [read(folder, name) for name in names(folder)]
        for chapter in chapters:
            for kind in ("md", "ipynb"):
                self.env.note_dependency(str(folder / f"{chapter.name}.{kind}"))
        return self.parse_text_to_nodes("\n".join(self.lines(chapters)))

    @abstractmethod
    def lines(self, chapters: list[Chapter]) -> list[str]:
        """Write the page in Markdown."""


class TheoremIndex(ChapterPage):
    """A table of statements for each chapter; Sphinx resolves the numbers.

    The index that sphinx-proof writes is a list of all labels, without titles.
    """

    def lines(self, chapters: list[Chapter]) -> list[str]:
        lines = []
        for chapter in chapters:
            found = statements(chapter.source)
            if found:
                lines += ["", f"**{chapter.link}**", "", "| Number | Statement |", "|:--|:--|"]
                lines += [f"| {{prf:ref}}`{label}` | {text} |" for _, text, label in found]
        return lines


class FigureIndex(ChapterPage):
    """The figures and tables of each chapter, and what makes them again."""

    def lines(self, chapters: list[Chapter]) -> list[str]:
        head = "| Chapter | Figures | Tables | Command | Records first |"
        return [head, "|:--|:--|--:|:--|:--|", *map(figure_row, chapters)]


def figure_row(chapter: Chapter) -> str:
    """Write what a chapter draws, the command for it, and those for its records."""
    commands = [f"`{COMMANDS[r][0]}` ({COMMANDS[r][1]})" for r in chapter.records()]
    return row(
        chapter.link,
        ", ".join(f"{{numref}}`{figure}`" for figure in chapter.figures()) or "none",
        chapter.tables(),
        f"`python book/tools/notebooks.py --all book/{chapter.name}.md`",
        ", ".join(commands) or "none",
    )


def row(*cells: object) -> str:
    """Write a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


class ChapterStatus(ChapterPage):
    """What the notebook of each chapter holds."""

    def lines(self, chapters: list[Chapter]) -> list[str]:
        counts = "Cells", "Compared", "Asserts", "Figures", "Theorems", "Exercises"
        lines = [row("Chapter", *counts, "Records"), f"|:--|{'--:|' * len(counts)}:--|"]
        for chapter in chapters:
            one = chapter.status()
            lines.append(
                row(
                    chapter.link,
                    f"{one['executed']}/{one['cells']}",
                    *(one[key] for key in ("compared", "assertions", "figures", "statements")),
                    f"{one['exercises']} ({one['solutions']})",
                    ", ".join(f"`{folder}`" for folder in chapter.records()) or "none",
                )
            )
        return lines


class RecordStatus(SphinxDirective):
    """Which code made the records of each experiment."""

    def run(self) -> list[Node]:
        heads = ("Experiment", "Records", "Clean", "By today's code")
        lines = [row(*heads), "|:--|--:|--:|--:|", *record_rows(EXPERIMENTS)]
        return self.parse_text_to_nodes("\n".join(lines))


def record_rows(experiments: Mapping[str, Experiment]) -> list[str]:
    """Count the records of each experiment, the clean ones, and those of today's code."""
    rows = []
    for name, experiment in sorted(experiments.items()):
        found = records(name)
        own = clean(found, experiment.function), len(found) - other_code(found, experiment.function)
        rows.append(row(f"`{name}`", len(found), *(f"{part / len(found):.0%}" for part in own)))
    return rows


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("theorem-index", TheoremIndex)
    app.add_directive("figure-index", FigureIndex)
    app.add_directive("chapter-status", ChapterStatus)
    app.add_directive("record-status", RecordStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
