"""The command line: what it prints, where, and with which exit code."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convexlib import cli
from convexlib.errors import (
    ConvexlibError,
    DataError,
    InputError,
    NotCertifiableError,
    ProblemError,
    SolverError,
)
from tests.helpers.datafiles import flip, isolate

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of data/, the only one that is used; its sources do not answer."""
    return isolate(tmp_path, monkeypatch)


def test_list_shows_every_file(capsys: Captured) -> None:
    assert cli.main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 + 73
    assert lines[1].split() == ["ecg", "108000", "data"]
    assert lines[2].split() == ["nyse", "6051", "x", "6", "data"]
    assert lines[3].split() == ["ecg_beats", "43200", "x", "2", "data"]
    assert lines[4].split() == ["abalone", "4177", "x", "8", "3", "-"]


def test_list_shows_the_named_files_once(capsys: Captured) -> None:
    assert cli.main(["data", "list", "wine", "ecg", "wine"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["wine", "ecg"]
    assert cli.main(["data", "list", "uci"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 73


def test_verify_checks_what_is_here(capsys: Captured, folders: Path) -> None:
    assert cli.main(["data", "verify"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"ecg: intact, {folders / 'ecg.dat'}"
    assert out[3:] == [f"{name}: not here" for name in cli.data.datasets.list_uci()]


def test_verify_fails_for_a_damaged_file_and_goes_on(capsys: Captured, folders: Path) -> None:
    flip(folders / "ecg.dat")
    assert cli.main(["data", "verify", "ecg", "nyse"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("nyse: intact")
    assert len(captured.err.splitlines()) == 1
    assert "ecg.dat is not the file that the manifest names" in captured.err


@pytest.mark.parametrize(("name", "file"), [("ecg", "ecg.dat"), ("wine", "uci/wine_R.dat.xz")])
def test_verify_fails_for_a_named_file_that_is_missing(
    name: str, file: str, capsys: Captured, folders: Path
) -> None:
    (folders / file).unlink(missing_ok=True)
    assert cli.main(["data", "verify", name]) == 1
    assert f"{file} is missing" in capsys.readouterr().err


def test_verify_fails_for_a_missing_file_that_ships(capsys: Captured, folders: Path) -> None:
    (folders / "nyse.csv.xz").unlink()
    assert cli.main(["data", "verify"]) == 1
    assert "nyse.csv.xz is missing" in capsys.readouterr().err


def test_fetch_leaves_what_is_intact(capsys: Captured, folders: Path) -> None:
    assert cli.main(["data", "fetch", "ecg", "nyse"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ecg: data, {folders / 'ecg.dat'}",
        f"nyse: data, {folders / 'nyse.csv.xz'}",
    ]


def test_fetch_repairs_from_the_cache(capsys: Captured, folders: Path, tmp_path: Path) -> None:
    intact = (folders / "ecg.dat").read_bytes()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ecg.dat").write_bytes(intact)
    flip(folders / "ecg.dat")
    assert cli.main(["data", "fetch", "ecg"]) == 0
    assert (folders / "ecg.dat").read_bytes() == intact
    assert cli.main(["data", "verify", "ecg"]) == 0


def test_fetch_says_why_it_failed(capsys: Captured, folders: Path) -> None:
    flip(folders / "ecg.dat")
    assert cli.main(["data", "fetch", "ecg", "nyse"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("nyse: data")
    assert "ecg.dat (sha256 f20ad336" in captured.err
    assert "could not be downloaded" in captured.err


def test_fetch_gives_up_without_a_network(capsys: Captured) -> None:
    assert cli.main(["data", "fetch", "uci"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[-1] == "convexlib: gave up after 3 failures in a row; is there a network?"


@pytest.mark.parametrize("action", ["fetch", "verify", "list"])
def test_an_unknown_name_is_bad_input(action: str, capsys: Captured) -> None:
    assert cli.main(["data", action, "ecg", "wien"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("convexlib: unknown data set 'wien'; expected ecg, nyse, uci")
    assert captured.err.endswith("Did you mean 'wine'?\n")


@pytest.mark.parametrize(
    "arguments", [[], ["data"], ["data", "burn"], ["nonsense"], ["--nonsense"]]
)
def test_bad_arguments_exit_with_2(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: convexlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError, 1),
        (SolverError, 1),
        (InputError, 2),
        (ProblemError, 2),
        (NotCertifiableError, 2),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: type[ConvexlibError], code: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error("what was got,\nwhat was expected")

    monkeypatch.setattr(cli.data.datasets, "catalogue", fail)
    assert cli.main(["data", "list"]) == code
    assert capsys.readouterr().err == "convexlib: what was got, what was expected\n"


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.data.datasets, "catalogue", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["data", "list"])


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "convexlib", "data", "list", "wien"]
    root = Path(cli.__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Did you mean 'wine'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "list", "table"])
def test_commands_of_the_experiments_say_where_they_are(capsys, command):
    assert cli.main([command, "ecg", "--full"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"expected `python -m experiments {command}`, in a checkout" in captured.err


def test_a_table_is_printed_where_only_ascii_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli.console.write_plainly()
    stream.write("0.5 \u00b1 0.1 \u2026 \u00e9\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"0.5 +- 0.1 ... ?\n"
