"""The first cell of a notebook: in a Python without the library, it makes the chapter run."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from book.tools import notebooks

ROOT = notebooks.ROOT
URL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
# `git clone` gives this checkout, and `pip install` only notes that it was asked.
GIT = """#!/bin/sh
echo "git $*" >> "$CALLS"
for place; do :; done
ln -s "$CHECKOUT" "$place"
"""
PIP = """
import os, sys
with open(os.environ["CALLS"], "a") as calls:
    print("pip", *sys.argv[1:], file=calls)
"""
RUN = """
import json, sys
from importlib.util import find_spec
found = [find_spec(name) is not None for name in ("convexlib", "experiments")]
cells = json.load(open(sys.argv[1]))["cells"]
code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
own = {}
for cell in code[: int(sys.argv[2])]:
    exec(cell, own)
print(json.dumps([found, own["cl"].__file__]))
"""


def run(name: str, cells: int, folder: Path) -> tuple[list[bool], Path, list[str]]:
    """Run the first cells of a notebook where only the libraries that convexlib needs are there.

    Returns whether convexlib and the experiments were there before, where the one was imported
    from, and the commands that were called.
    """
    tools = folder / "tools"
    (tools / "pip").mkdir(parents=True)
    (tools / "pip" / "__init__.py").touch()
    (tools / "pip" / "__main__.py").write_text(PIP)
    (tools / "git").write_text(GIT)
    (tools / "git").chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    libraries = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    environment = os.environ | {
        "CALLS": str(calls),
        "CHECKOUT": str(ROOT),
        "MPLBACKEND": "Agg",
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(tools), *libraries]),
    }
    # -S: what is installed from a checkout, as convexlib is, is found by `site` only.
    command = [sys.executable, "-S", "-c", RUN, str(notebooks.BOOK / f"{name}.ipynb"), str(cells)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found, place = json.loads(done.stdout.splitlines()[-1])
    return found, Path(place), calls.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recovery", "geometry"])
def test_a_chapter_runs_where_the_library_is_missing(name: str, tmp_path: Path) -> None:
    """One that reads records, and one that needs the library only."""
    found, place, calls = run(name, 3, tmp_path)
    folder = tmp_path / "convexlib-book"
    assert found == [False, False]
    assert place == folder / "convexlib" / "__init__.py"
    assert calls == [
        f"git clone --quiet --depth 1 {URL} {folder}",
        f"pip install --quiet --editable {folder}",
    ]


@pytest.mark.parametrize("name", ["recovery", "geometry"])
def test_it_does_nothing_where_the_library_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", None)
    cell = notebooks.load(notebooks.BOOK / f"{name}.md").cells[0]
    before = sys.path.copy()
    exec(cell.source, own := {})
    assert own.keys() - {"__builtins__"} == {"find_spec"}
    assert (sys.path, list(tmp_path.iterdir())) == (before, [])


def test_every_chapter_that_imports_experiments_asks_for_them() -> None:
    for source in notebooks.chapters(notebooks.BOOK):
        first, *cells = notebooks.load(source).cells
        imported = any(
            line.startswith(("from experiments", "import experiments"))
            for cell in cells
            if cell.cell_type == "code"
            for line in cell.source.splitlines()
        )
        assert ('"experiments"' in first.source) == imported, source.name
        assert notebooks.is_set_up(first)
        assert not any(map(notebooks.is_set_up, cells))
