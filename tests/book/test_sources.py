"""The book's sources: nothing written is left out, and what readers download can be launched."""

import re

import yaml

from book.tools import notebooks

BOOK = notebooks.BOOK


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
