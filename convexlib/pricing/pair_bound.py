r"""A bound on :math:`g(u) = z^\top (Xu)_+` that sees which samples are near each other.

With :math:`s_i = x_i^\top u` and :math:`a_i = |s_i|`, :math:`g = \tfrac12 z^\top s + \tfrac12
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

Without pairs this is `quadratic_bound`. With them, two samples that are nearly on a line must have
nearly the same share of u, which a relaxation of each sample for itself cannot say.

**A stays positive definite.** A symmetric matrix with entries at most 0 off the diagonal is
positive definite if :math:`Ar > 0` for some :math:`r > 0`, and then :math:`A^{-1} \ge 0` in every
entry: :math:`R^{-1} A R` with :math:`R = \mathrm{diag}(r)` is strictly diagonally dominant. So A is
written as :math:`\mu_i = (\Lambda r)_i / r_i + \delta_i` with :math:`r, \delta > 0`; every positive
definite A of this kind is, with r its Perron vector.

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

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from convexlib.arrays import EPS, Floats
from convexlib.pricing.quadratic_bound import ball_maximum, ball_minimum, unit_rows

Indices = NDArray[np.int64]

_LOW, _HIGH = -60.0, 40.0  # of the logarithms of multipliers
_SOLVE, _STEPS = 1e-6, 400  # of conjugate gradients while multipliers move


class Pairs:
    """Pairs of samples i < j (each once) of n, and the sign of their moment E[s_i s_j]."""

    def __init__(self, i: Indices, j: Indices, signs: Floats, n: int) -> None:
        self.i, self.j, self.signs, self.n = i, j, signs, n
        rows, columns = np.concatenate([i, j]), np.concatenate([j, i])
        self.order = np.lexsort((columns, rows))  # of the entries of a matrix, row by row
        self.columns = columns[self.order]
        self.starts = np.searchsorted(rows[self.order], np.arange(n + 1))

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
        mu = near @ m.r / m.r + m.delta
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
        a, rest = solved(mu, near, 0.25 * w, self.a, _SOLVE, _STEPS)
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
        # mu r - Lambda r = delta r, but for the rounding of mu and of these sums.
        image = m.delta * m.r - self.rounding * (terms + m.delta * m.r)
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
