"""The table, from records that are made up here; and the committed summary, made again."""

import json

import pytest

from benchmarks import report, suites, summary
from experiments import runner

FACTS = {"history": [[0.1, 12.0, 1.0], [0.2, 10.0, 9.0]], "versions": {"convexlib": "1"}}


def record(suite, instance, ratio, method, seconds, *, reached=True, gated=True, **result):
    own = suites.config(suite, instance, ratio, method, gated=gated)
    return {
        "config": own,
        "seconds": 1.0,
        "environment": {"commit": "c0ffee"},
        "result": {
            "reached": reached,
            "seconds": seconds,
            "curve": [[seconds, 1e-7, 0.0]],
            "facts": FACTS,
            "machine": {"cpu": "test", "cores": 2, "load_before": 0.0},
            **result,
        },
    }


def target(what):
    return next(found for found in report.targets() if found["what"].startswith(what))


GATED = target("gated, b, 1e-2")
RELU = target("ReLU, s, 1e-2")


def test_every_target_is_measured_by_a_suite():
    keys = {report.key(own) for name in suites.SUITES for own in suites.suite(name, "default")}
    for found in report.targets():
        gated = found.get("gated", found["suite"] in report.GATED)
        for method in found["peers"]:
            assert (found["suite"], found["instance"], found["ratio"], method, gated) in keys
        assert any(
            key[:3] == (found["suite"], found["instance"], found["ratio"])
            and key[3].startswith("ours.")
            and key[4] == gated
            for key in keys
        )
        assert found["kind"] in report.KINDS


def test_median_over_repeats_and_ratio():
    own = [record("gated", "b", 1e-2, "ours.solve", t) for t in (0.3, 9.0, 0.2)]
    peer = [record("gated", "b", 1e-2, "scnn_peer.gated", t) for t in (10.0, 12.0, 11.0)]
    found = report.row(GATED, own + peer)
    assert found["ours"] == 0.3
    assert found["peer"] == 11.0
    assert found["measured"] == pytest.approx(0.3 / 11)
    assert found["met"]
    assert not found["reason"]


def test_a_peer_that_never_got_there_counts_with_its_limit():
    own = [record("gated", "b", 1e-2, "ours.solve", 3.0)]
    peer = [record("gated", "b", 1e-2, "scnn_peer.gated", 1.0, reached=False)]
    found = report.row(GATED, own + peer)
    assert found["beyond"]
    assert found["measured"] == pytest.approx(3 / 60)
    assert found["met"] is None  # at most 1/20, the aim is 1/25
    fast = [record("gated", "b", 1e-2, "ours.solve", 2.0)]
    assert report.row(GATED, fast + peer)["met"] is True


def test_ours_has_to_get_there_every_time_and_stay_in_its_cones():
    peer = [record("relu", "s", 1e-2, "scnn_peer.relu", 10.0, gated=False)]
    good = record("relu", "s", 1e-2, "ours.solve", 0.05, gated=False, violation=1e-15)
    assert report.row(RELU, [good, *peer])["met"]
    for change in ({"reached": False}, {"violation": 1e-9}):
        bad = record("relu", "s", 1e-2, "ours.solve", 0.05, gated=False, **change)
        assert report.row(RELU, [good, bad, *peer])["met"] is False


def test_missing_records_are_said_to_be_missing():
    assert report.row(GATED, [record("gated", "b", 1e-2, "ours.solve", 0.3)])["met"] is None
    assert report.text([]).count("no record") == len(report.targets())


def test_the_reason_stands_beside_a_miss_only():
    slow = [record("gated", "b", 1e-2, "ours.solve", 5.0)]
    peer = [record("gated", "b", 1e-2, "scnn_peer.gated", 10.0)]
    missed = report.row({**GATED, "reason": "because"}, slow + peer)
    assert missed["met"] is False
    assert missed["reason"] == "because"
    fast = [record("gated", "b", 1e-2, "ours.solve", 0.1)]
    assert report.row({**GATED, "reason": "because"}, fast + peer)["reason"] == ""


def test_columns_compare_objectives_first():
    aim = target("column generation")
    sweep = record("columns", "a", 1e-2, "ours.adam", 30.0, gated=False, value=11.0)
    sweep["config"]["options"] = {"optimizer": "adam"}
    other = record("columns", "a", 1e-2, "ours.mlp", 1.0, gated=False, value=12.0)
    other["config"]["options"] = {"solver": "lbfgs"}
    own = record("columns", "a", 1e-2, "ours.columns", 40.0, gated=False, value=10.0)
    found = report.row(aim, [own, sweep, other])
    assert found["met"]
    assert found["by"] == "adam"
    assert found["passed_after"] == 0.2
    worse = record("columns", "a", 1e-2, "ours.columns", 1.0, gated=False, value=11.1)
    assert report.row(aim, [worse, sweep, other])["met"] is False
    best = {**other, "result": {**other["result"], "value": 9.0}}
    assert report.row(aim, [own, sweep, best])["by"] == "MLPRegressor, lbfgs"


def test_global_needs_a_rigorous_gap():
    aim = target("proven global optimum, ECG of rank 3, n = 2,000")
    for rigorous, gap, met in ((True, 1e-7, True), (False, 1e-7, False), (True, 1e-5, False)):
        proof = {"rigorous": rigorous, "relative_gap": gap, "proof_seconds": 1.0}
        own = record("global", "ecg2x2000", 1e-2, "ours.globally", 5.0, gated=False)
        own["result"]["facts"] = proof
        assert report.row(aim, [own])["met"] is met


def test_curves_are_of_the_first_repeat():
    own = record("gated", "b", 1e-2, "ours.solve", 0.3)
    again = record("gated", "b", 1e-2, "scnn_peer.gated", 5.0)
    again["config"]["repeat"] = 1
    found = summary.curves([own, again], "gated", "b", 1e-2)
    assert found == {"ours.solve": [[0.1, pytest.approx(11 / 12)], [0.2, pytest.approx(0.1)]]}


def test_repeats_follow_the_time_of_the_first():
    first = suites.config("gated", "b", 1e-2, "ours.solve")
    for seconds, further in ((0.5, 4), (10.0, 2), (40.0, 0)):
        later = suites.repeats(first, record("gated", "b", 1e-2, "ours.solve", seconds), 5)
        assert [own["repeat"] for own in later] == list(range(1, further + 1))
    failed = record("gated", "b", 1e-2, "ours.solve", 1.0, reached=False)
    assert suites.repeats(first, failed, 5) == []


def test_later_repeats_of_a_ladder_take_the_rung_that_was_enough():
    first = suites.config("gated", "b", 1e-2, "lasso_peers.celer")
    found = record("gated", "b", 1e-2, "lasso_peers.celer", 1.0, label="tol 1e-07")
    later = suites.repeats(first, found, 5)
    assert len(later) == 2
    assert all(own["options"] == {"tolerances": [1e-7]} for own in later)


def test_the_summary_is_that_of_the_records():
    place = runner.results_dir() / "benchmarks"
    stored = json.loads((place / "summary.json").read_text(encoding="utf8"))
    assert stored == json.loads(json.dumps(summary.summary(report.load(place))))
