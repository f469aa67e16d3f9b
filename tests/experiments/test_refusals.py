"""Configurations and records that are none."""

import json

import pytest

from convexlib.errors import InputError
from experiments import __main__ as experiments
from experiments import records as record_files
from experiments import runner
from tests.helpers.refusals import refused

REFUSALS = [
    (lambda: runner.digest(["a"]), InputError, "configuration is list; expected"),
    (lambda: runner.run("a", print, 1), InputError, "configs is int; expected"),
]  # fmt: skip
test_refusals = refused(REFUSALS)


def test_a_record_of_another_form_is_named(
    tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    """It is intact, by its sha256, but has not the entries that the table needs."""
    record = record_files.sealed({"format": 1, "config": {"a": 1}, "result": {}})
    folder = tmp_path / "recovery"
    folder.mkdir()
    (folder / "records.jsonl").write_text(json.dumps(record))
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert experiments.main(["table", "recovery", "--full"]) == 1
    assert "is not of the form that this version writes (KeyError" in capsys.readouterr().err
