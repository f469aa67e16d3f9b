"""Every public name has a docstring with an example that runs, and its methods have one too."""

import doctest
import importlib
import inspect

import matplotlib.pyplot as plt
import pytest

PACKAGES = (
    "convexlib",
    "convexlib.datasets",
    "convexlib.plots",
    "convexlib.solvers.interpolation",
    "convexlib.training",
)


def public() -> dict[str, object]:
    """The functions and classes that the packages give, each under its first name."""
    found: dict[int, tuple[str, object]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found.setdefault(id(value), (f"{package}.{name}", value))
    return dict(found.values())


@pytest.mark.parametrize(("name", "value"), public().items(), ids=public())
def test_the_example_runs(name: str, value: object) -> None:
    (test,) = doctest.DocTestFinder(recurse=False, exclude_empty=False).find(
        value, name, module=False, globs={}
    )
    assert test.examples, f"the docstring of {name} has no example"
    report: list[str] = []
    failed, _ = doctest.DocTestRunner().run(test, out=report.append)
    plt.close("all")
    assert not failed, "".join(report)


@pytest.mark.parametrize(
    "name", [name for name, value in public().items() if inspect.isclass(value)]
)
def test_every_method_says_what_it_does(name: str) -> None:
    """What a subclass does not document it inherits."""
    value = public()[name]
    own = [
        member
        for part in inspect.getmro(value)
        if part.__module__.startswith("convexlib")
        for member, what in vars(part).items()
        if not member.startswith("_") and (inspect.isfunction(what) or isinstance(what, property))
    ]
    assert [member for member in own if not inspect.getdoc(getattr(value, member))] == []
