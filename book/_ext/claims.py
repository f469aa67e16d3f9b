"""The directive `{claims}`: what the papers claim and what became of it, chapter by chapter.

The list is claims.toml. No verdict is in it: a claim that a chapter checks has the measurement and
the verdict of the chapter's own table, as the committed notebook shows it; a claim on an experiment
has those of a rule, computed from the records when the book is built; the rest was not attempted.
"""

import inspect
import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import chapters
from claim_rules import RULES
from claim_rules.verdicts import NOT, NOT_ATTEMPTED, PART, PROVED, REPRODUCED, VERDICTS, Finding
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from convexlib.errors import DataError
from experiments.records import results_dir

OURS = "(not claimed)"  # so begins a row on what the papers do not say
# What chapters write in full where one word would say too little; anything else is an error.
SPECIAL = {
    "depends on the gates": PART,
    "for suitable $\\beta$": PART,
    "not exact": NOT,
}
DOCUMENTED = re.compile(r"^\.\. auto\w+:: ([\w.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Claim:
    """An entry of claims.toml; its head says what the fields mean."""

    claim: str
    paper: str
    chapter: str
    code: tuple[str, ...]
    theorem: str = ""
    test: str = ""
    row: str = ""
    rule: str = ""
    not_attempted: str = ""
    once: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a chapter's table of claims."""

    claim: str
    measured: str
    tolerance: str
    verdict: str


def read(folder: Path) -> list[Claim]:
    listed = tomllib.loads((folder / "claims.toml").read_text(encoding="utf8"))["claim"]
    return [Claim(**{**entry, "code": tuple(entry["code"])}) for entry in listed]


@cache
def rows(notebook: Path) -> list[Row]:
    """Return what the executed notebook of a chapter says of the papers' claims."""
    found = []
    for cell in json.loads(notebook.read_text(encoding="utf8"))["cells"]:
        texts = ["".join(cell["source"])] if cell["cell_type"] == "markdown" else []
        texts += [
            "".join(o.get("data", {}).get("text/markdown", "")) for o in cell.get("outputs", ())
        ]
        for text in texts:
            lines = [line for line in text.splitlines() if line.startswith("|")]
            if lines and " We got |" in lines[0]:
                head = cells(lines[0])
                tolerance = head.index("Tolerance") if "Tolerance" in head else None
                for line in lines[2:]:
                    entry = cells(line)
                    allowed = entry[tolerance] if tolerance else ""
                    found.append(Row(entry[0], entry[1], allowed, entry[-1]))
    return found


def cells(line: str) -> list[str]:
    """Split a line of a table in Markdown."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def verdict_of(text: str) -> str:
    """Return the verdict that the words of a chapter's table stand for."""
    text = SPECIAL.get(text, text)
    first = text.split(",")[0].split(";")[0]
    if first in VERDICTS:
        return first
    if first.startswith(f"{REPRODUCED} "):  # for something, on something
        return PART
    raise ValueError(f"unknown verdict {text!r}; expected one of {VERDICTS}, or add it to SPECIAL")


def row_of(claim: Claim, folder: Path) -> Row:
    """Return the one row of the chapter's table that a claim names."""
    every = rows(folder / f"{claim.chapter}.ipynb")
    named = [row for row in every if row.claim.startswith(claim.row)]
    if len(named) != 1:
        raise ValueError(
            f"{claim.row!r} begins {len(named)} rows of the table in {claim.chapter}.ipynb; "
            f"expected one of {[row.claim for row in every]}"
        )
    return named[0]


def finding(claim: Claim, folder: Path) -> Finding:
    """Return what was measured, and the verdict."""
    if claim.not_attempted:
        return claim.not_attempted, NOT_ATTEMPTED
    if claim.rule:
        try:
            return RULES[claim.rule]()
        except (DataError, FileNotFoundError):
            return "0 records are stored", NOT_ATTEMPTED
    row = row_of(claim, folder)
    verdict = verdict_of(row.verdict)
    if claim.theorem and verdict == REPRODUCED:
        verdict = PROVED
    if claim.once and verdict == REPRODUCED:  # what has one draw behind it, and no proof
        verdict = PART
    numbered = re.match(r"[\d.]", row.tolerance)
    notes = [f"tolerance {row.tolerance}"] * bool(numbered) + [claim.once] * bool(claim.once)
    return row.measured + (f" ({'; '.join(notes)})" if notes else ""), verdict


def entry(claim: Claim, folder: Path, documented: set[str]) -> list[str]:
    """Write a claim: the sentence, the verdict, and where to look."""
    measured, verdict = finding(claim, folder)
    named = [f"{{py:obj}}`{name}`" if name in documented else f"`{name}`" for name in claim.code]
    lines = [claim.claim, f": **{verdict.capitalize()}:** {measured}.", ""]
    if claim.rule:
        rule = " ".join((inspect.getdoc(RULES[claim.rule]) or "").split())
        lines += [f": *Rule.* {rule}", ""]
    # The paper and the place in this book stand apart: the numbers are those of this book.
    lines += [f": *Paper.* {{cite:t}}`{claim.paper}`. *Code.* {', '.join(named)}", ""]
    if claim.theorem:
        lines += [f": *In this book.* {{prf:ref}}`{claim.theorem}`", ""]
    if claim.test:
        lines += [f": *Test.* `{claim.test}`", ""]
    return lines


def page(folder: Path) -> str:
    """Return the text of the page: how many claims have which verdict, then all of them."""
    claims = read(folder)
    api = DOCUMENTED.findall((folder / "api.md").read_text(encoding="utf8"))
    documented = {name if "." in name else f"convexlib.{name}" for name in api}
    count = Counter(finding(claim, folder)[1] for claim in claims)
    lines = ["| Verdict | Claims |", "|:--|--:|"]
    lines += [f"| {verdict} | {count[verdict]} |" for verdict in VERDICTS]
    lines += [f"| all | {len(claims)} |", ""]
    for name in chapters.names(folder):
        own = [claim for claim in claims if claim.chapter == name]
        if own:
            link = chapters.read(folder, name).link
            lines += [f"```{{rubric}} {link}", ":heading-level: 2", "```", ""]
            lines += [line for claim in own for line in entry(claim, folder, documented)]
    return "\n".join(lines)


class Claims(SphinxDirective):
    """All claims, with their verdicts."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir)
        needed = [folder / name for name in ("claims.toml", "api.md", "_toc.yml")]
        needed += [folder / f"{name}.ipynb" for name in chapters.names(folder)]
        needed += [path for path in results_dir().iterdir() if path.is_dir()]
        for path in needed:
            self.env.note_dependency(str(path))
        block = nodes.container(classes=["claims"])  # the style sheet lets long names break
        block += self.parse_text_to_nodes(page(folder))
        return [block]


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("claims", Claims)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
