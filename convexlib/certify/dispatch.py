"""`certify`: which network it is, by which penalty it is measured, and who bounds it."""

from __future__ import annotations

from typing import Any

from torch import nn

from convexlib.arrangements import Arrangements
from convexlib.certify.batchnorm import certify_normalised
from convexlib.certify.certificate import Certificate, check_dual_point, reporting, seconds_for
from convexlib.certify.outputs import certify_outputs
from convexlib.certify.parallel import certify_parallel
from convexlib.certify.two_layer import as_two_layer, certify_two_layer
from convexlib.checks import (
    as_tensor,
    check_beta,
    check_choice,
    check_data,
    check_flag,
    check_outputs,
    check_positive_int,
    check_same_device,
)
from convexlib.errors import InputError, NotCertifiableError
from convexlib.losses import LOSSES
from convexlib.networks import ParallelReLU, TwoLayerReLU
from convexlib.networks.modules import advice_on, as_plain
from convexlib.networks.two_layer import layers_of
from convexlib.problems.parallel import Units


def certify(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    beta: float,
    loss: str = "squared",
    regularizer: str | None = None,
    arrangements: Arrangements | None = None,
    units: Units | None = None,
    refine: bool = True,
    max_nodes: int = 5_000_000,
    max_units: int = 100_000,
    max_seconds: float | None = None,
    z: Any = None,
    progress: bool = False,
) -> Certificate:
    r"""Bound the distance of a ReLU network from the global optimum.

    The objective is :math:`L(f(X)) + \beta\,\Omega`, without 1/n, where L is
    :math:`\tfrac12\|f(X) - y\|^2` unless another `loss` is named. Network and `regularizer` choose
    :math:`\Omega`:

    =============================  ==================  ============================================
    network                        ``regularizer``     :math:`\Omega`
    =============================  ==================  ============================================
    two layers                     ``"weight decay"``  :math:`\tfrac12` sum of all squared weights,
                                                       biases included (the default)
    two layers                     ``"path"``          :math:`\sum_j \|u_j\| |\alpha_j|`
    batch normalisation            ``"weight decay"``  see `certify_batchnorm` (the default)
    three layers                   ``"three layers"``  that of `ThreeLayer`, which needs
                                                       :math:`\|W_{1k}\|_F \le 1`
    three and more layers          ``"path"``          that of `PathRegularized`
    =============================  ==================  ============================================

    Parameters
    ----------
    network : nn.Module
        Trained in any way: a `TwoLayerReLU` or ``nn.Sequential(Linear, ReLU, Linear)`` with one
        output or several; with one output also ``nn.Sequential(Linear, BatchNorm1d, ReLU,
        Linear)``, a `ParallelReLU`, a deeper ``nn.Sequential`` of ``Linear(bias=False)`` and
        ``ReLU``, or an ``nn.ModuleList`` of such, whose sum is the network. A standard network of
        three or more layers is the parallel network of the neurons of its last hidden layer (see
        `as_parallel`), and its path penalty the sum over those. A module of any other class whose
        ``forward`` is such a chain of layers is read by ``torch.fx``, with ``Flatten``,
        ``Identity`` and, in eval mode, ``Dropout`` left out; what was read has to return the same
        outputs on X. ``nn.DataParallel``, ``AveragedModel`` and ``torch.compile`` are taken off.
    X : array (n, d)
        Data. If the first layer has a bias, a column of ones is added here.
    y : array (n,) or (n, c)
        Targets, with a column for each output; (n,) for one output.
    beta : float
        Regularisation of the objective above.
    loss : {"squared", "logistic", "squared_hinge"}
        See `TwoLayer`; networks of two layers without batch normalisation know all of them, others
        the first.
    regularizer : {"weight decay", "three layers", "path"}, optional
        None takes the default of the table; from three layers on there is none, as no penalty is
        the usual one.
    arrangements : Arrangements, optional
        Two layers and batch normalisation: check dual feasibility on these patterns instead of on
        all directions. The certificate is rigorous only if they are proven exhaustive for the
        very matrix that the first layer sees.
    units : Units, optional
        Three and more layers: check dual feasibility on these units, for instance
        ``sample_units(X, 1000)``. The bound is then about them alone and not rigorous.
    refine : bool
        Improve the dual point by solving the convex program. Without it the scaled residual of the
        network is used, which is cheap but loose unless the network is already close to optimal.
    max_nodes : int
        Budget of the branch and bound. When it runs out the bound is looser but valid.
    max_units : int
        The longest list of units to make. If there are more, the bound is one that needs no list:
        proven (``method="positive leaves"``), but not tight.
    max_seconds : float, optional
        Two layers and batch normalisation: processor time for better dual points where the first
        ones leave a gap, as they do above rank 5 (see Notes). None: 12 s, or none with
        ``refine=False``.
    z : array (n,), optional
        A dual point, of y's shape, to try first, for instance ``result.z`` of the solve that the
        network is from, whose program then need not be solved again. Nothing is believed of it: the
        bound is proven for whatever is given, and that of another point is merely lower. Where it
        leaves a gap of more than about a millionth, the dual point is refined as without it; with
        ``refine=False`` and no `max_seconds` it is all that is looked at.
    progress : bool
        Show on a terminal how long it has taken and, for two layers, the best bound so far.

    Returns
    -------
    Certificate

    Raises
    ------
    NotCertifiableError
        For a network of another kind, one with non-finite weights, or a penalty without a program;
        for three and more layers or batch normalisation with another loss than the squared one or
        several outputs; for several outputs with arrangements.
    InputError
        For unusable data, dual points or times, or a penalty, patterns or units that do not go with
        the network.

    Notes
    -----
    Two layers: the bound is tight where branch and bound ends within the budget, up to rank 5 for
    some hundred rows, and for more rows or a weak beta at lower ranks only; or where the patterns
    can be listed. Elsewhere dual points are chosen for a bound by quadratic functions, which leaves
    some per cent at a tenth of ``beta_max``, more at a weaker beta, and depends on the time that it
    has; ``method="pairs"`` mostly has the best of them for a hundred rows and more, ``"moments"``
    for fewer. Several outputs share neurons and are bounded together, to about 1e-4 at best (see
    ``convexlib/certify/outputs.py``); dual points for all of them at once are ``method="joint"``,
    and want more time from some hundred rows on. Deeper: it is tight if the
    units can be listed, and for sub-networks of one neuron per layer. From four layers on, networks
    whose sub-networks share neurons are bounded by trees that do not. Checked by
    ``tests/certify/``.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> y = np.array([2.0, 0.0, 0.0, 1.0])
    >>> problem = cl.TwoLayer(X, y, beta=0.1)
    >>> network = problem.to_network(cl.solve(problem))
    >>> certificate = cl.certify(network, X, y, beta=0.1)
    >>> certificate.relative_gap < 1e-5, certificate.rigorous
    (True, True)
    """
    y = as_tensor(y, "y")
    several = y.ndim == 2 and y.shape[1] > 1
    X, y = check_outputs(X, y, "y") if several else check_data(X, y)
    beta, refine = check_beta(beta), check_flag(refine, "refine")
    check_flag(progress, "progress")
    check_same_device(network, X)
    network = as_plain(network, X)
    check_positive_int(max_nodes, "max_nodes", minimum=0)
    check_positive_int(max_units, "max_units")
    max_seconds = seconds_for(max_seconds, refine)
    check_choice(loss, tuple(LOSSES), "loss")
    z = None if z is None else check_dual_point(z, X, y.shape)
    depth = depth_of(network)
    regularizer = regularizer_of(network, depth, regularizer)
    name, other = ("units", units) if depth == 2 else ("arrangements", arrangements)
    if other is not None:
        wanted = "arrangements" if depth == 2 else "units"
        raise InputError(
            f"{name} were given for a network of {depth} layers; expected {wanted}, or neither."
        )
    if loss != "squared" and (depth > 2 or kinds_of(network) == BATCHNORM):
        raise NotCertifiableError(
            f"loss is {loss!r} and the network has {depth} layers or batch normalisation; expected "
            'loss="squared" for those.'
        )
    if several and (depth > 2 or kinds_of(network) == BATCHNORM or arrangements is not None):
        raise NotCertifiableError(
            f"y has shape {tuple(y.shape)}; expected (n,) for a network of three and more "
            "layers, one with batch normalisation, and for given arrangements."
        )
    options: dict[str, Any] = {"refine": refine, "max_nodes": max_nodes, "z": z}
    with reporting(progress) as report:
        if several:
            return certify_outputs(
                as_two_layer(network), X, y, beta, loss=loss, regularizer=regularizer,
                max_seconds=max_seconds, report=report, **options,
            )  # fmt: skip
        if depth > 2:
            return certify_parallel(
                network, X, y, beta, regularizer=regularizer, units=units, max_units=max_units,
                **options,
            )  # fmt: skip
        if kinds_of(network) == BATCHNORM:
            return certify_normalised(
                network, X, y, beta, arrangements=arrangements, max_seconds=max_seconds,
                report=report, **options,
            )  # fmt: skip
        return certify_two_layer(
            as_two_layer(network), X, y, beta, loss=loss, regularizer=regularizer,
            arrangements=arrangements, max_seconds=max_seconds, report=report, **options,
        )  # fmt: skip


REGULARIZERS = ("weight decay", "three layers", "path")
BATCHNORM = ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def depth_of(network: nn.Module) -> int:
    """Layers of weights of a network that has a certificate; others are refused by name."""
    if isinstance(network, TwoLayerReLU):
        return 2
    if isinstance(network, ParallelReLU):
        return len(network.inner) + 2
    if isinstance(network, nn.ModuleList) and len(network):
        return depth_of(network[0])
    kinds = kinds_of(network)
    if kinds == BATCHNORM:
        return 2
    depth = (len(kinds) + 1) // 2
    if depth < 2 or kinds != ["Linear", "ReLU"] * (depth - 1) + ["Linear"]:
        advice = next(filter(None, map(advice_on, kinds)), "")
        if kinds[-1] == "ReLU" and len(kinds) > 1:
            advice = " A ReLU behind the last layer makes another network, with other optima."
        raise NotCertifiableError(
            f"cannot certify {' -> '.join(kinds)}; expected a TwoLayerReLU, a ParallelReLU, or an "
            f"nn.Sequential of Linear and ReLU in turn, from Linear to Linear.{advice}"
        )
    return depth


def kinds_of(network: nn.Module) -> list[str]:
    """Names of the layers of an nn.Sequential, or of the network."""
    return [type(layer).__name__ for layer in layers_of(network)] or [type(network).__name__]


def regularizer_of(network: nn.Module, depth: int, regularizer: str | None) -> str:
    """The penalty that is meant, or the reason why there is none."""
    if regularizer is not None:
        check_choice(regularizer, REGULARIZERS, "regularizer")
    if kinds_of(network) == BATCHNORM and regularizer not in (None, "weight decay"):
        raise InputError(
            f"regularizer is {regularizer!r}, but a batch-normalised network is measured by "
            '"weight decay" only.'
        )
    if depth == 2 and regularizer == "three layers":
        raise InputError(
            'regularizer is "three layers" but the network has 2; expected "weight decay" or '
            '"path".'
        )
    if depth == 2:
        return regularizer or "weight decay"
    choices = '"three layers" or "path"' if depth == 3 else '"path"'
    if regularizer == "weight decay":
        raise NotCertifiableError(
            f"weight decay on all {depth} layers has no convex program of this kind: it is not "
            "positively homogeneous of degree one in the sub-networks. Certify the network with "
            f"regularizer={choices}."
        )
    if regularizer is None or (regularizer == "three layers" and depth != 3):
        got = "not given" if regularizer is None else f'"{regularizer}"'
        raise InputError(
            f"regularizer is {got} and the network has {depth} layers; expected {choices}. "
            "Weight decay on all layers has no convex program of this kind."
        )
    return regularizer
