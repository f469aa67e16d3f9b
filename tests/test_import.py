"""What `import convexlib` loads, and that its names are there all the same."""

import ast
import inspect
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import convexlib as cl

FOLDER = Path(cl.__file__).parent
SLOW = ("torch", "numba", "scipy", "sklearn", "cvxpy", "clarabel", "matplotlib", "pandas", "pooch")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a new process that finds this checkout."""
    code = f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r})\n{code}"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_import_loads_none_of_the_libraries_that_take_long() -> None:
    done = python(f"import convexlib; print([name for name in {SLOW} if name in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


WITHOUT = """
sys.modules.update(dict.fromkeys({absent}))  # which makes their import fail
from convexlib.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--help"], "compile all kernels"),
        (["--version"], f"convexlib {metadata.version('convexlib')}\n"),
        (["data", "--help"], "verify"),
        (["data", "list"], "ecg "),
        (["data", "verify", "ecg"], "ecg: intact"),
    ],
    ids=" ".join,
)
def test_commands_that_compute_nothing_need_no_library_that_computes(
    words: list[str], printed: str
) -> None:
    absent = tuple(name for name in SLOW if name != "pooch")  # it knows where the cache is
    done = python(WITHOUT.format(absent=absent), *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert printed in done.stdout


def test_the_names_are_those_that_type_checkers_read() -> None:
    """Listed three times, for `import *`, for the import itself and for readers of the source."""
    tree = ast.parse((FOLDER / "__init__.py").read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    places = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    rooms = {name for name, place in places.items() if place == "convexlib"}
    assert rooms == {"datasets", "errors"}
    assert {name: f"convexlib.{place}" for name, place in cl._MODULES.items()} == {
        name: place for name, place in places.items() if name not in rooms
    }
    assert set(cl.__all__) == (places.keys() - {"errors"})
    assert len(set(cl.__all__)) == len(cl.__all__)


def test_every_name_is_there_and_listed() -> None:
    star: dict[str, object] = {}
    exec("from convexlib import *", star)  # as a reader would
    assert star.keys() - {"__builtins__"} == set(cl.__all__)
    assert all(value is getattr(cl, name) for name, value in star.items() if name in cl.__all__)
    assert set(cl.__all__) | {"__version__"} <= set(dir(cl))


@pytest.mark.parametrize("room", ["errors", "plots", "training", "estimators", "cli"])
def test_rooms_are_found_without_an_import_of_their_own(room: str) -> None:
    done = python(f"import convexlib; print(convexlib.{room}.__name__)")
    assert (done.stdout, done.stderr) == (f"convexlib.{room}\n", "")


def test_a_name_that_is_not_there_is_refused_and_a_room_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AttributeError, match="module 'convexlib' has no attribute 'TwoLayr'"):
        _ = cl.TwoLayr
    assert not hasattr(cl, "__wrapped__")
    monkeypatch.delattr(cl, "plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("convexlib.plots")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):
        _ = cl.plots


@pytest.mark.parametrize(
    "first",
    [
        "",
        "convexlib.polish",
        "import convexlib.certify",
        "from convexlib.certify import dispatch",
        "import convexlib.certify.missing",
        "from convexlib import certify",
    ],
)
def test_certify_is_the_function_whatever_was_imported_before(first: str) -> None:
    """A package of that name is imported too, and would take its place."""
    done = python(f"import convexlib\n{first}\nprint(convexlib.certify.__qualname__)")
    assert (done.stdout, done.stderr) == ("certify\n", "")
    assert inspect.isfunction(cl.certify)


def test_the_version_is_that_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cl.__version__ == metadata.version("convexlib")

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(AttributeError, match="not installed; expected what `pip install -e .`"):
        _ = cl.__version__


@pytest.mark.slow
def test_the_wheel_holds_every_module_the_types_and_the_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=FOLDER.parent, capture_output=True, timeout=600, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    root = FOLDER.parent
    modules = {str(path.relative_to(root)) for path in FOLDER.rglob("*.py")}
    assert modules | {"convexlib/py.typed", "convexlib/data/manifest.toml"} <= names
    assert not any(name.startswith(("convexlib/data/recipes", "experiments")) for name in names)
