"""A module of any class as a plain network: read by tracing, and compared with what it computes.

`torch.fx` records the operations of ``forward`` on symbolic data. They are read as a `Chain`, so
that whatever is no Linear or ReLU is refused by its name. What was read then has to return what
the module returns on the data, in float64 and to rounding: ``forward`` may do what no trace shows.

A `Chain` is a graph without branches. It is handed one operation after the other, from modules here
and from files by `convexlib.cli.models`, by a word of this file and with the arguments that torch
has for it. Each operation has to take the result of the one before, each weight is used once, and
whatever is not known here is refused by its name: a network that is read in part would be certified
as another one.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter
from torch.optim.swa_utils import AveragedModel

from convexlib.arrays import EPS
from convexlib.errors import NotCertifiableError, first_line
from convexlib.networks.parallel import ParallelReLU
from convexlib.networks.two_layer import TwoLayerReLU, linear, refuse_hooks

_SMOOTH = "Only piecewise linear networks have a finite convex program; use ReLU."
_PATCHES = "Only fully connected layers are read: certify the part that follows, on its inputs."
_NORMALISED = "Of normalised networks, only Linear -> BatchNorm1d -> ReLU -> Linear is read."
_MIRRORS = "It belongs to a Mirrors problem, whose result.gap is its certificate."
_ADVICE = {
    "threshold": 'Networks of one feature with thresholds are Mirrors(activation="threshold"), '
    "whose result.gap is their certificate.",
    "leakyrelu": 'Those of one feature are Mirrors(activation="leaky"), whose result.gap is their '
    "certificate.",
    **dict.fromkeys(("parallelunits", "switchingunits"), _MIRRORS),
    **dict.fromkeys(("tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus"), _SMOOTH),
    **dict.fromkeys(("conv", "conv1d", "conv2d", "multiheadattention", "lstm", "gru"), _PATCHES),
    **dict.fromkeys(("batchnorm1d", "batchnorm", "batchnormalization", "layernorm"), _NORMALISED),
    "layernormalization": _NORMALISED,
    "parametrizedlinear": "parametrize.remove_parametrizations leaves an ordinary layer.",
}
WORDS = (
    "linear", "matmul", "add", "relu", "clamp", "dropout", "identity", "flatten", "view", "squeeze",
)  # fmt: skip
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_CERTIFIED = (nn.Linear, nn.ReLU, nn.BatchNorm1d)
_WITHOUT_EFFECT = (nn.Flatten, nn.Identity, nn.Dropout, nn.AlphaDropout)
_WORDS: dict[Any, str] = {
    F.linear: "linear",
    **dict.fromkeys((operator.matmul, torch.matmul, torch.mm, "matmul", "mm"), "matmul"),
    **dict.fromkeys((operator.add, torch.add, "add"), "add"),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), "relu"),
    **dict.fromkeys((torch.clamp, torch.clamp_min, "clamp", "clamp_min"), "clamp"),
    F.dropout: "dropout",
    **dict.fromkeys((torch.flatten, "flatten"), "flatten"),
    **dict.fromkeys((torch.reshape, "reshape", "view"), "view"),
    **dict.fromkeys((torch.squeeze, "squeeze"), "squeeze"),
}
_AXES = ((0, 1), (1, 0), (-1, -2), (-2, -1))
_SHAPE = object()  # what x.size() and x.shape return
_COLUMN = ((slice(None), 0), (slice(None), -1), (..., 0), (..., -1))  # of one: x[:, 0]


def as_plain(network: nn.Module, X: Tensor) -> nn.Module:
    """Return a network that certificates read, which computes what the given one does.

    Parameters
    ----------
    network : nn.Module
        Those of convexlib, and an ``nn.Sequential`` of layers, are returned as they are.
        ``nn.DataParallel``, ``AveragedModel`` and ``torch.compile`` are taken off. A module of any
        other class is read as an ``nn.Sequential`` of its layers.
    X : Tensor (n, d)
        Data, on which both are compared.

    Raises
    ------
    NotCertifiableError
        If its forward is no chain of layers, does anything else than Linear and ReLU, or returns
        something else than what was read; with the reason.
    """
    while True:
        if isinstance(network, _WRAPPERS):
            network = network.module
        elif type(network).__name__ == "OptimizedModule":  # of torch.compile, a private class
            network = network._orig_mod  # type: ignore[assignment]
        else:
            break
    if _is_known(network):
        return network
    owner = type(network).__name__
    if isinstance(network, torch.jit.ScriptModule):
        raise NotCertifiableError(
            f"{owner} is TorchScript, which is not read; expected the module that it was made "
            "from. An nn.Sequential of torch's own layers can take its state_dict."
        )
    if any(isinstance(weight, UninitializedParameter) for weight in network.parameters()):
        raise NotCertifiableError(
            f"{owner} has lazy layers without weights; expected a trained network."
        )
    for name, part in network.named_modules():
        refuse_hooks(part, name or owner)
    read = _read(network, owner)
    _compare(network, read, X, owner)
    return read


def _is_known(network: nn.Module) -> bool:
    """Whether those who read networks know it, and refuse it by name if need be."""
    if any("forward" in vars(part) for part in network.modules()):  # not that of its class
        return False
    if isinstance(network, TwoLayerReLU | ParallelReLU):
        return True
    if isinstance(network, nn.ModuleList) and type(network).forward is nn.ModuleList.forward:
        return True
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        return all(
            _is_of_torch(layer) and not isinstance(layer, (nn.Sequential, *_WITHOUT_EFFECT))
            for layer in network
        )
    return type(network).__module__.startswith("convexlib.") or _is_of_torch(network)


def _is_of_torch(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("torch.nn.")


def _read(network: nn.Module, owner: str) -> nn.Sequential:
    """Read the chain of operations of a module."""
    try:
        graph = fx.symbolic_trace(network).graph
    except Exception as error:  # forward is anybody's code
        raise NotCertifiableError(
            f"{owner} cannot be traced ({first_line(error)}); expected a forward that takes one "
            "tensor and does the same for all data. Hand over its layers in order: "
            "nn.Sequential(net.first, nn.ReLU(), net.second)."
        ) from error
    chain = Chain(owner)
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            if values and node.users:
                raise NotCertifiableError(f"{owner} takes several inputs; expected one tensor.")
            values[node] = None if values else chain.value
        elif node.op == "output":
            result = fx.map_arg(node.args[0], lambda used: values[used])
            return chain.network(result, (name for name, _ in network.named_parameters()))
        else:
            values[node] = _value(node, values, network, chain)
    raise NotCertifiableError(f"{owner} returns nothing; expected a tensor of outputs.")


def _value(node: fx.Node, values: dict[fx.Node, Any], network: nn.Module, chain: Chain) -> Any:
    """What a node of a graph is."""
    arguments: Any = fx.map_arg(node.args, lambda used: values[used])
    named: Any = fx.map_arg(node.kwargs, lambda used: values[used])
    if node.op == "get_attr":
        return _weight(str(node.target), network, chain)
    if node.op == "call_module":
        return _layer(str(node.target), network, arguments, named, chain)
    target, first = node.target, arguments[0] if arguments else None
    if isinstance(first, Weight):
        turned = target in ("t", torch.t) or (target is getattr and arguments[1] == "T")
        swapped = target in ("transpose", torch.transpose) and arguments[1:] in _AXES
        if turned or swapped:
            return first.T
    if isinstance(first, Value):
        if target == "size" or (target is getattr and arguments[1] == "shape"):
            return Rows() if arguments[1:] == (0,) else _SHAPE
        if target is operator.getitem and arguments[1] in _COLUMN:
            return chain.apply("squeeze", "indexing", first)
    if first is _SHAPE and target is operator.getitem and arguments[1] == 0:
        return Rows()
    shown = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return chain.apply(_WORDS.get(target, ""), shown, *arguments, **named)


def _weight(name: str, network: nn.Module, chain: Chain) -> Weight:
    """A parameter by its name."""
    parameter = dict(network.named_parameters(remove_duplicate=False)).get(name)
    if parameter is None:
        raise NotCertifiableError(
            f"{chain.owner} computes with {name}, which is no parameter; expected nn.Parameter."
        )
    return Weight(name, parameter, id(parameter))


def _layer(
    name: str, network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], chain: Chain
) -> Value:
    """The result of a layer of torch."""
    layer = network.get_submodule(name)
    given = (*arguments, *named.values())
    if isinstance(layer, nn.Flatten):
        return chain.apply("flatten", "Flatten", *given, layer.start_dim, layer.end_dim)
    if isinstance(layer, nn.Dropout | nn.AlphaDropout):
        return chain.apply("dropout", "Dropout", *given, p=layer.p, training=layer.training)
    if isinstance(layer, nn.Identity):
        return chain.apply("identity", "Identity", *given)
    return chain.append(layer, name, *given)


def _compare(network: nn.Module, read: nn.Sequential, X: Tensor, owner: str) -> None:
    """Refuse a module that does not return what the weights say that were read."""
    layers = [layer for layer in read if isinstance(layer, nn.Linear)]
    if not all(isinstance(layer, _CERTIFIED) for layer in read):
        return  # refused by the name of a layer
    if layers[0].in_features != X.shape[1]:
        return  # refused for its width
    data = X.detach().double()
    with torch.no_grad():
        try:
            found = copy.deepcopy(network).double()(data)
        except Exception as error:  # forward is anybody's code
            raise NotCertifiableError(
                f"{owner} fails on X of shape {tuple(X.shape)} in float64 ({first_line(error)})."
            ) from error
        expected, size = data, data.abs()
        for layer in copy.deepcopy(read).double():
            if isinstance(layer, nn.Linear):
                bias = 0.0 if layer.bias is None else layer.bias
                expected = expected @ layer.weight.T + bias
                size = size @ layer.weight.abs().T + abs(bias)  # of the terms, as rounding goes by
            else:
                expected = torch.relu(expected) if isinstance(layer, nn.ReLU) else layer(expected)
            size = torch.maximum(size, expected.abs())
    terms = sum(layer.in_features + 1 for layer in layers)
    same = isinstance(found, Tensor) and found.numel() == expected.numel()
    if same:
        apart = (found.reshape(expected.shape) - expected).abs()
        finite = torch.isfinite(expected)  # others are refused for that
        same = bool((apart <= 4.0 * terms * EPS * size)[finite].all())
    if not same:
        raise NotCertifiableError(
            f"{owner} returns something else on X than its layers do ({_described(read)}), so that "
            "its weights are those of another function; expected a forward that applies them one "
            "after the other."
        )


def _described(read: nn.Sequential) -> str:
    return " -> ".join(type(layer).__name__ for layer in read)


def advice_on(name: str) -> str:
    """What to do about a layer or an operation that has no certificate; "" if nothing is known."""
    text = _ADVICE.get(name.lower().replace("_", ""))
    return f" {text}" if text else ""


class Value:
    """What an operation returns, known by its identity alone."""


class Rows:
    """The number of rows of the data, as ``x.size(0)`` has it."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor of weights, its name in the network, and a key that only the same weights share."""

    name: str
    tensor: Tensor
    key: Hashable

    @property
    def T(self) -> Weight:
        """The same weights, with the axes of a matrix exchanged."""
        return replace(self, tensor=self.tensor.T) if self.tensor.ndim == 2 else self


class _Unread(Exception):
    """An operation that is known, with arguments that are not."""


class Chain:
    """The layers that a graph has so far.

    Parameters
    ----------
    owner : str
        Whose graph it is, for messages.

    Attributes
    ----------
    value : Value
        What the next operation has to take: the data at first.
    names : list of str
        Of the linear layers, from below.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.value = Value()
        self.names: list[str] = []
        self._layers: list[nn.Module] = []
        self._used: dict[Hashable, str] = {}
        self._width: int | None = None  # of the last value, where it is known
        self._flat = False  # whether the outputs have lost their second axis

    def apply(self, word: str, shown: str, *arguments: Any, **named: Any) -> Value:
        """Let an operation act on the last value, and return its result.

        Parameters
        ----------
        word : str
            One that is known here.
        shown : str
            What it is called where it comes from.
        *arguments, **named
            As of torch's function; weights are `Weight`.
        """
        if word not in WORDS:
            raise self.refused(shown)
        self._follows(shown, [*arguments, *named.values()])
        if word == "add" and arguments and arguments[-1] is self.value:
            arguments = arguments[::-1]
        if not arguments or arguments[0] is not self.value:
            raise self.refused(f"{shown} in a form that is not read")
        act = getattr(self, f"_{word}")
        try:
            inspect.signature(act).bind(*arguments[1:], **named)
            act(*arguments[1:], **named)
        except (TypeError, _Unread) as error:
            raise self.refused(f"{shown} in a form that is not read") from error
        self.value = Value()
        return self.value

    def append(self, layer: nn.Module, name: str, *arguments: Any) -> Value:
        """Let a layer of torch act on the last value, and return its result."""
        self._follows(name, list(arguments))
        for key, parameter in layer.named_parameters():
            self._use(Weight(f"{name}.{key}", parameter, id(parameter)))
        if isinstance(layer, nn.Linear):
            self._fits(layer.in_features, name)
            self._width = layer.out_features
            self.names.append(name)
        self._layers.append(layer)
        self.value = Value()
        return self.value

    def network(self, result: Any, weights: Iterable[str]) -> nn.Sequential:
        """Return the network with this result, which has to use all of its weights."""
        if result is not self.value:
            raise NotCertifiableError(
                f"{self.owner} returns something else than the result of its last operation; "
                "expected one tensor of outputs."
            )
        if not self.names:
            raise NotCertifiableError(f"{self.owner} has no Linear layer; expected two or more.")
        unused = sorted(set(weights) - set(self._used.values()))
        if unused:
            raise NotCertifiableError(
                f"{unused[0]} of {self.owner} takes no part in the outputs, and its squares would "
                "be in the penalty of the whole; expected weights that are used. Remove it."
            )
        return nn.Sequential(*self._layers)

    def refused(self, shown: str) -> NotCertifiableError:
        """Return the refusal of an operation."""
        return NotCertifiableError(
            f"{self.owner} has the operation {shown}; expected a chain of Linear and ReLU, with "
            "nothing beside them but Flatten, Identity and Dropout in eval mode."
            f"{advice_on(shown)}"
        )

    def _follows(self, shown: str, arguments: list[Any]) -> None:
        given = [argument for argument in arguments if isinstance(argument, Value)]
        if given != [self.value]:
            raise NotCertifiableError(
                f"{self.owner} is no chain: {shown} does not take the result of the operation "
                "before it, and that alone. Networks with branches, residual connections or "
                "several inputs are not read."
            )
        if self._flat:
            raise NotCertifiableError(
                f"{self.owner} has {shown} behind a squeeze, which takes away the axis of the "
                "outputs; expected that at the very end."
            )

    def _use(self, weight: Weight) -> None:
        if weight.key in self._used:
            raise NotCertifiableError(
                f"{self.owner} uses {self._used[weight.key]} twice; expected weights of its own "
                "for each layer: shared ones have another penalty."
            )
        self._used[weight.key] = weight.name

    def _fits(self, width: int, name: str) -> None:
        if self._width not in (None, width):
            raise NotCertifiableError(
                f"{name} of {self.owner} takes {width} inputs, but {self._width} come from below."
            )

    def _linear(self, weight: Any, bias: Any = None) -> None:
        if not isinstance(weight, Weight) or weight.tensor.ndim != 2:
            raise _Unread
        self._fits(weight.tensor.shape[1], weight.name)
        self._use(weight)
        self._width = len(weight.tensor)
        self.names.append(weight.name.removesuffix(".weight"))
        self._layers.append(linear(weight.tensor))
        if bias is not None:
            self._add(bias)

    def _matmul(self, matrix: Any) -> None:
        if not isinstance(matrix, Weight) or matrix.tensor.ndim != 2:
            raise _Unread
        self._linear(matrix.T)

    def _add(self, bias: Any, alpha: Any = 1) -> None:
        last = self._layers[-1] if self._layers else None
        if not isinstance(bias, Weight) or bias.tensor.shape != (self._width,) or alpha != 1:
            raise _Unread
        if not isinstance(last, nn.Linear) or getattr(last, "bias", None) is not None:
            raise _Unread
        self._use(bias)
        self._layers[-1] = linear(last.weight.detach(), bias.tensor)

    def _relu(self, inplace: Any = False) -> None:
        self._layers.append(nn.ReLU())

    def _clamp(self, min: Any = None, max: Any = None) -> None:
        if min is None or max is not None or min != 0:
            raise _Unread
        self._relu()

    def _dropout(self, p: Any = 0.5, training: Any = True, inplace: Any = False) -> None:
        if training and p != 0.0:
            raise NotCertifiableError(
                f"{self.owner} has Dropout in training mode, which draws other outputs each time; "
                "expected eval mode, where it does nothing: network.eval(), and training="
                "self.training where forward calls dropout."
            )

    def _identity(self) -> None:
        """Do nothing."""

    def _flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> None:
        if start_dim not in (0, 1) or end_dim not in (-1, 1):
            raise _Unread
        if start_dim == 0:
            self._view(-1)

    def _view(self, *sizes: Any) -> None:
        shape = list(sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes)
        if shape == [-1]:
            self._squeeze()
        elif len(shape) != 2 or not (shape[1] == -1 or isinstance(shape[1], int)):
            raise _Unread
        elif shape[1] != -1:  # as many columns as there are change nothing, whatever the rows
            self._fits(shape[1], "a view")
            self._width = shape[1]
        elif not isinstance(shape[0], Rows):
            raise _Unread

    def _squeeze(self, dim: Any = None) -> None:
        dims = list(dim) if isinstance(dim, list | tuple) else [dim]
        if self._width != 1 or dims not in ([None], [1], [-1]):
            raise _Unread
        self._flat = True
