"""The committed records: all of them, intact, a line each, where and in the order they belong."""

import hashlib
import json
from pathlib import Path

import pytest

from experiments import records
from experiments.commands import EXPERIMENTS
from experiments.records import digest, kind, stored, text
from experiments.uci import peer

RESULTS = Path(__file__).resolve().parents[2] / "results"
# How many records, and first digits of the sha256 of all of them. Who makes records anew writes
# down what the failing test says.
CONTENT = {
    "benchmarks": (430, "208f23f00560529b"),
    "bounds": (83, "84fae0300e3f85d0"),
    "ecg": (21, "432425d5afacf4e4"),
    "images": (4, "327f9c61a044c4a5"),
    "nyse": (14, "2b82c8fa9f3d64d6"),
    "recovery": (74, "d221a1414e9433f9"),
    "reflections": (136, "493be75ea82f50a4"),
    "three_layer": (32, "85dac6da76608f8f"),
    "uci": (4465, "1ea879ee5e266e56"),
}


def content(found):
    """The number of records, and a digest of all that they hold, whatever their order."""
    rows = sorted(map(text, found))
    return len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", CONTENT)
def test_no_record_is_lost_or_altered(name):
    found = list(stored(RESULTS / name).values())
    assert content(found) == CONTENT[name]
    assert content(found[1:]) != CONTENT[name]
    assert content([{**found[0], "seconds": -1.0}, *found[1:]]) != CONTENT[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_records_are_of_the_full_profile_and_meet_their_tolerances(name):
    """A record of another seed or device beside them would be read as one of them."""
    experiment, found = EXPERIMENTS[name], records.records(name)
    wanted = {digest(config) for config in experiment.configs("full")}
    there = {digest(record["config"]) for record in found}
    if name == "uci":  # not all of it has been run
        assert there <= wanted | {digest(config) for config in peer.configs()}
    else:
        assert there == wanted
    assert list(filter(None, map(experiment.missed, found))) == []


def test_every_folder_with_records_is_checked():
    folders = {path.parent.name for path in RESULTS.glob("*/*.jsonl")}
    assert {name for name in folders if not name.endswith(("-quick", "-other"))} == set(CONTENT)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.jsonl")), ids=lambda path: path.stem)
def test_lines_are_sorted_and_canonical(path):
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    found = [json.loads(line) for line in lines]
    assert lines == [json.dumps(record, sort_keys=True) + "\n" for record in found]
    keys = [records._order(record["config"]) for record in found]
    assert keys == sorted(keys)
    assert len({digest(record["config"]) for record in found}) == len(found)
    assert {kind(record["config"]) for record in found} == {path.stem}
