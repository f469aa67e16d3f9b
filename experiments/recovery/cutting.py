r"""One planted neuron among all ReLU neurons: is it of least norm? Cutting planes, with proofs.

The teacher is :math:`(Xw)_+`, :math:`\|w\| = 1`, with A the rows on which it is active. It has the
least norm of all ReLU networks with its outputs exactly if some z has

.. math:: A^\top z = w, \qquad |z^\top (Xu)_+| \le 1 \;\; (\|u\| = 1) .

The constraints are infinitely many; the ones of the neurons found so far leave a polytope. The
point that is taken there has a margin :math:`\mu \le 1`,

.. math:: z^\top (Xu_j)_+ \le 1 - \mu (1 - w^\top u_j), \qquad -z^\top (Xu_j)_+ \le 1 - \mu ,

of which neurons near w can have as much as others, since there :math:`z^\top (Xu)_+ = w^\top u`.
Local ascent looks for neurons that miss half of the margin, several for each linear program. Only
where it finds none, branch and bound goes through all neurons.

**A proof either way.** If branch and bound excludes values above 1, z is a certificate. If the best
margin is negative, the multipliers of its linear program are output weights :math:`a_j` for which
some v has

.. math:: A v + \sum_j a_j (Xu_j)_+ = 0, \qquad w^\top v + \sum_j |a_j| = \mu < 0 :

the neuron :math:`w + tv` with the neurons :math:`t a_j` has the teacher's outputs as long as no
sample changes its side, at a norm of at most :math:`1 + t\mu + \frac12 t^2 \|v\|^2`. That network
is written out, and its norm counts. (Where w is not in the span of the rows of A, v does it alone.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog, nnls

from convexlib.arrays import Floats
from convexlib.networks import TwoLayerReLU
from convexlib.pricing import price
from convexlib.pricing.ascent import climb
from experiments.recovery.planted import Planted, plant, precertificate

RESOLUTION = 1e-9  # relative: what is decided is whether a network is shorter by more than this
EQUAL = 1e-10  # part of the largest height that the outputs of a shorter network may be off by
_STARTS = 60  # of every local ascent
_ROUNDS = 200
_MISSED = 0.5  # part of the margin; a neuron that leaves less than that is a cut
_KEPT = 0.8  # part of the best margin that the next point has, as near to the first as it can
_ON = 1e-7  # angle to a hyperplane below which a neuron is moved onto it
_SAME = 6  # decimal places: directions that agree in them are one cut


@dataclass(frozen=True, eq=False)
class Decision:
    r"""Whether the neuron has the least norm.

    Attributes
    ----------
    ends : {"minimal", "beaten", "open"}
        Proven both times: no network is shorter by more than a part `RESOLUTION`, or one is.
    certificate : (n,) array or None
        If minimal: :math:`A^\top z = w`, and no neuron has more than 1 + `RESOLUTION`.
    network : TwoLayerReLU or None
        If beaten: the teacher's outputs to `EQUAL`, and a norm below 1 - `RESOLUTION`.
    rounds, nodes : int
        Linear programs, and cones of branch and bound.
    first : bool
        Whether the shortest candidate was the certificate: whether the isometry condition holds.
    """

    ends: str
    certificate: Floats | None = None
    network: TwoLayerReLU | None = None
    rounds: int = 0
    nodes: int = 0
    first: bool = False


def decide(planted: Planted, max_nodes: int = 2_000_000) -> Decision:
    """Decide whether a planted neuron is of least norm among all ReLU networks with its outputs.

    Parameters
    ----------
    planted : Planted
        One neuron.
    max_nodes : int
        Cones of a branch and bound, for each sign; ``"open"`` if they are too few.
    """
    X, w, A = planted.X.numpy(), planted.weights[0].numpy(), planted.blocks.numpy()
    shortest = precertificate(planted)
    if shortest is None:
        v = np.linalg.pinv(A) @ (A @ w) - w  # to the projection onto the span of the active rows
        return _beaten(_shorter(X, A, w, v, np.zeros((0, len(w))), np.zeros(0)))
    z = first = shortest.numpy()
    kernel = np.linalg.svd(A.T)[2][len(w) :].T  # (n, n - d): all candidates are first + kernel t
    units, signs = np.zeros((0, len(w))), np.zeros(0)
    starts = np.random.default_rng(0).standard_normal((_STARTS, len(w)))
    margin, nodes = 0.0, 0
    for rounds in range(_ROUNDS):
        found, sides = _violated(X, z, w, _MISSED * margin, starts)
        if not len(found):
            dual = torch.from_numpy(z)
            priced = price(planted.X, dual, 1.0, rtol=0.5 * RESOLUTION, max_nodes=max_nodes)
            nodes += priced.nodes
            if priced.upper <= 1.0 + RESOLUTION:
                return Decision("minimal", z, None, rounds, nodes, first=rounds == 0)
            if priced.lower <= 1.0 + RESOLUTION:
                break
            found, sides = priced.direction.numpy()[None], np.array([float(priced.sign)])
        units, signs = np.vstack([units, found]), np.append(signs, sides)
        outputs = signs[:, None] * np.maximum(units @ X.T, 0.0)  # (k, n)
        worth = np.where(signs > 0, 1.0 - units @ w, 1.0)  # what a margin of 1 takes off
        slopes, limits = outputs @ kernel, 1.0 - outputs @ first
        best = linprog(
            np.append(np.zeros(kernel.shape[1]), -1.0),
            np.column_stack([slopes, worth]),
            limits,
            bounds=[(None, None)] * kernel.shape[1] + [(None, 1.0)],
        )
        if best.status != 0:
            break
        margin = float(best.x[-1])
        if margin < 0.0:
            a = -best.ineqlin.marginals
            used = a > 0.0
            v = np.linalg.lstsq(A, -outputs[used].T @ a[used], rcond=None)[0]
            network = _shorter(X, A, w, v, units[used], signs[used] * a[used])
            return _beaten(network, rounds + 1, nodes)
        near = _nearest(slopes, limits - _KEPT * margin * worth)
        z = first + kernel @ (best.x[:-1] if near is None else near)
    return Decision("open", None, None, rounds + 1, nodes)


def _violated(
    X: Floats, z: Floats, w: Floats, margin: float, starts: Floats
) -> tuple[Floats, Floats]:
    """Neurons (k, d) that leave less than the margin, and their signs (k,), by local ascent."""
    level = 1.0 - margin + RESOLUTION
    found, sides = [], []
    for sign, tilt in ((1, -margin * w), (-1, np.zeros(len(w)))):
        heights, units = climb(X, z, tilt, starts, sign)
        units = units[sign * heights > level]
        places = np.unique(np.round(units, _SAME), axis=0, return_index=True)[1]
        found += [_snapped(X, unit) for unit in units[places]]
        sides.append(np.full(len(places), float(sign)))
    return np.array(found).reshape(-1, len(w)), np.concatenate(sides)


def _snapped(X: Floats, unit: Floats) -> Floats:
    """A maximum on kinks, with outputs of exactly 0 there, which nothing has to balance."""
    rows = X[np.abs(X @ unit) < _ON * np.linalg.norm(X, axis=1)]
    moved = unit - np.linalg.pinv(rows) @ (rows @ unit)
    snapped: Floats = moved / np.linalg.norm(moved)
    return snapped


def _nearest(rows: Floats, limits: Floats) -> Floats | None:
    """The shortest t with rows @ t <= limits, by nonnegative least squares; None without one."""
    system, last = np.vstack([-rows.T, -limits]), np.eye(rows.shape[1] + 1)[-1]
    try:
        residual = system @ nnls(system, last)[0] - last
    except RuntimeError:  # too many steps
        return None
    if residual[-1] > -1e-12:  # the distance from a system that has no solution is 0
        return None
    nearest: Floats = -residual[:-1] / residual[-1]
    return nearest


def _shorter(
    X: Floats, A: Floats, w: Floats, v: Floats, units: Floats, a: Floats
) -> TwoLayerReLU | None:
    """The network of w + tv and t a that is shortest, if it is shorter than the teacher."""
    # Multipliers are exact to a solver's tolerance: the least change makes the outputs equal.
    outputs = np.maximum(X @ units.T, 0.0)
    system = np.column_stack([A, outputs])
    change = np.linalg.lstsq(system, system @ np.append(v, a), rcond=1e-10)[0]
    v, a = v - change[: len(w)], a - change[len(w) :]
    sides, speed = X @ w, X @ v
    closing = sides * speed < 0.0
    room = float(np.min(-sides[closing] / speed[closing], initial=np.inf))
    # |w + tv| + t |a| is convex: its minimum by the derivative, within the room.
    along, cost, size = float(w @ v), float(np.abs(a).sum()), float(v @ v)
    if along + cost >= 0.0 or size == 0.0:
        return None
    # Here cost < -along <= |v|: the slope of the norm is -cost at some t.
    turn = cost * float(np.sqrt(max(size - along**2, 0.0) / (size - cost**2)))
    t = min((-along - turn) / size, 0.999 * room)
    neuron, others = w + t * v, t * a
    off = np.maximum(X @ neuron, 0.0) + outputs @ others - np.maximum(sides, 0.0)
    if np.abs(off).max() > EQUAL * np.abs(sides).max():
        return None
    if np.linalg.norm(neuron) + np.abs(others).sum() >= 1.0 - RESOLUTION:
        return None
    U, alpha = np.vstack([neuron, units]), np.append(1.0, others)
    return TwoLayerReLU(torch.from_numpy(U), torch.from_numpy(alpha))


def _beaten(network: TwoLayerReLU | None, rounds: int = 0, nodes: int = 0) -> Decision:
    """The decision that a shorter network makes; open where it saves less than the resolution."""
    return Decision("beaten" if network is not None else "open", None, network, rounds, nodes)


def neurons(config: dict[str, Any]) -> dict[str, Any]:
    """For every n: in how many draws one neuron is of least norm, beaten, or undecided.

    Beside it: draws in which the condition of the shortest candidate holds, and in which the neuron
    is active on at least d samples. ``saved`` is the least that a shorter network saves.
    """
    rows = []
    for n in config["samples"]:
        row = {"n": n, "minimal": 0, "beaten": 0, "open": 0, "isometry": 0, "enough_active": 0}
        saved, rounds = 1.0, 0
        for seed in config["seeds"]:
            planted = plant("neuron", n, config["d"], 0, [seed, n, config["d"]])
            made = decide(planted, config["nodes"])
            row[made.ends] += 1
            row["isometry"] += made.first
            row["enough_active"] += int((planted.y > 0).sum()) >= config["d"]
            rounds = max(rounds, made.rounds)
            if made.network is not None:
                U, alpha = made.network.U.detach(), made.network.alpha.detach()
                norm = float((torch.linalg.vector_norm(U, dim=1) * alpha.abs()).sum())
                saved = min(saved, 1.0 - norm)
        rows.append(row | {"saved": float(f"{saved:.2g}"), "rounds": rounds})
    return {"rows": rows}
