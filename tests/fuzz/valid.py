"""What must hold of a result, by its type: finite numbers, and bounds on their side."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

import convexlib as cl
from convexlib.problems.base import Problem
from convexlib.training import Training

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative


def valid(value: Any) -> None:
    """Check a result of the library, and what it holds."""
    for kinds, check in CHECKS:
        if isinstance(value, kinds):
            check(value)
            return
    if is_dataclass(value):
        for entry in fields(value):
            valid(getattr(value, entry.name))


def finite(value: float | Tensor | np.ndarray) -> None:
    """Finite where it holds numbers."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    assert array.dtype.kind not in "fc" or np.isfinite(array).all(), "not finite"


def items(value: Any) -> None:
    """Every one of them."""
    for item in value.values() if isinstance(value, dict) else value:
        valid(item)


def drawn(ax: Axes) -> None:
    """A picture that matplotlib can draw."""
    ax.figure.canvas.draw()
    plt.close("all")


def patterns(value: cl.Arrangements) -> None:
    """Patterns are distinct, and gates finite and no longer than one."""
    finite(value.gates)
    assert value.masks.dtype == torch.bool
    assert len(torch.unique(value.masks, dim=0)) == len(value)
    assert math.isfinite(value.perturbation)
    repr(value)


def result(value: cl.Result) -> None:
    """Everything is finite; the bound is compared where the problem is known (`bounded`)."""
    valid([value.weights, value.value, value.dual, value.gap, value.z, value.seconds])
    assert value.gap >= 0.0
    assert value.converged == (value.status is cl.Status.CONVERGED)
    repr(value)


def bounded(value: cl.Result, made: Problem) -> None:
    """The dual bound is below the value, up to the rounding of what both are computed from.

    The dual value is a difference of numbers of the size of the loss at zero: where the value is
    1e-12 of that, as for a tiny beta, its last digits are those of the larger numbers.
    """
    size = abs(made.value(made.zeros()))
    exact = 1e-14 if made.y.dtype == torch.float64 else 1e-6
    slack = ROUNDING[made.y.dtype] * abs(value.value) + exact * size
    assert value.dual <= value.value + slack, "the bound is above the value"


def certificate(value: cl.Certificate) -> None:
    """The dual bound is below the objective, and everything is finite."""
    valid([value.primal, value.dual, value.gap, value.relative_gap, value.z, value.max_neuron])
    assert value.dual <= value.primal + 1e-9 * abs(value.primal), "the bound is above"
    repr(value)


def missing(value: cl.MissingNeuron) -> None:
    """What was found is not above what was proven."""
    valid([value.direction, value.size, value.gain])
    assert value.violation >= 0.0, "the violation is no number"  # it may be infinite
    assert value.violation <= value.bound * (1.0 + 1e-9)


def network(value: nn.Module) -> None:
    """Finite parameters."""
    for parameter in value.parameters():
        finite(parameter)
    repr(value)


def best_network(value: Training) -> None:
    """The best network is finite; a curve of values may end in infinity."""
    network(value.best_network)


def problem(value: Problem) -> None:
    """A problem answers every question about itself, at its zero."""
    zeros = value.zeros()
    found = [value.beta_max(), value.value(zeros), value.dual_norm(value.y)]
    valid([*found, value.penalty(zeros), value.violation(zeros), value.fitted(zeros)])
    assert found[0] >= 0.0
    z = value.dual_scaling(value.loss.dual_point(value.fitted(zeros), value.y))
    dual, objective = value.dual_value(z), value.value(zeros)
    valid([z, dual])
    slack = ROUNDING[value.y.dtype] * abs(objective)
    assert dual <= objective + slack, "weak duality fails at zero"
    network(value.to_network(zeros))
    repr(value)
    assert type(value.with_beta(value.beta)) is type(value)


CHECKS: list[tuple[Any, Any]] = [
    ((bool, int, str, bytes, type(None)), lambda value: None),
    ((float, Tensor, np.ndarray), finite),
    (Axes, drawn),
    (cl.Status, str),
    (cl.Arrangements, patterns),
    (cl.Result, result),
    (cl.Certificate, certificate),
    (cl.MissingNeuron, missing),
    (Problem, problem),
    (nn.Module, network),
    ((list, tuple, dict), items),
]
