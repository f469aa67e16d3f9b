r"""A bound on :math:`g(u) = t^\top u + z^\top (Xu)_+` over the unit ball at any rank.

Write :math:`(s)_+ = (s + |s|)/2` for :math:`s = x_i^\top u`. For any numbers :math:`\tau_i > 0`,
and any :math:`|\sigma_i| + \kappa_i \|x_i\| \le 1` with :math:`\kappa_i \ge 0`,

.. math:: |s| \le \tfrac12 \left( \frac{s^2}{\tau_i} + \tau_i \right), \qquad
          |s| \ge \sigma_i s + \kappa_i s^2 \quad (|s| \le \|x_i\|).

(The first is :math:`(|s| - \tau)^2 \ge 0`; for the second, :math:`\sigma s + \kappa s^2 \le |s|
(|\sigma| + \kappa |s|)`.) The first at the samples with :math:`z_i > 0` and the second at those
with :math:`z_i < 0` give :math:`g(u) \le c + p^\top u + u^\top Q u` with

.. math:: c = \tfrac14 \sum_{z_i > 0} z_i \tau_i, \quad
    p = t + \tfrac12 X^\top z - \tfrac12 \sum_{z_i < 0} |z_i| \sigma_i x_i, \quad
    Q = \sum_{z_i > 0} \frac{z_i}{4 \tau_i} x_i x_i^\top
        - \sum_{z_i < 0} \frac{|z_i| \kappa_i}{2} x_i x_i^\top ,

and for every :math:`\gamma \ge 0` with :math:`S = \gamma I - Q \succeq 0`

.. math:: \max_{\|u\| \le 1} g(u) \le c + \gamma + \max_u \; (p^\top u - u^\top S u).

This is the dual of a semidefinite relaxation and convex in :math:`(\tau, \sigma, \kappa, \gamma)`:
it is minimised with a logarithmic barrier for :math:`S \succ 0`, and **any** point it stops at is a
proof. A bound by eigenvalues alone has one :math:`\tau` for all and no :math:`\kappa, \sigma`.

**Rounding is covered.** :math:`S \succ 0` by a margin above the error of its smallest eigenvalue.
With any m and :math:`r = p - 2Sm`, the last maximum is at most
:math:`\tfrac12 (p + r)^\top m + \|r\| (1 + \|m\|)` over the ball, so neither m nor the minimisation
need be exact.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from convexlib.arrays import EPS, Floats

_STAGES = (3e-2, 1e-3)  # the barrier's part of the bound
_STEPS = 60  # of L-BFGS per stage


def quadratic_bound(rows: Floats, z: Floats, tilt: Floats, goal: float = 0.0) -> float:
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

    Returns
    -------
    float
        At least 0, which u = 0 attains.

    Notes
    -----
    Costs about a hundred products of an (n, d) and a (d, n) matrix. Checked by
    ``tests/pricing/test_quadratic_bound.py``.
    """
    used = (z != 0.0) & rows.any(axis=1)
    relaxation = _Relaxation(rows[used], z[used], tilt)
    if relaxation.size == 0.0:
        return 0.0
    point = relaxation.start()
    bound = relaxation.bound(point)
    for part in _STAGES:
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
    return bound


class _Relaxation:
    """The quadratic majorants of g; a point holds log tau, and logits of (sigma, kappa)."""

    def __init__(self, rows: Floats, z: Floats, tilt: Floats) -> None:
        positive = z > 0
        self.up, self.z_up = rows[positive], z[positive]
        self.down, self.z_down = rows[~positive], -z[~positive]
        self.base = tilt + 0.5 * rows.T @ z
        n, self.d = rows.shape
        self.rounding = 8.0 * (n + self.d + 8) * EPS
        self.lengths = np.linalg.norm(self.up, axis=1)
        # Overestimates: kappa is what divides by them.
        self.reach = np.linalg.norm(self.down, axis=1) * (1.0 + 2.0 * (self.d + 8) * EPS)
        self.size = float(np.linalg.norm(tilt) + self.z_up @ self.lengths)
        self.size += float(self.z_down @ self.reach)

    def start(self) -> Floats:
        """Begin with tau as for u spread evenly, sigma = 0 and kappa = 1/(3 ||x||)."""
        even = np.log(self.lengths / self.d**0.5)
        return np.concatenate([even, np.zeros(3 * len(self.down))])

    def _unpack(self, point: Floats) -> tuple[Floats, Floats]:
        """Read tau, and the shares (3, N) of sigma = 1, sigma = -1 and kappa = 1/||x||."""
        # Far smaller tau would only make Q large and its rounding too; far larger ones overflow.
        tau = np.maximum(np.exp(np.minimum(point[: len(self.up)], 300.0)), 1e-7 * self.lengths)
        logits = point[len(self.up) :].reshape(3, -1)
        if not logits.size:
            return tau, logits
        shares = np.exp(logits - logits.max(axis=0))
        return tau, shares / shares.sum(axis=0)

    def _quadratic(self, tau: Floats, shares: Floats) -> tuple[Floats, Floats, float]:
        """P, Q and the sum of the absolute terms of Q."""
        sigma, kappa = shares[0] - shares[1], shares[2] / self.reach
        p = self.base - 0.5 * self.down.T @ (self.z_down * sigma)
        up, down = 0.25 * self.z_up / tau, 0.5 * self.z_down * kappa
        Q = (self.up.T * up) @ self.up - (self.down.T * down) @ self.down
        return p, Q, float(up @ self.lengths**2 + down @ self.reach**2)

    def smooth(self, point: Floats, barrier: float) -> tuple[float, Floats]:
        """Bound minus barrier * log det S, minimised over gamma, and its gradient."""
        tau, shares = self._unpack(point)
        p, Q, _ = self._quadratic(tau, shares)
        eigenvalues, V = np.linalg.eigh(Q)
        slopes = V.T @ p
        gaps = _gaps(eigenvalues, slopes, barrier)  # eigenvalues of S
        value = gaps[-1] + eigenvalues[-1] + 0.25 * (slopes**2 / gaps).sum()
        value += 0.25 * float(self.z_up @ tau) - barrier * np.log(gaps).sum()
        # The moments E[u] and E[u u^T] of the relaxation are its multipliers.
        mean = V @ (0.5 * slopes / gaps)
        moment = np.outer(mean, mean) + barrier * (V / gaps) @ V.T
        second_up = ((self.up @ moment) * self.up).sum(axis=1)
        second_down = ((self.down @ moment) * self.down).sum(axis=1)
        first = self.down @ mean
        slope_tau = 0.25 * self.z_up * (tau - second_up / tau)
        slope = -0.5 * self.z_down * np.stack([first, -first, second_down / self.reach])
        slope_logits = shares * (slope - (shares * slope).sum(axis=0))
        return value, np.concatenate([slope_tau, slope_logits.ravel()])

    def bound(self, point: Floats) -> float:
        """Return the proven bound at a point."""
        tau, shares = self._unpack(point)
        shares = shares * (1.0 - 8.0 * EPS)  # |sigma| + kappa ||x|| <= 1 in spite of rounding
        p, Q, mass = self._quadratic(tau, shares)
        eigenvalues, V = np.linalg.eigh(Q)
        slopes = V.T @ p
        gaps = _gaps(eigenvalues, slopes, 1e-6 * self.size / self.d)
        top = float(eigenvalues[-1] + gaps[-1])
        # At least 0, because u need only lie in the ball.
        gamma = max(top + self.rounding * (mass + abs(top)), 0.0)
        m = V @ (0.5 * slopes / (gaps + (gamma - top)))
        r = p - 2.0 * (gamma * m - Q @ m)
        constant, length = 0.25 * float(self.z_up @ tau), float(np.linalg.norm(m))
        value = constant + gamma + 0.5 * float((p + r) @ m)
        value += float(np.linalg.norm(r)) * (1.0 + length)
        slop = self.size + constant + (mass + gamma) * (1.0 + length) ** 2
        return max(value + self.rounding * slop, 0.0)


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
