"""The notebook tool on toy chapters, and the book's own notebooks against their sources."""

import json
from pathlib import Path

import pytest

from book.tools import notebooks

HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A toy chapter

"""
FIGURE = """
```{code-cell} ipython3
---
mystnb: {image: {alt: a line}}
tags: [hide-input]
---
import matplotlib.pyplot as plt
print("before", flush=True)
print("after")
_ = plt.plot([0, 1])
```
"""


def write_chapter(folder: Path, code: str) -> Path:
    source = folder / "toy.md"
    source.write_text(f"{HEADER}```{{code-cell}} ipython3\n{code}\n```\n", encoding="utf8")
    return source


def test_execution_is_byte_identical(tmp_path):
    source = write_chapter(tmp_path, "value = 6 * 7\nvalue")
    source.write_text(source.read_text() + FIGURE)
    target = source.with_suffix(".ipynb")
    notebooks.execute(source)
    first = target.read_bytes()
    target.unlink()
    notebooks.execute(source)
    assert target.read_bytes() == first

    notebook = json.loads(first)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    first, markdown, value, figure = notebook["cells"]
    assert first["metadata"] == {"tags": ["remove-cell"]}
    assert (first["execution_count"], value["execution_count"], first["outputs"]) == (None, 1, [])
    assert markdown["cell_type"] == "markdown"
    assert value["outputs"][0]["data"]["text/plain"] == ["42"]
    assert figure["metadata"] == {"mystnb": {"image": {"alt": "a line"}}, "tags": ["hide-input"]}
    stream, picture = figure["outputs"]
    assert stream["text"] == ["before\n", "after\n"]
    assert "image/png" in picture["data"]


def test_a_notebook_is_stale_until_executed_and_after_each_edit(tmp_path, capsys):
    source = write_chapter(tmp_path, "1 + 1")
    assert notebooks.is_stale(source)
    notebook = notebooks.load(source)
    notebooks.nbformat.write(notebook, source.with_suffix(".ipynb"))
    assert not notebooks.is_stale(source)
    assert notebooks.check([source]) == 0
    assert "1 of 1 notebooks are up to date" in capsys.readouterr().out
    write_chapter(tmp_path, "1 + 2")
    assert notebooks.is_stale(source)
    assert notebooks.check([source]) == 1
    assert "stale: toy.ipynb" in capsys.readouterr().err


def test_a_stale_first_cell_is_exchanged_and_the_outputs_stay(tmp_path, capsys, monkeypatch):
    """As when its text changes, or in notebooks that have none yet."""
    monkeypatch.setattr(notebooks, "run", None)  # no chapter is executed here
    monkeypatch.setattr(notebooks, "chapters", lambda book: [tmp_path / "toy.md"])
    source = write_chapter(tmp_path, "1 + 1")
    target = source.with_suffix(".ipynb")
    assert not notebooks.renew(source)
    notebooks.execute(source)
    wanted = target.read_bytes()
    without, other = json.loads(wanted), json.loads(wanted)
    del without["cells"][0]
    other["cells"][0]["source"].append("# as it was before")
    for notebook in (without, other):
        target.write_text(json.dumps(notebook))
        assert notebooks.is_stale(source)
        assert notebooks.main([]) == 0
        assert "first cell only  toy.ipynb" in capsys.readouterr().out
        assert target.read_bytes() == wanted
    write_chapter(tmp_path, "1 + 2")
    assert not notebooks.renew(source)
    assert target.read_bytes() == wanted


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("defined = 1\nundefined", "cell 1 failed:(.|\n)*undefined(.|\n)*NameError"),
        ("import sys\nprint('careful', file=sys.stderr)", "cell 1 wrote to stderr:\ncareful"),
        ("print(object())", "cell 1 shows a memory address"),
        ("import sys\nprint(sys.prefix)", "cell 1 shows a path of this machine"),
    ],
    ids=["exception", "stderr", "address", "path"],
)
def test_a_chapter_that_cannot_be_reproduced_is_refused(tmp_path, code, message):
    source = write_chapter(tmp_path, code)
    with pytest.raises(notebooks.ChapterError, match=message):
        notebooks.execute(source)
    assert not source.with_suffix(".ipynb").exists()


def test_kernel_environment_reaches_the_cells(tmp_path):
    names = sorted(notebooks.KERNEL_ENV.keys() - {"MATPLOTLIBRC"})
    source = write_chapter(tmp_path, f"import os\nprint([os.environ[n] for n in {names}])")
    notebooks.execute(source)
    cell = json.loads(source.with_suffix(".ipynb").read_text())["cells"][2]
    assert "".join(cell["outputs"][0]["text"]) == f"{[notebooks.KERNEL_ENV[n] for n in names]}\n"


def test_pages_without_a_kernel_are_no_chapters(tmp_path):
    (tmp_path / "page.md").write_text("# A page about kernelspec:\n")
    source = write_chapter(tmp_path, "1")
    assert notebooks.chapters(tmp_path) == [source]


def test_unknown_chapter_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        notebooks.main(["--check", "book/missing.md"])
    assert stop.value.code == 2
    assert "no chapter" in capsys.readouterr().err


def test_the_books_notebooks_are_up_to_date():
    stale = [path.name for path in notebooks.chapters(notebooks.BOOK) if notebooks.is_stale(path)]
    assert not stale, f"run `make notebooks`: {stale}"
