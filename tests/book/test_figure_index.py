"""The table of figures and the commands that make them again."""

import importlib
import json
import re

import pytest

from book.tools.notebooks import BOOK, chapters


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    return importlib.import_module("figure_index")


def test_a_row_names_figures_tables_and_commands(extension):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "| a |"},
        {
            "cell_type": "code",
            "metadata": {"mystnb": {"figure": {"name": "fig-one"}}},
            "source": 'found = runner.records("ecg")',
            "outputs": [],
        },
        {
            "cell_type": "code",
            "metadata": {},
            "source": "",
            "outputs": [{"data": {"text/markdown": "| a | b |\n|:--|--:|\n| 1 | |\n"}}],
        },
    ]
    assert extension.row("ecg", "A title", {"cells": cells}) == (
        "| [A title](ecg.ipynb) | {numref}`fig-one` | 1 | `python book/tools/notebooks.py --all "
        "book/ecg.md` | `python -m experiments run ecg --full` (2 cores) |"
    )


def test_every_named_figure_of_the_chapters_is_listed(extension):
    drawn = re.compile(r"^    name: (fig-[\w-]+)$", re.MULTILINE)
    for source in chapters(BOOK):
        notebook = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf8"))
        named = drawn.findall(source.read_text(encoding="utf8"))
        assert list(extension.figures(notebook)) == named, source.name


def test_records_have_a_command(extension):
    folders = {path.name for path in (BOOK.parent / "results").iterdir() if path.is_dir()}
    # No chapter reads those of the fuzzer and the adversary.
    assert folders - {"fuzz", "adversary"} == set(extension.COMMANDS)
