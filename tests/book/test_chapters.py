"""What is read off the chapters for the indices, on a chapter written here and on all of them."""

import re

import chapters
import nbformat

from book.tools import notebooks
from experiments.provenance import code_of

SOURCE = """# A chapter

```{prf:theorem} One
:label: one
```

````{prf:definition} Not listed
:label: two
````

```{exercise} First
```

```{exercise} Second
```

`````{exercise-start} Third, around a cell
`````

```{solution} first
```

```{interactive} gate
```
"""


def cell(source, *outputs, number=1, **metadata):
    made = nbformat.v4.new_code_cell(source, execution_count=number, metadata=metadata)
    made["outputs"] = list(outputs)
    return made


def test_what_a_chapter_holds_is_counted():
    printed = nbformat.v4.new_output("stream", text="1\n")
    picture = nbformat.v4.new_output("display_data", {"image/png": ""})
    value = nbformat.v4.new_output("execute_result", {"text/plain": "1"})
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("assert this is no code"),
            cell('found = runner.records("ecg")\nassert found', printed),
            cell('path = runner.results_dir() / "benchmarks"', picture, mystnb={"figure": {}}),
            cell("if x:\n    assert y\nassertion = 1", value, tags=["nbval-ignore-output"]),
            cell("1 / 0", printed, error, number=4, tags=["raises-exception"]),
            cell("never_run", number=None),
        ]
    )
    chapter = chapters.Chapter("a", SOURCE, notebook)
    assert chapter.status() == {
        "cells": 5, "executed": 3, "compared": 2, "assertions": 2,
        "figures": 2, "statements": 1, "exercises": 3, "solutions": 1,
    }  # fmt: skip
    assert chapter.records() == ["benchmarks", "ecg"]


def test_every_chapter_is_executed_with_its_records_and_lists_its_figures():
    drawn = re.compile(r"^    name: (fig-[\w-]+)$", re.MULTILINE)
    names = chapters.names(notebooks.BOOK)
    assert len(names) > 10
    for name in names:
        chapter = chapters.read(notebooks.BOOK, name)
        found = chapter.status()
        assert found["executed"] == found["cells"] > 0, name
        assert found["assertions"] > 0, name
        assert chapter.figures() == drawn.findall(chapter.source), name
        for folder in chapter.records():
            assert any((notebooks.ROOT / "results" / folder).glob("*.json*")), (name, folder)


def test_records_are_counted_by_their_code(monkeypatch):
    code = chapters.EXPERIMENTS["ecg"].function

    def record(code, commit="a"):
        return {"config": config, "environment": {"code": code, "commit": commit}}

    config = {"part": "compare"}
    today = record(code_of(code, config))
    dirty = record(code_of(code, config), "a-dirty")
    old = {"config": config, "environment": {"commit": "a"}}
    monkeypatch.setattr(chapters, "records", lambda name: [today, dirty, record("f" * 16), old])
    rows = chapters.record_rows({"ecg": chapters.EXPERIMENTS["ecg"]})
    assert rows == ["| `ecg` | 4 | 25% | 50% |"]


def test_a_row_names_figures_tables_and_commands():
    cells = [
        nbformat.v4.new_markdown_cell("| a |"),
        cell('found = runner.records("ecg")', mystnb={"figure": {"name": "fig-one"}}),
        cell("", {"data": {"text/markdown": "| a | b |\n|:--|--:|\n| 1 | |\n"}}),
    ]
    row = chapters.figure_row(chapters.Chapter("ecg", "# A title\n", {"cells": cells}))
    assert row == (
        "| [A title](ecg.ipynb) | {numref}`fig-one` | 1 | `python book/tools/notebooks.py --all "
        "book/ecg.md` | `python -m experiments run ecg --full` (2 cores) |"
    )


def test_records_have_a_command():
    folders = {path.name for path in (notebooks.ROOT / "results").iterdir() if path.is_dir()}
    # No chapter reads those of the fuzzer and the adversary.
    assert folders - {"fuzz", "adversary"} == set(chapters.COMMANDS)
