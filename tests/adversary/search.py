"""What an attack is, what it draws from, and the loop that runs it."""

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
T = TypeVar("T")
Attack = Callable[["Draw"], None]
TINY = 1e-300  # keeps a quotient finite where both sides vanish


@dataclass(frozen=True)
class Statement:
    """A statement and the attack on it.

    Attributes
    ----------
    label : str
        Of the statement in the book; of a false one, of the statement that took its place.
    text : str
        What a false statement says; empty for those of the book.
    attack : callable
        Tells a `Draw` what the statement says of it.
    """

    label: str
    text: str
    attack: Attack

    @property
    def name(self) -> str:
        """Module and function, to run one by hand."""
        return f"{self.attack.__module__.rsplit('.', 1)[1]}.{self.attack.__name__}"


@dataclass(frozen=True)
class Counterexample:
    """The draw that violates a statement most, and by how many tolerances: one from 1 on."""

    draw: int
    excess: float
    notes: str


TRUE: dict[str, Statement] = {}
FALSE: dict[str, Statement] = {}


def attack(label: str) -> Callable[[Attack], Attack]:
    """Register an attack on the statement of the book with this label."""
    return lambda function: _register(TRUE, label, "", function)


def refute(label: str, text: str) -> Callable[[Attack], Attack]:
    """Register an attack on a false statement that is easily taken for the one with this label."""
    return lambda function: _register(FALSE, label, text, function)


def _register(table: dict[str, Statement], label: str, text: str, function: Attack) -> Attack:
    statement = Statement(label, text, function)
    assert statement.name not in TRUE | FALSE, statement.name
    table[statement.name] = statement
    return function


def worst(statement: Statement, draws: int, first: int = 0) -> Counterexample:
    """The largest excess over some draws; of a false statement the first counterexample."""
    found = Counterexample(first, -np.inf, "")
    for number in range(first, first + draws):
        draw = Draw(statement.name, number)
        with suppress(VacuousError):
            statement.attack(draw)
        if np.isnan(draw.excess) or draw.excess > found.excess:
            found = Counterexample(number, draw.excess, ", ".join(draw.notes))
        if np.isnan(draw.excess) or (statement.text and draw.excess > 1.0):
            break
    return found


class VacuousError(Exception):
    """A statement says nothing of what was drawn."""


class Draw:
    """Random data for one attack, with a memory of what they were, and what must hold of them.

    Half of the matrices are degenerate (ties, repeated, opposite, zero rows, deficient rank, one
    sample, one feature), a third of all data have an extreme scale, and weights may vanish.

    `assume` leaves an attack where a hypothesis is not met. `below`, `same` and `true` say what the
    statement says; by how many tolerances that is missed at most is the `excess`.
    """

    def __init__(self, name: str, number: int) -> None:
        # A number for every attack, so that one more attack does not change the draws of others.
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        self.number = number
        self.notes: list[str] = []
        self.excess = 0.0

    def assume(self, met: bool) -> None:
        """What a statement supposes, or what an attack needs to see it clearly."""
        if not met:
            raise VacuousError

    def below(self, small: ArrayLike, large: ArrayLike, tolerance: ArrayLike) -> None:
        """No entry of `small` is above that of `large`."""
        missed = np.asarray(small) - np.asarray(large)
        with np.errstate(over="ignore"):
            times = missed / np.maximum(np.asarray(tolerance), TINY)
        self.excess = float(np.maximum(self.excess, times.max(initial=0.0)))  # or NaN

    def same(self, one: ArrayLike, other: ArrayLike, tolerance: ArrayLike) -> None:
        """No entry of `one` differs from that of `other`."""
        self.below(np.abs(np.asarray(one) - np.asarray(other)), 0.0, tolerance)

    def true(self, claim: bool) -> None:
        """What needs no tolerance."""
        self.below(0.0 if claim else 2.0, 0.0, 1.0)

    def note(self, text: str) -> None:
        """Say in a report what was drawn."""
        self.notes.append(text)

    def choice(self, *values: T) -> T:
        """One of some values."""
        return values[int(self.rng.integers(len(values)))]

    def size(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(least, most + 1))

    def power(self, low: float, high: float) -> float:
        """A power of ten, its exponent between two."""
        return float(10.0 ** self.rng.uniform(low, high))

    def normal(self, *shape: int) -> Floats:
        """Standard normal numbers."""
        return self.rng.standard_normal(shape or None)

    def signs(self, *shape: int) -> Floats:
        """Numbers -1 and 1."""
        return self.rng.choice([-1.0, 1.0], shape)

    def scale(self, decades: float = 6.0) -> float:
        """Mostly 1, else a power of ten within so many decades to both sides."""
        if self.rng.random() < 2 / 3:
            return 1.0
        value = self.power(-decades, decades)
        self.note(f"scale {value:.1e}")
        return value

    def matrix(self, n: int, d: int) -> Floats:
        """Samples (n, d) of moderate size; `scale` is the caller's."""
        X, half = self.normal(n, d), max(n // 2, 1)
        degenerate = {
            "integers": lambda: self.rng.integers(-2, 3, (n, d)).astype(float),
            "signs": lambda: self.signs(n, d),
            "repeated": lambda: X[self.rng.integers(0, half, n)],
            "opposite": lambda: np.concatenate([X[: n // 2], -X[: n - n // 2]]),
            "zero row": lambda: np.where(np.arange(n)[:, None] == self.rng.integers(n), 0.0, X),
            "collinear": lambda: (
                self.rng.uniform(0.1, 3.0, (n, 1)) * X[self.rng.integers(0, half, n)]
            ),
            "rank": lambda: X[:, :1] @ self.normal(1, d),
            "bias": lambda: np.column_stack([X[:, :-1], np.ones(n)]),
        }
        kind = self.choice(*["Gaussian"] * 8, *degenerate)
        self.note(f"{kind} {n} x {d}")
        return degenerate[kind]() if kind in degenerate else X

    def samples(self, most: int, features: int = 3) -> Floats:
        """A matrix of at most so many rows and columns."""
        return self.matrix(self.size(1, most), self.size(1, features))

    def targets(self, n: int) -> Floats:
        """Real targets (n,): generic, of few values, constant, zero or a single spike."""
        degenerate = {
            "few": lambda: self.rng.integers(-1, 2, n).astype(float),
            "constant": lambda: np.full(n, self.normal()),
            "zero": lambda: np.zeros(n),
            "spike": lambda: self.normal() * (np.arange(n) == self.rng.integers(n)),
        }
        kind = self.choice(*["Gaussian"] * 3, *degenerate)
        self.note(f"y {kind}")
        return degenerate[kind]() if kind in degenerate else self.normal(n)

    def centred(self, n: int) -> Floats:
        """A dual vector (n,) with the sum zero."""
        z = self.targets(n)
        return z - z.mean() if np.ptp(z) else np.zeros(n)

    def labels(self, n: int) -> Floats:
        """Labels -1 and 1 (n,), now and then all alike."""
        share = self.choice(0.5, 0.5, 0.8, 1.0)
        return np.where(self.rng.random(n) < share, 1.0, -1.0)

    def weights(self, *shape: int) -> Floats:
        """Weights of a network: some neurons, or all, may be zero; sizes vary."""
        values = self.normal(*shape) * self.power(-2, 1)
        kind = self.choice("generic", "generic", "generic", "some zero", "all zero")
        if kind == "some zero":
            values[self.rng.random(shape[0]) < 0.5] = 0.0
        elif kind == "all zero":
            values[:] = 0.0
        self.note(f"weights {kind}")
        return values

    def near(self, parts: Sequence[Floats], spread: float, relative: bool = False) -> list[Floats]:
        """The parts and noise of size `spread`, or so many times their own."""
        sizes = [(np.abs(part).max(initial=0.0) or 1.0) if relative else 1.0 for part in parts]
        return [
            part + spread * size * self.normal(*part.shape)
            for part, size in zip(parts, sizes, strict=True)
        ]
