"""Execute the book's chapters, one source of truth each, into byte-stable notebooks.

A chapter is `book/<name>.md`, a MyST notebook with a jupytext header. This tool writes
`book/<name>.ipynb` beside it, with outputs; the same source gives the same bytes on every run:
cell ids are hashes, no times are recorded, metadata is trimmed to what the book needs, and the
kernel runs in the fixed environment `KERNEL_ENV`.

In front of the chapter's cells a notebook has one that gets the library where it is missing, as in
Colab. The page leaves it out, and it is not executed here; where only this cell is stale, it is
exchanged and the outputs stay.

    python book/tools/notebooks.py          execute the chapters whose notebook is stale
    python book/tools/notebooks.py --all    execute every chapter
    python book/tools/notebooks.py --check  name the stale notebooks; starts no kernel
    python book/tools/notebooks.py --test   run all notebooks again, compare outputs (nbval)
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
CELL_TIMEOUT = 600  # seconds
KEPT_METADATA = ("mystnb", "tags")
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
LEFT_OUT = "remove-cell"  # the tag of the first cell; Jupyter Book's
SET_UP = """\
# Gets the library, the data and the records of the book where they are missing, as in Colab.
from importlib.util import find_spec

if not all(map(find_spec, {needed})):
    import importlib
    import subprocess
    import sys
    from pathlib import Path

    folder = Path("convexlib-book").resolve()
    if not folder.exists():
        clone = ["git", "clone", "--quiet", "--depth", "1", "{repository}"]
        subprocess.run([*clone, folder], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
    subprocess.run([*install, folder], check=True)
    sys.path.insert(0, str(folder))  # which the installation does for kernels that start later
    importlib.invalidate_caches()\
"""
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# One thread everywhere: sums are then taken in one order, so that rounded prints are stable.
KERNEL_ENV = {
    "CONVEXLIB_QUIET": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "MATPLOTLIBRC": str(BOOK / "tools" / "matplotlibrc"),
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
Notebook = nbformat.NotebookNode


class ChapterError(Exception):
    """A chapter that cannot be executed, or whose outputs would differ between machines."""


def chapters(book: Path) -> list[Path]:
    """Return the MyST notebooks of a book: its .md files with a kernelspec in the header."""
    found = []
    for path in sorted(book.glob("*.md")):
        header = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf8"), re.DOTALL)
        if header and "kernelspec:" in header[1]:
            found.append(path)
    return found


def load(source: Path) -> Notebook:
    """Read a chapter as a notebook without outputs, its ids and metadata made canonical.

    Its first cell is the one that gets the library.
    """
    notebook = jupytext.read(source, fmt="md:myst")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = identity(index, cell.source)
        kept = {key: cell.metadata[key] for key in KEPT_METADATA if key in cell.metadata}
        cell["metadata"] = nbformat.from_dict(kept)
    notebook.cells.insert(0, set_up(notebook))
    notebook["metadata"] = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return notebook


def identity(place: object, text: str) -> str:
    """Return the id of a cell."""
    return hashlib.sha256(f"{place}:{text}".encode()).hexdigest()[:12]


def set_up(notebook: Notebook) -> Notebook:
    """Return the cell that gets what the cells of a chapter import from the repository."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    needed = ["convexlib"]
    if re.search(r"^(?:from|import) experiments\b", code, re.MULTILINE):
        needed.append("experiments")
    text = SET_UP.format(needed=json.dumps(needed), repository=REPOSITORY)
    cell = nbformat.v4.new_code_cell(text, id=identity("set up", text))
    cell["metadata"] = nbformat.from_dict({"tags": [LEFT_OUT]})
    return cell


def is_set_up(cell: Notebook) -> bool:
    """Say whether a cell is the one that gets the library."""
    return LEFT_OUT in cell.metadata.get("tags", ())


def fingerprint(notebook: Notebook) -> list[tuple[str, str, str, str]]:
    """Return what the source fixes: everything in a notebook but its outputs."""
    return [
        (cell.get("id", ""), cell.cell_type, cell.source, json.dumps(cell.metadata, sort_keys=True))
        for cell in notebook.cells
    ]


def is_stale(source: Path) -> bool:
    """Say whether the notebook beside a chapter is missing or belongs to another source."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return True
    return fingerprint(load(source)) != fingerprint(nbformat.read(target, as_version=4))


def renew(source: Path) -> bool:
    """Exchange the first cell of a notebook if nothing else in it is stale; say whether it did."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return False
    wanted, stored = load(source), nbformat.read(target, as_version=4)
    first = wanted.cells.pop(0)
    stored["cells"] = [cell for cell in stored.cells if not is_set_up(cell)]
    if fingerprint(wanted) != fingerprint(stored):
        return False
    stored.cells.insert(0, first)
    store(stored, target)
    return True


def store(notebook: Notebook, target: Path) -> None:
    """Write a notebook, whole or not at all."""
    part = target.with_suffix(".ipynb.part")
    nbformat.write(notebook, part)
    part.replace(target)


def output_texts(cell: Notebook) -> Iterator[str]:
    """Yield every piece of text that a cell printed or showed."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield "\n".join(output.traceback)
        else:
            yield from (text for kind, text in output.data.items() if kind.startswith("text/"))


def normalise(notebook: Notebook) -> None:
    """Trim what execution added to the cells, and refuse outputs that another run would change."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise ChapterError(f"cell {number} wrote to stderr:\n{output.text}")
            if "metadata" in output:
                output["metadata"] = nbformat.from_dict({})
        for text in output_texts(cell):
            if ADDRESS.search(text):
                raise ChapterError(f"cell {number} shows a memory address:\n{text}")
            if str(ROOT) in text or sys.prefix in text:
                raise ChapterError(f"cell {number} shows a path of this machine:\n{text}")
    notebook["metadata"] = nbformat.from_dict(NOTEBOOK_METADATA)


def execute(source: Path) -> float:
    """Execute one chapter, write its notebook, and return the seconds that it took.

    Raises `ChapterError`, and leaves an existing notebook as it is, when a cell fails, writes to
    stderr, or shows a memory address or a path of this machine.
    """
    start = time.perf_counter()
    notebook = load(source)
    first = notebook.cells.pop(0)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(source.parent)}},
    )
    with tempfile.TemporaryDirectory() as profile:  # no start-up files of the user
        try:
            client.execute(env={**os.environ, **KERNEL_ENV, "IPYTHONDIR": profile})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            number = failed_cell(notebook)
            raise ChapterError(f"cell {number} failed:\n{ANSI.sub('', str(error))}") from error
    normalise(notebook)
    notebook.cells.insert(0, first)
    store(notebook, source.with_suffix(".ipynb"))
    return time.perf_counter() - start


def failed_cell(notebook: Notebook) -> str:
    """Return the number of the first cell that raised, or "?" where none says so."""
    for number, cell in enumerate(notebook.cells):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return str(number)
    return "?"


def attempt(source: Path) -> tuple[float, str]:
    """Execute a chapter in a worker: its seconds, and a message that is empty on success."""
    try:
        return execute(source), ""
    except ChapterError as error:
        return 0.0, str(error)


def run(sources: list[Path], jobs: int) -> int:
    """Execute chapters, report each with its seconds, and return how many failed."""
    failures = 0
    with ProcessPoolExecutor(max_workers=max(1, min(jobs, len(sources)))) as pool:
        for source, (seconds, message) in zip(sources, pool.map(attempt, sources), strict=True):
            if message:
                failures += 1
                print(f"FAILED {source.name}: {message}", file=sys.stderr, flush=True)
            else:
                print(f"{seconds:7.1f} s  {source.with_suffix('.ipynb').name}", flush=True)
    return failures


def check(sources: list[Path]) -> int:
    """Name the stale notebooks and return how many there are."""
    stale = [source for source in sources if is_stale(source)]
    for source in stale:
        print(f"stale: {source.with_suffix('.ipynb').name} (run `make notebooks`)", file=sys.stderr)
    print(f"{len(sources) - len(stale)} of {len(sources)} notebooks are up to date")
    return len(stale)


def retest(sources: list[Path], jobs: int) -> int:
    """Run notebooks again under nbval, which compares each printed output with the stored one."""
    if not sources:
        print("no chapters to test")
        return 0
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env"]
    command += [f"--nbval-cell-timeout={CELL_TIMEOUT}", "-q", "-p", "no:cacheprovider"]
    if jobs > 1 and len(sources) > 1:
        command += [f"-n{min(jobs, len(sources))}", "--dist=loadfile"]
    command += [str(source.with_suffix(".ipynb")) for source in sources]
    with tempfile.TemporaryDirectory() as profile:
        env = {**os.environ, **KERNEL_ENV, "IPYTHONDIR": profile}
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 a chapter failed or is stale."""
    parser = argparse.ArgumentParser(
        prog="book/tools/notebooks.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("chapter", nargs="*", type=Path, help="book/<name>.md; default: every one")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="chapters executed at a time")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="execute chapters that are not stale too")
    what.add_argument("--check", action="store_true", help="only name the stale notebooks")
    what.add_argument("--test", action="store_true", help="compare outputs with a new run (nbval)")
    options = parser.parse_args(arguments)
    known = chapters(BOOK)
    sources = [path.resolve().with_suffix(".md") for path in options.chapter] or known
    for source in sources:
        if not source.exists():
            names = ", ".join(path.stem for path in known)
            parser.error(f"no chapter {source}; the chapters are: {names}")
    if options.check:
        return int(check(sources) > 0)
    if options.test:
        return int(retest(sources, options.jobs) > 0)
    todo = sources if options.all else [source for source in sources if is_stale(source)]
    if not options.all:
        renewed = [source for source in todo if renew(source)]
        for source in renewed:
            print(f"first cell only  {source.with_suffix('.ipynb').name}")
        todo = [source for source in todo if source not in renewed]
    if not todo:
        print(f"{len(sources)} notebooks are up to date; --all executes them again")
        return 0
    return int(run(todo, options.jobs) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
