"""Poor surroundings: no compiler, no network, nowhere to write, a locale that knows only ASCII."""

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import runtime
from experiments import runner

ROOT = Path(cl.__file__).resolve().parents[1]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def only(path: str, **variables: str) -> dict[str, str]:
    """An environment of these variables and this PATH."""
    return {"PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1", **variables}


def python(code: str, *arguments: str, path: str, **variables: str) -> subprocess.CompletedProcess:
    """Run code in a process that has only these variables, and this PATH."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    environment = only(path, **variables)
    return subprocess.run(command, capture_output=True, env=environment, timeout=600, check=False)


COMMANDS = """
import io, os, sys
from convexlib import cli
from experiments import commands as experiments
folder, cache, model, data = sys.argv[1:]
os.environ.update(CONVEXLIB_RESULTS=folder, XDG_CACHE_HOME=cache)
lines = [["data", "list"], ["data", "verify", "ecg"], ["data", "list", "b\\xe9"],
         ["certify", model, data, "--beta", "0.1", "--target", "\\u0131", "--activation=relu"],
         ["certify", model, data, "--beta", "-1"], ["run", "ecg"]]
lines += [[*words, "--help"] for words in ([], ["data", "fetch"], ["certify"])]
others = [["list"], ["check", "recovery", "1"]]
names = ("bounds", "ecg", "images", "nyse", "recovery", "reflections", "three_layer", "uci")
others += [["table", name, "--full"] for name in names]
others += [[*words, "--help"] for words in ([], ["run"], ["table"])]
for program, words in [(cli, w) for w in lines] + [(experiments, w) for w in others]:
    try:
        code = program.main(words)
    except SystemExit as ended:
        code = ended.code
    print("exit code", code, ascii(words))
"""


@pytest.mark.c_locale
@pytest.mark.slow
def test_every_command_prints_where_only_ascii_can_be(tmp_path: Path) -> None:
    """Tables with a plus-minus sign, names of files, columns and data sets that ASCII lacks."""
    model, data = tmp_path / "mödel.pt", tmp_path / "data.csv"
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).state_dict(), model)
    data.write_text("é,ß,ı\n1,2,3\n2,1,0\n0,1,1\n", encoding="utf-8")
    folders = str(ROOT / "results"), str(tmp_path / "cache")
    done = python(COMMANDS, *folders, str(model), str(data), path=os.environ["PATH"], **ASCII)
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert done.returncode == 0, err[-2000:]
    assert "Traceback" not in err
    codes = [line.split()[2] for line in out.splitlines() if line.startswith("exit code")]
    assert codes == ["0", "0", "2", "0", "2", "2", *["0"] * 3, *["0"] * 13]
    assert "+-" in out  # for the sign in the tables
    assert "target ?" in out  # the dotless i has no other form in ASCII


BARE = """
import os, socket, sys, tempfile

def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")

socket.socket.connect = socket.getaddrinfo = refuse
opened, here = tempfile.TemporaryFile, sys.argv[1]
tempfile.tempdir = here
# How numba finds out where it may keep compiled code.
tempfile.TemporaryFile = lambda *a, dir=None, **k: (
    opened(*a, dir=dir, **k) if str(dir).startswith(here) else refuse()
)
os.popen = os.system = refuse
import convexlib as cl, numpy as np
X, y = np.random.default_rng(0).standard_normal((8, 2)), np.arange(8.0)
problem = cl.TwoLayer(X, y, beta=0.5, gated=True)
result = cl.solve(problem, method="fista")  # without kernels: none is kept from an earlier run
assert result.converged
assert abs(problem.objective(problem.to_network(result)) / result.value - 1.0) < 1e-9
try:
    cl.datasets.load_uci("abalone")
except cl.errors.DataError as error:
    print("said:", error)
print("fine")
"""


@pytest.mark.slow
def test_neither_compiler_nor_network_nor_cache_is_needed(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = "/proc/nowhere"  # no folder can be made there, whoever asks
    (place := tmp_path / "temporary").mkdir()
    folders = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "MPLCONFIGDIR": str(tmp_path)}
    done = python(BARE, str(place), path=str(empty), **folders)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert b"fine" in done.stdout
    assert list(place.iterdir()) == []  # the compiled kernels are gone with the process
    assert b"set XDG_CACHE_HOME" in done.stdout  # the way out


FORKED = """
import os, torch, convexlib as cl
torch.set_num_threads(2)
X = torch.randn(600, 600, dtype=torch.float64)
before = float((X @ X).sum())  # starts the threads that a child does not have
child = os.fork()
if child == 0:
    problem = cl.TwoLayer(X[:8, :2], X[:8, 3], beta=0.5)
    os._exit(0 if cl.solve(problem).converged and abs(float((X @ X).sum()) - before) < 1e-6 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_computes(tmp_path: Path) -> None:
    """Without a change of its threads it waits for ever."""
    home = os.environ.get("HOME", str(tmp_path))
    environment = only(os.environ["PATH"], HOME=home, OMP_NUM_THREADS="2")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        try:
            out, _ = parent.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)  # a child that waits goes too
    assert out == b"0\n"


PROGRESS = """
import numpy as np, convexlib as cl
rng = np.random.default_rng(0)
problem = cl.Mirrors(rng.standard_normal(6), rng.standard_normal(6), beta=1.0)
cl.solution_path(problem, [1.0, 0.5], progress=True, max_iter=100)
"""


@pytest.mark.c_locale
@pytest.mark.slow
def test_progress_bars_need_no_unicode() -> None:
    ours, theirs = os.openpty()  # bars are drawn on terminals only
    termios.tcsetwinsize(theirs, (24, 80))  # and take their width from them: it is 0 at first
    environment = only(os.environ["PATH"], **ASCII)
    command = [sys.executable, "-c", PROGRESS]
    done = subprocess.run(command, stderr=theirs, env=environment, timeout=600, check=False)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # which is how a terminal without writers ends
        while chunk := os.read(ours, 10_000):
            drawn += chunk
    os.close(ours)
    assert done.returncode == 0, drawn
    assert b"betas: 100%" in drawn
    assert drawn.isascii()


def one(config: dict) -> dict:
    """An experiment without work."""
    return {"seed": config["seed"]}


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_records_that_exist_are_read_where_nothing_can_be_written(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only or full disk stops what is missing, in one line, and nothing else."""
    first = runner.run("toy", one, [{"seed": 0}], folder=tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("convexlib.datasets.atomic._part", refuse)
    assert runner.run("toy", one, [{"seed": 0}], folder=tmp_path) == first
    assert runner.records("toy", tmp_path) == first
    with pytest.raises(cl.errors.DataError, match=os.strerror(error)):
        runner.run("toy", one, [{"seed": 1}], folder=tmp_path)
    names = sorted(path.name for path in (tmp_path / "toy").rglob("*"))
    assert names == [".running", "lock", "records.jsonl"]


@pytest.mark.parametrize("name", ["../toy", "/tmp/toy", "a/../../b", "", "a\0b", None])
def test_no_record_leaves_its_folder(name: object, tmp_path: Path) -> None:
    for call in (lambda: runner.records(name, tmp_path / "r"),
                 lambda: runner.run(name, one, [{"seed": 0}], folder=tmp_path / "r")):  # fmt: skip
        with pytest.raises(cl.errors.InputError, match="expected the name of a folder below"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_compilation_is_no_part_of_a_time():
    code = """
import time
import numba
from convexlib.runtime import clock
began, wall = clock(), time.perf_counter()
numba.njit(lambda x: x + 1.0)(1.0)
compiled, counted = time.perf_counter() - wall, clock() - began
time.sleep(0.2)
assert counted < 0.5 * compiled, (counted, compiled)
assert clock() - began >= counted + 0.2
"""
    done = python(code, path=os.environ["PATH"], HOME=os.environ.get("HOME", ""))
    assert done.returncode == 0, done.stderr


COLD = """
import time
import numpy as np, convexlib as cl
from convexlib.runtime import clock
X, y = np.random.default_rng(0).standard_normal((8, 2)), np.arange(8.0)
problem = cl.TwoLayer(X, y, beta=0.5)
began, wall = clock(), time.perf_counter()
first = cl.solve(problem)
wall = time.perf_counter() - wall
compiled = wall - (clock() - began)
assert first.seconds <= wall - compiled, (first.seconds, wall, compiled)
print(compiled > 1.0)
"""
COMPILING = b"convexlib: compiling kernels, once on this machine ...\n"


@pytest.mark.slow
def test_compilation_is_announced_once_and_is_no_part_of_the_seconds(tmp_path: Path) -> None:
    """And a process that finds the kernels compiled says nothing."""
    place = {"HOME": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    for printed, said in ((b"True\n", COMPILING), (b"False\n", b"")):
        done = python(COLD, path=os.environ["PATH"], **place)
        assert (done.returncode, done.stdout, done.stderr) == (0, printed, said)


class Compiled(SimpleNamespace):
    """What numba says of a function that it compiles."""

    def __init__(self, function: object) -> None:
        super().__init__(data={"dispatcher": SimpleNamespace(py_func=function)})


OURS, THEIRS = Compiled(cl.certify), Compiled(runner.run)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([(OURS, 3.0)], False),  # told before it begins, and after it is done
        ([(OURS, 0.6), (OURS, 0.6), (OURS, 0.1)], True),
        ([(OURS, 3.0), (OURS, 0.1), (OURS, 3.0)], True),  # once
        ([(OURS, 0.6), (OURS, 0.3), (OURS, 0.1)], False),
        ([(THEIRS, 3.0), (OURS, 0.1), (OURS, 0.1)], False),
        ([(Compiled(None), 3.0), (Compiled(None), 3.0)], False),
    ],
)
def test_only_a_second_of_our_kernels_is_announced(
    events: list[tuple[Compiled, float]],
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    monkeypatch.delenv(runtime.QUIET, raising=False)
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: now[0])
    notice = runtime.Notice("once")
    for compiled, seconds in events:
        notice.on_start(compiled)
        now[0] += seconds
        notice.on_end(compiled)
    lines = "convexlib: compiling kernels, once ...\n" if said else ""
    assert capsys.readouterr() == ("", lines)


def test_a_terminal_is_told_again_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = [0.0], io.StringIO()
    monkeypatch.delenv(runtime.QUIET, raising=False)
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    notice = runtime.Notice("once")
    for seconds in (2.0, 1.0, 1.0, 2.0):
        notice.on_start(OURS)
        now[0] += seconds
        notice.on_end(OURS)
    notice.on_start(OURS)
    again = "convexlib: still compiling ...\n"
    assert stream.getvalue() == "convexlib: compiling kernels, once ...\n" + again


@pytest.mark.parametrize("case", ["said", "quiet", "closed", "none"])
def test_a_function_within_a_kernel_can_bring_the_announcement(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names no kernel of ours, and the kernel is not done. A stream that is gone is no error."""
    now = [0.0]
    monkeypatch.setenv(runtime.QUIET, "1" if case == "quiet" else "")
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: now[0])
    if case in ("closed", "none"):
        stream = io.StringIO() if case == "closed" else None
        monkeypatch.setattr(sys, "stderr", stream)
        if stream is not None:
            stream.close()
    notice = runtime.Notice("once")
    notice.on_start(OURS)
    notice.on_start(THEIRS)
    now[0] += 1.5
    notice.on_end(THEIRS)
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", case == "said")
    assert notice.said == (case != "quiet")
