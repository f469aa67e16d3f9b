"""What only the PDF needs.

* Cells whose code is folded on the page show their output only: nobody can unfold paper.
* A proof is LaTeX's own environment; sphinx-proof's box has an empty title there.
* A hyphen before a digit in a table is a minus sign, at which no line is broken.
* A wide table is set in small type, since paper cannot be scrolled.
"""

import re
from itertools import zip_longest

from docutils import nodes
from sphinx.application import Sphinx
from sphinx_proof.nodes import proof_node

LONG, MANY = 30, 9  # rows for which Sphinx takes a longtable; columns too narrow for words
# Letters in a row, and the type in which they fit the page.
TYPES = ((140, r"\tiny"), (115, r"\scriptsize"), (90, r"\footnotesize"))
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


def set_wide_tables(doctree: nodes.document) -> None:
    """Set wide tables in small type, with narrow gaps."""
    for table in list(doctree.findall(nodes.table)):
        rows = [[len(entry.astext()) for entry in row] for row in table.findall(nodes.row)]
        if len(rows) <= LONG and len(rows[0]) <= MANY:
            continue  # LaTeX breaks the lines in its entries
        letters = sum(max(lengths) + 2 for lengths in zip_longest(*rows, fillvalue=0))
        size = next((size for least, size in TYPES if letters > least), None)
        if size is not None:
            begin = f"\n\\begingroup{size}\\setlength{{\\tabcolsep}}{{3pt}}\n"
            before, after = (
                nodes.raw("", text, format="latex") for text in (begin, "\n\\endgroup\n")
            )
            table.replace_self([before, table.deepcopy(), after])


def for_paper(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Change what is written in LaTeX."""
    if app.builder.format == "latex":
        drop_folded_code(doctree)
        set_proofs(doctree)
        set_minus_signs(doctree)
        set_wide_tables(doctree)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("doctree-resolved", for_paper)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
