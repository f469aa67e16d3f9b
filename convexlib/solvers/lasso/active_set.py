r"""The Lasso :math:`\min \tfrac12\|Fz - y\|^2 + \beta\|z\|_1` by active sets, to rounding.

On the columns S with signs s the minimiser of the face is :math:`z_S = R^{-1}(Q^\top y - \beta
R^{-\top} s)` with :math:`F_S = QR`. Walking there from the present point, the first coefficient to
reach zero leaves; at the minimiser the column with the largest :math:`|F_j^\top r| > \beta` enters
with the sign of its correlation. Every step lowers the objective and faces are finite in number.

A column that depends on F_S enters by an exchange instead: along the null vector the fit does not
change and :math:`\|z\|_1` falls, until a coefficient reaches zero and leaves. For small beta this
is the simplex method for :math:`\min \|z\|_1`, and as exact.

The pinball loss and interpolation are linear programs, for the simplex method of HiGHS. They are
scaled to unit costs and targets before the solver's absolute tolerances apply.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr_delete, solve_triangular
from scipy.optimize import linprog

from convexlib.arrays import Floats
from convexlib.errors import SolverError

DEPENDENT = 1e-9  # relative distance to the span below which a column counts as inside it
REFRESH = 50  # updates of the factors between two factorisations
PIVOT = 1e-10  # share of a column, relative to the largest, below which it is rounding
SLACK = 1e-10  # relative excess of a correlation over beta that is rounding
_STAGE = 4.0  # factor between the values of beta on the way down


def stages(largest: float, beta: float) -> list[float]:
    """Return falling values that end at `beta`, the first not much below `largest`.

    Solved cold, a small beta visits many more faces than on the way down from `beta_max`.
    """
    # In logarithms: the quotient and its powers may be beyond floats.
    steps = (np.log(largest) - np.log(beta)) / np.log(_STAGE) if largest > beta else 0.0
    count = int(min(steps, np.log(1e300) / np.log(_STAGE)))
    return [beta * _STAGE**power for power in range(count, -1, -1)]


class ActiveSet:
    """A Lasso on the columns F (N, k), to which columns can be added.

    Attributes
    ----------
    F : ndarray (N, k)
        All columns.
    support : list of int
        The columns S with an independent F_S.
    signs, values : ndarray (|S|,)
        Their signs and coefficients.
    steps : int
        Faces visited.
    """

    def __init__(self, y: Floats, beta: float) -> None:
        self.y, self.beta = y, beta
        self.F = np.zeros((len(y), 0))
        self.support: list[int] = []
        self.signs, self.values = np.zeros(0), np.zeros(0)
        self.Q, self.R = np.zeros((len(y), 0)), np.zeros((0, 0))
        self._updates = 0
        self.steps = 0

    def add_columns(self, columns: Floats) -> None:
        """Append columns (N, k') with zero coefficients."""
        self.F = np.hstack([self.F, columns])

    def warm_start(self, columns: NDArray[np.intp], values: Floats) -> None:
        """Give nonzero coefficients to columns; dependent ones are left out."""
        for column, value in zip(columns, values, strict=True):
            self._enter(int(column), float(np.sign(value)), float(value))

    def coefficients(self) -> Floats:
        """All coefficients, (k,)."""
        full = np.zeros(self.F.shape[1])
        full[self.support] = self.values
        return full

    def residual(self) -> Floats:
        r"""Return the dual point y - Fz at the minimiser of the present face, (N,).

        It is :math:`(I - QQ^T)y + \beta Q R^{-T} s`, which is accurate relative to beta.
        """
        return self._outside() + self.beta * (self.Q @ self._solved(self.signs, "T"))

    def solve(self, max_steps: int) -> bool:
        """Minimise over all columns; False if max_steps faces were not enough."""
        self._descend()
        seen, blocked = {self._face()}, set[int]()
        for _ in range(max_steps):
            correlations, level = self._correlations()
            excess = np.abs(correlations) - level * (1.0 + SLACK)
            excess[self.support] = -1.0
            excess[list(blocked)] = -1.0
            entering = int(np.argmax(excess)) if len(excess) else -1
            if entering < 0 or excess[entering] <= 0.0:
                return True
            self._enter(entering, float(np.sign(correlations[entering])))
            self._descend()
            face = self._face()
            if face in seen:
                # Every step lowers the objective, so that only rounding leads back to a face: the
                # column is as good inside as outside, and must not be tried from here again.
                blocked.add(entering)
            else:
                seen.add(face)
                blocked.clear()
        return False

    def _face(self) -> frozenset[tuple[int, float]]:
        """The columns inside and their signs, which determine the minimiser."""
        return frozenset(zip(self.support, self.signs.tolist(), strict=True))

    def _correlations(self) -> tuple[Floats, float]:
        """All correlations with the residual, and beta, in the same unit.

        Where the face fits y the residual is a multiple of beta, which is then the unit: for the
        smallest floats the products of both would have no digits.
        """
        outside = self._outside()
        along = self.Q @ self._solved(self.signs, "T")
        if not outside.any():
            return self.F.T @ along, 1.0
        return self.F.T @ (outside + self.beta * along), self.beta

    def affine(self) -> tuple[Floats, Floats, Floats, Floats]:
        r"""Return a, d, r_0, r_1: :math:`z_S = a - \beta d` and the residual r_0 + beta r_1."""
        half = self._solved(self.signs, "T")
        constant, slope = self._solved(self.Q.T @ self.y), self._solved(half)
        return constant, slope, self._outside(), self.Q @ half

    def _outside(self) -> Floats:
        """Return the part of y outside the face's span: zero where only rounding is left of it.

        Taken for a residual, that rounding would decide the faces of every beta below it.
        """
        outside = self.y - self.Q @ (self.Q.T @ self.y)
        outside -= self.Q @ (self.Q.T @ outside)
        rounding = len(self.y) * np.finfo(np.float64).eps * float(np.linalg.norm(self.y))
        return outside if float(np.linalg.norm(outside)) > rounding else np.zeros_like(outside)

    def _solved(self, values: Floats, trans: str = "N") -> Floats:
        """Solve R t = values, or R^T t = values."""
        if not len(values):
            return np.zeros(0)
        solution: Floats = solve_triangular(self.R, values, trans=trans, check_finite=False)
        return solution

    def _descend(self) -> None:
        """Walk to the minimiser of the face, dropping every coefficient that reaches zero."""
        while self.support:
            self.steps += 1
            half = self._solved(self.signs, "T")
            target = self._solved(self.Q.T @ self.y - self.beta * half)  # the face's minimiser
            wrong = np.flatnonzero(target * self.signs <= 0.0)
            if not len(wrong):
                self.values = target
                return
            # The face's objective is the Lasso's only until a coefficient changes its sign.
            distance = self.values[wrong] - target[wrong]
            lengths = self.values[wrong] / np.where(distance == 0.0, 1.0, distance)
            first = int(np.argmin(lengths))
            self.values = self.values + lengths[first] * (target - self.values)
            self._leave(int(wrong[first]))

    def _enter(self, column: int, sign: float, value: float = 0.0) -> None:
        """Let a column in, by an exchange if it depends on those inside.

        With a given value (a warm start) a dependent column stays outside.
        """
        weights, rest, length = self._split(column)
        if length <= DEPENDENT * float(np.linalg.norm(self.F[:, column])):
            if value != 0.0:
                return
            # The outputs stay while the column takes over from those that it depends on, until the
            # first of their coefficients is zero: an exchange, as in the simplex method.
            combination = sign * self._solved(weights)
            # A share that is rounding is none: its column could not be replaced by this one.
            large = np.abs(combination) > PIVOT * np.abs(combination).max(initial=0.0)
            falling = np.flatnonzero(large & (combination * self.values > 0.0))
            if not len(falling):
                return
            ratios = self.values[falling] / combination[falling]
            # Among equal ratios the largest pivot leaves: the factors stay well conditioned.
            ties = np.flatnonzero(ratios <= ratios.min() * (1.0 + 1e-12))
            first = ties[int(np.argmax(np.abs(combination[falling[ties]])))]
            value = sign * float(ratios[first])
            self.values = self.values - abs(value) * combination
            self._leave(int(falling[first]))
            weights, rest, length = self._split(column)
        size = len(self.support)
        R = np.zeros((size + 1, size + 1))
        R[:size, :size], R[:size, size], R[size, size] = self.R, weights, length
        self.Q, self.R = np.hstack([self.Q, rest[:, None] / length]), R
        self.support.append(column)
        self.signs = np.append(self.signs, sign)
        self.values = np.append(self.values, value)
        self._updated()

    def _split(self, column: int) -> tuple[Floats, Floats, float]:
        """Split a column into Q t and the rest: t, the rest and its length."""
        rest = self.F[:, column]
        weights = np.zeros(len(self.support))
        for _ in range(2):  # twice is enough for orthogonality to rounding
            part = self.Q.T @ rest
            rest = rest - self.Q @ part
            weights += part
        return weights, rest, float(np.linalg.norm(rest))

    def _leave(self, place: int) -> None:
        """Drop the column at a place of the support."""
        del self.support[place]
        self.signs = np.delete(self.signs, place)
        self.values = np.delete(self.values, place)
        if self.support:
            Q, R = qr_delete(self.Q, self.R, place, which="col", check_finite=False)
            size = len(self.support)  # a square Q counts as a full one, and stays square
            self.Q, self.R = Q[:, :size], R[:size]
        else:
            self.Q, self.R = np.zeros((len(self.y), 0)), np.zeros((0, 0))
        self._updated()

    def _updated(self) -> None:
        """Factor F_S from scratch now and then, which removes the rounding of the updates."""
        self._updates += 1
        if self._updates >= REFRESH and self.support:
            self.Q, self.R = np.linalg.qr(self.F[:, self.support])
            self._updates = 0


# Presolve finds nothing in these dense programs and takes most of the time. It is the second try,
# and a looser tolerance the last: whoever calls checks the gap.
TRIES: tuple[tuple[bool, float], ...] = ((False, 1e-10), (True, 1e-10), (True, 1e-7))

LARGEST = 1e14  # entry of a matrix: HiGHS refuses those above 1e15


def pinball(columns: Floats, y: Floats, beta: float, tau: float) -> tuple[Floats, float, Floats]:
    r"""Minimise :math:`\sum \rho_\tau(y - Az - \xi) + \beta \|z\|_1`.

    Parameters
    ----------
    columns : ndarray (n, k)
        A.
    y : ndarray (n,)
        Targets.
    beta, tau : float
        Penalty and quantile.

    Returns
    -------
    z, bias, dual : ndarray (k,), float, ndarray (n,)
        The coefficients, the intercept xi, and the optimal dual point.

    Raises
    ------
    SolverError
        If HiGHS does not end at an optimum, or beta is too small beside the features.
    """
    # The dual has k inequalities beside the box, where the primal would have n equations.
    k = columns.shape[1]
    scale = float(np.abs(y).max()) or 1.0
    with np.errstate(over="ignore"):  # for which there is a message
        design = columns.T / beta  # a limit of 1, so that tolerances are relative to beta
    if not np.isfinite(design).all():
        raise SolverError(
            f"features of up to {np.abs(columns).max():.1e} over beta={beta:g} are beyond floats; "
            "expected a larger beta. For the limit of small beta take interpolate(problem)."
        )
    # A row with larger entries gets a smaller limit, and a looser tolerance beside it.
    sizes = np.maximum(np.abs(design).max(axis=1, initial=0.0) / LARGEST, 1.0)  # (k,)
    design = design / sizes[:, None]
    solution = simplex(
        -y / scale,
        A_ub=np.vstack([design, -design]),
        b_ub=np.tile(1.0 / sizes, 2),
        A_eq=np.ones((1, len(y))),
        b_eq=np.zeros(1),
        bounds=(tau - 1.0, tau),
    )
    multipliers = -solution.ineqlin.marginals
    z = (multipliers[:k] - multipliers[k:]) / sizes * scale / beta
    return z, -float(solution.eqlin.marginals[0]) * scale, solution.x


def least_norm(columns: Floats, y: Floats) -> tuple[Floats, float, Floats]:
    r"""Minimise :math:`\|z\|_1` subject to :math:`Az + \xi \mathbf 1 = y`; as `pinball`."""
    n, k = columns.shape
    scale = float(np.abs(y).max()) or 1.0
    A = np.hstack([columns, -columns, np.ones((n, 1))])
    costs = np.concatenate([np.ones(2 * k), [0.0]])
    bounds = [(0, None)] * (2 * k) + [(None, None)]
    solution = simplex(costs, A_eq=A, b_eq=y / scale, bounds=bounds)
    z = (solution.x[:k] - solution.x[k : 2 * k]) * scale
    return z, float(solution.x[2 * k]) * scale, solution.eqlin.marginals


def simplex(costs: Floats, **program: Any) -> Any:
    """Minimise costs^T x subject to a program in scipy's terms, or raise."""
    for presolve, tolerance in TRIES:
        options = {
            "presolve": presolve,
            "primal_feasibility_tolerance": tolerance,
            "dual_feasibility_tolerance": tolerance,
        }
        solution = linprog(costs, method="highs", options=options, **program)
        if solution.status in (0, 2, 3):  # optimal, infeasible, unbounded
            break
    if solution.status != 0:
        raise SolverError(
            f"HiGHS ended with status {solution.status}: {solution.message.strip()} Expected an "
            "optimum. Rescale x and y, or raise beta."
        )
    return solution
