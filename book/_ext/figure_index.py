"""The directive `{figure-index}`: the figures of each chapter, and what makes them again.

Figures, tables and records are read from the notebooks when the book is built.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chapter_status import RECORDS
from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from theorem_index import HEADING, chapters

RULE = re.compile(r"^\|[ :|-]+\|$", re.MULTILINE)  # below the head of a table
# The command that makes a folder below results/ again, and on what.
COMMANDS = {
    "benchmarks": ("make bench BENCH=--full", "2 idle cores"),
    "ecg": ("convexlib run ecg --full", "2 cores"),
    "nyse": ("convexlib run nyse --full", "2 cores"),
    "recovery": ("convexlib run recovery --full", "2 cores"),
    "three_layer": ("convexlib run three_layer --full", "2 cores"),
    "uci": ("convexlib run uci --full", "workstation, GPU or cluster"),
}


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def figures(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the figures that cells draw."""
    for cell in code(notebook):
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if name:
            yield name


def tables(notebook: dict[str, Any]) -> int:
    """Count the tables that cells show."""
    return sum(
        len(RULE.findall("".join(out.get("data", {}).get("text/markdown", ""))))
        for cell in code(notebook)
        for out in cell["outputs"]
    )


def row(name: str, title: str, notebook: dict[str, Any]) -> str:
    """Write what a chapter draws, the command for it, and those for its records."""
    programs = "\n".join("".join(cell["source"]) for cell in code(notebook))
    records = sorted({a or b for a, b in RECORDS.findall(programs)})
    commands = [f"`{COMMANDS[r][0]}` ({COMMANDS[r][1]})" for r in records]
    shown = ", ".join(f"{{numref}}`{figure}`" for figure in figures(notebook)) or "none"
    columns = (
        f"[{title}]({name}.ipynb)",
        shown,
        str(tables(notebook)),
        f"`python book/tools/notebooks.py --all book/{name}.md`",
        ", ".join(commands) or "none",
    )
    return f"| {' | '.join(columns)} |"


class FigureIndex(SphinxDirective):
    """A table with a row for each chapter."""

    def run(self) -> list[Node]:
        folder = Path(self.env.srcdir)
        self.env.note_dependency(str(folder / "_toc.yml"))
        lines = [
            "| Chapter | Figures | Tables | Command | Records first |",
            "|:--|:--|--:|:--|:--|",
        ]
        for name in chapters(folder):
            notebook, source = folder / f"{name}.ipynb", folder / f"{name}.md"
            self.env.note_dependency(str(notebook))
            title = HEADING.search(source.read_text(encoding="utf8"))
            found = json.loads(notebook.read_text(encoding="utf8"))
            lines.append(row(name, title[1] if title else name, found))
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("figure-index", FigureIndex)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
