r"""Several outputs at any rank: one quadratic bound for all, and dual points chosen for it.

The best neuron for a dual point :math:`Z \in \mathbf R^{n \times c}` maximises :math:`g(u, a) =
a^\top Z^\top (Xu)_+` over unit vectors u and a. Cones of output weights (`joint`) grow fast in
number with the outputs, and take Z as given. Here u and a are bounded together, and Z is free.

With :math:`s_i = x_i^\top u` and :math:`w_i = |s_i|`, :math:`g = \tfrac12 a^\top Z^\top s +
\tfrac12 a^\top Z^\top w`. What is known of w is that :math:`w_i^2 = s_i^2` and that :math:`w_i \pm
s_i \ge 0`, so that products of two of those are nonnegative. For signs :math:`\theta_{ij} = \pm 1`
and numbers :math:`|\nu_{ij}| \le \Lambda_{ij}` on some pairs i < j, and for any :math:`\mu`,

.. math:: 0 \le 2 \sum_{i < j} \big[ \Lambda_{ij} (w_i w_j - \theta_{ij} s_i s_j)
          + \nu_{ij} (s_i w_j - \theta_{ij} w_i s_j) \big] + \sum_i \mu_i (s_i^2 - w_i^2) ,

as a bracket is :math:`\tfrac12 (\Lambda + \nu) (w_i + s_i)(w_j - \theta s_j) + \tfrac12 (\Lambda -
\nu)(w_i - s_i)(w_j + \theta s_j)`. Added to g, and with w taken as free, this is a maximum over w.
With :math:`\Gamma_{ji} = \nu_{ij}`, :math:`\Gamma_{ij} = -\theta_{ij} \nu_{ij}`, :math:`A =
\mathrm{diag}(\mu) - \Lambda` positive definite, v = (a, u) and :math:`N = [\tfrac12 Z, \,
2 \Gamma X]`,

.. math:: g \le v^\top H v, \qquad H = \tfrac14 N^\top A^{-1} N
          + \begin{pmatrix} 0 & \tfrac14 Z^\top X \\ \tfrac14 X^\top Z &
          X^\top (\mathrm{diag}(\mu) - \theta \circ \Lambda) X \end{pmatrix} ,

so that :math:`\|Z^\top (Xu)_+\| \le 2 \lambda_{\max}(H)` for all unit u. This is the dual of a
semidefinite relaxation of networks: of all second moments of (a, u, w) over the neurons. It is
convex in :math:`(Z, \mu, \Lambda, \nu)` together, so that the dual value may be maximised over all
of them at once: **any** point at which that stops is a proof.

**A stays positive definite** as in `quadratic_bound`: :math:`\mu_i = (\Lambda r)_i / r_i +
\delta_i` with :math:`r, \delta > 0`, the first part raised by a billionth.

**Rounding is covered.** With any B and :math:`\rho = N - AB`,

.. math:: N^\top A^{-1} N = N^\top B + B^\top N - B^\top A B + \rho^\top A^{-1} \rho , \qquad
          \lambda_{\max}(\rho^\top A^{-1} \rho) \le \sum_k |\rho_k|^\top r \;
          \max_i \frac{|\rho_{ik}|}{(Ar)_i} ,

the sum of the bounds of `quadratic_bound` on the columns of :math:`\rho`. So the linear systems may
be solved as roughly as one likes. Of the entries of H the rounding is bounded by their absolute
terms. Sums and differences of two multipliers round alike: :math:`|\nu| \le \Lambda` holds for the
numbers that are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from convexlib.arrays import EPS, Floats
from convexlib.losses import SmoothLoss
from convexlib.pricing.lbfgs import minimised
from convexlib.pricing.quadratic_bound import LIFT, Pairs, ball_minimum
from convexlib.pricing.relaxed_program import (
    Clock,
    Program,
    Relaxed,
    Scaled,
    inside_domain,
    nearest,
)
from convexlib.runtime import out_of_time

_LARGEST = 4000  # samples, for matrices (n, n)
_NEIGHBOURS = 80  # of each sample
_FIRST = (1e-1, 500)  # the barrier, as a part of beta, and steps for the bound at the given Z
_STAGES = ((3e-2, 1500), (1e-2, 1000), (3e-3, 1000), (1e-3, 1000))  # and for the dual value
_SHARE = 0.6  # of the time that is left is for a minimisation, but for the last
_MEMORY = 40  # of L-BFGS
_LOW, _HIGH = -60.0, 40.0  # of the logarithms of multipliers
_LITTLE = 0.02  # part of a uniform moment, which keeps every direction


def jointly_relaxed(
    X: Tensor,
    Y: Tensor,
    beta: float,
    loss: SmoothLoss,
    Z: Tensor,
    moment: Tensor,
    *,
    output_bias: bool,
    max_seconds: float,
) -> Iterator[Relaxed]:
    r"""Ever better dual points for several outputs, each with its proof, until the time is over.

    Parameters
    ----------
    X, Y : Tensor (n, d), (n, c)
        Data, float64.
    beta : float
        Regularisation.
    loss : SmoothLoss
        The loss.
    Z : Tensor (n, c)
        The dual point to begin with.
    moment : Tensor (d, d)
        A guess of :math:`\sum_j \|u_j\| \|a_j\| \hat u_j \hat u_j^\top` for unit
        :math:`\hat u_j`, of any size: it says which samples are near each other.
    output_bias : bool
        Whether each output has a bias, which is decayed.
    max_seconds : float
        Processor time. A step costs some milliseconds for two hundred rows, and grows with the
        cube of n; none are made above 4,000.

    Notes
    -----
    Checked by ``tests/pricing/test_joint_relaxation.py``.
    """
    clock = Clock(max_seconds)
    if max_seconds <= 0.0 or len(X) > _LARGEST or out_of_time():
        return
    scaled = Scaled.of(X, Y, beta, loss, output_bias)
    if scaled is not None:
        start = np.ldexp(Z[scaled.used].numpy(), -scaled.units)
        inner = (scaled.basis.T @ moment @ scaled.basis).numpy()
        yield from scaled.back(_steps(scaled.program, start, inner, clock))


def _steps(
    program: Program, Z: Floats, moment: Floats, clock: Clock
) -> Iterator[tuple[Tensor, float, str]]:
    d, beta = program.d, program.beta
    n, c = program.y.shape
    size = float(np.trace(moment))
    moment = moment / size if size > 0.0 else np.zeros((d, d))
    values, vectors = np.linalg.eigh(moment + _LITTLE * np.eye(d) / d)
    near = program.rows.numpy() @ (vectors * np.sqrt(values))
    found = nearest(near, _NEIGHBOURS, clock)
    if found is None:
        return
    i, j = found
    signs = np.where(np.einsum("ek,ek->e", near[i], near[j]) < 0.0, -1.0, 1.0)
    bound = JointBound(program.rows.numpy(), Pairs(i, j, signs, n), c)
    free = inside_domain(program, n * c + bound.size)
    Z = np.clip(Z, *(ends[: n * c].reshape(n, c) for ends in free))
    point = bound.start(Z)

    def fixed(point: Floats, Z: Floats, barrier: float) -> tuple[float, Floats]:
        value, slope, _ = bound.smooth(point, Z, barrier)
        return value, slope

    part, steps = _FIRST
    barrier = part * beta / (c + d)
    over = clock.part(_SHARE).over
    point = minimised(partial(fixed, Z=Z, barrier=barrier), point, steps, over, None, _MEMORY)
    reach = bound.proven(point, Z)
    yield torch.from_numpy(Z), reach, "joint"

    # From the best multiple that is feasible on: the bound grows with Z, if its multipliers do.
    if 0.0 < reach < math.inf:
        best = program.loss.best_scale(torch.from_numpy(Z), program.y, beta / reach)
        Z, point = best * Z, bound.stretched(point, best)
    # A network whose dual point is Z pays as much for its neurons: a guess of their mass.
    outputs = -program.loss.conjugate_gradient(torch.from_numpy(Z), program.y).numpy()
    paid = float(np.sum(Z * outputs))
    if program.decay is not None:
        paid -= float(np.sum(Z.sum(axis=0) ** 2)) / program.decay
    least = 1e-3 * float(np.abs(Z).sum()) * float(np.abs(outputs).max())
    mass = max(paid, least, 1e-300) / beta
    weight = mass / (0.05 * beta)

    def dual(x: Floats, barrier: float, mass: float) -> tuple[float, Floats]:
        """Augmented Lagrangian of -d(Z) with the bound at most beta."""
        Z = x[: n * c].reshape(n, c)
        value, slope = program.negative_dual(Z)
        reach, by_point, by_Z = bound.smooth(x[n * c :], Z, barrier)
        updated = max(mass + weight * (reach - beta), 0.0)
        value += 0.5 * updated**2 / weight
        return value, np.concatenate([(slope + updated * by_Z).ravel(), updated * by_point])

    for part, steps in _STAGES:
        if clock.over():
            return
        barrier = part * beta / (c + d)
        x = np.concatenate([Z.ravel(), point])
        function = partial(dual, barrier=barrier, mass=mass)
        over = clock.part(_SHARE if part > _STAGES[-1][0] else 1.0).over
        x = minimised(function, x, steps, over, free, _MEMORY)
        Z, point = x[: n * c].reshape(n, c).copy(), x[n * c :]
        mass = max(mass + weight * (bound.smooth(point, Z, barrier)[0] - beta), 0.0)
        yield torch.from_numpy(Z), bound.proven(point, Z), "joint"


class JointBound:
    r"""The bound as a function of its multipliers, whose logarithms are a point (2 n + 2 pairs,).

    r and :math:`\delta`, and for each pair :math:`\tfrac12(\Lambda \pm \nu)`.
    """

    def __init__(self, rows: Floats, pairs: Pairs, c: int) -> None:
        """Rows (n, d) of moderate size, and the number of outputs."""
        self.rows, self.pairs, self.c = rows, pairs, c
        self.n, self.d = rows.shape
        self.size = 2 * (self.n + len(pairs.i))
        self.rounding = 8.0 * (2 * self.n + self.d + c + 8) * EPS

    def start(self, Z: Floats) -> Floats:
        """A point for a dual point of this size."""
        size = max(float(np.linalg.norm(Z, axis=1).mean()), 1e-100)
        parts = (self.n, 0.0), (self.n, size / 4), (2 * len(self.pairs.i), 0.1 * size / self.n)
        return np.concatenate(
            [np.full(count, math.log(each) if each else 0.0) for count, each in parts]
        )

    def stretched(self, point: Floats, factor: float) -> Floats:
        """The point whose bound for this multiple of Z is that multiple."""
        return np.append(point[: self.n], point[self.n :] + math.log(max(factor, 1e-100)))

    def _read(self, point: Floats) -> tuple[Floats, Floats, Floats]:
        """Read r, delta (n,), and the multipliers (2, pairs) of products."""
        n = self.n
        r = np.exp(np.clip(point[:n] - point[:n].mean(), -_HIGH, _HIGH))
        logs = np.clip(point[n:], _LOW, _HIGH)
        return r, np.exp(logs[:n]), np.exp(logs[n:]).reshape(2, -1)

    def _matrix(self, upper: Floats, lower: Floats) -> Floats:
        """The matrix (n, n) with these values at (i, j) and (j, i)."""
        M = np.zeros((self.n, self.n))
        M[self.pairs.i, self.pairs.j], M[self.pairs.j, self.pairs.i] = upper, lower
        return M

    def _parts(
        self, r: Floats, delta: Floats, products: Floats, Z: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Lambda, mu, Gamma, N and diag(mu) - theta Lambda."""
        signs, total, nu = self.pairs.signs, products.sum(axis=0), products[0] - products[1]
        near = self._matrix(total, total)
        mu = (1.0 + LIFT) * (near @ r) / r + delta
        gamma = self._matrix(-signs * nu, nu)
        N = np.concatenate([0.5 * Z, 2.0 * (gamma @ self.rows)], axis=1)
        middle = self._matrix(-signs * total, -signs * total)
        middle[np.diag_indices(self.n)] = mu
        return near, mu, gamma, N, middle

    def _hessian(self, rows: Floats, Z: Floats, curved: Floats, middle: Floats) -> Floats:
        """H, of which `curved` is the first part."""
        H, c, cross = curved.copy(), self.c, 0.25 * (Z.T @ rows)
        H[:c, c:] += cross
        H[c:, :c] += cross.T
        H[c:, c:] += rows.T @ (middle @ rows)
        return 0.5 * (H + H.T)

    def _solved(self, mu: Floats, near: Floats, N: Floats) -> Floats:
        """A^-1 N; raises LinAlgError where rounding hides that A is positive definite."""
        A = -near
        A[np.diag_indices(self.n)] = mu
        B: Floats = cho_solve(cho_factor(A, lower=True, check_finite=False), N, check_finite=False)
        return B

    def smooth(self, point: Floats, Z: Floats, barrier: float) -> tuple[float, Floats, Floats]:
        """Bound minus barrier * log det(gamma I - H), its gradient by the point, and by Z."""
        r, delta, products = self._read(point)
        near, mu, _, N, middle = self._parts(r, delta, products, Z)
        B = self._solved(mu, near, N)
        H = self._hessian(self.rows, Z, 0.25 * (N.T @ B), middle)
        value, _, moment = ball_minimum(np.zeros(len(H)), H, 0.5 * barrier)
        moment = 2.0 * moment  # of v, whose square is 2 on average
        c, X, i, j, signs = self.c, self.rows, self.pairs.i, self.pairs.j, self.pairs.signs
        mixed = 0.5 * (B @ moment)  # E[w v^T]
        ww, ss = 0.5 * (mixed @ B.T), X @ moment[c:, c:] @ X.T
        ws = mixed[:, c:] @ X.T
        excess = np.diag(ss) - np.diag(ww)  # the gradient by mu
        share = excess / r
        slope_r = r * (near @ share) - share * (near @ r)
        slope = 2.0 * (ww[i, j] - signs * ss[i, j])
        slope += excess[i] * r[j] / r[i] + excess[j] * r[i] / r[j]
        turn = 2.0 * (ws[j, i] - signs * ws[i, j])
        gradient = [
            slope_r - slope_r.mean(),
            excess * delta,
            (slope + turn) * products[0],
            (slope - turn) * products[1],
        ]
        by_Z = 0.5 * (mixed[:, :c] + X @ moment[c:, :c])
        return 2.0 * value, np.concatenate(gradient), by_Z

    def proven(self, point: Floats, Z: Floats) -> float:
        """The proven bound at a point; inf where rounding hides that A is positive definite."""
        r, delta, products = self._read(point)
        near, mu, gamma, N, middle = self._parts(r, delta, products, Z)
        # A r, but for the rounding of mu and of these sums.
        image = (LIFT - self.rounding) * (near @ r) + (1.0 - self.rounding) * delta * r
        if not bool((image > 0.0).all()):
            return np.inf
        B = self._solved(mu, near, N)
        AB = mu[:, None] * B - near @ B
        X, size_Z, size_B = np.abs(self.rows), np.abs(Z), np.abs(B)
        size_N = np.concatenate([0.5 * size_Z, 2.0 * (np.abs(gamma) @ X)], axis=1)
        size_AB = mu[:, None] * size_B + near @ size_B
        rest = np.abs(N - AB) + self.rounding * (size_N + size_AB)
        left = float(((r @ rest) * (rest / image[:, None]).max(axis=0)).sum())
        curved = N.T @ B
        H = self._hessian(self.rows, Z, 0.25 * (curved + curved.T - B.T @ AB), middle)
        # The same with the sizes of all terms.
        curved = 0.25 * size_B.T @ (2.0 * size_N + size_AB)
        terms = self._hessian(X, size_Z, curved, np.abs(middle))
        mass = float(np.linalg.norm(terms)) + float(np.linalg.norm(size_B.T @ size_N))
        # The error of an eigenvalue is a small multiple of EPS and of the norm, too.
        top = max(float(np.linalg.eigvalsh(H)[-1]) + self.rounding * mass, 0.0)
        return 2.0 * (top + 0.25 * left) * (1.0 + self.rounding)
