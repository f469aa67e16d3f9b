"""The PDF: a small book with the settings of the large one, and what is left out of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from book.tools.notebooks import BOOK

LATEX = ("latexmk", "pdflatex")
PAGE = r"""# A page with °, λ, − and ≤

```{prf:theorem} One
:label: one

$\norm{x} \ge 0$ for all $x \in \R^n$, and $\relu{22.5°} = 1$.
```

```{prf:proof}
It is a *sum* of squares.
```

By {prf:ref}`one`, semi-infinite things stay so.

| What | Lead of non-zero ones |
|:--|--:|
| a | -0.2%, -7 to +1e-3 |
| b-1 | `-3` and $-4$ |

```{interactive} gate
:label: a label
:still: A still sentence.

The caption.
```
"""
FOLDED = """
{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3",
"display_name": "Python 3"}, "language_info": {"name": "python"}}, "cells": [
{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Cells"]},
{"cell_type": "code", "id": "b", "metadata": {"tags": ["hide-input"]}, "execution_count": 1,
 "source": ["folded_away = 1"], "outputs": [{"output_type": "stream", "name": "stdout",
 "text": ["a line that stays"]}]},
{"cell_type": "code", "id": "c", "metadata": {}, "execution_count": 2,
 "source": ["open_code = 2"], "outputs": []}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The LaTeX sources of two pages, made with the settings of the book, warnings being errors."""
    root = tmp_path_factory.mktemp("toy")
    config = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf8"))
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = dict.fromkeys(extensions, str(BOOK / "_ext"))
    del config["logo"], config["html"]["favicon"]
    (root / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf8")
    (root / "_toc.yml").write_text("format: jb-book\nroot: cells\nchapters: [{file: page}]\n")
    (root / "page.md").write_text(PAGE, encoding="utf8")
    (root / "cells.ipynb").write_text(FOLDED, encoding="utf8")
    (root / "references.bib").touch()
    shutil.copytree(BOOK / "_static" / "interactive", root / "_static" / "interactive")
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", root, "-W", "-n"]
    done = subprocess.run(
        [*command, "--builder", "latex"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return root / "_build" / "latex"


@pytest.fixture(scope="module")
def text(folder):
    return Path(folder, "book.tex").read_text(encoding="utf8")


@pytest.mark.slow
def test_proofs_are_latex_proofs(text):
    (_, inside) = text.split("\\begin{proof}")
    inside, _ = inside.split("\\end{proof}")
    assert "It is a \\sphinxstyleemphasis{sum} of squares." in inside
    assert "Proof." not in inside  # the environment writes the word


@pytest.mark.slow
def test_folded_code_is_left_out_and_its_output_is_not(text):
    assert "folded" not in text
    assert "a line that stays" in text
    assert "open" in text


@pytest.mark.slow
def test_minus_signs_of_tables(text):
    assert "−0.2\\%, −7 to +1e\\sphinxhyphen{}3" in text
    assert "b\\sphinxhyphen{}1" in text
    assert "\\sphinxcode{\\sphinxupquote{\\sphinxhyphen{}3}} and \\(-4\\)" in text
    assert "semi\\sphinxhyphen{}infinite" in text


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, LATEX)), reason="needs latexmk and pdflatex")
def test_latex_accepts_the_sources(folder, text):
    command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "book.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, "max_print_line": "1000"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "book.pdf").stat().st_size > 10_000
    log = (folder / "book.log").read_text(encoding="utf8", errors="replace")
    for complaint in ("Missing character", "invalid in math mode", "undefined", "Overfull"):
        assert complaint not in log, complaint
