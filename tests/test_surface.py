"""The public names and their arguments, as `surface.txt` lists them: none goes, and none changes.

A new name or argument is added to the list by ``python -m tests.test_surface``.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

ROOMS = (
    "convexlib",
    "convexlib.arrangements",
    "convexlib.arrangements.zonotope",
    "convexlib.certify",
    "convexlib.cones",
    "convexlib.datasets",
    "convexlib.errors",
    "convexlib.estimators",
    "convexlib.losses",
    "convexlib.networks",
    "convexlib.plots",
    "convexlib.pricing",
    "convexlib.solvers",
    "convexlib.solvers.interpolation",
    "convexlib.solvers.lasso",
    "convexlib.training",
)
TABLE = Path(__file__).with_name("surface.txt")


def arguments(function: Any) -> list[str]:
    """Its arguments with their defaults; those by name only have a star."""
    parameters = inspect.signature(function).parameters.values()
    stars = {inspect.Parameter.KEYWORD_ONLY: "*"}
    plain = (p.replace(annotation=inspect.Parameter.empty) for p in parameters)
    return [stars.get(p.kind, "") + str(p) for p in plain if p.name not in ("self", "cls")]


def surface() -> dict[str, list[str]]:
    """Every public name, and the public methods of the classes, with their arguments."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            made = thing.__init__ if inspect.isclass(thing) else thing
            found[f"{room}.{name}"] = arguments(thing) if is_ours(made) else []
            if not inspect.isclass(thing):
                continue
            for method, value in inspect.getmembers(thing, is_ours):
                if not method.startswith("_"):
                    found[f"{room}.{name}.{method}"] = arguments(value)
    return found


def is_ours(value: Any) -> bool:
    """Whether it is a function of the library: those of others differ with their versions."""
    module = getattr(value, "__module__", "") or ""
    return callable(value) and inspect.isroutine(value) and module.startswith("convexlib")


def written() -> dict[str, list[str]]:
    """The list that is kept."""
    lines = (line.split(" : ") for line in TABLE.read_text().splitlines())
    return {name: [part for part in rest.split(" | ") if part] for name, rest in lines}


def test_no_public_name_or_argument_has_gone_or_changed() -> None:
    now = surface()
    for name, before in written().items():
        assert name in now, f"{name} has gone"
        assert [part for part in before if part not in now[name]] == [], name
        ordered = [part for part in before if not part.startswith("*")]
        assert now[name][: len(ordered)] == ordered, f"{name}: the order has changed"
        for part in now[name]:
            assert part in before or "=" in part or part.startswith("**"), f"{name} needs {part}"


def test_every_public_name_and_argument_is_listed() -> None:
    assert surface() == written(), "python -m tests.test_surface lists what is new"


if __name__ == "__main__":
    lines = (f"{name} : {' | '.join(found)}" for name, found in sorted(surface().items()))
    TABLE.write_text("\n".join(lines) + "\n")
