"""Which code made a record: what changes the digest, and what does not."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convexlib.errors import InputError
from experiments import (
    bounds,
    ecg,
    images,
    nyse,
    provenance,
    records,
    recovery,
    reflections,
    three_layer,
    uci,
)
from experiments.runner import check_config, run
from experiments.uci import peer

HELPER = '''"""A helper."""

def half(x):
    """Half."""
    return x / 2  # exact
'''
MAIN = '''"""An experiment."""

import math

from room.helper import half

__all__ = ["compute"]
LIMIT = 3


def compute(config):
    """Compute it."""
    return {"value": half(config["x"]) + math.pi + LIMIT}


class Other:
    """Something else."""
'''


def code_in(folder: Path, main: str = MAIN, helper: str = HELPER, name: str = "helper") -> str:
    """The code of `compute` in a package of these two modules."""
    room = folder / "room"
    room.mkdir(exist_ok=True)
    for path in room.glob("*.py"):
        path.unlink()
    (room / "__init__.py").write_text("")
    (room / "main.py").write_text(main)
    (room / f"{name}.py").write_text(helper)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        spec = importlib.util.spec_from_file_location("room.main", room / "main.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["room.main"] = module
        provenance._digest_of.cache_clear()
        found = provenance._digest_of("room.main", "compute")
    finally:
        sys.path.remove(str(folder))
        del sys.modules["room.main"]
    assert found is not None
    return found


SAME = {
    "words": (MAIN.replace("pute it.", "pute\n  all."), HELPER.replace("# exact", "# so")),
    "spaces": (MAIN.replace("LIMIT = 3", "LIMIT  =  3  # a"), HELPER.replace("x / 2", "x/2")),
    "no words": (re.sub("__all__.*\n", "", MAIN), HELPER.replace('"""A helper."""\n', "")),
    "order": (MAIN.replace("LIMIT = 3\n", "") + "LIMIT = 3\n", HELPER),
    "imports": (MAIN.replace("import math", "import math\nimport os"), HELPER),
    "an addition": (MAIN, HELPER + "\n\ndef third(x):\n    return x / 3\n"),
    "what is not named": (MAIN.replace("class Other:", "class Another:"), HELPER),
    "a local name": (
        MAIN + "\n\nTABLE = {config: 1 for config in 'ab'}\n",
        HELPER + "\n\nx = 3\n",
    ),
    "one file": (MAIN.replace("from room.helper import half\n", "") + HELPER, ""),
}
OTHER = {
    "helper": (MAIN, HELPER.replace("x / 2", "x / 3")),
    "constant": (MAIN.replace("LIMIT = 3", "LIMIT = 4"), HELPER),
    "name": (MAIN.replace("config", "settings"), HELPER),
    "a change of a constant": (MAIN + "LIMIT += 1\n", HELPER),
    "decorator": (MAIN.replace("def compute", "@print\ndef compute"), HELPER),
}


@pytest.mark.parametrize("change", [*SAME, *OTHER])
def test_the_digest_is_of_what_is_computed(change: str, tmp_path: Path) -> None:
    """Not of words, of the order of statements, or of the file that they are in."""
    changed = code_in(tmp_path, *(SAME | OTHER)[change])
    assert (changed == code_in(tmp_path)) == (change in SAME)


def test_code_in_a_file_of_another_name_is_the_same(tmp_path: Path) -> None:
    moved = MAIN.replace("room.helper", "room.elsewhere")
    assert code_in(tmp_path, moved, name="elsewhere") == code_in(tmp_path)


WAYS = {
    "a module": ("from room import helper", "helper.half(x)"),
    "a package": ("import room.helper", "room.helper.half(x)"),
    "another name": ("from room.helper import half as part", "part(x)"),
    "a late import": (
        "",
        "late(x)\n\ndef late(x):\n    from room.helper import half\n    return half(x)",
    ),
    "a registry": ('METHODS = {"a": ("helper", "half")}', "METHODS[x]"),
    "a function within": ("from room.helper import half", "(lambda y: half(y))(x)"),
    "a whole module": ("from room import helper", "getattr(helper, 'half')(x)"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_reached_counts_in_whatever_way_it_is_named(way: str, tmp_path: Path) -> None:
    first, use = WAYS[way]
    main = f"{first}\n\ndef compute(x):\n    return {use}\n"
    before = code_in(tmp_path, main)
    assert code_in(tmp_path, main, HELPER.replace("x / 2", "x / 3")) != before


@pytest.mark.parametrize("of", [bounds, ecg, images, nyse, recovery, reflections, three_layer, uci])
def test_the_code_of_an_experiment_is_its_own_and_what_it_uses_of_the_library(of) -> None:
    kinds = getattr(of.compute, "kinds", {"all": of.compute})
    others = {bounds, ecg, images, nyse, recovery, reflections, three_layer} - {of}
    reached: set[Path] = set()
    for function in kinds.values():
        start = Path(sys.modules[function.__module__].__file__)
        root = Path(of.__file__).parents[2]
        found = {place for place, _ in provenance._reached(start, function.__name__, root)}
        assert any(Path(of.__file__).parent in place.parents for place in found)
        reached |= found
        assert not {Path(other.__file__) for other in others} & found
    # Not every kind uses the library: least squares do not.
    assert {root / "convexlib" / name for name in ("checks.py", "errors.py")} <= reached


def test_kinds_of_records_have_codes_of_their_own(tmp_path: Path) -> None:
    """And a record of one kind stays current when another's code changes."""
    one = provenance.ByKind("kind", {"square": square, "cube": cube}, check=lambda config: None)
    codes = [provenance.code_of(one, {"kind": kind, "x": 2}) for kind in ("square", "cube")]
    assert codes == [provenance.code_of(f, {}) for f in (square, cube)]
    assert codes[0] != codes[1]
    assert one({"kind": "cube", "x": 2}) == {"cube": 8}


def cube(config: dict) -> dict:
    return {"cube": config["x"] ** 3}


def test_records_say_which_code_made_them(tmp_path: Path) -> None:
    provenance._digest_of.cache_clear()
    (record,) = run("toy", square, [{"x": 3}], folder=tmp_path)
    assert record["environment"]["code"] == provenance.code_of(square, {})
    assert provenance.other_code([record], square) == 0
    old = {"config": {}, "environment": {"commit": "abc"}}
    assert provenance.other_code([record, old], square) == 1


def square(config: dict) -> dict:
    return {"square": config["x"] ** 2}


@pytest.mark.parametrize("of", [bounds, ecg, images, nyse, recovery, reflections, three_layer, uci])
def test_misspelt_keys_are_refused(of) -> None:
    """They would be part of the record's name, and change nothing."""
    for profile in ("quick", "full"):
        for config in of.EXPERIMENT.configs(profile)[:3]:
            check_config(config, of.EXPERIMENT.configs)
            key = "device" if "device" in config else "part"
            wrong = {k: v for k, v in config.items() if k != key} | {f"{key}s": 1}
            with pytest.raises(InputError, match=rf"the keys {key}s, which nothing reads.* {key},"):
                of.compute(wrong)


def test_keys_of_keys_and_of_the_peer_are_looked_at_too() -> None:
    wrong = {**ecg.EXPERIMENT.configs("quick")[0], "rates": {"adamm": [0.1]}}
    with pytest.raises(InputError, match=r"the keys rates\.adamm, which.*, rates\.adam, "):
        ecg.compute(wrong)
    with pytest.raises(InputError, match="the keys epochs, which nothing reads.*limit"):
        peer.compute({**peer.configs()[0], "epochs": 3})


def test_a_clean_record_is_of_a_commit_and_of_one_code() -> None:
    def record(code: str, commit: str | None = "abc") -> dict:
        return {"config": {}, "environment": {"code": code, "commit": commit}}

    found = [record("a"), record("a"), record("b"), record("a", "abc-dirty"), record("a", None)]
    assert provenance.clean(found, square) == 2
    assert provenance.clean([], square) == 0


def test_records_of_a_method_that_is_made_elsewhere_count() -> None:
    by_kind = provenance.ByKind("method", {"here": square}, lambda config: None)
    found = [
        {"config": {"method": method}, "environment": {"code": code, "commit": "abc"}}
        for method, code in (("here", "a"), ("elsewhere", "b"), ("elsewhere", "c"))
    ]
    assert provenance.clean(found, by_kind) == 2


def test_a_checkout_is_dirty_where_its_code_differs(tmp_path: Path, monkeypatch) -> None:
    """Not where its book, or the records of another run, do."""

    def git(*command: str) -> None:
        own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *own, *command], check=True, capture_output=True
        )

    for name in ("experiments", "book", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("1\n")
    git("init")
    git("add", "-A")
    git("commit", "-m", "first")
    monkeypatch.setattr(records, "SOURCE", tmp_path)
    names = []
    for name in ("book", "results", "experiments"):
        (tmp_path / name / "a.py").write_text("2\n")
        records._commit.cache_clear()
        names.append(records._commit())
    records._commit.cache_clear()
    assert names[0] == names[1]
    assert len(names[0]) == 12
    assert names[2] == f"{names[0]}-dirty"
