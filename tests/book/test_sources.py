"""The book's sources: nothing is left out, little code is in sight, what is downloaded can run."""

import re

import nbformat
import pytest
import yaml

from book.tools import notebooks

BOOK = notebooks.BOOK
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
MOST_LINES, MOST_SHARE, MOST_WORDS = 20, 0.3, 6000


def too_much(name, notebook):
    """What a reader sees of a chapter beyond the limits, as lines of a message."""
    shown = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and HIDDEN.isdisjoint(cell.metadata.get("tags", []))
    ]
    prose = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    words = sum(len(source.split()) for source in shown)
    found = [
        f"{name}: a visible cell of {lines} lines, more than {MOST_LINES}: {source.splitlines()[0]}"
        for source in shown
        if (lines := len(source.splitlines())) > MOST_LINES
    ]
    if words > MOST_SHARE * (words + prose):
        share = words / (words + prose)
        found.append(
            f"{name}: {share:.1%} of the words are visible code, more than {MOST_SHARE:.0%}"
        )
    if prose > MOST_WORDS:
        found.append(f"{name}: {prose} words of prose, more than {MOST_WORDS}")
    return found


@pytest.mark.parametrize(
    ("lines", "tags", "words", "message"),
    [
        (20, [], 200, []),
        (21, [], 200, ["a: a visible cell of 21 lines, more than 20: x = 0"]),
        (21, ["hide-output"], 200, ["a: a visible cell of 21 lines, more than 20: x = 0"]),
        (21, ["hide-input"], 0, []),
        (20, [], 140, []),
        (0, [], 6001, ["a: 6001 words of prose, more than 6000"]),
        (20, [], 139, ["a: 30.2% of the words are visible code, more than 30%"]),
    ],
)
def test_long_cells_much_code_and_long_pages_are_named(lines, tags, words, message):
    code = nbformat.v4.new_code_cell("\n".join(["x = 0"] * lines), metadata={"tags": tags})
    prose = nbformat.v4.new_markdown_cell("word " * words)
    assert too_much("a", nbformat.v4.new_notebook(cells=[prose, code])) == message


def test_visible_cells_are_short_and_pages_are_prose_of_some_length():
    found = [
        line
        for path in notebooks.chapters(BOOK)
        for line in too_much(path.name, notebooks.load(path))
    ]
    assert not found, "hide bookkeeping, or split where the thought has two steps:\n" + "\n".join(
        found
    )


def test_every_page_is_in_the_table_of_contents_once():
    # A page that is not listed is left out of the build without a word.
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    executed = {path.stem for path in notebooks.chapters(BOOK)}
    written = [
        f"{path.stem}.ipynb" if path.stem in executed else path.stem for path in BOOK.glob("*.md")
    ]
    assert sorted([toc["root"], *listed]) == sorted(written)


def test_every_notebook_has_a_source():
    orphans = [p.name for p in BOOK.glob("*.ipynb") if not p.with_suffix(".md").exists()]
    assert orphans == []


def exercises(source):
    """The labels of a chapter's exercises, and those that its solutions belong to."""
    return (
        re.findall(r"^`{3,}\{exercise(?:-start)?\}.*\n:label: *(\S+)", source, re.MULTILINE),
        re.findall(r"^`{3,}\{solution(?:-start)?\} *(\S+)", source, re.MULTILINE),
    )


def test_every_chapter_has_three_exercises_with_their_solutions():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    parts = {part["caption"]: part["chapters"] for part in toc["parts"]}
    for entry in parts["Chapters"] + parts["Experiments"]:
        path = (BOOK / entry["file"]).with_suffix(".md")
        asked, solved = exercises(path.read_text(encoding="utf8"))
        assert len(asked) >= 3, path.name
        assert solved == asked, f"{path.name}: a solution below each exercise, in its order"


def test_every_cited_work_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(), re.MULTILINE))
    roles = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
    cited = {
        key.strip()
        for path in BOOK.glob("*.md")
        for keys in roles.findall(path.read_text(encoding="utf8"))
        for key in keys.split(",")
    }
    assert cited <= known


def test_mathjax_and_latex_know_the_same_macros():
    config = yaml.safe_load((BOOK / "_config.yml").read_text())["sphinx"]["config"]
    preamble = config["latex_elements"]["preamble"]
    in_latex = set(re.findall(r"\\providecommand\{\\(\w+)\}", preamble))
    assert set(config["mathjax3_config"]["tex"]["macros"]) == in_latex


def test_vendored_mathjax_is_complete():
    vendor = BOOK / "_static" / "vendor" / "mathjax"
    program = (vendor / "tex-chtml.js").read_text(encoding="utf8")
    fonts = {path.stem for path in (vendor / "output/chtml/fonts/woff-v2").glob("*.woff")}
    needed = set(re.findall(r"%%URL%%/(MathJax_[\w-]+)\.woff", program))
    assert needed
    assert needed <= fonts
    assert (vendor / "LICENSE").exists()


def test_every_statement_can_be_found_in_the_index():
    kinds = "|".join(("theorem", "proposition", "lemma", "corollary"))
    labels = []
    for path in BOOK.glob("*.md"):
        source = path.read_text(encoding="utf8")
        opened = re.findall(rf"^`{{3,}}\{{prf:(?:{kinds})\}}.*\n(.*)$", source, re.MULTILINE)
        assert all(line.startswith(":label: ") for line in opened), path.name
        labels += opened
    assert len(labels) > 50
    assert len(set(labels)) == len(labels)


def test_words_of_the_glossary_are_linked_once_a_page_and_in_prose():
    role = re.compile(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`")
    linked = 0
    for path in sorted(BOOK.glob("*.md")):
        lines = path.read_text(encoding="utf8").splitlines()
        assert not [line for line in lines if line.startswith(("#", "|")) and role.search(line)]
        if path.stem != "glossary":
            terms = [term.lower() for term in role.findall("\n".join(lines))]
            assert len(set(terms)) == len(terms) <= 8, path.stem
            linked += len(terms)
    assert linked > 100
