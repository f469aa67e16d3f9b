"""The table of what each chapter's notebook holds, counted on a chapter written here."""

import importlib
import sys

import nbformat
import pytest

from tools import notebooks

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


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(notebooks.BOOK / "_ext"))  # where Sphinx finds it too
    yield importlib.import_module("chapter_status")
    for name in ("chapter_status", "theorem_index"):
        sys.modules.pop(name)


def cell(source, *outputs, number=1, **metadata):
    made = nbformat.v4.new_code_cell(source, execution_count=number, metadata=metadata)
    made["outputs"] = list(outputs)
    return made


def test_what_a_chapter_holds_is_counted(extension):
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
    assert extension.status(notebook, SOURCE) == extension.Status(
        cells=5,
        executed=3,
        compared=2,
        assertions=2,
        figures=2,
        statements=1,
        exercises=3,
        solutions=1,
        records=("benchmarks", "ecg"),
    )


def test_every_chapter_is_executed_and_its_records_are_there(extension):
    names = extension.chapters(notebooks.BOOK)
    assert len(names) > 10
    for name in names:
        notebook = nbformat.read(notebooks.BOOK / f"{name}.ipynb", as_version=4)
        source = (notebooks.BOOK / f"{name}.md").read_text(encoding="utf8")
        found = extension.status(notebook, source)
        assert found.executed == found.cells > 0, name
        assert found.assertions > 0, name
        for folder in found.records:
            assert any((notebooks.ROOT / "results" / folder).glob("*.json*")), (name, folder)


def test_records_are_counted_by_their_code(extension, monkeypatch):
    code = extension.EXPERIMENTS["ecg"].function
    today = {"environment": {"code": extension.code_of(code)}}
    stored = [today, {"environment": {"code": "f" * 16}}, {"environment": {"commit": "a"}}, today]
    monkeypatch.setattr(extension, "records", lambda name: stored)
    rows = extension.record_rows({"ecg": extension.EXPERIMENTS["ecg"]})
    assert rows == ["| `ecg` | 4 | 2 | 1 | 50% |"]
