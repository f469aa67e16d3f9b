"""What only the PDF needs.

* Cells whose code is folded on the page show their output only: nobody can unfold paper.
* A proof is LaTeX's own environment; sphinx-proof's box has an empty title there.
* A hyphen before a digit in a table is a minus sign, at which no line is broken.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx_proof.nodes import proof_node

FOLDED = "tag_hide-input"
MINUS = re.compile(r"(?<![\w.–-])-(?=\d)")


def drop_folded_code(doctree: nodes.document) -> None:
    """Leave the code of folded cells out."""
    for cell in list(doctree.findall(nodes.container)):
        if FOLDED in cell["classes"]:
            for part in [c for c in cell if "cell_input" in c.get("classes", ())]:
                cell.remove(part)


def set_proofs(doctree: nodes.document) -> None:
    """Write each proof as the environment `proof`, which begins with that word itself."""
    for proof in list(doctree.findall(proof_node)):
        (box,) = proof.children
        word = next(box.findall(nodes.Text))
        word.parent.replace(word, nodes.Text(word.removeprefix("Proof. ")))
        begin, end = (
            nodes.raw("", f"\n\\{part}{{proof}}\n", format="latex") for part in ("begin", "end")
        )
        proof.replace_self([begin, *box.children, end])


def set_minus_signs(doctree: nodes.document) -> None:
    """Tell minus signs from hyphens in the tables."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            if not isinstance(text.parent, nodes.literal | nodes.math | nodes.raw):
                text.parent.replace(text, nodes.Text(MINUS.sub("\N{MINUS SIGN}", text)))


def for_paper(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Change what is written in LaTeX."""
    if app.builder.format == "latex":
        drop_folded_code(doctree)
        set_proofs(doctree)
        set_minus_signs(doctree)


def setup(app: Sphinx) -> dict[str, object]:
    """Register the changes."""
    app.connect("doctree-resolved", for_paper)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
