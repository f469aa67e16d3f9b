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

**Pairs.** `PairBound` sees besides which samples are near each other. It is for t = 0. With
:math:`s_i = x_i^\top u` and :math:`a_i = |s_i|`, :math:`g = \tfrac12 z^\top s + \tfrac12
z^\top a`. On the unit ball, for a sparse symmetric :math:`\Lambda \ge 0` with zero diagonal
and signs :math:`\theta_{ij} = \pm 1`, for any :math:`\mu`, for :math:`\sigma^+, \sigma^-, \kappa
\ge 0` and vectors :math:`\|d_i\| \le 1`,

.. math:: 0 \le \sum_{i,j} \Lambda_{ij} (a_i a_j - \theta_{ij} s_i s_j)
          + \sum_i \mu_i (s_i^2 - a_i^2)
          + \sum_i \big[ \nu_i a_i - (\sigma^+_i - \sigma^-_i) s_i - \kappa_i s_i d_i^\top u \big],
          \qquad \nu = \sigma^+ + \sigma^- + \kappa .

Added to g, and with a taken as free, this is a maximum over a and one over u: with :math:`A =
\mathrm{diag}(\mu) - \Lambda` positive definite and :math:`w = z + 2\nu`,

.. math:: g(u) \le \tfrac1{16}\, w^\top A^{-1} w
          + \max_{\|u\| \le 1} \; (p^\top u + u^\top Q u), \quad
    p = \tfrac12 X^\top z - X^\top (\sigma^+ - \sigma^-), \quad
    Q = X^\top (\mathrm{diag}(\mu) - \theta \circ \Lambda) X
        - \sum_i \kappa_i \, \mathrm{sym}(x_i d_i^\top) .

Without pairs this is the bound above. With them, two samples that are nearly on a line must have
nearly the same share of u, which a relaxation of each sample for itself cannot say.

**A stays positive definite.** A symmetric matrix with entries at most 0 off the diagonal is
positive definite if :math:`Ar > 0` for some :math:`r > 0`, and then :math:`A^{-1} \ge 0` in every
entry: :math:`R^{-1} A R` with :math:`R = \mathrm{diag}(r)` is strictly diagonally dominant. So A is
written as :math:`\mu_i = (1 + 10^{-9}) (\Lambda r)_i / r_i + \delta_i` with :math:`r, \delta > 0`.
Every positive definite A of this kind is, with r its Perron vector, but for the billionth, which
leaves room for rounding where :math:`\delta` vanishes.

**Rounding is covered.** :math:`Ar > 0` is verified by n short sums with their error terms. For
**any** a, the rest :math:`\rho = \tfrac12 w - 2Aa` gives

.. math:: \tfrac1{16}\, w^\top A^{-1} w = \tfrac12 w^\top a - a^\top A a
          + \tfrac14 \rho^\top A^{-1} \rho , \qquad
          \rho^\top A^{-1} \rho \le |\rho|^\top r \; \max_i \frac{|\rho_i|}{(Ar)_i} ,

since :math:`|\rho| \le c\,Ar` implies :math:`A^{-1}|\rho| \le c\,r`. So the linear system may be
solved as roughly as one likes. The same floating-point :math:`\mu` and :math:`\Lambda` enter both
maxima, and the inequality holds for whatever they are; the second maximum is `ball_maximum`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from convexlib.arrays import EPS, Floats
from convexlib.pricing.lbfgs import minimised
from convexlib.runtime import out_of_time

Indices = NDArray[np.int64]

_STAGES = (3e-2, 1e-3)  # the barrier's part of the bound
_STEPS = 60  # of L-BFGS per stage
_LOW, _HIGH = -60.0, 40.0  # of the logarithms of multipliers
LIFT = 1e-9  # of mu, so that rounding cannot hide that A is positive definite
_SOLVE, _SOLVE_STEPS = 1e-5, 400  # of conjugate gradients while multipliers move


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
    Where time is over the minimisation ends at once, as every point is a proof.
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
        if bound <= goal or not len(point) or out_of_time():
            break
        barrier = part * bound / rows.shape[1]
        smooth = partial(relaxation.smooth, barrier=barrier)
        point = minimised(smooth, point, _STEPS, out_of_time, memory=20)
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


class Pairs:
    """Pairs of samples i < j (each once) of n, and the sign of their moment E[s_i s_j]."""

    def __init__(self, i: Indices, j: Indices, signs: Floats, n: int) -> None:
        self.i, self.j, self.signs, self.n = i, j, signs, n
        rows, columns = np.concatenate([i, j]), np.concatenate([j, i])
        self.order = np.lexsort((columns, rows))  # of the entries of a matrix, row by row
        self.columns = columns[self.order].astype(np.int32)  # as sparse matrices have them
        self.starts = np.searchsorted(rows[self.order], np.arange(n + 1)).astype(np.int32)

    def matrix(self, values: Floats) -> csr_array:
        """The symmetric sparse matrix (n, n) with these values."""
        entries = np.concatenate([values, values])[self.order]
        return csr_array((entries, self.columns, self.starts), (self.n, self.n))


@dataclass(frozen=True, eq=False)
class _Multipliers:
    """A point in words: arrays (n,), and one number for each pair."""

    r: Floats
    delta: Floats
    plus: Floats
    minus: Floats
    kappa: Floats
    pairs: Floats


class PairBound:
    """The bound as a function of its multipliers, whose logarithms are a point (5 n + pairs,)."""

    def __init__(self, rows: Floats, pairs: Pairs, moment: Floats, spread: Floats) -> None:
        """Rows (n, d), and guesses of E[uu^T] and of E|x_i^T u| (n,), all of moderate size."""
        self.rows, self.pairs = rows, pairs
        self.n, self.d = rows.shape
        self.aims = unit_rows(rows @ moment)
        self.lengths = np.linalg.norm(rows, axis=1)
        self.a = spread  # where the next linear system is solved from
        degree = int(np.diff(pairs.starts).max())
        self.rounding = 8.0 * (self.n + self.d + degree + 8) * EPS

    def _read(self, point: Floats) -> _Multipliers:
        n = self.n
        logs = np.clip(point, _LOW, _HIGH)
        r = np.exp(np.clip(point[:n] - point[:n].mean(), -_HIGH, _HIGH))
        delta, plus, minus, kappa = np.exp(logs[n : 5 * n]).reshape(4, n)
        return _Multipliers(r, delta, plus, minus, kappa, np.exp(logs[5 * n :]))

    def _parts(
        self, m: _Multipliers, z: Floats
    ) -> tuple[csr_array, Floats, Floats, Floats, Floats]:
        """Lambda, mu, w, p and Q."""
        near = self.pairs.matrix(m.pairs)
        mu = (1.0 + LIFT) * (near @ m.r) / m.r + m.delta
        signed = self.pairs.matrix(m.pairs * self.pairs.signs)
        w = z + 2.0 * (m.plus + m.minus + m.kappa)
        p = self.rows.T @ (0.5 * z - (m.plus - m.minus))
        mixed = (self.rows.T * m.kappa) @ self.aims
        Q = self.rows.T @ (mu[:, None] * self.rows - signed @ self.rows)
        Q = 0.5 * (Q + Q.T) - 0.5 * (mixed + mixed.T)
        return near, mu, w, p, Q

    def smooth(self, point: Floats, z: Floats, barrier: float) -> tuple[float, Floats, Floats]:
        """Bound minus barrier * log det S, its gradient by the point, and by z."""
        m, i, j = self._read(point), self.pairs.i, self.pairs.j
        near, mu, w, p, Q = self._parts(m, z)
        a, rest = solved(mu, near, 0.25 * w, self.a, _SOLVE, _SOLVE_STEPS)
        self.a = a
        value, mean, moment = ball_minimum(p, Q, barrier)
        value += 0.25 * float(w @ a) + float(a @ rest)  # exact to second order in the error of a
        XM = self.rows @ moment
        s, square = self.rows @ mean, (XM * self.rows).sum(axis=1)
        excess = square - a * a  # the gradient by mu
        share = excess / m.r
        slope_r = m.r * (near @ share) - share * (near @ m.r)
        slope_pairs = 2.0 * (
            a[i] * a[j] - self.pairs.signs * np.einsum("ek,ek->e", XM[i], self.rows[j])
        )
        slope_pairs += excess[i] * m.r[j] / m.r[i] + excess[j] * m.r[i] / m.r[j]
        gradient = [
            slope_r - slope_r.mean(),
            excess * m.delta,
            (a - s) * m.plus,
            (a + s) * m.minus,
            (a - (XM * self.aims).sum(axis=1)) * m.kappa,
            slope_pairs * m.pairs,
        ]
        return value, np.concatenate(gradient), 0.5 * (a + s)

    def proven(self, point: Floats, z: Floats) -> float:
        """The proven bound at a point; inf where rounding hides that A is positive definite."""
        m = self._read(point)
        near, mu, w, p, Q = self._parts(m, z)
        nu = m.plus + m.minus + m.kappa
        terms = near @ m.r
        # A r, but for the rounding of mu and of these sums.
        image = (LIFT - self.rounding) * terms + (1.0 - self.rounding) * m.delta * m.r
        if not bool((image > 0.0).all()):
            return np.inf
        a, _ = solved(mu, near, 0.25 * w, self.a, 1e-13, 2000)
        size_w, size_A = np.abs(z) + 2.0 * nu, mu * np.abs(a) + near @ np.abs(a)
        rest = np.abs(0.5 * w - 2.0 * (mu * a - near @ a))
        rest += self.rounding * (0.5 * size_w + 2.0 * size_A)
        value = 0.5 * float(w @ a) - float(a @ (mu * a - near @ a))
        value += 0.25 * float(rest @ m.r) * float((rest / image).max()) * (1.0 + self.rounding)
        slop = float(np.abs(a) @ (size_w + size_A))
        pairs, i, j = m.pairs, self.pairs.i, self.pairs.j
        mass = float(mu @ self.lengths**2 + m.kappa @ self.lengths)
        mass += 2.0 * float(pairs @ (self.lengths[i] * self.lengths[j]))
        size = float(size_w @ self.lengths)
        value += ball_maximum(p, Q, size, mass, self.rounding) + self.rounding * slop
        return max(value, 0.0)


def solved(
    mu: Floats, near: csr_array, target: Floats, start: Floats, tol: float, steps: int
) -> tuple[Floats, Floats]:
    """Solve (diag(mu) - near) a = target by conjugate gradients; returns a and the rest."""
    a = start.copy()
    rest = target - (mu * a - near @ a)
    scaled = rest / mu
    step, product = scaled, float(rest @ scaled)
    stop = tol * tol * float(target @ (target / mu))
    for _ in range(steps):
        if product <= stop:
            break
        image = mu * step - near @ step
        curvature = float(step @ image)
        if not curvature > 0.0:  # it underflows: what is left is as good as nothing
            break
        length = product / curvature
        a += length * step
        rest -= length * image
        scaled = rest / mu
        product, last = float(rest @ scaled), product
        step = scaled + (product / last) * step
    return a, rest
