"""Files of networks: which kind of file it is, and what was read from it.

No code is run, whoever made the file: of a pickle the weights alone are read (`weights`), and of a
graph the names of its operations (`graphs`). TorchScript is refused. Its graph cannot be read
without loading it, which may run methods of its own, and PyTorch's security policy says to treat
such a file, and even tools that only look into it, as code from its author.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from convexlib.cli.files import MAX_BYTES, read_bytes
from convexlib.cli.graphs import is_exported, read_exported, read_onnx
from convexlib.cli.weights import EXPECTED, HOW, Widths, build, load_state
from convexlib.errors import ConvexlibError, DataError, InputError


@dataclass(frozen=True, eq=False)
class Model:
    """A network and where it is from.

    Attributes
    ----------
    network : nn.Module
        In float32 or float64.
    source : str
        Where its layers were in the file, and in which dtypes.
    """

    network: nn.Module
    source: str


def load_model(
    path: Path,
    activation: str | None = None,
    layers: Sequence[str] | None = None,
    widths: Widths | None = None,
) -> Model:
    """Read a network, exactly.

    Parameters
    ----------
    path : Path
        A file of ``torch.save`` or ``torch.export.save``, or one that ends in ``.onnx``.
    activation, layers, widths
        See `convexlib.cli.weights.build`; the last two only tell layers in weights apart.

    Raises
    ------
    DataError
        If the file cannot be read.
    InputError
        If it holds no network that `convexlib.certify` may know, or numbers that are not finite,
        or if something about it has to be said and is not.
    """
    content = read_bytes(path, "the model")
    archive = None if path.suffix.lower() == ".onnx" else _opened(content, path)
    try:
        if archive is not None and not is_exported(archive):
            return _of_weights(content, path, activation, layers, widths)
        if layers is not None:
            raise InputError("--layers is for weights alone; this file has a graph, with an order.")
        if archive is None:
            kind, (network, names, dtypes) = "an ONNX file", read_onnx(content, path)
        else:
            kind, (network, names, dtypes) = "torch.export", read_exported(archive, path)
    except DataError:  # of a file beside it
        raise
    except ConvexlibError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    return Model(network, f"from {', '.join(names)} in the graph of {kind}, {dtypes}")


def _of_weights(
    content: bytes,
    path: Path,
    activation: str | None,
    layers: Sequence[str] | None,
    widths: Widths | None,
) -> Model:
    state, checkpoint = load_state(content, path)
    network, names, dtypes = build(state, activation, layers, widths)
    place = f" of the checkpoint's {checkpoint!r}" if checkpoint else ""
    return Model(network, f"from {', '.join(names)}{place}, {dtypes}")


def _opened(content: bytes, path: Path) -> zipfile.ZipFile:
    """The archive, if it is one, runs no code, and unpacks to no more than allowed."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
    except Exception as error:  # damaged archives raise many kinds, and are refused
        raise InputError(
            f"{path} is not a file of torch.save in its zip format (of torch 1.6 and later), nor "
            f"of torch.export, and its name does not end in .onnx; {EXPECTED}. {HOW}"
        ) from error
    if any("/code/" in entry.filename or "constants.pkl" in entry.filename for entry in entries):
        raise InputError(
            f"{path} is a TorchScript archive, which is code; {EXPECTED}. If you trust it, load it "
            "with torch.jit.load and save its weights: torch.save(it.state_dict(), path). Or save "
            "the network it was made from with torch.export.save, which keeps the graph."
        )
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path} unpacks to more than {MAX_BYTES // 2**20} MB.")
    return archive
