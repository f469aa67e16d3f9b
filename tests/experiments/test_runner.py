"""A record for every configuration, whatever happens in between."""

import hashlib
import json
import os
import re
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch

from convexlib.errors import DataError, InputError
from experiments.records import find, fold, kind, sealed, stored, write
from experiments.runner import digest, file_name, records, results_dir, run
from tests.helpers.refusals import refused

CONFIGS = [{"seed": seed, "size": 3} for seed in range(4)]


@pytest.fixture
def counted(tmp_path):
    """A function of a configuration that leaves a trace of every call, in any process."""
    log = tmp_path / "calls"

    def function(config):
        with log.open("a") as file:
            file.write(f"{config['seed']}\n")
        return {"square": config["seed"] ** 2, "threads": torch.get_num_threads()}

    function.calls = lambda: sorted(log.read_text().split()) if log.exists() else []
    return function


def single(folder, seed):
    """The file of a record while a run is on."""
    return folder / "toy" / ".running" / file_name(CONFIGS[seed])


def lines(folder):
    return folder / "toy" / "records.jsonl"


def test_runs_each_configuration_once_and_returns_them_in_order(tmp_path, counted):
    found = run("toy", counted, [*CONFIGS, CONFIGS[0]], folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4, 9]
    assert counted.calls() == ["0", "1", "2", "3"]
    again = run("toy", counted, reversed(CONFIGS), folder=tmp_path)
    assert [record["config"]["seed"] for record in again] == [3, 2, 1, 0]
    assert counted.calls() == ["0", "1", "2", "3"]
    assert again == found[::-1]
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {".running", "records.jsonl"}
    assert [path.name for path in (tmp_path / "toy" / ".running").iterdir()] == ["lock"]


@pytest.mark.slow
def test_workers_keep_records_with_one_thread_each(tmp_path, counted):
    found = run("toy", counted, CONFIGS, folder=tmp_path, jobs=2)
    assert counted.calls() == ["0", "1", "2", "3"]
    assert {record["result"]["threads"] for record in found} == {1}
    assert records("toy", tmp_path) == found


def warns_of_a_copy(made=True):
    return pytest.warns(UserWarning, match=r"it is now .*\.damaged") if made else nullcontext()


def resealed(part, text):
    """A record without one of its parts, whose sha256 fits all the same."""
    gone = (part, "sha256")
    return json.dumps(sealed({k: v for k, v in json.loads(text).items() if k not in gone}))


DAMAGE = {
    "truncated": (lambda text: text[: len(text) // 2], "it is cut short or no JSON"),
    "empty": (lambda text: "", "it is cut short or no JSON"),
    "no text": (lambda text: "\x00\x01", "it is cut short or no JSON"),
    "a list": (lambda text: "[]", "it lacks parts of a record"),
    "altered": (
        lambda text: text.replace('"square": 4', '"square": 5'),
        "its content does not have the sha256 that it states",
    ),
    "old format": (
        lambda text: text.replace('"format": 1', '"format": 0'),
        "its format is 0, expected 1",
    ),
    "no config": (
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "config"}),
        "its content does not have the sha256",
    ),
    **{
        f"sealed without {part}": (partial(resealed, part), "it lacks parts of a record")
        for part in ("config", "result", "environment")
    },
}


CASES = [(form, name) for form in ("line", "file") for name in DAMAGE]
CASES.remove(("line", "empty"))  # which is no line


@pytest.mark.parametrize(("form", "name"), CASES)
def test_a_damaged_record_is_named_and_made_again(tmp_path, counted, form, name):
    damage, problem = DAMAGE[name]
    run("toy", counted, CONFIGS, folder=tmp_path)
    whole = lines(tmp_path).read_text().splitlines(keepends=True)
    damaged = damage(whole[2])
    assert damaged != whole[2]
    if form == "line":
        lines(tmp_path).write_text("".join([*whole[:2], damaged.strip("\n") + "\n", whole[3]]))
        place = f"{lines(tmp_path)}, line 3,"
    else:
        lines(tmp_path).write_text("".join([*whole[:2], whole[3]]))
        single(tmp_path, 2).write_text(damaged)
        place = str(single(tmp_path, 2))
    warning = f"{re.escape(place)} does not count as a record: {re.escape(problem)}"
    with pytest.warns(UserWarning, match=warning):
        assert len(records("toy", tmp_path)) == 3
    with pytest.warns(UserWarning, match=warning), warns_of_a_copy(form == "line"):
        again = run("toy", counted, CONFIGS, folder=tmp_path)
    assert [record["result"]["square"] for record in again] == [0, 1, 4, 9]
    assert counted.calls() == ["0", "1", "2", "2", "3"]
    assert records("toy", tmp_path) == again
    assert len(lines(tmp_path).read_text().splitlines()) == 4


@pytest.mark.parametrize("written", [
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: text.encode("utf-16"),
    lambda text: f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n".encode(),
    lambda text: 2 * text.encode(),
], ids=["CR", "UTF-16", "merge", "doubled"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*does not count as a record")
def test_no_line_is_left_out_without_a_copy_and_the_next_run_says_nothing(
    tmp_path, counted, written
):
    run("toy", counted, CONFIGS, folder=tmp_path)
    content = written(lines(tmp_path).read_text())
    copies = [lines(tmp_path).with_name(f"records.jsonl.damaged{end}") for end in ("", ".2")]
    for copy in copies:
        lines(tmp_path).write_bytes(content)
        with warns_of_a_copy():
            run("toy", counted, CONFIGS, folder=tmp_path)
        assert copy.read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("toy", counted, CONFIGS, folder=tmp_path)
    assert len(lines(tmp_path).read_bytes().splitlines()) == len(CONFIGS)


def test_what_makes_missing_records_is_said():
    for name, words in (
        ("recovery", "recovery --full`."),
        ("recovery-quick", "recovery --quick`."),
        ("recovery-other", "recovery --full` and the same --set, --data, --seeds or --device."),
        ("recovery-quick-other", "recovery --quick` and the same --set, "),
    ):
        with pytest.raises(DataError, match=re.escape(f"`python -m experiments run {words}")):
            records(name, Path("none"))


def test_a_record_under_another_name_does_not_count(tmp_path, counted):
    run("toy", counted, CONFIGS[:1], folder=tmp_path)
    foreign = lines(tmp_path).rename(single(tmp_path, 1))
    problem = f"it belongs to another configuration, that of {single(tmp_path, 0).name}"
    with pytest.warns(UserWarning, match=f"{re.escape(str(foreign))} .*{problem}"):
        found = run("toy", counted, CONFIGS[:2], folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1]
    assert list(stored(tmp_path / "toy")) == [digest(config) for config in CONFIGS[:2]]


def test_a_file_is_newer_than_a_line_and_other_files_are_left_alone(tmp_path, counted):
    place = tmp_path / "toy"
    (record,) = run("toy", counted, CONFIGS[:1], folder=tmp_path)
    (place / "summary.json").write_text("{}")
    body = {key: value for key, value in record.items() if key != "sha256"}
    newer = sealed({**body, "seconds": 77.0})
    write(place, newer)
    for folded in (False, True):
        if folded:
            fold(place)
        assert single(tmp_path, 0).exists() is not folded
        assert records("toy", tmp_path) == [newer]
        assert find(place, CONFIGS[0]) == newer
    assert (place / "summary.json").read_text() == "{}"


def test_lines_are_in_the_order_of_configurations_and_in_files_by_kind(tmp_path, counted):
    shared = {"size": 3}
    configs = [
        {**shared, "seed": seed, "rate": rate, "method": method}
        for seed in (10, 9)
        for rate in (0.1, 1e-5, 2, None)
        for method in ("b", "a", "../x", 3)
    ]
    run("toy", counted, configs, folder=tmp_path)
    place = tmp_path / "toy"
    assert sorted(path.name for path in place.glob("*.jsonl")) == [
        "a.jsonl", "b.jsonl", "records.jsonl",
    ]  # fmt: skip
    for name in ("a", "b"):
        found = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
        assert [(r["config"]["rate"], r["config"]["seed"]) for r in found] == [
            (rate, seed) for rate in (None, 1e-5, 0.1, 2) for seed in (9, 10)
        ]
        assert all(find(place, r["config"]) == r for r in found)
    assert [kind(c) for c in ({"suite": "s", "part": "p"}, {"part": "p"}, {})] == [
        "s", "p", "records",
    ]  # fmt: skip
    fold(place, without={digest(config) for config in configs if config["method"] != "b"})
    assert [path.name for path in place.glob("*.jsonl")] == ["b.jsonl"]


def test_what_another_run_finished_meanwhile_is_not_run_again(tmp_path, counted):
    def first(config):
        if config["seed"] == 0:
            run("toy", counted, CONFIGS[1:], folder=tmp_path)
        return counted(config)

    found = run("toy", first, CONFIGS, folder=tmp_path)
    assert [record["result"]["square"] for record in found] == [0, 1, 4, 9]
    assert counted.calls() == ["0", "1", "2", "3"]


def test_what_was_finished_survives_a_failure(tmp_path, counted):
    def fails_at_two(config):
        if config["seed"] == 2:
            raise ValueError("no twos")
        return counted(config)

    with pytest.raises(ValueError, match="no twos") as caught:
        run("toy", fails_at_two, CONFIGS, folder=tmp_path)
    assert caught.value.__notes__ == ['The configuration was {"seed": 2, "size": 3}']
    assert counted.calls() == ["0", "1"]
    run("toy", counted, CONFIGS, folder=tmp_path)
    assert counted.calls() == ["0", "1", "2", "3"]


def test_a_record_says_where_it_was_made(tmp_path, counted):
    (record,) = run("toy", counted, CONFIGS[:1], folder=tmp_path)
    made = record["environment"]
    assert (made["threads"], made["device"], made["cores"]) == (1, "cpu", os.cpu_count())
    assert made["versions"]["torch"] == torch.__version__
    assert made["versions"].keys() >= {"python", "convexlib", "numpy", "numba"}
    assert record["seconds"] >= 0
    assert os.path.expanduser("~") not in json.dumps(made)
    assert "commit" in made


def test_digest_ignores_the_order_of_keys_and_sees_every_value():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()


test_refusals = refused(
    [
        (lambda: digest(["a"]), InputError, "configuration is list; expected"),
        (lambda: run("a", print, 1), InputError, "configs is int; expected"),
    ]
)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, torch.zeros(2)])
def test_refuses_what_json_cannot_hold(tmp_path, value):
    with pytest.raises(InputError, match=r"JSON \(result\.path\.1\.gap: .*\); expected") as caught:
        run("toy", lambda _: {"path": [{}, {"gap": value}]}, [{"seed": 0}], folder=tmp_path)
    assert caught.value.__notes__ == ['The configuration was {"seed": 0}']
    with pytest.raises(InputError, match="cannot be written as JSON"):
        digest({"value": value})


def test_results_are_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert results_dir() == tmp_path
    monkeypatch.delenv("CONVEXLIB_RESULTS")
    assert results_dir().name == "results"
