r"""Files of weights: a ``state_dict``, alone or in a checkpoint.

Such a file is a zip archive with a pickle in it, and a pickle may run any code. So it is read with
``weights_only=True``, which knows tensors and containers and calls nothing else; whole modules are
refused. What is read are names and tensors, from which an ordinary network is built here. They say
nothing of what is computed between the layers: a network with Tanh has the keys of one with ReLU,
and one with a ReLU behind its last layer those of one without. So whoever hands over such a file
has to say what it is. The order of the layers is that of their numbers, as in an nn.Sequential, or
else the only one in which their shapes fit.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.cli.console import MAX_BYTES
from convexlib.errors import InputError
from convexlib.networks import ParallelReLU, TwoLayerGatedReLU, TwoLayerReLU
from convexlib.networks.two_layer import linear

Widths = tuple[int, int | None]  # features and targets
EXPECTED = (
    "expected a state_dict of Linear layers, with keys such as fc1.weight and fc1.bias, or of a "
    "convexlib network (U and alpha)"
)
HOW = "Save it with torch.save(network.state_dict(), path)."
_CHECKPOINTS = ("state_dict", "model_state_dict", "model")
_SHOWN = 8  # keys in a message
_MOST = 8  # layers whose order is looked for


def load_state(content: bytes, path: Path) -> tuple[dict[str, Tensor], str]:
    """The names and tensors in a file, and the key of the checkpoint that they are under, or ""."""
    try:
        with warnings.catch_warnings():
            # They are about storages and versions: nothing that a reader can do.
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything, and is refused
        raise _refused(path, error) from error
    if isinstance(state, Tensor) or not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}; {EXPECTED}. {HOW}")
    # Training loops keep the weights beside the optimiser's state.
    under = [key for key in _CHECKPOINTS if isinstance(state.get(key), dict)]
    if len(under) > 1:
        raise InputError(
            f"{path} is a checkpoint with weights under {' and '.join(map(repr, under))}; "
            f"expected one of them. {HOW}"
        )
    return _checked(state[under[0]] if under else state, path), "".join(under)


def _refused(path: Path, error: Exception) -> InputError:
    """The reason why torch did not read it, as far as it is of use."""
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    if found:
        return InputError(
            f"{path} holds a pickled object ({found[1]}), not only weights: loading it would run "
            f"code from the file, so it is refused; {EXPECTED}. {HOW}"
        )
    return InputError(f"{path} is damaged or no file of torch.save; {EXPECTED}. {HOW}")


def _checked(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """A state_dict of dense tensors, or a refusal."""
    if not state:
        raise InputError(f"{path}: it is empty; {EXPECTED}. {HOW}")
    for key, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.is_cpu
        if not isinstance(key, str) or not dense:
            raise InputError(
                f"{path}: the entry {str(key)[:40]!r} is no dense tensor; {EXPECTED}. {HOW}"
            )
    check_size(state.values(), path)
    return state


def check_size(tensors: Any, path: Path) -> None:
    """Refuse more than can be worked with: a view has more entries than its file has bytes."""
    if sum(tensor.numel() for tensor in tensors) * 8 > MAX_BYTES:
        raise InputError(f"{path} stands for more than {MAX_BYTES // 2**20} MB of weights.")


def as_floats(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The same finite numbers in one dtype, float32 or float64, and what they were in the file."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(
                f"{name} has dtype {tensor.dtype}; expected floating-point numbers of at most 64 "
                "bits. Save the weights before they are quantised."
            )
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            raise InputError(
                f"{name} contains {wrong} weights that are not finite; expected numbers. Train the "
                "network again with a smaller learning rate."
            )
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    if kinds in (["float32"], ["float64"]):
        return dict(tensors), f"{kinds[0]} weights"
    # Every shorter format is part of float64, so that nothing is rounded.
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    return exact, f"{' and '.join(kinds)} weights, taken exactly as float64"


def build(
    state: Mapping[str, Tensor],
    activation: str | None = None,
    layers: Sequence[str] | None = None,
    widths: Widths | None = None,
) -> tuple[nn.Module, list[str], str]:
    """The network that a state_dict belongs to, the names of its layers, and its dtypes.

    Parameters
    ----------
    state : dict of Tensor
        As in the file.
    activation : {"relu"}, optional
        What lies between Linear layers. Networks of convexlib do not need it.
    layers : list of str, optional
        The names of the Linear layers from below, where the shapes leave a choice.
    widths : (int, int or None), optional
        Features and, where they are known, targets of the data: they tell orders of layers apart.
    """
    names = [key for key in state if not key.endswith("num_batches_tracked")]
    prefix = _prefix(names)
    normalised = next((name for name in names if name.endswith("running_mean")), None)
    if normalised:
        raise InputError(
            f"the network has batch normalisation, whose eps is not in a state_dict "
            f"({normalised}); build nn.Sequential(Linear, BatchNorm1d, ReLU, Linear) with its "
            "weights, and call convexlib.certify from Python."
        )
    tensors, dtypes = as_floats({name.removeprefix(prefix): state[name] for name in names})
    if {"U", "alpha"} <= set(tensors):
        if layers is not None:
            raise InputError("--layers is for Linear layers; this network of convexlib has none.")
        return _own(tensors), [prefix + name for name in sorted(tensors)], dtypes
    found = _linear_layers(tensors, prefix)
    if activation is None:
        raise InputError(
            f"it holds the weights of {len(found)} Linear layers, but not what lies between them: "
            "a network with Tanh or LeakyReLU has the same keys, and so has one with a ReLU behind "
            "its last layer. If there is a ReLU between any two and nothing behind the last, say "
            "so with --activation relu. Others have no certificate here."
        )
    ordered = _ordered(found, layers, prefix, widths)
    network: list[nn.Module] = []
    for name in ordered:
        network += [linear(*found[name]), nn.ReLU()]
    return nn.Sequential(*network[:-1]), [prefix + name for name in ordered], dtypes


def _prefix(names: Sequence[str]) -> str:
    """What all names begin with: "module." of nn.DataParallel, "_orig_mod." of torch.compile."""
    prefix = ""
    while True:
        rest = [name.removeprefix(prefix) for name in names]
        heads = {name.partition(".")[0] for name in rest}
        inner = {name.partition(".")[2] for name in rest}
        if len(heads) != 1 or "" in inner or inner <= {"weight", "bias"}:
            return prefix
        prefix += heads.pop() + "."


def _unknown(names: Sequence[str], advice: str = "") -> InputError:
    listed = sorted(names)
    shown = ", ".join(name[:40] for name in listed[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    advice = advice or (
        " Of another network save the Linear layers in order: nn.Sequential(net.first, nn.ReLU(), "
        "net.second).state_dict()."
    )
    return InputError(f"the keys are {shown}{more}; {EXPECTED}.{advice}")


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
        raise _unknown(list(tensors))
    return ParallelReLU(U, [rest[name] for name in inner], alpha)


Layers = dict[str, tuple[Tensor, Tensor | None]]  # a weight and a bias by the name of the layer
_KEY = re.compile(r"(.+)\.(weight|bias)")
_REPARAMETRISED = re.compile(r".*(weight_[gv]|weight_orig|original[01]?)")


def _linear_layers(tensors: Mapping[str, Tensor], prefix: str) -> Layers:
    """The weights and biases of layers that can be Linear, or a refusal that says what they are."""
    full = [prefix + name for name in tensors]
    if any(_REPARAMETRISED.fullmatch(name) for name in tensors):
        raise _unknown(
            full,
            " They are parametrised: call remove_parametrizations of torch.nn.utils.parametrize, "
            "or remove_weight_norm, and save again.",
        )
    if not tensors or not all(_KEY.fullmatch(name) for name in tensors):
        raise _unknown(full)
    found: Layers = {}
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        weight, bias = tensors.get(f"{layer}.weight"), tensors.get(f"{layer}.bias")
        name = prefix + layer
        if weight is None:
            raise _unknown(full)
        shape = tuple(weight.shape)
        if len(shape) != 2 or 0 in shape:
            kind = "" if 0 in shape else _CONVOLUTION if len(shape) > 2 else _NORMALISATION
            raise InputError(
                f"{name}.weight has shape {shape}; expected (outputs, inputs), at least 1, of a "
                f"Linear layer.{kind}"
            )
        if bias is not None and tuple(bias.shape) != shape[:1]:
            turned = tuple(bias.shape) == shape[1:]
            raise InputError(
                f"{name}.bias has shape {tuple(bias.shape)}; expected ({shape[0]},), one per row "
                f"of {name}.weight.{_TRANSPOSED if turned else ''}"
            )
        found[layer] = (weight, bias)
    return found


_NORMALISATION = " It looks like a normalisation or PReLU, for which there is no certificate."
_CONVOLUTION = (
    " It looks like a convolution: certify the Linear layers behind it from Python, on their own "
    "inputs."
)
_TRANSPOSED = (
    " They fit if the matrices are transposed: a Linear has weights (outputs, inputs), and x @ W "
    "the reverse. Save W.T."
)


def _ordered(
    found: Layers, named: Sequence[str] | None, prefix: str, widths: Widths | None
) -> list[str]:
    """The names of the layers from below."""
    shapes = {name: (weight.shape[1], weight.shape[0]) for name, (weight, _) in found.items()}
    if named is not None:
        full = {prefix + name: name for name in shapes}
        if sorted(named) != sorted(full):
            raise InputError(
                f"--layers is {','.join(named)}; expected each of {','.join(full)} once, in the "
                "order in which the network applies them."
            )
        return _checked_order([full[name] for name in named], shapes, prefix)
    if all(re.fullmatch(r"\d{1,3}(\.\d{1,3})*", name) for name in shapes):
        numbered = sorted(shapes, key=lambda name: [int(part) for part in name.split(".")])
        return _checked_order(numbered, shapes, prefix)
    if len(shapes) > _MOST:
        raise InputError(
            f"it has {len(shapes)} layers; expected at most {_MOST} for which to look for the "
            f"order. Name them from below: --layers {','.join(prefix + name for name in shapes)}."
        )
    orders = list(_orders(shapes))
    fitting = [order for order in orders if _matches(order, shapes, widths)]
    turned = {name: shape[::-1] for name, shape in shapes.items()}
    bare = not fitting and all(bias is None for _, bias in found.values())
    if bare and any(_matches(order, turned, widths) for order in _orders(turned)):
        raise InputError(f"{_listed(shapes, prefix)} do not fit in any order.{_TRANSPOSED}")
    if not orders:
        raise InputError(
            f"{_listed(shapes, prefix)} do not fit in any order; expected Linear layers of which "
            "each takes as many inputs as the one before has outputs."
        )
    left = fitting or orders
    if len(left) > 1:
        shown = [",".join(prefix + name for name in order) for order in left[:2]]
        more = f" and {len(left) - 2} more" if len(left) > 2 else ""
        none = "" if fitting or widths is None else " None fits the columns of the table."
        raise InputError(
            f"the shapes of the layers leave several orders, {' or '.join(shown)}{more}; expected "
            f"one. Name it from below: --layers {shown[0]}.{none}"
        )
    return left[0]


Shapes = Mapping[str, tuple[int, int]]  # inputs and outputs by the name of the layer


def _orders(shapes: Shapes, width: int | None = None) -> Iterator[list[str]]:
    """Every order of the layers in which each takes what the one before it returns."""
    if not shapes:
        yield []
    for name, (inputs, outputs) in shapes.items():
        if width in (None, inputs):
            others = {other: shape for other, shape in shapes.items() if other != name}
            yield from ([name, *rest] for rest in _orders(others, outputs))


def _matches(order: Sequence[str], shapes: Shapes, widths: Widths | None) -> bool:
    """Whether a network with this order can be for the data."""
    inputs, outputs = widths or (None, None)
    return inputs in (None, shapes[order[0]][0]) and outputs in (None, shapes[order[-1]][1])


def _listed(shapes: Shapes, prefix: str) -> str:
    """The weights and their shapes, as they are in the file."""
    listed = [f"{prefix}{name}.weight {shape[::-1]}" for name, shape in shapes.items()]
    return ", ".join(listed)


def _checked_order(order: list[str], shapes: Shapes, prefix: str) -> list[str]:
    """An order that is said to be right, if it can be."""
    for name, above in zip(order, order[1:], strict=False):
        width = shapes[name][1]
        if shapes[above][0] != width:
            raise InputError(
                f"{prefix}{above}.weight has shape {shapes[above][::-1]}; expected (neurons, "
                f"{width}), behind {prefix}{name}.weight of shape {shapes[name][::-1]}. Is another "
                "layer between them, or are they transposed (x @ W)? Linear has (outputs, inputs)."
            )
    return order
