r"""Networks from files of unknown origin.

A ``.pt`` file is a zip archive with a pickle in it, and a pickle may run any code. So it is read
with ``weights_only=True``, which knows tensors and containers and calls nothing else; whole
modules and TorchScript, which are code, are refused. What is read is a ``state_dict``: names and
tensors, from which an ordinary network is built here. The names say nothing of what is computed
between the layers: a network with Tanh has the keys of one with ReLU, and one with a ReLU behind
its last layer those of one without. So whoever hands over such a file has to say what it is.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.cli.files import MAX_BYTES, read_bytes
from convexlib.errors import ConvexlibError, InputError
from convexlib.networks import ParallelReLU, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.validation import as_tensor, check_finite

_EXPECTED = (
    "expected the state_dict of nn.Sequential(Linear, ReLU, Linear), with keys such as 0.weight, "
    "0.bias, 2.weight and 2.bias, or of a convexlib network (U and alpha)"
)
_HOW = "Save it with torch.save(network.state_dict(), path)."
_LAYER = re.compile(r"(0|[1-9][0-9]{0,2})\.(weight|bias)")
_INNER = re.compile(r"inner\.(0|[1-9][0-9]{0,2})")
_SHOWN = 8  # keys in a message


ACTIVATIONS = ("relu",)  # that have certificates


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
    """Refuse what is no zip archive, runs code, or unpacks to more than it may."""
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
    wrong = [key for key, value in state.items() if not isinstance(key, str) or not _plain(value)]
    if wrong or not state:
        text = f"the entry {str(wrong[0])[:40]!r} is no dense tensor" if wrong else "it is empty"
        raise InputError(f"{path}: {text}; {_EXPECTED}. {_HOW}")
    # A view can have more entries than its file has bytes.
    if sum(tensor.numel() for tensor in state.values()) * 8 > MAX_BYTES:
        raise InputError(f"{path} stands for more than {MAX_BYTES // 2**20} MB of weights.")
    return state


def _plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    )


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
    inner = [rest.get(f"inner.{level}") for level in range(len(rest))]
    if not all(_INNER.fullmatch(name) for name in rest) or any(level is None for level in inner):
        raise _unknown(set(tensors))
    return ParallelReLU(U, [level for level in inner if level is not None], alpha)


def _sequential(tensors: dict[str, Tensor]) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    numbers = sorted({int(name.split(".")[0]) for name in tensors})
    weights = [tensors.get(f"{number}.weight") for number in numbers]
    if numbers != list(range(0, 2 * len(numbers), 2)) or any(weight is None for weight in weights):
        raise _unknown(set(tensors))
    layers: list[nn.Module] = []
    width = None
    for number, weight in zip(numbers, weights, strict=True):
        assert weight is not None
        bias = tensors.get(f"{number}.bias")
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
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], width, bias is not None)
        layer.weight = nn.Parameter(weight.clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.clone())
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
