"""A graph without branches as a plain network.

Graphs come from modules (`convexlib.networks.modules`) and from files (`convexlib.cli.graphs`).
Both hand over one operation after the other, by a word of this file and with the arguments that
torch has for it. Each operation has to take the result of the one before, each weight is used
once, and whatever is not known here is refused by its name: a network that is read in part would
be certified as another one.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from convexlib.errors import NotCertifiableError
from convexlib.networks.two_layer import linear

_SMOOTH = "Only piecewise linear networks have a finite convex program; use ReLU."
_PATCHES = "Only fully connected layers are read: certify the part that follows, on its inputs."
_NORMALISED = "Of normalised networks, only Linear -> BatchNorm1d -> ReLU -> Linear is read."
_MIRRORS = "It belongs to a Mirrors problem, whose result.gap is its certificate."
_ADVICE = {
    "threshold": 'Networks of one feature with thresholds are Mirrors(activation="threshold"), '
    "whose result.gap is their certificate.",
    "leakyrelu": 'Those of one feature are Mirrors(activation="leaky"), whose result.gap is their '
    "certificate.",
    "dropout": "It changes the objective; without it the network can be certified.",
    **dict.fromkeys(("parallelunits", "switchingunits"), _MIRRORS),
    **dict.fromkeys(("tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus"), _SMOOTH),
    **dict.fromkeys(("conv", "conv1d", "conv2d", "multiheadattention", "lstm", "gru"), _PATCHES),
    **dict.fromkeys(("batchnorm1d", "batchnorm", "batchnormalization", "layernorm"), _NORMALISED),
    "layernormalization": _NORMALISED,
}


def advice_on(name: str) -> str:
    """What to do about a layer or an operation that has no certificate; "" if nothing is known."""
    text = _ADVICE.get(name.lower().replace("_", ""))
    return f" {text}" if text else ""


WORDS = (
    "linear", "matmul", "add", "relu", "clamp", "dropout", "identity", "flatten", "view", "squeeze",
)  # fmt: skip


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
        return replace(self, tensor=self.tensor.T)


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
        if training:
            raise NotCertifiableError(
                f"{self.owner} has Dropout in training mode, which draws other outputs each time; "
                "expected eval mode, where it does nothing. Call network.eval() first."
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
