"""The directive `{theorem-index}`: every numbered statement of the book, by chapter.

The statements are read from the sources of the chapters, so that the page cannot fall behind them;
Sphinx resolves their numbers.
"""

import re
from pathlib import Path

import yaml
from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

STATEMENT = re.compile(
    r"^`{3,}\{prf:(?P<kind>\w+)\} *(?P<title>.*)\n:label: *(?P<label>\S+)", re.MULTILINE
)
HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
LISTED = ("theorem", "proposition", "lemma", "corollary")


def chapters(folder: Path) -> list[str]:
    """Return the names of the chapters with notebooks, in the order of the book."""
    parts = yaml.safe_load((folder / "_toc.yml").read_text(encoding="utf8"))["parts"]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    return [name.removesuffix(".ipynb") for name in files if name.endswith(".ipynb")]


def statements(source: str) -> list[tuple[str, str, str]]:
    """Return kind, title and label of the statements of a chapter."""
    found = [(m["kind"], m["title"].strip(), m["label"]) for m in STATEMENT.finditer(source)]
    return [one for one in found if one[0] in LISTED]


class TheoremIndex(SphinxDirective):
    """A table of statements for each chapter."""

    def run(self) -> list[Node]:
        folder = Path(self.env.srcdir)
        self.env.note_dependency(str(folder / "_toc.yml"))
        lines = []
        for name in chapters(folder):
            path = folder / f"{name}.md"
            self.env.note_dependency(str(path))
            source = path.read_text(encoding="utf8")
            found = statements(source)
            title = HEADING.search(source)
            if found and title:
                link = f"**[{title[1]}]({name}.ipynb)**"
                lines += ["", link, "", "| Number | Statement |", "|:--|:--|"]
                lines += [f"| {{prf:ref}}`{label}` | {text} |" for _, text, label in found]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("theorem-index", TheoremIndex)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
