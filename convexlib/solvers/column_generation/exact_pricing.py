"""An exact search for the best neuron that gives up when it leads nowhere."""

from __future__ import annotations

import torch
from torch import Tensor

from convexlib.pricing import Pricing, price

_FIRST = 1e7  # samples times cones of the first try: some seconds
_GROWTH = 8
_WORTH = 0.7  # of what is missing may be left after a try with more cones
_LIMIT = 5_000_000  # cones at rank 5 or less; a third for every dimension more


def exact_price(
    X: Tensor, z: Tensor, beta: float, rtol: float, max_nodes: int | None = None
) -> Pricing:
    r"""Bound :math:`\max_{\|u\|\le1} |z^\top (Xu)_+|`, or prove that it is at most beta.

    The search is allowed more cones as long as that brings the bound nearer to what is known to be
    attained; a budget in cones, not in seconds, makes it deterministic.

    Parameters
    ----------
    X, z, beta, rtol
        As for `price`, with ``target=beta``.
    max_nodes : int, optional
        Cones to examine at most, in one try.
    """
    beyond = max(int(torch.linalg.matrix_rank(X)) - 5, 0)
    limit = _LIMIT // 3**beyond if max_nodes is None else max_nodes
    budget = min(max(int(_FIRST / len(X)), 1000), limit)
    missing = float("inf")
    while True:
        priced = price(X, z, target=beta, rtol=rtol, max_nodes=budget)
        left = priced.upper - max(beta, priced.lower)
        violated = priced.lower > beta * (1.0 + rtol)
        exhausted = budget >= limit or priced.nodes == 0  # no branching at all at high rank
        if priced.complete or violated or exhausted or left > _WORTH * missing:
            return priced
        missing, budget = left, min(_GROWTH * budget, limit)
