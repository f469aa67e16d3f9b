"""Command lines: an exit code and one line of text, whatever is typed."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from convexlib import cli
from experiments import commands as experiments
from experiments import records as record_files
from experiments import runner
from tests.fuzz import sandbox
from tests.fuzz.calls import Arguments, entry
from tests.fuzz.entries_files import damaged, models, texts, written

ROOT = Path(__file__).resolve().parents[2]
CODES = (0, 1, 2)
NAMED = (UserWarning,)  # that a record does not count: the command prints it in one line
WORDS = st.sampled_from(
    ("list", "run", "check", "table", "data", "certify", "--help", "-h", "", "--", "ecg", "nyse",
     "uci", "recovery", "three_layer", "bounds", "--quick", "--full", "--jobs", "--seeds",
     "--seed", "--device", "cpu", "cuda", "tpu", "0-4", "0-", "-1", "0", "1", "1e9", "nan",
     "--cluster", "verify", "fetch", "wine", "winee", "../x", "\0", "é", "--beta", "--tol",
     "\ud800")
)  # fmt: skip


class Terminal(io.TextIOWrapper):
    """A stream that knows ASCII only, as in the C locale."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors=errors, write_through=True)

    def text(self) -> str:
        """What was written."""
        return self.buffer.getvalue().decode("ascii")


def typed(*words: str, program: Any = cli) -> int:
    """Run a command in this process, and check how it ends."""
    out, err = Terminal("strict"), Terminal("backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = program.main(list(words))
        except SystemExit as ended:  # argparse
            code = ended.code if isinstance(ended.code, int) else 2
    said = err.text()
    assert code in CODES, f"exit code {code}"
    assert "Traceback" not in said
    if code:
        assert said.strip(), "failed without a word"
    if code == 2 and not said.startswith("usage:"):
        assert said.startswith(("convexlib: ", "experiments: "))
        assert said.count("\n") == 1, f"several lines: {said[:300]}"
    return int(code)


def anything(words: list[str]) -> None:
    """Words in any order; what would compute for long or download has nothing to work on."""
    computes = words[:1] == ["run"]
    if "fetch" in words:
        return
    with sandbox.inside():
        typed(*words)
        if not computes:
            typed(*words, program=experiments)


entry(
    "words", anything, st.fixed_dictionaries({"words": st.lists(WORDS, max_size=5)}),
    covers=("convexlib", "experiments list"), kept=("words",), share=2.0, may_warn=NAMED,
)  # fmt: skip

NUMBERS = ("0.1", "1", "0", "-1", "nan", "inf", "1e400", "x", "", "1e-300", "1e300")
OPTIONS: dict[str, tuple[str, ...]] = {
    "--loss": ("squared", "logistic", "squared_hinge", "absolute"),
    "--regularizer": ("weight decay", "path", "three layers", "none"),
    "--target": ("last", "a", "0", "é", "", "a,b", "b,y"),
    "--delimiter": (",", ";", "", "xx", " "),
    "--decimal": (".", ",", "x"),
    "--layers": ("fc1,fc2", "0,2", "2,0", ""),
    "--device": ("cpu", "meta", "cuda", "tpu", ""),
    "--tol": NUMBERS,
    "--max-nodes": ("1", "0", "-5", "100", "x", str(10**30)),
    "--digits": ("9", "0", "-1", "400", str(10**30)),
    "--polish": ("OUT", "/proc/x/out.pt", "FOLDER", "", "\0"),
    "--rounds": ("0", "2", "-1", "x"),
}


@st.composite
def some(draw: st.DrawFn, options: dict[str, tuple[str, ...]], most: int) -> list[str]:
    """Up to so many options with values."""
    names = draw(st.lists(st.sampled_from(list(options)), max_size=most))
    return [f"{name}={draw(st.sampled_from(options[name]))}" for name in names]


@st.composite
def certifying(draw: st.DrawFn) -> Arguments:
    """A model, a table, and options of which most are sound."""
    words = [f"--beta={draw(st.sampled_from(NUMBERS[:1] * 12 + NUMBERS))}"]
    words += draw(st.sampled_from([["--activation=relu"]] * 9 + [[], ["--activation=tanh"]]))
    words += draw(some(OPTIONS, 2))
    for flag in ("--no-header", "--one-hot"):
        if draw(st.integers(0, 5)) == 4:
            words.append(flag)
    return {"model": draw(models()), "data": draw(texts()), "words": words}


def certified(model: bytes, data: bytes, words: list[str]) -> None:
    """`convexlib certify` on two files."""
    out = sandbox.folder() / "out.pt"
    words = [word.replace("OUT", str(out)).replace("FOLDER", str(out.parent)) for word in words]
    with sandbox.inside():
        typed("certify", str(written("m.pt", model)), str(written("d.csv", data)), *words)
    assert not (sandbox.folder() / "was_run").exists(), "code from the file was run"


entry(
    "convexlib certify", certified, certifying(), share=6.0, kept=("model", "data", "words"),
    may_warn=NAMED,
)  # fmt: skip


FITTING: dict[str, tuple[str, ...]] = {
    "--target": OPTIONS["--target"], "--delimiter": OPTIONS["--delimiter"],
    "--decimal": OPTIONS["--decimal"], "--features": ("a", "b,a", "x", "a,a", ""),
    "--drop": ("a", "b", "x", ""), "--folds": ("2", "3", "1", "x"),
    "--max-seconds": ("0", "0.2", "-1", "x"), "--beta": NUMBERS,
}  # fmt: skip


@st.composite
def fitting(draw: st.DrawFn) -> Arguments:
    """A table, and options of which most are sound."""
    words = draw(some(FITTING, 2)) + draw(st.sampled_from(([], [], [], ["--classify"])))
    if draw(st.integers(0, 3)):
        words = ["--beta=0.1", *words]
    return {"data": draw(texts()), "words": words}


def fitted_and_applied(data: bytes, words: list[str]) -> None:
    """`convexlib fit` on a table, and `convexlib predict` with what it wrote."""
    table, model = written("d.csv", data), sandbox.folder() / "d.model.pt"
    model.unlink(missing_ok=True)
    with sandbox.inside():
        code = typed("fit", str(table), *words)
        assert model.exists() == (code == 0)
        if code == 0:
            marks = [word for word in words if word.startswith(("--delimiter", "--decimal"))]
            assert typed("predict", str(model), str(table), *marks) == 0


entry(
    "convexlib fit", fitted_and_applied, fitting(), share=2.0, kept=("data", "words"),
    covers=("convexlib fit", "convexlib predict"), may_warn=NAMED,
)  # fmt: skip


@st.composite
def strangers(draw: st.DrawFn) -> Arguments:
    """A model of another kind, and a table."""
    return {"model": draw(models()), "data": draw(texts())}


def applied(model: bytes, data: bytes) -> None:
    """`convexlib predict` with a file of any kind."""
    with sandbox.inside():
        typed("predict", str(written("m.pt", model)), str(written("d.csv", data)))


entry(
    "convexlib predict", applied, strangers(), share=0.5, kept=("model", "data"), may_warn=NAMED,
)  # fmt: skip


@st.composite
def altered(draw: st.DrawFn) -> Arguments:
    """A stored record of an experiment, damaged, or sealed again with parts of it gone."""
    name = draw(st.sampled_from(sorted(experiments.EXPERIMENTS)))
    path = draw(st.sampled_from(sorted((ROOT / "results" / name).glob("*.jsonl"))))
    content = draw(st.sampled_from(path.read_bytes().splitlines()[:3]))
    kind = draw(st.sampled_from(("sound", "damaged", "lacking", "lacking", "other", "empty")))
    if kind == "damaged":
        content = draw(damaged(content))
    elif kind in ("lacking", "other"):
        record = json.loads(content)
        del record["sha256"]
        part = draw(st.sampled_from((record, record["result"], record["result"])))
        key = draw(st.sampled_from(sorted(part)))
        if kind == "lacking" and key != "format":
            del part[key]
        elif key not in ("format", "config"):
            part[key] = draw(st.sampled_from((None, "text", [], {}, -1.0, [1.0], {"a": 1})))
        content = json.dumps(record_files.sealed(record)).encode()
    words = draw(st.sampled_from((["--full"], ["--full"], ["--quick"], [], ["--full", "--quick"])))
    return {"name": name, "content": None if kind == "empty" else content, "words": words}


def tabled(name: str, content: bytes | None, words: list[str]) -> None:
    """`python -m experiments table` on a folder with this record."""
    place = sandbox.folder() / "tables"
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if content is not None:
            (folder / "records.jsonl").write_bytes(content)
        with sandbox.inside(place):
            typed("table", name, *words, program=experiments)
    finally:
        shutil.rmtree(place)


entry(
    "experiments table", tabled, altered(), share=3.0, kept=("name", "content", "words"),
    may_warn=NAMED,
)  # fmt: skip


RUNNING: dict[str, tuple[str, ...]] = {
    "--device": ("cpu", "cuda", "meta", "x"),
    "--jobs": ("1", "0", "-1", "x"),
    "--seeds": ("0", "0-2", "2-0", "0,0", "-1", "x", "0-"),
    "--seed": ("0", "-1", "x", str(10**30)),
    "--cluster": ("", "nowhere"),
    "--data": ("", "nowhere.csv", "/dev/null"),
    "--set": ("", "x", "ratio=0.5", "beta=2", "seeds=0,1", "part=x", "a=nan"),
}


@st.composite
def checks(draw: st.DrawFn) -> Arguments:
    """Options of `run` and `check`, some of which cannot be met, as there is no cluster."""
    words = [draw(st.sampled_from((*sorted(experiments.EXPERIMENTS), "other")))]
    return {"words": words + draw(some(RUNNING, 3))}


def run_checked(words: list[str]) -> None:
    """`python -m experiments run`, which computes nothing here, and `check` without records."""
    with sandbox.inside(), mock.patch.object(runner, "run", return_value=[]):
        typed("run", *words, program=experiments)
        typed("check", *words[:1], "1", *words[1:], program=experiments)


entry(
    "experiments run", run_checked, checks(), kept=("words",), may_warn=NAMED,
    covers=("experiments run", "experiments check"),
)  # fmt: skip


def data(action: str, names: list[str]) -> None:
    """`convexlib data`."""
    if action == "fetch" and (not names or "uci" in names):
        names = ["wine"]
    with sandbox.inside():
        typed("data", action, *names)


# Data sets, real or not; what would be downloaded meets a closed door.
SETS = st.sampled_from(("ecg", "nyse", "wine", "iris", "uci", "winee", "../x", "é", "", "\0"))
entry(
    "convexlib data", data,
    st.fixed_dictionaries({
        "action": st.sampled_from(("list", "verify", "fetch", "lst")),
        "names": st.lists(SETS, max_size=2),
    }), kept=("action", "names"), may_warn=NAMED,
)  # fmt: skip
