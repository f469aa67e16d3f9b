"""`convexlib certify MODEL.pt DATA.csv --beta B`: a bound for a network trained anywhere."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convexlib.certify import Certificate, MissingNeuron, certify, missing_neuron, polish
from convexlib.certify.certificate import SECONDS
from convexlib.certify.dispatch import REGULARIZERS, depth_of
from convexlib.checks import (
    check_beta,
    check_device,
    check_positive_int,
    check_real,
    readable_count,
)
from convexlib.cli.console import DONE, FAILED, check_writable, complain, say, tell, write
from convexlib.cli.models import load_model
from convexlib.cli.predict import Scales, saved, scales_in
from convexlib.cli.tables import Table, add_table_options, load_table, one_hot
from convexlib.errors import InputError
from convexlib.losses import LOSSES, get_loss
from convexlib.networks import ParallelReLU, TwoLayerReLU
from convexlib.problems.base import double

_TEXT = (
    "Bound how far a trained ReLU network is from the global optimum of its training objective, "
    "loss + beta * penalty without 1/n. MODEL is a state_dict of Linear layers, alone or in a "
    "checkpoint, with --activation relu; a state_dict of a convexlib network; or a graph: a file "
    "of torch.export.save, or one that ends in .onnx. To a file of `convexlib fit`, which knows "
    "its activation and beta, the table comes as it came to fit. No code in it is run. Exit code "
    "1: the certified gap misses --tol."
)
_PROOFS = {
    "branch and bound": "all directions were searched, floating-point error included",
    "enumeration": "all activation patterns of the data were listed",
    "quadratic": "by a bound that holds at any rank; it is not tight",
    "spectral": "by a bound that holds at any rank; it is loose",
    "moments": "by a bound at any rank, for which the dual point was chosen; it is not tight",
    "pairs": "by a bound on pairs of samples, for which the dual point was chosen; it is not tight",
    "joint": "by a bound on all outputs together, for which the dual point was chosen; it is not "
    "tight",
    "positive leaves": "by a bound for sub-networks of any signs; it is not tight",
}
_ROUNDS = 10
_DIGITS = 17  # all that a float64 has
_SHOWN = 8  # weights of a direction that are printed
_NEGLIGIBLE = 1e-9  # part of the objective that is not worth a neuron; float32 rounds by more


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = _TEXT
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("data", metavar="DATA.csv", type=Path)
    parser.add_argument(
        "--beta",
        type=float,
        help="no 1/n; MSELoss with weight decay w has n * w / 2 (default: that of a file of fit)",
    )
    parser.add_argument(
        "--activation",
        choices=("relu",),  # that have certificates
        help="between the layers, and nothing behind the last: a state_dict does not tell, and a "
        "graph does",
    )
    parser.add_argument(
        "--layers",
        type=lambda text: text.split(","),
        metavar="FIRST,SECOND",
        help="the Linear layers of a state_dict from below, where their shapes leave a choice",
    )
    parser.add_argument("--loss", choices=tuple(LOSSES), default="squared")
    parser.add_argument("--regularizer", choices=REGULARIZERS, help='default: "weight decay"')
    parser.add_argument(
        "--target",
        default="last",
        metavar="NAME",
        help="column of the targets, or NAME,NAME for several outputs (default: last)",
    )
    parser.add_argument(
        "--one-hot",
        action="store_true",
        help="the target's column holds classes 0, 1, ..., one for each output",
    )
    add_table_options(parser)
    parser.add_argument("--device", default="cpu", help="of the network: cpu (default) or cuda")
    parser.add_argument("--tol", type=float, help="largest relative gap for exit code 0")
    parser.add_argument(
        "--max-seconds", type=float,
        help="processor time for better dual points where the rank is above 5 "
        f"(default: {SECONDS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--max-nodes", type=int, default=5_000_000, help="budget of the proof (default: 5000000)"
    )
    parser.add_argument(
        "--digits",
        type=int,
        default=9,
        help=f"significant digits of objectives, at most {_DIGITS} (default: 9)",
    )
    parser.add_argument(
        "--polish",
        type=Path,
        metavar="OUT.pt",
        help="improve the network, and save its state_dict here, with the keys of an nn.Sequential",
    )
    parser.add_argument(
        "--rounds", type=int, help=f"of new neurons when polishing (default: {_ROUNDS})"
    )
    parser.set_defaults(run=run_certify)


def run_certify(chosen: argparse.Namespace) -> int:
    """Certify, say what is missing, polish if asked to, and compare with the tolerance."""
    digits = check_positive_int(chosen.digits, "--digits")
    if digits > _DIGITS:
        raise InputError(f"--digits is {readable_count(digits)}; expected at most {_DIGITS}.")
    if chosen.tol is not None and check_real(chosen.tol, "--tol") < 0:
        raise InputError(f"--tol is {chosen.tol:g}; expected a relative gap of at least 0.")
    rounds = _ROUNDS if chosen.rounds is None else chosen.rounds
    check_positive_int(rounds, "--rounds", minimum=0)
    if chosen.rounds is not None and chosen.polish is None:
        raise InputError("got --rounds without --polish; expected both, or neither.")
    if chosen.polish is not None:
        check_writable(chosen.polish, chosen.model, chosen.data)
    place = check_device(chosen.device)
    scales = scales_in(chosen.model)
    beta, activation = _setting(chosen, scales)
    table = _read(chosen, scales)
    widths = len(table.features), None if chosen.one_hot else len(table.targets)
    model = load_model(chosen.model, activation, chosen.layers, widths)
    table = _matched(model.network, table, chosen)
    network = model.network.to(place)
    X, y = (torch.from_numpy(part).to(place) for part in (table.X, table.y))
    options: dict[str, Any] = {
        "beta": beta,
        "loss": chosen.loss,
        "regularizer": chosen.regularizer,
        "max_nodes": chosen.max_nodes,
        "max_seconds": chosen.max_seconds,
    }
    depth = depth_of(network)  # others are refused before anything is said of them
    say("read as", f"{_described(network)}, {model.source}")
    plural = "s" if len(table.targets) > 1 else ""
    say(
        "data",
        f"{len(y)} rows, {len(table.features)} features, target{plural} {', '.join(table.targets)}",
    )
    if scales is not None:
        say("scales", "of the model file: features and target in its standard units")
    certificate = certify(network, X, y, progress=True, **options)
    _print_certificate(certificate, network, X, y, beta, digits)
    if depth == 2 and y.ndim == 1:
        missing = missing_neuron(network, X, y, beta=beta, loss=chosen.loss, progress=True)
        _print_missing(missing, table, certificate.primal)
    if chosen.polish is not None:
        polished = polish(network, X, y, rounds=rounds, progress=True, **options)
        tell()
        for stage in polished.stages:
            say(stage.name, f"{stage.objective:.{digits}g}, {stage.neurons} neurons")
        state = {name: tensor.cpu() for name, tensor in polished.network.state_dict().items()}
        write(chosen.polish, _saved(state, scales, beta))
        say("saved", str(chosen.polish))
        certificate = polished.certificate
        _print_certificate(certificate, polished.network, X, y, beta, digits)
    return _verdict(certificate, chosen.tol)


def _setting(chosen: argparse.Namespace, scales: Scales | None) -> tuple[float, str | None]:
    """Beta and the activation, both of which a file of `convexlib fit` knows."""
    if scales is not None:
        return check_beta(scales.beta if chosen.beta is None else chosen.beta), "relu"
    if chosen.beta is None:
        raise InputError(
            f"--beta is missing, and {chosen.model} is no file of `convexlib fit`, which holds its "
            "own; expected the beta of the training."
        )
    return check_beta(chosen.beta), chosen.activation


def _read(chosen: argparse.Namespace, scales: Scales | None) -> Table:
    """The table; for a network of `convexlib fit` its columns, in the units of that fit."""
    how: dict[str, Any] = {
        "header": not chosen.no_header,
        "delimiter": chosen.delimiter,
        "decimal": chosen.decimal,
    }
    if scales is None:
        return load_table(chosen.data, chosen.target, **how)
    if chosen.target not in ("last", scales.target):
        raise InputError(
            f"--target is {chosen.target!r}, and {chosen.model} was fitted to {scales.target!r}; "
            "expected the same."
        )
    if (scales.classes is None) != (chosen.loss == "squared"):
        kind = "a number" if scales.classes is None else "classes"
        expected = "squared" if scales.classes is None else "logistic"
        raise InputError(
            f"{chosen.model} was fitted to {kind}; expected --loss {expected}, as `convexlib fit` "
            "trains it."
        )
    if chosen.one_hot:
        raise InputError(
            f"--one-hot is for classes 0, 1, ..., and {chosen.model} holds the names of its own; "
            "expected the table as `convexlib fit` had it, without the option."
        )
    labels = scales.classes is not None
    table = load_table(chosen.data, scales.target, features=scales.features, labels=labels, **how)
    y = scales.targets(table.y)
    targets = tuple(scales.classes or ()) if y.ndim == 2 else table.targets
    return replace(table, X=scales.standard(table.X), y=y, targets=targets)


def _saved(state: dict[str, Tensor], scales: Scales | None, beta: float) -> bytes:
    """A file of weights, and of the scales that they came with."""
    if scales is not None:
        return saved(state, replace(scales, beta=beta))
    # In memory: of a full disk torch's writer says nothing that a reader understands.
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _matched(network: nn.Module, table: Table, chosen: argparse.Namespace) -> Table:
    """The table with as many features and targets as the network has inputs and outputs."""
    inputs, outputs = _widths(network)
    features, targets, rows = len(table.features), len(table.targets), len(table.y)
    columns = f"{features} column{'s' * (features > 1)} beside the target{'s' * (targets > 1)}"
    named = ",".join((*table.features, *table.targets)[inputs:])
    if inputs != features:
        advice = ""
        if targets < outputs and inputs + outputs == features + targets:
            advice = f" It has {outputs} outputs: name a column for each, as in --target {named}."
        elif rows in (inputs, inputs + outputs):
            advice = f" It has {rows} rows: are they the features? A line is a sample."
        raise InputError(
            f"{chosen.model} takes {inputs} inputs, and {chosen.data} has {columns} "
            f"({', '.join(table.targets)}); expected the inputs as the network saw them.{advice}"
        )
    if chosen.one_hot:
        table = one_hot(table, outputs, 0.0 if chosen.loss == "squared" else -1.0)
    elif outputs != targets:
        raise InputError(
            f"{chosen.model} has {outputs} output{'s' * (outputs > 1)}, and {chosen.data} "
            f"{targets} target{'s' * (targets > 1)} ({', '.join(table.targets)}); expected one for "
            "each. Name the columns with --target NAME,NAME, or classes 0, 1, ... with --one-hot."
        )
    if outputs > 1 and chosen.polish is not None:
        raise InputError(
            f"{chosen.model} has {outputs} outputs; expected one with --polish, which improves "
            "networks of one output."
        )
    return table


def _widths(network: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a network from a file."""
    if isinstance(network, nn.Sequential):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        return layers[0].in_features, layers[-1].out_features
    assert isinstance(network, TwoLayerReLU | ParallelReLU)
    return network.U.shape[-1], network.alpha.shape[1] if network.alpha.ndim == 2 else 1


def _verdict(certificate: Certificate, tol: float | None) -> int:
    """The exit code."""
    if tol is None or (certificate.rigorous and certificate.relative_gap <= tol):
        return DONE
    proven = "certified" if certificate.rigorous else "not certified"
    complain(f"the relative gap {certificate.relative_gap:.2e} ({proven}) misses --tol {tol:g}.")
    return FAILED


def _print_certificate(
    certificate: Certificate, network: nn.Module, X: Tensor, y: Tensor, beta: float, digits: int
) -> None:
    """Print the objective and its parts, the bound, and what the bound is worth."""
    with torch.no_grad():
        fitted = double(network)(X).reshape(y.shape)
    loss = get_loss(certificate.loss).value(fitted, y)
    penalty = certificate.primal - loss
    say(
        "objective",
        f"{certificate.primal:.{digits}g} = {loss:.{digits}g} ({certificate.loss} loss) + "
        f"{penalty:.{digits}g} ({beta:g} x {certificate.regularizer})",
    )
    bound = f"{certificate.dual:.{digits}g}"
    say("lower bound", f"{bound}, for networks of this kind and any width")
    say("gap", f"{certificate.gap:.3g}, relative {certificate.relative_gap:.2e}")
    kind = "yes" if certificate.rigorous else "no"
    reason = _PROOFS.get(certificate.method, "feasible on some patterns only")
    say("rigorous", f"{kind}: {certificate.method}, {reason}")


def _print_missing(missing: MissingNeuron, table: Table, objective: float) -> None:
    """Print the neuron that the network lacks most."""
    if missing.gain <= _NEGLIGIBLE * objective:
        say("missing", f"no neuron that lowers it by {_NEGLIGIBLE:g} of its value was found")
        say("", f"(no neuron exceeds {missing.bound:.7f} beta)")
        return
    names = [*table.features, "bias"]
    weights = list(zip(names, missing.direction.tolist(), strict=False))
    weights.sort(key=lambda pair: -abs(pair[1]))
    shown = ", ".join(f"{name} {weight:+.4f}" for name, weight in weights[:_SHOWN])
    more = f" and {len(weights) - _SHOWN} smaller ones" if len(weights) > _SHOWN else ""
    sign = "+" if missing.sign > 0 else "-"
    say("missing", f"a neuron with output {sign} and direction {shown}{more}")
    say("", f"it reaches {missing.violation:.4f} beta (no neuron exceeds {missing.bound:.4f})")
    say("", f"it is active on {missing.active} of {len(table.y)} rows")
    say("", f"adding it lowers the objective by {missing.gain:.3g} at once")


def _described(network: nn.Module) -> str:
    """Layers and their sizes."""
    if isinstance(network, nn.Sequential):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        biases = [str(place) for place, layer in enumerate(layers, 1) if layer.bias is not None]
        text = f"biases in layer{'s' if len(biases) > 1 else ''} {', '.join(biases)}"
        shape = " -> ReLU -> ".join(
            f"Linear({layer.in_features}, {layer.out_features})" for layer in layers
        )
        return f"{shape}, {text if biases else 'no biases'}"
    return f"{type(network).__name__}({network.extra_repr()})"
