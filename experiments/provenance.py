"""Which code made a record, and whether it is the code of today.

The digest is of what a computation can depend on: the statements of its module and of every module
of the project that it imports, directly or not. Comments, docstrings, imports, formatting, the
names of files and the order of statements do not count, so that a record stays current while its
code is only moved about or better explained.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

DIGITS = 16
UNKNOWN = "unknown"  # of records that do not say it


def code_of(function: Callable[..., Any]) -> str | None:
    """Return the digest of the code behind a function; None where its source is not at hand."""
    return _digest_of(function.__module__)


def codes(records: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count the records of each code."""
    return Counter(record["environment"].get("code") or UNKNOWN for record in records)


def other_code(records: Iterable[Mapping[str, Any]], function: Callable[..., Any]) -> int:
    """Count the records that other code than today's has made."""
    counts = codes(records)
    return counts.total() - counts[code_of(function) or UNKNOWN]


@cache  # the code that runs is that of the start, whatever happens to the files meanwhile
def _digest_of(module: str) -> str | None:
    start = getattr(sys.modules.get(module), "__file__", None)
    if start is None or not start.endswith(".py"):
        return None
    root = Path(start).parents[module.count(".") + (1 if Path(start).stem == "__init__" else 0)]
    found = {
        text for source, tree in _reached(Path(start), root) for text in _statements(source, tree)
    }
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()[:DIGITS]


def _reached(start: Path, root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yield a module and every one of the checkout that it imports, directly or not."""
    waiting, seen = [start], {start}
    while waiting:
        source = waiting.pop().read_text(encoding="utf8")
        tree = ast.parse(source)
        yield source, tree
        for near in _imported(tree, root):
            if near not in seen:
                seen.add(near)
                waiting.append(near)


def _statements(source: str, tree: ast.Module) -> Iterator[str]:
    """Yield a digest of every statement of a module but imports, docstrings and ``__all__``."""
    lines = _without_words(source, tree)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring, or one that a merger of files has left
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            continue
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        text = "".join("".join(lines[first - 1 : node.end_lineno]).split())
        if text:
            yield hashlib.sha256(text.encode()).hexdigest()


def _without_words(source: str, tree: ast.Module) -> list[str]:
    """Return the lines of a module with its comments and docstrings blotted out."""
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            words = node.body[0]
            for row in range(words.lineno, (words.end_lineno or words.lineno) + 1):
                lines[row - 1] = ""
    return lines


def _imported(tree: ast.Module, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that a module imports."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = root.joinpath(*name.split("."))
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_file():
                    yield path
