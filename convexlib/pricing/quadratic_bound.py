r"""A bound on :math:`g(u) = t^\top u + z^\top (Xu)_+` over the unit ball at any rank.

Write :math:`(s)_+ = (s + |s|)/2` for :math:`s = x_i^\top u`. For any numbers :math:`\tau_i > 0`,
any vectors :math:`\|a_i\| \le 1` and any :math:`|\sigma_i| + \kappa_i \le 1` with
:math:`\kappa_i \ge 0`,

.. math:: |s| \le \tfrac12 \left( \frac{s^2}{\tau_i} + \tau_i \right), \qquad
          |s| \ge \sigma_i s + \kappa_i s\, a_i^\top u .

(The first is :math:`(|s| - \tau)^2 \ge 0`; the second is at most :math:`|s| (|\sigma| + \kappa
|a^\top u|)`.) The first at the samples with :math:`z_i > 0` and the second at those
with :math:`z_i < 0` give :math:`g(u) \le c + p^\top u + u^\top Q u` with

.. math:: c = \tfrac14 \sum_{z_i > 0} z_i \tau_i, \quad
    p = t + \tfrac12 X^\top z - \tfrac12 \sum_{z_i < 0} |z_i| \sigma_i x_i, \quad
    Q = \sum_{z_i > 0} \frac{z_i}{4 \tau_i} x_i x_i^\top
        - \sum_{z_i < 0} \frac{|z_i| \kappa_i}{2} \, \mathrm{sym}(x_i a_i^\top) ,

and for every :math:`\gamma \ge 0` with :math:`S = \gamma I - Q \succeq 0`

.. math:: \max_{\|u\| \le 1} g(u) \le c + \gamma + \max_u \; (p^\top u - u^\top S u).

This is the dual of a semidefinite relaxation over the moments m = E[u] and M = E[uu'], and convex
in :math:`(\tau, \sigma, \kappa a, \gamma)`: it is minimised with a logarithmic barrier for
:math:`S \succ 0`, and **any** point it stops at is a proof. The best :math:`a_i` is the direction
of :math:`M x_i`, for a guess of M; without one it is that of :math:`x_i`.
A bound by eigenvalues alone has one :math:`\tau` for all and no :math:`\kappa, \sigma`.

**Rounding is covered** (`ball_maximum`). :math:`S \succ 0` by a margin above the error of its
smallest eigenvalue. With any m and :math:`r = p - 2Sm`, the last maximum is at most
:math:`\tfrac12 (p + r)^\top m + \|r\| (1 + \|m\|)` over the ball, so neither m nor the minimisation
need be exact.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from convexlib.arrays import EPS, Floats

_STAGES = (3e-2, 1e-3)  # the barrier's part of the bound
_STEPS = 60  # of L-BFGS per stage


def quadratic_bound(
    rows: Floats, z: Floats, tilt: Floats, goal: float = 0.0, moment: Floats | None = None
) -> float:
    r"""Bound :math:`\max_{\|u\|\le 1} t^\top u + z^\top (Xu)_+` from above, rigorously.

    Parameters
    ----------
    rows : float64 array (n, d)
        X, with entries and `z` of moderate size (about 1).
    z : float64 array (n,)
    tilt : float64 array (d,)
        t.
    goal : float
        A bound at most this is good enough.
    moment : float64 array (d, d), optional
        A guess of E[uu'] for the maximising u, of trace 1, to begin at; the a_i then follow the
        moments. None: I/d, and every a_i stays along x_i.

    Returns
    -------
    float
        At least 0, which u = 0 attains.

    Notes
    -----
    Costs about two hundred products of an (n, d) and a (d, n) matrix. Checked by
    ``tests/pricing/test_quadratic_bound.py``.
    """
    used = (z != 0.0) & rows.any(axis=1)
    moving = moment is not None
    if moment is None:
        moment = np.eye(rows.shape[1]) / rows.shape[1]
    relaxation = _Relaxation(rows[used], z[used], tilt, moment)
    if relaxation.size == 0.0:
        return 0.0
    point = relaxation.start(moment)
    bound = relaxation.bound(point)
    for part in (*_STAGES, _STAGES[-1]) if moving else _STAGES:
        if bound <= goal or not len(point):
            break
        barrier = part * bound / rows.shape[1]
        point = minimize(
            relaxation.smooth,
            point,
            args=(barrier,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _STEPS, "maxcor": 20},
        ).x
        bound = min(bound, relaxation.bound(point))
        if moving:
            relaxation.aim(relaxation.moments(point, barrier)[1])
            bound = min(bound, relaxation.bound(point))
    return bound


class _Relaxation:
    """The quadratic majorants of g; a point holds log tau, and logits of (sigma, kappa)."""

    def __init__(self, rows: Floats, z: Floats, tilt: Floats, moment: Floats) -> None:
        positive = z > 0
        self.up, self.z_up = rows[positive], z[positive]
        self.down, self.z_down = rows[~positive], -z[~positive]
        self.base = tilt + 0.5 * rows.T @ z
        n, self.d = rows.shape
        self.rounding = 8.0 * (n + self.d + 8) * EPS
        self.lengths = np.linalg.norm(self.up, axis=1)
        self.reach = np.linalg.norm(self.down, axis=1)
        self.size = float(np.linalg.norm(tilt) + self.z_up @ self.lengths)
        self.size += float(self.z_down @ self.reach)
        self.aim(moment)

    def aim(self, moment: Floats) -> None:
        """Let a_i point along M x_i."""
        self.aims = unit_rows(self.down @ moment)

    def start(self, moment: Floats) -> Floats:
        """Begin with tau of the moments, sigma = 0 and kappa = 1/3."""
        tau = np.sqrt(np.maximum(((self.up @ moment) * self.up).sum(axis=1), 0.0))
        tau = np.maximum(tau, 1e-6 * self.lengths)
        return np.concatenate([np.log(tau), np.zeros(3 * len(self.down))])

    def _unpack(self, point: Floats) -> tuple[Floats, Floats]:
        """Read tau, and the shares (3, N) of sigma = 1, sigma = -1 and kappa = 1."""
        # Far smaller tau would only make Q large and its rounding too; far larger ones overflow.
        tau = np.maximum(np.exp(np.minimum(point[: len(self.up)], 300.0)), 1e-7 * self.lengths)
        logits = point[len(self.up) :].reshape(3, -1)
        if not logits.size:
            return tau, logits
        shares = np.exp(logits - logits.max(axis=0))
        return tau, shares / shares.sum(axis=0)

    def _quadratic(self, tau: Floats, shares: Floats) -> tuple[Floats, Floats, float]:
        """P, Q and the sum of the absolute terms of Q."""
        p = self.base - 0.5 * self.down.T @ (self.z_down * (shares[0] - shares[1]))
        up, down = 0.25 * self.z_up / tau, 0.5 * self.z_down * shares[2]
        mixed = (self.down.T * down) @ self.aims
        Q = (self.up.T * up) @ self.up - 0.5 * (mixed + mixed.T)
        return p, Q, float(up @ self.lengths**2 + down @ self.reach)

    def moments(self, point: Floats, barrier: float) -> tuple[Floats, Floats]:
        """E[u] and E[uu'] of the relaxation: the multipliers of the minimisation over gamma."""
        p, Q, _ = self._quadratic(*self._unpack(point))
        return ball_minimum(p, Q, barrier)[1:]

    def smooth(self, point: Floats, barrier: float) -> tuple[float, Floats]:
        """Bound minus barrier * log det S, minimised over gamma, and its gradient."""
        tau, shares = self._unpack(point)
        p, Q, _ = self._quadratic(tau, shares)
        value, mean, moment = ball_minimum(p, Q, barrier)
        value += 0.25 * float(self.z_up @ tau)
        second_up = ((self.up @ moment) * self.up).sum(axis=1)
        second_down = ((self.down @ moment) * self.aims).sum(axis=1)
        first = self.down @ mean
        slope_tau = 0.25 * self.z_up * (tau - second_up / tau)
        slope = -0.5 * self.z_down * np.stack([first, -first, second_down])
        slope_logits = shares * (slope - (shares * slope).sum(axis=0))
        return value, np.concatenate([slope_tau, slope_logits.ravel()])

    def bound(self, point: Floats) -> float:
        """Return the proven bound at a point."""
        tau, shares = self._unpack(point)
        shares = shares * (1.0 - 8.0 * EPS)  # |sigma| + kappa <= 1 in spite of rounding
        p, Q, mass = self._quadratic(tau, shares)
        constant = 0.25 * float(self.z_up @ tau)
        size = self.size + constant
        return max(constant + ball_maximum(p, Q, size, mass, self.rounding), 0.0)


def unit_rows(rows: Floats) -> Floats:
    """Rows of length at most 1, in spite of rounding; zero where a row is."""
    lengths = np.linalg.norm(rows, axis=1) * (1.0 + 2.0 * (rows.shape[1] + 8) * EPS)
    units: Floats = rows / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    return units


def ball_minimum(p: Floats, Q: Floats, barrier: float) -> tuple[float, Floats, Floats]:
    r"""Minimise :math:`\gamma + \tfrac14 p^\top S^{-1} p - b \log\det S` over gamma.

    Returns the minimum and its moments, :math:`m = \tfrac12 S^{-1} p` and :math:`mm^\top + b
    S^{-1}`, which are the gradients by p and Q.
    """
    eigenvalues, V = np.linalg.eigh(Q)
    slopes = V.T @ p
    gaps = _gaps(eigenvalues, slopes, barrier)  # eigenvalues of S
    value = gaps[-1] + eigenvalues[-1] + 0.25 * (slopes**2 / gaps).sum()
    value -= barrier * np.log(gaps).sum()
    mean = V @ (0.5 * slopes / gaps)
    return float(value), mean, np.outer(mean, mean) + barrier * (V / gaps) @ V.T


def ball_maximum(p: Floats, Q: Floats, size: float, mass: float, rounding: float) -> float:
    r"""Bound :math:`\max_{\|u\|\le 1} p^\top u + u^\top Q u` from above, rounding included.

    `size` and `mass` are the sums of the absolute terms of p, with other summands of the caller's
    bound, and of Q; `rounding` is the relative error of such a sum.
    """
    eigenvalues, V = np.linalg.eigh(Q)
    slopes = V.T @ p
    gaps = _gaps(eigenvalues, slopes, 1e-6 * size / len(p))
    top = float(eigenvalues[-1] + gaps[-1])
    # At least 0, because u need only lie in the ball.
    gamma = max(top + rounding * (mass + abs(top)), 0.0)
    m = V @ (0.5 * slopes / (gaps + (gamma - top)))
    r = p - 2.0 * (gamma * m - Q @ m)
    length = float(np.linalg.norm(m))
    value = gamma + 0.5 * float((p + r) @ m) + float(np.linalg.norm(r)) * (1.0 + length)
    return value + rounding * (size + (mass + gamma) * (1.0 + length) ** 2)


def _gaps(eigenvalues: Floats, slopes: Floats, barrier: float) -> Floats:
    """Eigenvalues of S at the best gamma, where E ||u||^2 = 1."""
    below = eigenvalues[-1] - eigenvalues
    # The moment falls convexly in gamma; at this start it is at least 1: Newton climbs to the root.
    gap = max(float((0.5 * np.abs(slopes) - below).max()), barrier)
    for _ in range(50):
        inverse = 1.0 / (below + gap)
        square, linear = 0.25 * slopes**2 * inverse**2, barrier * inverse
        excess = float((square + linear).sum()) - 1.0
        if excess < 1e-10:
            break
        gap += excess / float(((2.0 * square + linear) * inverse).sum())
    return below + gap
