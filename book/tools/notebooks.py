"""Execute the book's chapters, one source of truth each, into byte-stable notebooks.

A chapter is `book/<name>.md`, a MyST notebook with a jupytext header. This tool writes
`book/<name>.ipynb` beside it, with outputs; the same source gives the same bytes on every run:
cell ids are hashes, no times are recorded, metadata is trimmed to what the book needs, and the
kernel runs in the fixed environment `KERNEL_ENV`.

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
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# One thread everywhere: sums are then taken in one order, so that rounded prints are stable.
KERNEL_ENV = {
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
    """Read a chapter as a notebook without outputs, its ids and metadata made canonical."""
    notebook = jupytext.read(source, fmt="md:myst")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = hashlib.sha256(f"{index}:{cell.source}".encode()).hexdigest()[:12]
        kept = {key: cell.metadata[key] for key in KEPT_METADATA if key in cell.metadata}
        cell["metadata"] = nbformat.from_dict(kept)
    notebook["metadata"] = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return notebook


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
    target = source.with_suffix(".ipynb")
    part = target.with_suffix(".ipynb.part")
    nbformat.write(notebook, part)
    part.replace(target)
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
    if not todo:
        print(f"{len(sources)} notebooks are up to date; --all executes them again")
        return 0
    return int(run(todo, options.jobs) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
