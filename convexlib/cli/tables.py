"""Tables that anybody may have made: numbers are read whole, or refused in one line."""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convexlib.cli.console import read_bytes
from convexlib.errors import InputError

MAX_CELLS = 20_000_000
DECIMALS = (".", ",")
_ZIP = b"PK\x03\x04"  # how compressed files begin
_MISSING = ("", "na", "nan", "n/a", "#n/a", "<na>", "null")  # as other programs write no value


@dataclass(frozen=True, eq=False)
class Table:
    """Features X (n, d) and targets y, (n,) or (n, c), with the names of their columns.

    Targets are numbers, or texts (n,) where labels were asked for.
    """

    X: NDArray[np.float64]
    y: NDArray[Any]
    features: tuple[str, ...]
    targets: tuple[str, ...]


def column_names(text: str) -> list[str]:
    """Read names with commas between them; one that has commas itself is in double quotes."""
    return next(csv.reader([text])) or [""]


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """How a table is written."""
    parser.add_argument(
        "--no-header", action="store_true", help="the first line is data; columns are 0, 1, ..."
    )
    parser.add_argument(
        "--delimiter",
        type=lambda text: "\t" if text == r"\t" else text,
        default=",",
        help=r"between cells (default: a comma); \t is a tab, and several blanks count as one",
    )
    parser.add_argument(
        "--decimal", choices=DECIMALS, default=".", help="the decimal sign (default: a point)"
    )


def load_table(
    path: Path,
    target: str | None = "last",
    *,
    header: bool = True,
    delimiter: str = ",",
    decimal: str = ".",
    features: Sequence[str] | Literal["last"] | None = None,
    drop: Sequence[str] = (),
    labels: bool = False,
) -> Table:
    """Read a table in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : Path
        One line per sample, blank lines aside.
    target : str or None
        The name of the target's column, several of them with commas, or ``"last"``; None for a
        table without.
    header : bool
        Whether the first line names the columns; otherwise they are called "0", "1" and so on.
    delimiter : str
        One character. Several blanks count as one.
    decimal : {".", ","}
        The decimal sign.
    features : sequence of str, optional
        Columns to read as features, in this order; by default all but the targets. ``"last"`` is
        the last column alone, whatever its name.
    drop : sequence of str
        Columns to leave unread: what is in them does not matter.
    labels : bool
        Take the cells of the one target as they are, as the names of classes.

    Raises
    ------
    DataError
        If the file cannot be read.
    InputError
        If it is not such a table.
    """
    _check_marks(delimiter, decimal)
    rows = _rows(_text(path), path, delimiter)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path} has no lines but blank ones; expected a table.")
    names = [name.strip() for name in first[1]]
    if header:
        _check_header(names, path, decimal)
    else:
        names, rows = [str(column) for column in range(len(names))], chain([first], rows)
    if len(names) < 2 and target is not None:
        line = delimiter.join(first[1])
        advice = _separator(line, ";\t|, ") or " Name another separator with --delimiter."
        if line.startswith("#"):
            advice = " If it is a comment, take it out of the file."
        raise InputError(
            f"{path} has one column, as in {line[:40]!r}; expected features and a target, "
            f"separated by {delimiter!r}.{advice}"
        )
    columns = [] if target is None else _columns(target, names, path)
    features = names[-1:] if features == "last" else features
    kept = _kept(names, columns, features, drop, path)
    _check_named(names, kept, columns, path)
    read = kept if labels else [*kept, *columns]
    texts: list[str] = []

    def cells() -> Iterator[float]:
        # One by one: as lists of lists, 20 million numbers would fill 10 GB.
        for line, row in rows:
            yield from _numbers(row, names, read, line, path, delimiter, decimal)
            if labels:
                texts.append(_label(row[columns[0]], names[columns[0]], line, path))

    values = np.fromiter(islice(cells(), MAX_CELLS + 1), dtype=np.float64)
    if len(values) > MAX_CELLS:
        raise InputError(f"{path} has more than {MAX_CELLS} cells; expected so many at most.")
    if not len(values):
        raise InputError(f"{path} has a header and no rows; expected at least one sample.")
    values = values.reshape(-1, len(read))
    X, y = values[:, : len(kept)], values[:, len(kept) :]
    return Table(
        X=np.ascontiguousarray(X),
        y=np.array(texts) if labels else y[:, 0] if len(columns) == 1 else y,
        features=tuple(names[column] for column in kept),
        targets=tuple(names[column] for column in columns),
    )


def _kept(
    names: list[str],
    columns: list[int],
    features: Sequence[str] | None,
    drop: Sequence[str],
    path: Path,
) -> list[int]:
    """The places of the features."""
    for name in (*(features or ()), *drop):
        if name not in names:
            shown = ", ".join(known[:40] for known in names[:8])
            more = ", ..." if len(names) > 8 else ""
            raise InputError(f"{path} has no column {name[:40]!r}; its columns are {shown}{more}.")
    dropped = next((names[place] for place in columns if names[place] in drop), None)
    if dropped is not None:
        raise InputError(
            f"--drop names {dropped[:40]!r}, which is the target; expected other columns. Use "
            "--target for another target."
        )
    repeated = next((name for name, count in Counter(features or ()).items() if count > 1), None)
    if repeated is not None:
        raise InputError(
            f"--features names {repeated[:40]!r} more than once; expected different columns."
        )
    if features is not None:
        kept = [names.index(name) for name in features]
    else:
        kept = [place for place in range(len(names)) if place not in columns]
    kept = [place for place in kept if names[place] not in drop]
    both = next((names[place] for place in columns if place in kept), None)
    if both is not None:
        raise InputError(
            f"--features names {both[:40]!r}, which is the target; expected other columns. Use "
            "--target for another target."
        )
    if not kept:
        raise InputError(
            f"no column of {path} is left as a feature; expected at least one beside the target."
        )
    return kept


def _check_named(names: list[str], kept: list[int], columns: list[int], path: Path) -> None:
    """Refuse a column without a name: pandas writes the numbers of rows into one."""
    nameless = next((place for place in (*kept, *columns) if not names[place]), None)
    if nameless is not None:
        advice = (
            "If it counts the rows, leave it out of the file (in pandas with index=False)"
            if nameless == 0
            else "A separator at the end of each line makes such a column: take it away"
        )
        advice += ", or tell fit --drop ''." if nameless in kept else ", or name the --target."
        raise InputError(f"column {nameless + 1} of {path} has no name; expected one. {advice}")


def _label(cell: str, name: str, line: int, path: Path) -> str:
    """The name of a class."""
    if cell.strip().lower() in _MISSING:
        got = repr(cell.strip()) if cell.strip() else "nothing"
        raise InputError(
            f"{path}, line {line}, column {name[:40]!r}: got {got}; expected the name of a class. "
            "Drop rows without one, or give a class of this name another."
        )
    return cell.strip()


def one_hot(table: Table, count: int, other: float) -> Table:
    """Return the table with a target for each class: 1 for the own one, and `other` elsewhere.

    Raises
    ------
    InputError
        If its target is not a single column of the classes 0 to ``count - 1``, two or more.
    """
    if count < 2:
        raise InputError(
            "the network has one output; expected one for each class with --one-hot. Without it, "
            "the classes of one output are the labels -1 and 1."
        )
    classes = np.arange(count)
    if table.y.ndim != 1 or not np.isin(table.y, classes).all():
        wrong = table.y.ravel()[~np.isin(table.y.ravel(), classes)]
        got = f"holds {wrong[0]:g}" if len(wrong) else f"is {len(table.targets)} columns"
        raise InputError(
            f"the target {', '.join(table.targets)} {got}; expected with --one-hot a column of "
            f"the classes 0 to {count - 1}, one for each of the network's {count} outputs."
        )
    names = tuple(f"{table.targets[0]}={label}" for label in classes)
    return replace(table, y=np.where(table.y[:, None] == classes, 1.0, other), targets=names)


def _check_marks(delimiter: str, decimal: str) -> None:
    blank = delimiter.isspace() and delimiter not in ("\t", " ")
    if len(delimiter) != 1 or delimiter in '\r\n"' or blank:
        raise InputError(f"the delimiter is {delimiter!r}; expected one character, such as ; or |.")
    if decimal not in DECIMALS or decimal == delimiter:
        raise InputError(
            f"the decimal sign is {decimal!r} and the delimiter {delimiter!r}; expected a point or "
            "a comma, and another character between cells. Use --delimiter ';' for instance."
        )


def _text(path: Path) -> str:
    """The decoded content; the locale plays no role."""
    content = read_bytes(path, "the data file")
    if content.startswith(_ZIP):
        raise InputError(
            f"{path} is a compressed file, such as a spreadsheet; expected a CSV file. Save it as "
            "CSV."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        kind = "it seems to be UTF-16" if wide else f"byte {error.start} is not UTF-8"
        raise InputError(
            f"{path} is not text in UTF-8 ({kind}); expected a CSV file. Save it as UTF-8."
        ) from error


def _rows(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers."""
    if delimiter == " ":
        text = re.sub(r"(?m)^ | (?=\r?$)", "", re.sub(" +", " ", text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}; expected a CSV file of numbers."
        ) from error


def _check_header(names: list[str], path: Path, decimal: str) -> None:
    """Refuse a first line that is data, and names that cannot tell columns apart."""
    if all(_number(name, decimal) is not None for name in names):
        raise InputError(
            f"the first line of {path} is all numbers; expected the names of the columns. Use "
            "--no-header for a file without them."
        )
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(
            f"{path} has several columns called {repeated[0][:40]!r}; expected different names."
        )


def _columns(target: str, names: list[str], path: Path) -> list[int]:
    """The places of the targets; a column may itself be called "last", or have commas."""
    if target in names:
        return [names.index(target)]
    if target == "last":
        return [len(names) - 1]
    wanted = [name.strip() for name in target.split(",")]
    missing = next((name for name in wanted if name not in names), None)
    if missing is not None:
        shown = ", ".join(name[:40] for name in names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(
            f"{path} has no column {missing[:40]!r}; its columns are {shown}. Use --target NAME, "
            "several names with commas, or --target last."
        )
    if len(set(wanted)) < len(wanted) or len(wanted) == len(names):
        raise InputError(
            f"--target names {len(wanted)} of the {len(names)} columns of {path}; expected "
            "different ones, and at least one that is none, for a feature."
        )
    return [names.index(name) for name in wanted]


def _numbers(
    row: list[str],
    names: list[str],
    read: list[int],
    line: int,
    path: Path,
    delimiter: str,
    decimal: str,
) -> list[float]:
    """The numbers of a line in the columns that are read."""
    if len(row) != len(names):
        raise InputError(f"{path}, line {line}: {len(row)} cells; expected {len(names)}.")
    numbers = []
    for cell, name in ((row[column], names[column]) for column in read):
        number = _number(cell, decimal)
        if number is None or not math.isfinite(number):
            got = repr(cell.strip()[:40]) if cell.strip() else "nothing"
            raise InputError(
                f"{path}, line {line}, column {name[:40]!r}: got {got}; expected a finite number."
                f"{_advice(cell.strip(), delimiter, decimal)}"
            )
        whole = _WHOLE.fullmatch(cell.strip()) if abs(number) >= 2**53 else None
        if whole is not None and int(whole[1]) != number:
            raise InputError(
                f"{path}, line {line}, column {name[:40]!r}: got {cell.strip()[:40]}, an integer "
                "beyond 2**53, which float64 cannot represent exactly. Rescale the column first, "
                "or leave it out: such numbers are mostly names."
            )
        numbers.append(number)
    return numbers


def _number(cell: str, decimal: str) -> float | None:
    """A number as files write it; Python's own 1_000 and digits of other scripts are not."""
    cell = cell.strip()
    if "_" in cell or not cell.isascii():
        return None
    if decimal == ",":
        cell = "?" if "." in cell else cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return None


_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([T ].*)?|\d{1,2}([-/.])\d{1,2}\3\d{2,4}|\d{1,2}:\d{2}(:.*)?"
)
_WHOLE = re.compile(r"([+-]?\d+)([.,]0*)?")
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_WITH_POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}([., '\u2019\u00a0\u202f]\d{3})+([.,]\d*)?")


def _advice(cell: str, delimiter: str, decimal: str) -> str:
    """What to do about a cell that is no number."""
    if _DATE.fullmatch(cell):
        return " It looks like a date: write it as a number, such as days since the first one."
    other = "," if decimal == "." else "."
    if (_WITH_COMMA if decimal == "." else _WITH_POINT).fullmatch(cell):
        mark = "comma" if other == "," else "point"
        text = f" If the {mark} is the decimal sign, use --decimal {other!r}"
        text += ", and a --delimiter that is none." if other == "," else "."
        return text + (
            " If it separates thousands, take it out." if _GROUPED.fullmatch(cell) else ""
        )
    if _GROUPED.fullmatch(cell):
        return " Take the separators of thousands out."
    return (
        " Encode categories as numbers (fit takes those of the target with --classify), impute or "
        "drop what is missing." + _separator(cell, ";\t|,".replace(delimiter, ""))
    )


def _separator(text: str, marks: str) -> str:
    """What to do about a text that holds one of these separators."""
    mark = next((mark for mark in marks if mark in text.strip()), None)
    return f" If {mark!r} separates the cells, use --delimiter {mark!r}." if mark else ""
