"""The command line: what it prints, where, and with which exit code."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convexlib import cli
from convexlib.cli import console, data
from convexlib.errors import DataError, InputError, NotCertifiableError, ProblemError, SolverError
from tests.helpers.datafiles import flip, isolate


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of data/, the only one that is used; its sources do not answer."""
    return isolate(tmp_path, monkeypatch)


def test_list_shows_every_file_and_named_ones_once(run) -> None:
    code, (_, *rows), _ = run("data", "list")
    assert code == 0
    assert len(rows) == 4 + 73
    assert rows[0].split() == ["ecg", "108000", "data"]
    assert rows[1].split() == ["nyse", "6051", "x", "6", "data"]
    assert rows[3].split() == ["mnist", "5000", "x", "784", "-"]
    assert rows[4].split() == ["abalone", "4177", "x", "8", "3", "-"]
    _, (_, *named), _ = run("data", "list", "wine", "ecg", "wine")
    assert [row.split()[0] for row in named] == ["wine", "ecg"]
    _, (_, *tables), _ = run("data", "list", "uci")
    assert tables == rows[4:]


def test_verify_checks_what_is_here(run, folders: Path) -> None:
    code, out, _ = run("data", "verify")
    assert code == 0
    assert out[0] == f"ecg: intact, {folders / 'ecg.dat'}"
    assert out[3:] == [f"{name}: not here" for name in ("mnist", *data.datasets.list_uci())]


@pytest.mark.parametrize(
    ("file", "damage", "names", "intact", "message"),
    [
        ("ecg.dat", flip, ["ecg", "nyse"], 1, "ecg.dat is not the file that the manifest names"),
        ("ecg.dat", Path.unlink, ["ecg"], 0, "ecg.dat is missing"),
        ("nyse.csv.xz", Path.unlink, [], 76, "nyse.csv.xz is missing"),
        ("manifest.toml", Path.touch, ["wine"], 0, "uci/wine_R.dat.xz is missing"),
    ],
    ids=["damaged", "missing", "ships", "asked for"],
)
def test_verify_fails_and_goes_on(
    file: str, damage: Any, names: list[str], intact: int, message: str, run, folders: Path
) -> None:
    damage(folders / file)
    code, out, (error,) = run("data", "verify", *names)
    assert (code, len(out)) == (1, intact)
    assert message in error


def test_fetch_leaves_what_is_intact_and_says_why_it_failed(run, folders: Path) -> None:
    done = [f"ecg: data, {folders / 'ecg.dat'}", f"nyse: data, {folders / 'nyse.csv.xz'}"]
    assert run("data", "fetch", "ecg", "nyse") == (0, done, [])
    flip(folders / "ecg.dat")
    code, out, (error,) = run("data", "fetch", "ecg", "nyse")
    assert (code, out) == (1, done[1:])
    assert "ecg.dat (sha256 f20ad336" in error
    assert "could not be downloaded" in error


def test_fetch_gives_up_without_a_network(run) -> None:
    code, _, errors = run("data", "fetch", "uci")
    assert (code, len(errors)) == (1, 4)
    assert errors[-1] == "convexlib: gave up after 3 failures in a row; is there a network?"


@pytest.mark.parametrize("action", ["fetch", "verify", "list"])
def test_an_unknown_name_is_bad_input(action: str, run) -> None:
    code, out, (error,) = run("data", action, "ecg", "wien")
    assert (code, out) == (2, [])
    assert error.startswith("convexlib: unknown data set 'wien'; expected ecg, nyse, mnist, uci")
    assert error.endswith("Did you mean 'wine'?")


@pytest.mark.parametrize("words", [[], ["data"], ["data", "burn"], ["nonsense"], ["--nonsense"]])
def test_bad_arguments_exit_with_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: convexlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        *((kind("got,\nexpected"), 1, "got, expected") for kind in (DataError, SolverError)),
        *((kind("got,\nexpected"), 2, "got, expected")
          for kind in (InputError, ProblemError, NotCertifiableError)),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(data.datasets, "catalogue", fail)
    assert run("data", "list") == (code, [], [f"convexlib: {line}"])


def test_an_interrupt_of_the_imports_is_one_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", struck)
    assert run("fit", "t.csv") == (130, [], ["convexlib: interrupted"])


def test_a_mistake_of_ours_is_not_hidden(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.datasets, "catalogue", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("data", "list")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "convexlib", "data", "list", "wien"]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).resolve().parents[2])}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Did you mean 'wine'?\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "list", "table"])
def test_commands_of_the_experiments_say_where_they_are(run, command: str) -> None:
    code, out, (error,) = run(command, "ecg", "--full")
    assert (code, out) == (2, [])
    assert f"expected `python -m experiments {command}`, in a checkout" in error


def test_a_table_is_printed_where_only_ascii_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.write_plainly()
    stream.write("0.5 \u00b1 0.1 \u2026 \u00e9\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"0.5 +- 0.1 ... ?\n"


def test_what_is_written_stays_what_it_was(tmp_path: Path) -> None:
    target, link, pipe = (tmp_path / name for name in ("target", "link", "pipe"))
    target.write_bytes(b"before")
    target.chmod(0o600)
    link.symlink_to(target)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (link, pipe):
        console.check_writable(path)
        console.write(path, b"after")
    assert os.read(reader, 99) == b"after"
    os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 3 + 1  # and the copy of data/


def test_a_link_to_itself_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(DataError, match="circle cannot be written"):
        console.check_writable(tmp_path / "circle")


def test_a_reader_who_has_seen_enough_stops_no_work(folders: Path, monkeypatch) -> None:
    """As `... | head -1` does: what comes later decides the exit code all the same."""
    reading, writing = os.pipe()
    os.close(reading)
    flip(folders / "nyse.csv.xz")
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["data", "verify", "ecg", "nyse"]) == console.FAILED


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, capsys, monkeypatch) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stream = io.TextIOWrapper(io.BufferedWriter(Full(tmp_path / "out", "w")))
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["data", "list"]) == console.FAILED
    assert capsys.readouterr().err == (
        "convexlib: the output cannot be written (No space left on device).\n"
    )
    with pytest.raises(OSError, match="No space"):  # what is left in the buffer of this stand-in
        stream.close()
