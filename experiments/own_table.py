"""Tables of one's own, read by the code that the records were made with.

A record is current as long as the code that its method can reach. The reader of the command line,
`convexlib.cli.tables`, goes on learning options and messages, which change no number here; so the
experiments keep the plain one, which knows a comma between cells and a header.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convexlib.cli.files import read_bytes
from convexlib.errors import InputError

MAX_CELLS = 20_000_000


@dataclass(frozen=True, eq=False)
class Table:
    """Features X (n, d) with their names, and a target y (n,) with its name."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    features: tuple[str, ...]
    target: str


def load_table(
    path: Path,
    target: str = "last",
    *,
    header: bool = True,
    delimiter: str = ",",
    features: bool = True,
) -> Table:
    """Read a table in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : Path
        One line per sample, blank lines aside.
    target : str
        The name of the target's column, or ``"last"``.
    header : bool
        Whether the first line names the columns; otherwise they are called "0", "1" and so on.
    delimiter : str
        One character.
    features : bool
        Whether there have to be columns beside the target; without, a series is a table, too.

    Raises
    ------
    DataError
        If the file cannot be read.
    InputError
        If it is not such a table.
    """
    rows = _rows(_text(path), path, delimiter)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path} has no lines but blank ones; expected a table.")
    names = [name.strip() for name in first[1]]
    if header:
        _check_header(names, path)
    else:
        names, rows = [str(column) for column in range(len(names))], chain([first], rows)
    if features and len(names) < 2:
        line = delimiter.join(first[1])
        advice = _other_separator(line) or " Name another separator with --delimiter."
        raise InputError(
            f"{path} has one column, as in {line[:40]!r}; expected features and a target, "
            f"separated by {delimiter!r}.{advice}"
        )
    column = _column(target, names, path)
    # One by one: as lists of lists, 20 million numbers would fill 10 GB.
    cells = (number for line, row in rows for number in _numbers(row, names, line, path))
    values = np.fromiter(islice(cells, MAX_CELLS + 1), dtype=np.float64)
    if len(values) > MAX_CELLS:
        raise InputError(f"{path} has more than {MAX_CELLS} cells; expected so many at most.")
    if not len(values):
        raise InputError(f"{path} has a header and no rows; expected at least one sample.")
    values = values.reshape(-1, len(names))
    others = tuple(name for index, name in enumerate(names) if index != column)
    return Table(np.delete(values, column, axis=1), values[:, column], others, names[column])


def _text(path: Path) -> str:
    """The decoded content; the locale plays no role."""
    content = read_bytes(path, "the data file")
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
    if len(delimiter) != 1 or delimiter in '\r\n"' or delimiter.isspace() and delimiter != "\t":
        raise InputError(f"the delimiter is {delimiter!r}; expected one character, such as ; or |.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}; expected a CSV file of numbers."
        ) from error


def _other_separator(text: str) -> str:
    """What to do about a text that holds a usual separator."""
    found = next((mark for mark in ",;\t|" if mark in text and not _decimal_comma(text)), None)
    return f" If {found!r} separates the cells, use --delimiter {found!r}." if found else ""


def _decimal_comma(cell: str) -> str:
    """What to do about a number with a comma."""
    comma = re.fullmatch(r"\s*[+-]?\d*,\d+(e[+-]?\d+)?\s*", cell, re.IGNORECASE)
    return " Write decimals with a point." if comma else ""


def _check_header(names: list[str], path: Path) -> None:
    """Refuse a first line that is data, and names that cannot tell columns apart."""
    if all(_number(name) is not None for name in names):
        raise InputError(
            f"the first line of {path} is all numbers; expected the names of the columns. Use "
            "--no-header for a file without them."
        )
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(
            f"{path} has several columns called {repeated[0][:40]!r}; expected different names."
        )


def _numbers(row: list[str], names: list[str], line: int, path: Path) -> list[float]:
    """The numbers of a line."""
    if len(row) != len(names):
        raise InputError(f"{path}, line {line}: {len(row)} cells; expected {len(names)}.")
    numbers = []
    for cell, name in zip(row, names, strict=True):
        number = _number(cell)
        if number is None or not math.isfinite(number):
            got = repr(cell.strip()[:40]) if cell.strip() else "nothing"
            raise InputError(
                f"{path}, line {line}, column {name[:40]!r}: got {got}; expected a finite number. "
                "Encode categories as numbers, impute or drop what is missing."
                f"{_other_separator(cell)}{_decimal_comma(cell)}"
            )
        numbers.append(number)
    return numbers


def _number(cell: str) -> float | None:
    """A number as files write it; Python's own 1_000 and digits of other scripts are not."""
    cell = cell.strip()
    if "_" in cell or not cell.isascii():
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _column(target: str, names: list[str], path: Path) -> int:
    """The index of the target; a column may itself be called "last"."""
    if target in names:
        return names.index(target)
    if target == "last":
        return len(names) - 1
    shown = ", ".join(name[:40] for name in names[:8]) + (", ..." if len(names) > 8 else "")
    raise InputError(
        f"{path} has no column {target[:40]!r}; its columns are {shown}. Use --target NAME, or "
        "--target last."
    )
