"""What an attack is, what it draws from, and the loop that runs it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
T = TypeVar("T")
Attack = Callable[["Draw"], float]


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
        From a `Draw` to a multiple of the tolerance. Above 1 it is a counterexample.
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
    """The draw that violates a statement most, and by how much."""

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
        excess = float(statement.attack(draw))
        if np.isnan(excess) or excess > found.excess:
            found = Counterexample(number, excess, ", ".join(draw.notes))
        if np.isnan(excess) or (statement.text and excess > 1.0):
            break
    return found


class Draw:
    """Random data for one attack, with a memory of what they were.

    Half of the matrices are degenerate (ties, repeated, opposite, zero rows, deficient rank, one
    sample, one feature), a third of all data have an extreme scale, and weights may vanish.
    """

    def __init__(self, name: str, number: int) -> None:
        # A number for every attack, so that one more attack does not change the draws of others.
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        self.number = number
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Say in a report what was drawn."""
        self.notes.append(text)

    def choice(self, *values: T) -> T:
        """One of some values."""
        return values[int(self.rng.integers(len(values)))]

    def size(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(least, most + 1))

    def scale(self, decades: float = 6.0) -> float:
        """Mostly 1, else a power of ten within so many decades to both sides."""
        if self.rng.random() < 2 / 3:
            return 1.0
        value = float(10.0 ** self.rng.uniform(-decades, decades))
        self.note(f"scale {value:.1e}")
        return value

    def matrix(self, n: int, d: int) -> Floats:
        """Samples (n, d) of moderate size; `scale` is the caller's."""
        X: Floats = self.rng.standard_normal((n, d))
        kind = self.choice(
            *["Gaussian"] * 8,
            "integers", "signs", "repeated", "opposite", "zero row", "collinear", "rank", "bias",
        )  # fmt: skip
        if kind == "integers":
            X = self.rng.integers(-2, 3, (n, d)).astype(float)
        elif kind == "signs":
            X = self.rng.choice([-1.0, 1.0], (n, d))
        elif kind == "repeated":
            X = X[self.rng.integers(0, max(n // 2, 1), n)]
        elif kind == "opposite":
            X[n // 2 :] = -X[: n - n // 2]
        elif kind == "zero row":
            X[self.rng.integers(n)] = 0.0
        elif kind == "collinear":
            X = self.rng.uniform(0.1, 3.0, (n, 1)) * X[self.rng.integers(0, max(n // 2, 1), n)]
        elif kind == "rank":
            X = X[:, :1] @ self.rng.standard_normal((1, d))
        elif kind == "bias":
            X[:, -1] = 1.0
        self.note(f"{kind} {n} x {d}")
        return X

    def targets(self, n: int) -> Floats:
        """Real targets (n,): generic, of few values, constant, zero or a single spike."""
        kind = self.choice("Gaussian", "Gaussian", "Gaussian", "few", "constant", "zero", "spike")
        self.note(f"y {kind}")
        if kind == "few":
            return self.rng.integers(-1, 2, n).astype(float)
        if kind == "constant":
            return np.full(n, self.rng.standard_normal())
        if kind == "zero":
            return np.zeros(n)
        if kind == "spike":
            y = np.zeros(n)
            y[self.rng.integers(n)] = self.rng.standard_normal()
            return y
        return self.rng.standard_normal(n)

    def labels(self, n: int) -> Floats:
        """Labels -1 and 1 (n,), now and then all alike."""
        share = self.choice(0.5, 0.5, 0.8, 1.0)
        return np.where(self.rng.random(n) < share, 1.0, -1.0)

    def weights(self, *shape: int) -> Floats:
        """Weights of a network: some neurons, or all, may be zero; sizes vary."""
        values = self.rng.standard_normal(shape) * 10.0 ** self.rng.uniform(-2, 1)
        kind = self.choice("generic", "generic", "generic", "some zero", "all zero")
        if kind == "some zero":
            values[self.rng.random(shape[0]) < 0.5] = 0.0
        elif kind == "all zero":
            values[:] = 0.0
        self.note(f"weights {kind}")
        return values
