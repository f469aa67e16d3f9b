"""How inputs become calls: sound arguments, of which some are then made wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.data import wrong
from tests.fuzz.judge import LIMIT, Case
from tests.fuzz.valid import valid

Arguments = dict[str, Any]
Bundle = st.SearchStrategy[Arguments]


@dataclass(frozen=True)
class Entry:
    """A door of the library: the public names behind it, and the strategy of its inputs."""

    covers: tuple[str, ...]
    cases: st.SearchStrategy[Case]
    share: float
    limit: float


ENTRIES: dict[str, Entry] = {}
NOTHING: Bundle = st.just({})


def entry(
    name: str,
    call: Callable[..., Any],
    bundle: Bundle = NOTHING,
    *,
    options: dict[str, st.SearchStrategy[Any]] | None = None,
    covers: tuple[str, ...] = (),
    check: Callable[[Any], None] = valid,
    share: float = 1.0,
    may_warn: tuple[type[Warning], ...] = (),
    estimator: bool = False,
    kept: tuple[str, ...] = (),
    always: tuple[str, ...] = (),
    limit: float = LIMIT,
) -> None:
    """Register `call` for fuzzing.

    Parameters
    ----------
    bundle : strategy of dict
        Required arguments, which belong together.
    options : dict of strategies
        Each is given in about half of the calls.
    covers : tuple of str
        Public names that these calls exercise; `name` by default.
    share : float
        Of the inputs, relative to other entries.
    kept : tuple of str
        Arguments of the fuzzer's own, which are not made wrong.
    always : tuple of str
        Options that the call requires.
    limit : float
        Seconds of processor time that one of the calls may take.
    """

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        arguments = dict(draw(bundle))
        for option, values in (options or {}).items():
            if option in always or draw(st.booleans()):
                arguments[option] = draw(values)
        spoiled = [name for name in (*arguments, *(options or {})) if name not in kept]
        spoil(draw, arguments, spoiled)
        text = f"{name}({described(arguments)})"
        return Case(text, lambda: call(**arguments), check, may_warn, estimator)

    ENTRIES[name] = Entry(covers or (name,), cases(), share, limit)


def spoil(draw: st.DrawFn, arguments: Arguments, names: list[str]) -> None:
    """Make none, one or two of the named arguments wrong, or add one, or leave one out."""
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 0, 0, 1, 0, 0, 2, 0))) if names else 0):
        arguments[draw(st.sampled_from(names))] = draw(wrong())
    odd = draw(st.integers(0, 59))  # not at the ends of the range, which are drawn more often
    if odd == 23:
        arguments["bogus"] = 1
    elif odd == 41 and names and names[0] in arguments:
        del arguments[names[0]]


def described(arguments: Arguments) -> str:
    """The arguments as text, without line breaks and memory addresses."""
    return ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())


def _short(value: Any) -> str:
    with np.printoptions(threshold=40, precision=17):
        text = f"{type(value).__name__} {value!r}"
    return " ".join(text.split())[:600]
