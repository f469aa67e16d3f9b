r"""Plain torch networks: what a reader gets back, and what a certificate starts from.

A two-layer network is :math:`f(X) = \sum_j (X u_j)_+ \alpha_j`; `U` holds the rows u_j. There is
no separate bias: a bias is a column of ones in X (and is regularised like every weight).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from convexlib.checks import check_numbers, check_weights
from convexlib.errors import ConvexlibError, InputError, NotCertifiableError, first_line


class TwoLayerReLU(nn.Module):
    r"""The network :math:`f(X) = (X U^\top)_+ \, \alpha`.

    Parameters
    ----------
    U : Tensor (m, d)
        First-layer weights, one neuron a row.
    alpha : Tensor (m,) or (m, c)
        Output weights; of c outputs with two axes.

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> U = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> network = cl.TwoLayerReLU(U, torch.tensor([1.0, 1.0]))
    >>> network(torch.tensor([[3.0, 1.0], [1.0, 3.0]])).tolist()  # |x - 1|, with a column of ones
    [2.0, 2.0]
    """

    def __init__(self, U: Tensor, alpha: Tensor) -> None:
        super().__init__()
        check_weights({"U": U, "alpha": alpha})
        if U.ndim != 2 or alpha.ndim not in (1, 2) or alpha.shape[:1] != U.shape[:1]:
            raise InputError(
                f"U has shape {tuple(U.shape)} and alpha {tuple(alpha.shape)}; expected (m, d) "
                "and (m,) or (m, c)."
            )
        self.U = nn.Parameter(U.detach().clone())
        self.alpha = nn.Parameter(alpha.detach().clone())

    @property
    def n_neurons(self) -> int:
        """Number of hidden neurons."""
        return len(self.alpha)

    def hidden(self, X: Tensor) -> Tensor:
        """Outputs of the hidden neurons, (n, m)."""
        return torch.relu(X @ self.U.T)

    def forward(self, X: Tensor) -> Tensor:
        """Outputs (n,) or (n, c) for inputs (n, d)."""
        return self.hidden(X) @ self.alpha

    def extra_repr(self) -> str:
        return f"d={self.U.shape[1]}, neurons={self.n_neurons}"


class TwoLayerGatedReLU(TwoLayerReLU):
    r"""The gated network :math:`f(X) = \sum_j 1[X h_j \ge 0] \odot (X u_j) \, \alpha_j`.

    The gates h_j, shape (m, d), are fixed: a buffer, not a parameter.

    Examples
    --------
    >>> import torch
    >>> import convexlib as cl
    >>> U, gates = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> network = cl.TwoLayerGatedReLU(U, torch.tensor([1.0]), gates)
    >>> network(torch.tensor([[-2.0, 1.0], [5.0, -1.0]])).tolist()
    [-2.0, 0.0]
    """

    gates: Tensor

    def __init__(self, U: Tensor, alpha: Tensor, gates: Tensor) -> None:
        super().__init__(U, alpha)
        check_weights({"gates": gates})
        if gates.shape != U.shape:
            raise InputError(
                f"gates has shape {tuple(gates.shape)}; expected {tuple(U.shape)}, one per neuron."
            )
        self.register_buffer("gates", gates.detach().clone())

    def hidden(self, X: Tensor) -> Tensor:
        """Gated outputs of the hidden neurons, (n, m)."""
        return (X @ self.gates.T >= 0).to(X) * (X @ self.U.T)


def balanced(vectors: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    r"""Split each nonzero v into :math:`u = v/\sqrt{\|v\|}` and :math:`\alpha = \pm\sqrt{\|v\|}`.

    Both factors then have the same norm, which is what makes
    :math:`\tfrac12(\|u\|^2 + \alpha^2) = \|v\|`: the smallest weight decay of that neuron.
    """
    roots = torch.linalg.vector_norm(vectors, dim=1).sqrt()  # (m,)
    return vectors / roots[:, None], signs * roots


@dataclass(frozen=True, eq=False)
class Neurons:
    r"""The neurons :math:`\pm(X v_j)_+` of a two-layer network, none of them zero.

    As a convex program has them: the scale between the layers, which changes nothing, is left out.

    Attributes
    ----------
    vectors : Tensor (m, d)
        :math:`v_j = |\alpha_j| u_j`.
    signs : Tensor (m,)
        Those of :math:`\alpha_j`, 1 or -1.
    """

    vectors: Tensor
    signs: Tensor

    @classmethod
    def of_network(cls, U: Tensor, alpha: Tensor) -> Neurons:
        """Those of the weights (m, d) and (m,) of two layers."""
        vectors = U * alpha.abs()[:, None]
        live = torch.linalg.vector_norm(vectors, dim=1) > 0
        return cls(vectors[live], alpha.sign()[live])

    @classmethod
    def of_blocks(cls, weights: Tensor) -> tuple[Neurons, Tensor]:
        """Those of a program's weights (S, P, d), positive blocks first, and their patterns."""
        side, pattern = torch.linalg.vector_norm(weights, dim=2).nonzero(as_tuple=True)
        return cls(weights[side, pattern], 1.0 - 2.0 * side.to(weights)), pattern

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.signs)

    def balanced(self) -> tuple[Tensor, Tensor]:
        """The weights (m, d) and (m,) of two layers with the least weight decay."""
        return balanced(self.vectors, self.signs)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with given weights, made without a draw from torch's global generator."""
    kind: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    biased = bias is not None
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], len(weight), biased, **kind)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def sequential(
    U: Tensor, alpha: Tensor, has_bias: bool, output_bias: Tensor | None = None
) -> nn.Sequential:
    """Neurons as ``Linear -> ReLU -> Linear``; a bias of the first layer is the last column."""
    if not len(U):  # torch's layers warn when they have no rows: one of zeros stands in
        U, alpha = U.new_zeros(1, U.shape[1]), alpha.new_zeros(1, *alpha.shape[1:])
    first = linear(U[:, :-1], U[:, -1]) if has_bias else linear(U)
    return nn.Sequential(first, nn.ReLU(), linear(alpha.reshape(len(U), -1).T, output_bias))


def side_by_side(networks: list[TwoLayerReLU]) -> TwoLayerReLU:
    """One network (float64, c outputs) of c networks with one output each."""
    U = torch.cat([network.U.detach().double() for network in networks])  # (c m, d)
    alpha = torch.block_diag(*[network.alpha.detach().double()[:, None] for network in networks])
    return TwoLayerReLU(U, alpha)


def squared_weights(network: nn.Module) -> Tensor:
    """Sum of squares of every parameter of a network."""
    squares = [(parameter.detach() ** 2).sum() for parameter in network.parameters()]
    return torch.stack(squares).sum() if squares else torch.zeros((), dtype=torch.float64)


def called(network: nn.Module, X: Tensor) -> Tensor:
    """What a network returns for X, without gradients; one that does not take X is refused."""
    try:
        with torch.no_grad():
            result: Tensor = network(X)
    except ConvexlibError:
        raise
    except Exception as error:  # forward is anybody's code
        held = [f" ({name} has shape {tuple(w.shape)})" for name, w in network.named_parameters()]
        raise InputError(
            f"X has shape {tuple(X.shape)}, which {type(network).__name__}{''.join(held[:1])} does "
            f"not take: {first_line(error)}. Expected a network of this X, with a column of ones "
            "for a bias if X has one."
        ) from error
    if not isinstance(result, Tensor):
        raise InputError(f"the network returns {type(result).__name__}; expected a torch.Tensor.")
    return result


def outputs(network: nn.Module, X: Tensor) -> Tensor:
    """Outputs (n,) of a network that returns (n,) or (n, 1); other shapes are refused."""
    result = called(network, X)
    if result.shape not in ((len(X),), (len(X), 1)):
        raise InputError(
            f"the network returns shape {tuple(result.shape)} for X of shape {tuple(X.shape)}; "
            f"expected ({len(X)},) or ({len(X)}, 1)."
        )
    return result.reshape(-1)


def check_own_forward(network: nn.Module, kind: type[nn.Module]) -> None:
    """Refuse hooks and subclasses of one of convexlib's networks that compute something else."""
    same = type(network).forward is kind.forward
    same &= getattr(type(network), "hidden", None) is getattr(kind, "hidden", None)
    if not same or network._forward_hooks or network._forward_pre_hooks:
        raise NotCertifiableError(
            f"{type(network).__module__}.{type(network).__name__} has hooks or a forward of its "
            f"own, which are not read; expected a plain {kind.__name__} with the same weights."
        )
    _refuse_unread(network, {"U", "alpha", "inner", *_parts(network)})


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers of an nn.Sequential, whose composition it computes; none of other modules.

    Raises
    ------
    NotCertifiableError
        For a network that computes something else than its layers say, so that their weights would
        be those of another function: a forward of its own, hooks (as of weight normalisation), or a
        class that shares only its name with one of torch. And for one whose layers share a weight,
        which its penalty counts once, or that have a parameter besides those of torch's.
    """
    if not isinstance(network, nn.Sequential):
        return []
    layers = list(network)
    known = {kind.__name__: kind for kind in (nn.Linear, nn.ReLU, nn.BatchNorm1d)}
    for module in (network, *layers):
        kind = type(module)
        if module is not network and kind.__name__ not in known:
            continue  # refused by its name
        forward = nn.Sequential.forward if module is network else known[kind.__name__].forward
        refuse_hooks(module, kind.__name__)
        if kind.forward is not forward:
            raise NotCertifiableError(
                f"{kind.__module__}.{kind.__name__} has a forward of its own, which is not read; "
                f"expected that of torch.nn.{forward.__qualname__.split('.')[0]}. Copy the weights "
                "into an nn.Sequential of torch's own layers."
            )
        if module is network:
            _refuse_unread(module, _parts(module))
        else:
            _refuse_unread(module, () if kind is nn.ReLU else ("weight", "bias"))
    refuse_shared(layers, "layer")
    return layers


def _parts(network: nn.Module) -> Collection[str]:
    """The names of those modules in a container that it computes with: all, or none in others."""
    return network._modules if isinstance(network, nn.Sequential | nn.ModuleList) else ()


def _refuse_unread(module: nn.Module, read: Collection[str]) -> None:
    """Refuse parameters that are not read: they have no part in the outputs, but in the penalty."""
    for name, _ in module.named_parameters():
        if name.split(".")[0] not in read:
            raise NotCertifiableError(
                f"{name} of {type(module).__name__} takes no part in the outputs, and its squares "
                "would be in the penalty of the whole; expected weights that are used. Remove it."
            )


def refuse_hooks(module: nn.Module, name: str) -> None:
    """Refuse a module whose forward is not all that it computes."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise NotCertifiableError(
            f"{name} has forward hooks, which may change what it computes. Remove them; "
            "remove_weight_norm, remove_spectral_norm and prune.remove leave an ordinary layer."
        )


def refuse_shared(modules: Iterable[nn.Module], kind: str) -> None:
    """Refuse layers or parts of a network that share a weight: their penalty counts it once."""
    owners: dict[int, int] = {}
    for place, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            first = owners.setdefault(id(parameter), place)
            if first != place:
                raise NotCertifiableError(
                    f"{kind.capitalize()}s {first} and {place} share a {name}; expected weights of "
                    f"its own for each {kind}: shared ones have another penalty. "
                    f"copy.deepcopy({kind}) is a {kind} of its own."
                )


@dataclass(frozen=True, eq=False)
class TwoLayerWeights:
    """A two-layer ReLU network read into float64 tensors.

    Attributes
    ----------
    U : Tensor (m, d) or (m, d + 1)
        First-layer weights; a first-layer bias is the last column.
    alpha : Tensor (m,)
        Output weights.
    has_bias : bool
        Whether U has the extra column, so that X needs a column of ones.
    output_bias : float or None
        The bias of the output layer, None when the network has no such parameter.
    """

    U: Tensor
    alpha: Tensor
    has_bias: bool
    output_bias: float | None

    def augment(self, X: Tensor) -> Tensor:
        """X in float64, with a column of ones if the first layer has a bias."""
        X = X.double()
        if not self.has_bias:
            return X
        return torch.cat([X, X.new_ones(len(X), 1)], dim=1)


def read_two_layer(network: nn.Module) -> TwoLayerWeights:
    """Read a `TwoLayerReLU` or an ``nn.Sequential(Linear, ReLU, Linear)`` with one output.

    Raises
    ------
    NotCertifiableError
        For every other network, with the reason.
    """
    parts = read_outputs(network)
    if len(parts) != 1:
        raise NotCertifiableError(
            f"the output layer has {len(parts)} outputs; expected 1 for targets (n,). With targets "
            f"(n, {len(parts)}) `certify` bounds all outputs of two layers together."
        )
    return parts[0]


def read_outputs(network: nn.Module) -> list[TwoLayerWeights]:
    """Read the same kinds of networks with any number of outputs: one entry for each.

    All have the same U, so that only the outputs' weights differ.

    Raises
    ------
    NotCertifiableError
        For every other network, with the reason.
    """
    if isinstance(network, TwoLayerGatedReLU):
        raise NotCertifiableError(
            "the network is gated: its gates are fixed, so the duality gap of its own convex "
            "program (result.gap) is its certificate. Expected a ReLU network."
        )
    if isinstance(network, TwoLayerReLU):
        check_own_forward(network, TwoLayerReLU)
        U, alpha = network.U.detach().double(), network.alpha.detach().double()
        columns = alpha.T if alpha.ndim == 2 else alpha[None]
        return [TwoLayerWeights(U, column, False, None) for column in columns]
    layers = layers_of(network)
    kinds = [type(layer).__name__ for layer in layers] or [type(network).__name__]
    if kinds != ["Linear", "ReLU", "Linear"]:
        raise NotCertifiableError(
            f"cannot certify {' -> '.join(kinds)}; expected a TwoLayerReLU or "
            "nn.Sequential(Linear, ReLU, Linear)."
        )
    first, last = layers[0], layers[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    if isinstance(first.weight, UninitializedParameter) or last.in_features != first.out_features:
        raise NotCertifiableError(
            f"the first layer is {first} and the last is {last}; expected layers with weights that "
            "fit: as many inputs of the last as outputs of the first."
        )
    for name, weight in network.named_parameters():
        check_numbers(weight, name)
    U = first.weight.detach().double()
    if first.bias is not None:
        U = torch.cat([U, first.bias.detach().double()[:, None]], dim=1)
    biases = [None] * last.out_features if last.bias is None else last.bias.tolist()
    return [
        TwoLayerWeights(U, alpha, first.bias is not None, bias)
        for alpha, bias in zip(last.weight.detach().double(), biases, strict=True)
    ]
