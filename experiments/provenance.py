"""Which code made a record, and whether it is the code of today.

The digest is of what a computation can depend on: the statement that defines its function, and
those that define whatever these name, here or in another module of the project, directly or not.
Comments, docstrings, imports, formatting, the names of files and the order of statements do not
count, nor does what the function cannot reach, so that a record stays current while its code is
only moved about or better explained, or while another method is mended.
"""

from __future__ import annotations

import ast
import hashlib
import io
import symtable
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DIGITS = 16
UNKNOWN = "unknown"  # of records that do not say it


@dataclass(frozen=True, eq=False)
class ByKind:
    """A function that hands a configuration to the one that makes its kind of records.

    Their code is told apart: a change of one method leaves the records of the others current.

    Attributes
    ----------
    key : str
        Which entry of a configuration names the kind, such as ``"method"``.
    kinds : dict
        From its values to functions of a configuration.
    check : callable
        Refuses a configuration, or returns nothing.
    """

    key: str
    kinds: Mapping[str, Callable[[dict[str, Any]], Mapping[str, Any]]]
    check: Callable[[dict[str, Any]], None]

    def __call__(self, config: dict[str, Any]) -> Mapping[str, Any]:
        self.check(config)
        return self.kinds[config[self.key]](config)


def code_of(function: Callable[..., Any], config: Mapping[str, Any]) -> str | None:
    """Return the digest of the code behind a record; None where its source is not at hand."""
    kind = kind_of(function, config)
    if isinstance(kind, ByKind):
        return None
    return _digest_of(kind.__module__, getattr(kind, "__name__", type(kind).__name__))


def kind_of(function: Callable[..., Any], config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function that makes a configuration's kind of records."""
    if not isinstance(function, ByKind):
        return function
    try:
        return function.kinds[config[function.key]]
    except KeyError:
        return function  # of a record whose method is gone


def clean(records: Iterable[Mapping[str, Any]], function: Callable[..., Any]) -> int:
    """Count the records that one code, the most frequent of its kind, made from a commit."""
    counts: dict[Any, Counter[str]] = {}
    for record in records:
        made_by = record["environment"]
        commit = str(made_by.get("commit"))
        if made_by.get("code") and commit != "None" and not commit.endswith("-dirty"):
            kind = kind_of(function, record["config"])
            counts.setdefault(kind, Counter())[made_by["code"]] += 1
    return sum(max(versions.values()) for versions in counts.values())


def other_code(records: Iterable[Mapping[str, Any]], function: Callable[..., Any]) -> int:
    """Count the records that other code than today's has made."""
    return sum(
        (record["environment"].get("code") or UNKNOWN)
        != (code_of(function, record["config"]) or UNKNOWN)
        for record in records
    )


@cache  # the code that runs is that of the start, whatever happens to the files meanwhile
def _digest_of(module: str, name: str) -> str | None:
    start = getattr(sys.modules.get(module), "__file__", None)
    if start is None or not start.endswith(".py"):
        return None
    root = Path(start).parents[module.count(".") + (1 if Path(start).stem == "__init__" else 0)]
    found = {text for _, text in _reached(Path(start), name, root)}
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()[:DIGITS]


def _reached(start: Path, name: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the place and a digest of every statement that the one of `name` can reach."""
    modules: dict[Path, _Module] = {}
    waiting, seen = [(start, name)], {(start, name)}
    while waiting:
        path, wanted = waiting.pop()
        module = modules.get(path) or modules.setdefault(path, _Module(path, root))
        for text, near in module.statements(wanted):
            yield path, text
            for place in near - seen:
                seen.add(place)
                waiting.append(place)


class _Module:
    """The statements of a file, by the names that they define, and what each of them names."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        source = path.read_text(encoding="utf8")
        tree = ast.parse(source)
        self.lines = _without_words(source, tree)
        self.imported: dict[str, tuple[Path, str | None]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported |= _imported(node, root)
        self.body = [node for node in tree.body if _computes(node)]
        self.defined: dict[str, list[ast.stmt]] = {}
        for node in self.body:
            for defined in _names(node)[0]:
                self.defined.setdefault(defined, []).append(node)

    def statements(self, name: str) -> Iterator[tuple[str, set[tuple[Path, str]]]]:
        """Yield the digest of each statement that defines a name, and the places that it names.

        A name that no statement defines is made in another way: then every statement counts.
        """
        if name in self.imported and name not in self.defined:
            yield "", self._place(name, [])
            return
        for node in self.defined.get(name, self.body):
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(one.lineno for one in decorators)])
            text = "".join("".join(self.lines[first - 1 : node.end_lineno]).split())
            yield hashlib.sha256(text.encode()).hexdigest(), self._named(node)

    def _named(self, node: ast.stmt) -> set[tuple[Path, str]]:
        """The places of what a statement names: ``name``, ``module.name``, late imports."""
        found: set[tuple[Path, str]] = set()
        outer = _names(node)[1] & (self.imported.keys() | self.defined.keys())
        for part in ast.walk(node):
            chain = _chain(part)
            if chain and chain[0] in outer:
                found |= self._place(chain[0], chain[1:])
            if isinstance(part, ast.Tuple):  # ("module", "name") of a registry
                found |= self._registered(part)
        return found

    def _place(self, name: str, attributes: list[str]) -> set[tuple[Path, str]]:
        if name in self.defined:
            return {(self.path, name)}
        path, inner = self.imported[name]
        if inner is not None:
            return {(path, inner)}
        return _inside(path, attributes)

    def _registered(self, node: ast.Tuple) -> set[tuple[Path, str]]:
        words = [
            part.value
            for part in node.elts
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        if len(words) != 2 or len(node.elts) != 2 or not words[0].isidentifier():
            return set()
        path = self.path.parent / f"{words[0]}.py"
        return {(path, words[1])} if path.is_file() else set()


def _inside(path: Path, attributes: list[str]) -> set[tuple[Path, str]]:
    """The place of ``module.a.b``: a name of that module, or of one below it."""
    if not attributes:
        return {(path, "*")}  # no statement defines it: all of them
    below = path.parent / attributes[0]
    for inner in (below.with_suffix(".py"), below / "__init__.py"):
        if path.stem == "__init__" and inner.is_file():
            return _inside(inner, attributes[1:])
    return {(path, attributes[0])}


def _chain(node: ast.AST) -> list[str]:
    """``a.b.c`` as its names; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _computes(node: ast.stmt) -> bool:
    """Whether a statement is no import, no docstring and no list of names."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False  # a docstring, or one that a merger of files has left
    return not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")


def _names(node: ast.stmt) -> tuple[set[str], set[str]]:
    """The names of the module that a statement defines or changes, and all of those it mentions.

    What is local to a function or a comprehension is none of them, but for late imports.
    """
    table = symtable.symtable(ast.unparse(node), "statement", "exec")
    defined = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
    mentioned = {symbol.get_name() for symbol in table.get_symbols()}
    waiting = table.get_children()
    while waiting:
        inner = waiting.pop()
        waiting += inner.get_children()
        mentioned |= {
            symbol.get_name()
            for symbol in inner.get_symbols()
            if symbol.is_global() or symbol.is_imported()
        }
    return defined, mentioned


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


def _imported(node: ast.Import | ast.ImportFrom, root: Path) -> dict[str, tuple[Path, str | None]]:
    """What an import binds, of the files below `root`: a module, or a name in one."""
    found: dict[str, tuple[Path, str | None]] = {}
    for alias in node.names:
        bound = alias.asname or alias.name
        if isinstance(node, ast.Import):
            whole = alias.name if alias.asname else alias.name.partition(".")[0]
            if path := _file(whole, root):
                found[bound.partition(".")[0]] = path, None
        elif node.module and not node.level:
            if path := _file(f"{node.module}.{alias.name}", root):
                found[bound] = path, None
            elif path := _file(node.module, root):
                found[bound] = path, alias.name
    return found


def _file(name: str, root: Path) -> Path | None:
    place = root.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None
