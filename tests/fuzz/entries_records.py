"""Inputs for records of experiments, and for data files and their manifest."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import convexlib as cl
from convexlib import datasets
from convexlib.datasets import manifest
from experiments import records, runner
from tests.fuzz import sandbox
from tests.fuzz.calls import Arguments, entry
from tests.fuzz.entries_files import damaged, written
from tests.fuzz.valid import valid

NAMES = st.text(max_size=5) | st.sampled_from(("wine", "ecg", "../../etc/passwd", "/etc", "."))

FILES = (f"{records.RUNNING}/{0:016x}.json", "records.jsonl")

CONFIGS = st.dictionaries(
    st.sampled_from(("seed", "name", "x")),
    st.one_of(
        st.integers(-3, 3), st.text(max_size=3), st.none(), st.booleans(),
        st.sampled_from((float("nan"), 1e300, (1, 2), object(), b"x", {1: 2}, [None], "\ud800")),
    ),
    max_size=3,
)  # fmt: skip


def echo(config: Any) -> Any:
    """An experiment without work; a seed of 2 fails."""
    return {"seed": config.get("seed"), "values": [1.0, 2.0]}


def recorded(configs: Any, jobs: Any = 1, harm: bytes | None = None) -> Any:
    """Run, harm one record if asked to, run again and read."""
    place = sandbox.folder() / "runs"
    with sandbox.inside(place):
        first = runner.run("echo", echo, configs, jobs=jobs, folder=place)
        paths = sorted((place / "echo").glob("*.jsonl"))
        if harm is not None and paths:
            _, *others = paths[0].read_bytes().splitlines(keepends=True)
            paths[0].write_bytes(b"".join([harm, b"\n", *others]))
        again = runner.run("echo", echo, configs, folder=place)
        assert [r["config"] for r in first] == [r["config"] for r in again]
        keys = {runner.digest(record["config"]) for record in again}
        assert keys == set(records.stored(place / "echo"))
        for path in paths:
            path.unlink()
    return [len(again), *(record["seconds"] for record in again)]


@st.composite
def harms(draw: st.DrawFn) -> bytes | None:
    """What a damaged record may hold."""
    sound = json.dumps({"format": 1, "config": {}, "result": {}, "sha256": "0"}).encode()
    texts = (b"", b"{}", b"[]", b"null", b"\xff", b"{", b'{"format": 1}', b"1e999", sound)
    deep = b'{"format":' + b"[" * 3000 + b"]" * 3000 + b"}"
    return draw(st.none() | st.sampled_from((*texts, deep)) | damaged(sound))


entry(
    "run", recorded, st.fixed_dictionaries({"configs": st.lists(CONFIGS, max_size=3)}),
    options={"harm": harms()}, may_warn=(UserWarning,), kept=("harm",),
    covers=("run", "digest", "file_name", "measure", "one_thread", "environment", "Experiment"),
)  # fmt: skip


def settings(profile: str, device: str = "cpu", seeds: Any = None) -> list[dict[str, Any]]:
    """Configurations of two parts, with values of every kind."""
    common = {"device": device, "seeds": list(seeds or (0, 1)), "ratio": 0.1, "size": 3}
    return [
        {**common, "top": None, "part": "a", "rates": {"x": [0.1, 0.2]}, "on": True},
        {**common, "part": "b", "loss": "squared", "top": 3 if profile == "quick" else None},
    ]


def varied(changes: Any, profile: Any = "quick", data: Any = None) -> Any:
    """A variation: refused by name, or run with what was asked for."""
    experiment = runner.Experiment(
        "echo", "Echo", settings, echo, str, lambda record: None, compared=lambda config: {}
    )
    place = sandbox.folder() / "varied"
    shutil.rmtree(place, ignore_errors=True)  # what an input without changes has left
    with sandbox.inside(place):
        found = runner.run_experiment(experiment, profile, changes=changes, data=data, folder=place)
        assert found
        assert not (place / "echo").exists() or not changes
    return [record["seconds"] for record in found]


KEYS = ("ratio", "beta", "size", "top", "rates", "rates.x", "part", "loss", "on", "x")
VALUES = st.one_of(
    st.integers(-3, 3), st.floats(), st.booleans(), st.none(), st.lists(st.floats(), max_size=2),
    st.sampled_from(("a", "b", "squared", "", [1, 2], (0.1,), {"x": 1}, 10**400, object(), b"x")),
)  # fmt: skip

entry(
    "run_experiment", varied,
    st.fixed_dictionaries({"changes": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)}),
    options={
        "profile": st.sampled_from(("quick", "full", "other", None)),
        "data": st.sampled_from((None, "nowhere.csv", "", "\0")),
    },
)  # fmt: skip


def read_back(name: str, harm: bytes | None, file: str) -> Any:
    """The records of a folder that holds a file like this."""
    place = sandbox.folder() / "read"
    with sandbox.inside(place):
        (place / "echo" / records.RUNNING).mkdir(parents=True, exist_ok=True)
        if harm is not None:
            (place / "echo" / file).write_bytes(harm)
        try:
            return [len(runner.records(name)), str(runner.results_dir())]
        finally:
            (place / "echo" / file).unlink(missing_ok=True)


entry(
    "records", read_back,
    st.fixed_dictionaries({"name": NAMES, "harm": harms(), "file": st.sampled_from(FILES)}),
    may_warn=(UserWarning,), covers=("records", "results_dir"), kept=("harm", "file"),
)  # fmt: skip


@st.composite
def copies(draw: st.DrawFn) -> Arguments:
    """A data file, as it is or damaged, under a name with or without .xz."""
    name = draw(st.sampled_from(("ecg", "nyse")))
    raw = (manifest.data_dir() / datasets.catalogue()[name].stored).read_bytes()
    return {"name": name, "content": draw(damaged(raw[:3000])) if draw(st.booleans()) else raw}


def stored(name: str, content: bytes) -> Any:
    """Read a copy of a data file: intact, or refused."""
    one = datasets.catalogue()[name]
    path = written(Path(one.stored).name, content)
    return len(datasets.read(one, ("cache", path)))


entry("store", stored, copies(), kept=("name", "content"), share=0.5,
      covers=("read", "catalogue", "Entry"))  # fmt: skip


MANIFEST = {"manifest": "manifest.toml", "uci_manifest": "uci_manifest.csv"}


@st.composite
def manifests(draw: st.DrawFn) -> Arguments:
    """The two files of the manifest, damaged or not."""
    there = manifest.data_dir()
    return {name: draw(damaged((there / file).read_bytes())) for name, file in MANIFEST.items()}


def catalogue(**contents: bytes) -> Any:
    """Read a manifest of unknown soundness."""
    before = manifest.data_dir
    place = sandbox.folder() / "data"
    place.mkdir(exist_ok=True)
    for name, file in MANIFEST.items():
        (place / file).write_bytes(contents[name])
    manifest.data_dir = lambda: place
    try:
        return len(datasets.catalogue())
    finally:
        manifest.data_dir = before


entry("catalogue", catalogue, manifests(), kept=tuple(MANIFEST), share=0.5)


def loaded(name: Any) -> Any:
    """A UCI table that is not here, without a network; what is not in the manifest is refused."""
    with sandbox.inside():
        X, y = cl.datasets.load_uci(name)
    return [X, len(y)]


entry("load_uci", loaded, st.fixed_dictionaries({"name": NAMES}), covers=("load_uci", "list_uci"))


def fetched(name: str, size: int, url: str) -> Any:
    """An entry whose source is no good, offline."""
    known = datasets.catalogue()[name]
    source = dataclasses.replace(known.sources[0], url=url)
    one = dataclasses.replace(known, size=size, sources=(source,), ships=False, stored="x/../y.dat")
    with sandbox.inside():
        if datasets.locate(one) is None:
            assert isinstance(datasets.missing(one), cl.errors.DataError)
        return str(datasets.fetch(one))


entry(
    "fetch", fetched,
    st.fixed_dictionaries({
        "name": st.just("wine"), "size": st.integers(0, 9),
        "url": st.sampled_from(("http://127.0.0.1:1/a", "ftp://x", "", "file:///etc/passwd",
                                "http://[", "\0", "https://127.0.0.1:1/../a")),
    }), covers=("fetch", "locate", "missing", "SCIKIT_LEARN"), kept=("name", "size"), share=0.5,
)  # fmt: skip


def shipped() -> Any:
    """The data sets that ship."""
    signal, rate = cl.datasets.load_ecg()
    beats = cl.datasets.load_ecg_beats()
    days = cl.datasets.load_nyse().select_dtypes("number")
    valid([signal, rate, *beats[:2], days.to_numpy(dtype=float)])


entry("shipped", shipped, covers=("load_ecg", "load_ecg_beats", "load_nyse", "datasets"), share=0.1)


def digits() -> Any:
    """The digits of MNIST, where they are: nothing is fetched for this."""
    if cl.datasets.locate(cl.datasets.catalogue()["mnist"]) is not None:
        pixels, labels = cl.datasets.load_mnist()
        valid([pixels, labels.astype(float)])


entry("digits", digits, covers=("load_mnist",), share=0.1)
