"""Records made again: what agrees, what does not, and what is left out, with the reason."""

import copy
import math
import re

import pytest

from convexlib.errors import DataError
from experiments import ecg, images, nyse, three_layer
from experiments.runner import Between, Experiment, Median, digest, file_name, records, run
from experiments.spot_check import Agreement, compare, spot_check, table


class Toy:
    """Values that depend on the seed, and on a shift that is changed between two runs."""

    def __init__(self):
        self.shift = 0.0
        self.calls = []

    def __call__(self, config):
        seed = config["seed"]
        self.calls.append(seed)
        timed = {"objective": 5.0 + len(self.calls)}
        if config["timed"]:
            return {"methods": {"adam": timed}}
        path = [{"objective": 1.0 + k + self.shift * k, "time": len(self.calls)} for k in range(3)]
        return {
            "objective": 2.0 + seed,
            "path": path,
            "methods": {"convex": {"objective": 4.0, "converged": True}, "adam": timed},
        }


def experiment(toy, rtol=1e-6, **fields):
    rules = {"methods.adam.*": 0.5, "objective": rtol, "*.objective": rtol}
    fields = {"compared": lambda config: rules, "timed": ("methods.adam.*",), **fields}
    return Experiment("toy", "Toy", list, toy, str, lambda record: None, **fields)


@pytest.fixture
def stored(tmp_path):
    """Six records, two of which hold nothing but what is limited by time."""
    configs = [{"seed": seed, "timed": seed >= 4} for seed in range(6)]
    return run("toy", Toy(), configs, folder=tmp_path)


def test_records_that_come_out_again(stored):
    toy = Toy()
    rows = spot_check(experiment(toy), stored, 4)
    assert sorted(toy.calls) == [0, 1, 2, 3]
    assert all(row.ok for row in rows)
    compared = [row for row in rows if not row.note]
    assert {row.entry for row in compared} == {"objective", "path.*.objective"} | {
        "methods.convex.objective"
    }
    assert len(compared) == 12
    assert all(row.difference == 0.0 and row.stored == row.again for row in compared)
    skipped = [row for row in rows if row.note]
    assert {row.entry for row in skipped} == {"methods.adam.objective"}
    assert {row.note for row in skipped} == {
        "not compared: reached within a budget of processor time"
    }


@pytest.mark.parametrize(("shift", "ok"), [(1e-8, True), (1e-3, False)])
def test_the_largest_difference_counts(stored, shift, ok):
    toy = Toy()
    toy.shift = shift
    (row,) = [
        row for row in spot_check(experiment(toy), stored[:1], 1) if row.entry == "path.*.objective"
    ]
    assert row.count == 3
    assert row.ok is ok
    assert (row.stored, row.again) == (3.0, 3.0 + 2 * shift)
    assert row.difference == pytest.approx(2 * shift / 3, rel=1e-6)
    assert spot_check(experiment(toy, rtol=1e-2), stored[:1], 1)[1].ok


def test_the_seed_draws_the_records(stored):
    def drawn(seed):
        toy = Toy()
        spot_check(experiment(toy), stored, 2, seed=seed)
        assert len(set(toy.calls)) == 2
        return toy.calls

    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 2


def test_what_is_limited_by_time_is_reported_and_not_run(stored):
    toy = Toy()
    timed = digest(stored[5]["config"])[:16]
    found = spot_check(experiment(toy), [stored[0], stored[5]], 2)
    (row,) = [row for row in found if row.record == timed]
    assert toy.calls == [0]
    assert row.note
    with pytest.raises(DataError, match="none of the 2 records of toy has an entry that can be"):
        spot_check(experiment(toy), stored[4:], 1)


@pytest.mark.parametrize(("value", "ok"), [(6.5, True), (20.0, False)])
def test_what_is_limited_by_time_is_replayed_where_that_can_be_done(stored, value, ok):
    """Both sides of a comparison are made again, each to the tolerance that its kind allows."""
    again = experiment(Toy(), replay=lambda record: {"methods": {"adam": {"objective": value}}})
    for record, runs in ((stored[0], 1), (stored[5], 0)):
        rows = spot_check(again, [record], 1)
        (row,) = [row for row in rows if row.entry == "methods.adam.objective"]
        assert not row.note
        assert row.again == value
        assert row.ok is ok
        assert row.rtol == 0.5
        assert len(rows) == 1 + 3 * runs


@pytest.mark.parametrize("result", [{"path": []}, {"path": None}, None])
@pytest.mark.parametrize("again", [Toy(), lambda config: {}])
@pytest.mark.parametrize("replay", [None, lambda record: record["result"]["methods"]])
def test_a_record_without_entries_is_run_again_and_fails(stored, result, again, replay):
    rows = spot_check(experiment(again, replay=replay), [{**stored[0], "result": result}], 1)
    assert rows
    assert not any(row.ok or row.note for row in rows)
    assert "more than" in table(rows).splitlines()[1]


def test_a_bound_that_is_gone_is_a_miss(stored):
    bounds = {"objective": Between("low", "high")}
    (row,) = compare(experiment(Toy(), compared=lambda config: bounds), stored[0], stored[0])
    assert not row.ok


def test_draws_are_compared_by_their_median(stored):
    """One seed may end elsewhere; most may not."""
    for moved, ok in (([0], True), ([2], True), ([0, 1], False)):
        again = copy.deepcopy(stored[0])
        for k in moved:
            again["result"]["path"][k]["objective"] *= 2
        rows = compare(experiment(Toy(), rtol=Median(0.2)), stored[0], again)
        (row,) = [row for row in rows if row.entry == "path.*.objective"]
        assert row.ok is ok
        assert row.stored == 2.0


@pytest.mark.parametrize(
    ("value", "ok"),
    [(2.0, True), (3.7, True), (4.0, True), (1.99, False), (4.01, False), (math.nan, False),
     (None, False)],
)  # fmt: skip
def test_a_single_draw_is_compared_by_what_is_proven_of_all(stored, value, ok):
    """Wherever it ended at first, it ends between these two again."""
    bounds = {"methods.adam.*": Between("objective", "methods.convex.objective")}
    again = {**stored[0], "replayed": {"methods": {"adam": {"objective": value}}}}
    (row,) = compare(experiment(Toy(), compared=lambda config: bounds), stored[0], again)
    assert (row.stored, row.ok) == (6.0, ok)


def test_an_entry_that_is_gone_or_new_is_a_miss(stored):
    again = {**stored[0], "result": {"objective": None, "other": {"objective": 1.0}}}
    rows = {row.entry: row for row in compare(experiment(Toy()), stored[0], again)}
    for name in ("objective", "path.*.objective", "other.objective"):
        assert not rows[name].ok
        assert rows[name].difference == float("inf")


def test_zero_agrees_with_zero_only():
    zero = {"config": {}, "result": {"objective": 0.0}}
    tiny = {"config": {}, "result": {"objective": 1e-300}}
    assert compare(experiment(Toy()), zero, zero)[0].ok
    assert not compare(experiment(Toy()), zero, tiny)[0].ok


def test_the_table_has_a_line_for_each_group():
    rows = [
        Agreement("0123456789abcdef", "path.*.objective", 3, 2.0, 2.1, 0.05, 1e-6),
        Agreement("0123456789abcdef", "methods.adam.objective", 1, note="not compared: a reason"),
        Agreement("fedcba9876543210", "objective", 1, 1.0, None, float("inf"), 1e-6),
        Agreement("fedcba9876543210", "lowest", 1, 1.0, 2.0, drawn=True),
    ]
    lines = [re.sub(" +", " ", line) for line in table(rows).splitlines()]
    assert lines == [
        "record entry stored again rel. diff.",
        "0123456789abcdef path.*.objective (3) 2 2.1 5.0e-02 more than 1e-06",
        "0123456789abcdef methods.adam.objective not compared: a reason",
        "fedcba9876543210 objective 1 - inf more than 1e-06",
        "fedcba9876543210 lowest 1 2 in bounds",
    ]


@pytest.mark.parametrize("of", [ecg, images, nyse, three_layer], ids=lambda of: of.EXPERIMENT.name)
def test_descent_of_the_stored_records_is_known_to_be_timed(of):
    """It has a budget of time in these experiments, and nothing else has."""
    wanted = {file_name(config) for config in of.EXPERIMENT.configs("full")}
    stored = records(of.EXPERIMENT.name)
    rows = [
        row
        for record in stored
        if file_name(record["config"]) in wanted
        for row in compare(of.EXPERIMENT, record, record)
    ]
    assert all(row.ok for row in rows)
    for row in rows:
        descent = re.search(r"(^|\.)(sgd|adam|lbfgs|runs)[.-]", row.entry)
        assert bool(row.note) == bool(descent), row.entry
    assert any(row.note for row in rows)
    assert any(not row.note for row in rows)
