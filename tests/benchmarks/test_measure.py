"""A measurement from end to end on a tiny instance, and what becomes of failures."""

import pytest

from benchmarks import measure, run, suites
from benchmarks.measure import MeasurementError


def tiny(method, **changes):
    shared = {"threads": 1, "limit": 20.0, "tol": 1e-6, "accuracy": 1e-6}
    return suites.config("test", "40x3x10", 1e-2, method, **{**shared, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("gated", [True, False])
def test_a_solve_is_certified_by_the_referee(gated):
    result = measure.measure(tiny("ours.solve", gated=gated))
    assert result["reached"]
    assert result["gap"] <= 1e-6
    assert result["violation"] <= 1e-12
    assert result["seconds"] > 0
    assert result["peak_mb"] > result["added_mb"] >= 0
    assert result["facts"]["status"] == "CONVERGED"


@pytest.mark.slow
def test_an_error_of_a_method_is_no_measurement():
    wrong = tiny("ours.solve", options={"method": "fista"}, gated=False)
    with pytest.raises(MeasurementError, match="without cone constraints"):
        measure.measure(wrong)


def test_a_failure_leaves_no_record_and_does_not_end_the_run(monkeypatch, tmp_path, capsys):
    def fail(config):
        raise MeasurementError("nothing works")

    monkeypatch.setattr(run, "measure", fail)
    assert run.attempt(tiny("ours.solve"), tmp_path, "benchmarks") is None
    assert "failed: nothing works" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json*"))


def test_an_overlong_solve_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "START_UP", 0.0)
    result = measure.measure(tiny("ours.solve", limit=0.05))
    assert not result["reached"]
    assert result["ending"] == "time limit"


def test_listing_measures_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert run.main(["--list", "--only", "relu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(suites.suite("relu", "default"))
    assert all("no records" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_missing_peers_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "PEERS", tmp_path / "python")
    assert run.main(["--quick"]) == 2
    assert "make bench" in capsys.readouterr().err


def test_a_suite_without_peers_needs_no_environment_of_theirs(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "PEERS", tmp_path / "python")
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    ran = []
    monkeypatch.setattr(run, "execute", lambda names, *_: ran.extend(names))
    assert run.main(["--quick", "--only", "global"]) == 0
    assert run.main(["--quick", "--only", "global", "gated"]) == 2
    assert ran == ["global"]
