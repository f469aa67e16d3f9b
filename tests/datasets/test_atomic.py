"""Files that are complete or not there at all, and what killed writers leave behind."""

import errno
import os
import subprocess
import sys

import pytest

from convexlib.datasets import atomic


def ended():
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        process.wait()
    return process.pid


def part(folder, name, pid, age=0.0):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{pid}.part"
    path.write_bytes(b"half")
    moment = path.stat().st_mtime - age
    os.utime(path, (moment, moment))
    return path


def test_write_replaces_and_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "file.json"
    for content in (b"first", b"second"):
        atomic.write(path, content)
        assert [file.name for file in path.parent.iterdir()] == ["file.json"]
        assert path.read_bytes() == content


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch, call, error):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(*_):
        raise error

    owner = os if call == "fsync" else atomic.Path
    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(type(error)):
        atomic.write(path, b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"


def test_sweep_removes_what_no_process_will_rename(tmp_path):
    here = f"file.{atomic._node()}"
    old = [
        part(tmp_path / "old", here, ended()),
        part(tmp_path / "old", here, os.getpid(), age=2 * atomic.ABANDONED),
        part(tmp_path / "old", "file.elsewhere", 1, age=2 * atomic.ABANDONED),
        part(tmp_path / "old", "file", "nonsense", age=2 * atomic.ABANDONED),
    ]
    new = [
        part(tmp_path / "new", here, os.getpid()),
        part(tmp_path / "new", "file.elsewhere", ended()),
        part(tmp_path / "new", "file", "nonsense"),
    ]
    (tmp_path / "old" / "file.json").write_text("{}")
    atomic.sweep(tmp_path / "old")
    atomic.sweep(tmp_path / "new")
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in new)
    assert (tmp_path / "old" / "file.json").exists()


def test_probe_leaves_nothing(tmp_path):
    atomic.probe(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        atomic.probe(tmp_path / "file")
