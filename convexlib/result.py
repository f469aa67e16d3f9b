"""What a solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from convexlib.arrangements import Arrangements


class Status(Enum):
    """How a solve ended; the value is the message for people.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> result = cl.solve(cl.TwoLayer(np.eye(2), np.ones(2), beta=0.1))
    >>> result.status is cl.Status.CONVERGED
    True
    >>> print(result.status)
    converged: the relative duality gap is at most tol
    """

    CONVERGED = "converged: the relative duality gap is at most tol"
    MAX_ITER = "stopped at max_iter or max_steps before the gap reached tol; raise it or tol"
    STALLED = "stopped because rounding allows no further progress; the gap reported is valid"
    INTERRUPTED = "interrupted; this is the best found so far and the gap reported is valid"
    OUT_OF_TIME = "stopped at max_seconds before the gap reached tol; the gap reported is valid"
    UNPROVEN = (
        "the generated patterns are optimal among those examined, but the best neuron could not "
        "be bounded tightly enough to prove it; the gap reported is valid"
    )

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Record:
    """One line of a solver's history: best primal value and best dual bound so far."""

    iteration: int
    seconds: float
    primal: float
    dual: float


@dataclass(frozen=True, eq=False)
class Result:
    """A solution with its proof.

    Attributes
    ----------
    weights : Tensor
        The convex program's variables, in the shape that the problem documents.
    value : float
        Objective of the program at `weights`.
    dual : float
        A lower bound on the optimum of the program.
    gap : float
        ``(value - dual) / value``, the relative duality gap (0 when both are 0).
    z : Tensor (n,)
        The feasible dual point that gives `dual`, in the shape of the program's targets: (n, c) for
        `VectorOutput`, (n s, c) for `Attention`; in float64, also where `weights` are
        rounded to the float32 of the data.
    status, converged : Status, bool
        How it ended; ``converged`` means gap <= tol.
    method : str
        The solver that ran.
    n_iter, seconds : int, float
        Iterations, and wall-clock time without that of compiling kernels.
    scope : str
        What the bound is about: ``"program"`` for the optimum over the given patterns or units, or
        ``"network"`` for that over all networks of the kind that the problem stands for.
    arrangements : Arrangements or None
        The patterns that the blocks of `weights` belong to, where there are any.
    history : tuple of Record
        Primal and dual values as they came.
    detail : str
        What a solver adds to its status for people: which bound `dual` is, and why no better one.

    Examples
    --------
    >>> import numpy as np
    >>> import convexlib as cl
    >>> X = np.array([[-2.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> result = cl.solve(cl.TwoLayer(X, np.array([2.0, 0.0, 0.0, 1.0]), beta=0.1))
    >>> result.dual <= result.value, result.method, result.scope
    (True, 'ssnal', 'program')
    >>> round(result.history[-1].primal, 4)
    0.3583
    """

    weights: Tensor
    value: float
    dual: float
    gap: float
    z: Tensor
    status: Status
    method: str
    n_iter: int
    seconds: float
    scope: str = "program"
    arrangements: Arrangements | None = field(default=None, repr=False)
    history: tuple[Record, ...] = field(default=(), repr=False)
    detail: str = ""

    @property
    def converged(self) -> bool:
        """Whether the duality gap reached the tolerance."""
        return self.status is Status.CONVERGED

    def __repr__(self) -> str:
        return (
            f"Result(value={self.value:.9g}, gap={self.gap:.1e}, method={self.method!r}, "
            f"n_iter={self.n_iter}, seconds={self.seconds:.3g}, scope={self.scope!r}, "
            f"status={self.status.name})"
        )


def relative_gap(primal: float, dual: float) -> float:
    """(primal - dual) / primal, never negative, 0 where both vanish."""
    if primal <= 0.0:
        return 0.0
    return max(primal - dual, 0.0) / primal
