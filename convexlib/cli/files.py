r"""Files that anybody may have made: tables and networks are read whole or refused in one line.

A ``.pt`` file is a zip archive with a pickle in it, and a pickle may run any code. So it is read
with ``weights_only=True``, which knows tensors and containers and calls nothing else; whole
modules and TorchScript, which are code, are refused. What is read is a ``state_dict``: names and
tensors, from which an ordinary network is built here. The names say nothing of what is computed
between the layers: a network with Tanh has the keys of one with ReLU, and one with a ReLU behind
its last layer those of one without. So whoever hands over such a file has to say what it is.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convexlib.checks import as_tensor, check_finite
from convexlib.datasets import atomic
from convexlib.errors import ConvexlibError, DataError, InputError
from convexlib.networks import ParallelReLU, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.networks.two_layer import linear

MAX_BYTES = 256 * 2**20


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a regular file; pipes and devices, which may never end, are refused.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    InputError
        If it is empty or larger than 256 MB.
    """
    if os.path.isdir(path):  # unlike those of Path, these two never raise
        raise DataError(f"{what} {path} is a directory; expected a file.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{what} {path} is not a regular file; expected the path of one.")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise DataError(f"{what} {path} cannot be read ({reason(error)}).") from error
    if not content:
        raise InputError(f"{what} {path} is empty.")
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{what} {path} is larger than {MAX_BYTES // 2**20} MB; expected a smaller one. Call "
            "convexlib.certify from Python for more."
        )
    return content


def check_writable(path: Path) -> None:
    """Refuse a path that nothing can be written to, before the work is done."""
    try:
        folder, taken = path.resolve().parent, path.is_dir()
        possible = folder.is_dir() and os.access(folder, os.W_OK)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error
    if taken or not possible:
        text = "it is a directory" if taken else f"{folder} is not a folder that can be written to"
        raise DataError(f"{path} cannot be written: {text}.")


def write(path: Path, content: bytes) -> None:
    """Write a file in one move, so that no half of one is ever left."""
    try:
        atomic.write(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error


def reason(error: Exception) -> str:
    """What the system says, without its number and path."""
    return getattr(error, "strerror", None) or str(error)


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


_EXPECTED = (
    "expected the state_dict of nn.Sequential(Linear, ReLU, Linear), with keys such as 0.weight, "
    "0.bias, 2.weight and 2.bias, or of a convexlib network (U and alpha)"
)
_HOW = "Save it with torch.save(network.state_dict(), path)."
_LAYER = re.compile(r"(0|[1-9][0-9]{0,2})\.(weight|bias)")
_SHOWN = 8  # keys in a message


def load_network(path: Path, activation: str | None = None) -> nn.Module:
    """Read a network, in the dtype of the file.

    Parameters
    ----------
    path : Path
        Of the ``.pt`` file.
    activation : {"relu"}, optional
        What lies between the layers of an ``nn.Sequential``. Networks of convexlib do not need it.

    Raises
    ------
    DataError
        If the file cannot be read.
    InputError
        If it is not the state_dict of a network that `convexlib.certify` may know, or holds
        numbers that are not finite, or if the activation has to be named and is not.
    """
    state = load_state(path)
    try:
        return build(state, activation)
    except ConvexlibError as error:
        raise InputError(f"{path}: {error}") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """The names and tensors in a file."""
    content = read_bytes(path, "the model")
    _check_archive(content, path)
    try:
        with warnings.catch_warnings():
            # They are about storages and versions: nothing that a reader can do.
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a damaged file can raise anything at all
        raise _refused(path, error) from error
    return _checked(state, path)


def _check_archive(content: bytes, path: Path) -> None:
    """Refuse files that are not zip archives, that run code or unpack to more than allowed."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except Exception as error:  # noqa: BLE001  # zipfile raises many kinds for damaged archives
        raise InputError(
            f"{path} is not a file of torch.save in its zip format (of torch 1.6 and later); "
            f"{_EXPECTED}. {_HOW}"
        ) from error
    if any("/code/" in entry.filename or "constants.pkl" in entry.filename for entry in entries):
        raise InputError(
            f"{path} is a TorchScript archive, which is code; {_EXPECTED}. If you trust it, "
            "load it with torch.jit.load and save its weights: torch.save(it.state_dict(), path)."
        )
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path} unpacks to more than {MAX_BYTES // 2**20} MB.")


def _refused(path: Path, error: Exception) -> InputError:
    """The reason why torch did not read it, as far as it is of use."""
    text = str(error)
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", text)
    if found:
        return InputError(
            f"{path} holds a pickled object ({found[1]}), not only weights: loading it would run "
            f"code from the file, so it is refused; {_EXPECTED}. {_HOW}"
        )
    return InputError(f"{path} is damaged or no file of torch.save; {_EXPECTED}. {_HOW}")


def _checked(state: Any, path: Path) -> dict[str, Tensor]:
    """A state_dict of dense tensors of numbers, or a refusal."""
    if isinstance(state, Tensor) or not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}; {_EXPECTED}. {_HOW}")
    # Checkpoints of training loops keep the weights beside the optimiser's state.
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state.get(key), dict):
            raise InputError(
                f"{path} is a checkpoint with the weights under {key!r}; expected them alone. Save "
                f"them with torch.save(torch.load(path, weights_only=True)[{key!r}], new_path)."
            )
    if not state:
        raise InputError(f"{path}: it is empty; {_EXPECTED}. {_HOW}")
    for key, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.is_cpu
        if not isinstance(key, str) or not dense:
            raise InputError(
                f"{path}: the entry {str(key)[:40]!r} is no dense tensor; {_EXPECTED}. {_HOW}"
            )
    # A view can have more entries than its file has bytes.
    if sum(tensor.numel() for tensor in state.values()) * 8 > MAX_BYTES:
        raise InputError(f"{path} stands for more than {MAX_BYTES // 2**20} MB of weights.")
    return state


def build(state: dict[str, Tensor], activation: str | None = None) -> nn.Module:
    """The network that a state_dict belongs to, as far as names, shapes and the caller tell."""
    tensors = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        tensors[key] = as_tensor(tensor, key)
        check_finite(tensors[key], key)
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        raise InputError("the weights have several dtypes; expected one, float32 or float64.")
    names = set(tensors)
    if {"U", "alpha"} <= names:
        return _own(tensors)
    if any(name.endswith("running_mean") for name in names):
        raise InputError(
            "the network has batch normalisation, whose eps is not in a state_dict; call "
            "convexlib.certify from Python."
        )
    if names and all(_LAYER.fullmatch(name) for name in names):
        network = _sequential(tensors)
        if activation is None:
            raise InputError(
                f"it holds the weights of {(len(network) + 1) // 2} Linear layers, but not what "
                "lies between them: a network with Tanh or LeakyReLU has the same keys, and so has "
                "one with a ReLU behind its last layer. If there is a ReLU between any two and "
                "nothing behind the last, say so with --activation relu. Others have no "
                "certificate here."
            )
        return network
    raise _unknown(names)


def _unknown(names: set[str]) -> InputError:
    listed = sorted(names)
    shown = ", ".join(name[:40] for name in listed[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return InputError(
        f"the keys are {shown}{more}; {_EXPECTED}. Of your own class save the layers in order: "
        "nn.Sequential(net.first, nn.ReLU(), net.second).state_dict()."
    )


def _own(tensors: dict[str, Tensor]) -> nn.Module:
    """A `TwoLayerReLU`, a `TwoLayerGatedReLU` or a `ParallelReLU`."""
    U, alpha = tensors["U"], tensors["alpha"]
    rest = {name: tensor for name, tensor in tensors.items() if name not in ("U", "alpha")}
    if not rest:
        return TwoLayerReLU(U, alpha)
    if set(rest) == {"gates"}:
        return TwoLayerGatedReLU(U, alpha, rest["gates"])
    inner = [f"inner.{level}" for level in range(len(rest))]
    if set(rest) != set(inner):
        raise _unknown(set(tensors))
    return ParallelReLU(U, [rest[name] for name in inner], alpha)


def _sequential(tensors: dict[str, Tensor]) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    count = len({name.split(".")[0] for name in tensors})
    layers: list[nn.Module] = []
    width = None
    for number in range(0, 2 * count, 2):  # each a Linear, and a ReLU behind it
        weight, bias = tensors.get(f"{number}.weight"), tensors.get(f"{number}.bias")
        if weight is None:
            raise _unknown(set(tensors))
        if weight.ndim != 2 or 0 in weight.shape or width not in (None, weight.shape[1]):
            wanted = "(neurons, features)" if width is None else f"(neurons, {width})"
            raise InputError(
                f"{number}.weight has shape {tuple(weight.shape)}; expected {wanted}, at least 1."
            )
        width = weight.shape[0]
        if bias is not None and tuple(bias.shape) != (width,):
            raise InputError(
                f"{number}.bias has shape {tuple(bias.shape)}; expected ({width},), one per row of "
                f"{number}.weight."
            )
        layers += [linear(weight, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
