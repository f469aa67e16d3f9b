r"""Descent from He's start times a scale, without another training loop.

A two-layer network without biases of its own is homogeneous of degree two: :math:`f_{s\theta} = s^2
f_\theta`. So descent on :math:`F_{X, y, \beta}` from :math:`s\,\theta^0` visits :math:`s` times
what it visits from :math:`\theta^0` on :math:`F_{X, y/s^2, \beta/s^2}`, whose values are
:math:`s^{-4}` times as high:

* SGD with the rate :math:`s^2 \eta` there is SGD with the rate :math:`\eta` here (proved in the
  chapter on the ECG);
* Adam does not see the size of gradients. Its steps are of the size of its rate, so :math:`\eta/s`
  there is :math:`\eta` here; the constant 1e-8 that keeps it from dividing by zero is :math:`s^3`
  times as large here;
* L-BFGS has no rate. The length of its first step is its own choice in both cases.

With scale 1 it is `convexlib.training.train` to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convexlib.networks import TwoLayerReLU
from convexlib.training import Training, train
from convexlib.training.two_layer import lbfgs


def descend_from(
    scale: float,
    name: str,
    X: Tensor,
    y: Tensor,
    *,
    beta: float,
    rates: Sequence[float] = (1.0,),
    batch_size: int | None = None,
    **options: Any,
) -> Training[TwoLayerReLU]:
    """Train a two-layer network from He's start times `scale`.

    Parameters
    ----------
    scale : float
        Of the initial weights of both layers.
    name : str
        An optimizer of `convexlib.training.train`, or ``"lbfgs"``.
    X, y, beta, rates, batch_size, options
        As for `train`; ``"lbfgs"`` has no rates and no batches.

    Returns
    -------
    Training
        In the terms of X, y and beta.
    """
    data: dict[str, Any] = {"beta": beta / scale**2, **options}
    targets = y / scale**2
    if name == "lbfgs":
        run = lbfgs(X, targets, **data)
    else:
        there = [rate * scale**2 if name.startswith("sgd") else rate / scale for rate in rates]
        run = train(X, targets, optimizer=name, rates=there, batch_size=batch_size, **data)
        where = run.rates.index(run.best_rate)
        run = replace(run, rates=tuple(rates), best_rate=rates[where])
    network = run.best_network
    with torch.no_grad():
        scaled = TwoLayerReLU(scale * network.U, scale * network.alpha)
    return replace(
        run,
        objective=scale**4 * run.objective,
        best_objective=scale**4 * run.best_objective,
        best_network=scaled,
    )
