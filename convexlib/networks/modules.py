"""A module of any class as a plain network: read by tracing, and compared with what it computes.

`torch.fx` records the operations of ``forward`` on symbolic data. They are read as a `Chain`, so
that whatever is no Linear or ReLU is refused by its name. What was read then has to return what
the module returns on the data, in float64 and to rounding: ``forward`` may do what no trace shows.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter

from convexlib.arrays import EPS
from convexlib.errors import NotCertifiableError
from convexlib.networks.chain import Chain, Rows, Value, Weight
from convexlib.networks.parallel import ParallelReLU
from convexlib.networks.two_layer import TwoLayerReLU

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
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
        ``nn.DataParallel`` and ``torch.compile`` are taken off. A module of any other class is
        read as an ``nn.Sequential`` of its layers.
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
        if part._forward_hooks or part._forward_pre_hooks:
            raise NotCertifiableError(
                f"{name or owner} has forward hooks, which may change what it computes. Remove "
                "them; remove_weight_norm and remove_spectral_norm leave an ordinary layer."
            )
    read = _read(network, owner)
    _compare(network, read, X, owner)
    return read


def _is_known(network: nn.Module) -> bool:
    """Whether those who read networks know it, and refuse it by name if need be."""
    if any("forward" in vars(part) for part in network.modules()):  # not that of its class
        return False
    if isinstance(network, TwoLayerReLU | ParallelReLU | nn.ModuleList):
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
            f"{owner} cannot be traced ({_first_line(error)}); expected a forward that takes one "
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
        return chain.apply("dropout", "Dropout", *given, training=layer.training)
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
                f"{owner} fails on X of shape {tuple(X.shape)} in float64 ({_first_line(error)})."
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
