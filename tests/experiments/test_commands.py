"""`python -m experiments`: what its commands print, keep, and return."""

import json
import runpy
import sys

import pytest
import torch

from experiments import cluster, provenance, runner
from experiments import commands as cli
from experiments.records import fold, sealed, stored
from experiments.runner import Experiment


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    """An experiment that squares its seeds, and calls squares above 4 a miss."""
    calls = []
    shift = {2: 1e-3}

    def function(config):
        calls.append(config["seed"])
        if config["seed"] == 7:
            raise KeyboardInterrupt
        return {
            "square": config["seed"] ** 2,
            "objective": 1.0 + calls.count(2) * shift.get(config["seed"], 0.0),
        }

    def configs(profile, device="cpu", seeds=None):
        chosen = seeds or ([0, 1] if profile == "quick" else [0, 1, 2, 3])
        return [{"seed": seed, "profile": profile, "device": device} for seed in chosen]

    experiment = Experiment(
        name="toy",
        title="Squares",
        configs=configs,
        function=function,
        table=lambda found: "\n".join(str(record["result"]["square"]) for record in found),
        missed=lambda record: "too large" if record["result"]["square"] > 4 else None,
        compared=lambda config: {"objective": 1e-6},
    )
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(cli, "EXPERIMENTS", {"toy": experiment})
    return calls


def test_run_prints_the_table_and_continues_where_it_was(capsys, toy, tmp_path):
    assert cli.main(["run", "toy"]) == 0
    assert capsys.readouterr().out.split() == ["0", "1"]
    assert cli.main(["run", "toy", "--quick", "--seeds", "0-2", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.split() == ["0", "1", "4"]
    assert toy == [0, 1, 0, 1, 2]
    assert len(stored(tmp_path / "toy-quick")) == 2
    assert len(stored(tmp_path / "toy-quick-other")) == 3
    assert cli.main(["run", "toy", "--quick", "--seeds", "0-3"]) == 1
    assert toy == [0, 1, 0, 1, 2, 3]


@pytest.fixture
def other_code(monkeypatch):
    """Call it, and the code is no longer what it was."""

    def change():
        for module in (runner, provenance):
            monkeypatch.setattr(module, "code_of", lambda function, config: "0" * 16)

    return change


def test_other_code_is_not_mixed_in_unless_asked_for(capsys, toy, tmp_path, other_code):
    """Records say which code made them; a full run neither adds to others nor passes them over."""
    assert cli.main(["run", "toy", "--full"]) == 1
    captured = capsys.readouterr()
    assert captured.out.split() == ["0", "1", "4", "9"]
    assert captured.err == "experiments: toy: too large\n"
    fold(tmp_path / "toy", without=list(stored(tmp_path / "toy"))[:1])
    other_code()
    assert cli.main(["run", "toy", "--full"]) == 1
    error = capsys.readouterr().err
    assert "3 of the 3 records in" in error
    assert "other code than today's, and 1 are missing" in error
    assert len(toy) == 4
    assert cli.main(["run", "toy", "--full", "--force"]) == 1  # 3 squared is too large
    said = "3 of 4 records were made by other code than today's; --replace"
    assert said in capsys.readouterr().err
    assert len(toy) == 5
    assert cli.main(["run", "toy", "--full", "--replace"]) == 1
    assert "other code" not in capsys.readouterr().err
    assert len(toy) == 8
    assert {record["environment"]["code"] for record in runner.records("toy")} == {"0" * 16}


def test_quick_runs_are_always_of_the_present_code(toy, other_code):
    cli.main(["run", "toy"])
    other_code()
    cli.main(["run", "toy"])
    cli.main(["run", "toy"])
    assert toy == [0, 1, 0, 1]


def test_table_reads_the_records_of_one_profile(capsys):
    assert cli.main(["table", "toy"]) == 1
    assert "holds no intact record" in capsys.readouterr().err
    cli.main(["run", "toy"])
    capsys.readouterr()
    assert cli.main(["table", "toy"]) == 0
    assert sorted(capsys.readouterr().out.split()) == ["0", "1"]
    assert cli.main(["table", "toy", "--full"]) == 1
    there = "There are others: `python -m experiments table toy --quick`.\n"
    assert capsys.readouterr().err.endswith(there)


def test_list_counts_records(capsys):
    cli.main(["run", "toy", "--seeds", "1"])
    capsys.readouterr()
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.split() == ["toy", "quick", "1/2,", "full", "0/4", "Squares"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run", "nyse"], "invalid choice: 'nyse'"),
        (["run", "toy", "--quick", "--full"], "not allowed with argument --quick"),
        (["run", "toy", "--seed", "1"], "unrecognized arguments: --seed 1"),  # a choice of `check`
        (["check", "toy", "0"], "argument K: '0' is not like 1, 2, 3"),
        (["check", "toy", "x"], "argument K: 'x' is not like 1, 2, 3"),
        (["run", "toy", "--jobs", "0"], "'0' is no number of processes like 2, or -1"),
        (["run", "toy", "--jobs", "two"], "'two' is no number of processes"),
        *((["run", "toy", f"--seeds={text}"], "is not like 0-4 or 0,2,5, without repetition")
          for text in ("", "a", "3-1", "1,1", "1-2-", "1-2-3", "0.5")),
        (["run", "toy", "--seeds", "0-3000000000"], "has more than 10000 seeds"),
        (["run", "toy", "--seeds", "0-5999,6000-11999"], "has more than 10000 seeds"),
    ],
)  # fmt: skip
def test_bad_arguments_are_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(capsys):
    assert cli.main(["run", "toy", "--device", "cuda"]) == 2
    assert "device is 'cuda', which cannot hold float64" in capsys.readouterr().err
    assert cli.main(["run", "toy", "--device", "abacus"]) == 2


def test_seeds_have_one_place(capsys):
    assert cli.main(["run", "toy", "--seeds", "1", "--set", "seeds=0"]) == 2
    assert "got --seeds and --set seeds=...; expected one of them" in capsys.readouterr().err


def test_seeds_are_read():
    assert cli.seeds("0-4") == [0, 1, 2, 3, 4]
    assert cli.seeds("7") == [7]
    assert cli.seeds("0,2,5-6") == [0, 2, 5, 6]


def test_the_real_experiments_are_listed(monkeypatch, capsys):
    monkeypatch.undo()
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.startswith("bounds")


def test_an_interrupt_is_one_line_and_exit_code_130(capsys, toy):
    assert cli.main(["run", "toy", "--seeds", "0,7"]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "experiments: toy-quick-other was interrupted: 1 of 2 records are done. The same command "
        "goes on from there.\n"
    )
    assert cli.main(["run", "toy", "--seeds", "0,5"]) == 1  # goes on beside it
    assert toy == [0, 7, 5]


def test_an_interrupt_of_the_imports_is_the_same(capsys, monkeypatch):
    class Strike:
        @staticmethod
        def find_spec(name, *_):
            if name == "experiments.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "experiments.commands")
    monkeypatch.setattr(sys, "meta_path", [Strike, *sys.meta_path])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("experiments", run_name="__main__")
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "experiments: interrupted\n"


# The warning is what is tested: it has to reach stderr, not become an exception.
@pytest.mark.filterwarnings("default")
def test_a_damaged_record_is_one_line(capsys, toy, tmp_path):
    cli.main(["run", "toy"])
    path = tmp_path / "toy-quick" / "records.jsonl"
    path.write_text("{\n" + path.read_text().splitlines()[1] + "\n")
    capsys.readouterr()
    assert cli.main(["table", "toy"]) == 0
    line = f"experiments: {path}, line 1, does not count as a record: it is cut short or no JSON. "
    assert capsys.readouterr().err == line + "`python -m experiments run` makes it again.\n"
    assert cli.main(["run", "toy"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert f"as it was, it is now {path}.damaged." in said
    assert len(toy) == 3
    assert cli.main(["run", "toy"]) == 0
    assert capsys.readouterr().err == ""


def test_a_record_of_another_form_is_named(tmp_path, capsys):
    """It is intact, by its sha256, but has not the entries that the table needs."""
    config = {"seed": 1, "profile": "full", "device": "cpu"}
    record = sealed({"format": 1, "config": config, "result": {}, "environment": {}})
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "records.jsonl").write_text(json.dumps(record))
    for words in (["table", "toy", "--full"], ["run", "toy", "--full", "--force"]):
        assert cli.main(words) == 1
        assert "is not of the form that this version writes (KeyError" in capsys.readouterr().err


def test_list_goes_on_after_a_folder_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "toy" / "x.jsonl").mkdir(parents=True)
    assert cli.main(["list"]) == 1
    captured = capsys.readouterr()
    assert captured.out.split() == ["toy", "quick", "0/2,", "full", "?/4", "Squares"]
    assert "x.jsonl cannot be read (Is a directory); expected a file of" in captured.err


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    cli.main(["run", "toy"])
    capsys.readouterr()
    for words in ("list", "run toy", "table toy", "check toy 1 --quick"):
        with open("/dev/full", "w") as full, monkeypatch.context() as patched:
            patched.setattr("sys.stdout", full)
            assert cli.main(words.split()) == 1
        said = "experiments: the output cannot be written (No space left on device).\n"
        assert capsys.readouterr().err == said


def test_check_makes_records_again_and_writes_nothing(capsys, toy, tmp_path):
    cli.main(["run", "toy", "--full", "--seeds", "0-1"])
    assert (tmp_path / "toy").is_dir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    capsys.readouterr()
    assert cli.main(["check", "toy", "5"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert captured.err == ""
    assert sorted(toy) == [0, 0, 1, 1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_a_check_that_misses_is_exit_code_1(capsys, toy):
    cli.main(["run", "toy", "--seeds", "2,4"])
    capsys.readouterr()
    assert cli.main(["check", "toy", "2", "--quick", "--seeds", "2,4"]) == 1
    captured = capsys.readouterr()
    assert "more than 1e-06" in captured.out
    assert captured.err.startswith("experiments: toy: objective of record ")
    assert captured.err.endswith(" differs by 1.0e-03, more than 1e-06\n")


def test_check_leaves_out_records_of_other_settings(capsys, toy, tmp_path):
    cli.main(["run", "toy", "--seeds", "0-2"])
    (tmp_path / "toy-quick-other").rename(tmp_path / "toy-quick")
    capsys.readouterr()
    assert cli.main(["check", "toy", "9", "--quick"]) == 0
    assert capsys.readouterr().err == "experiments: 1 records of other settings are left out\n"
    (tmp_path / "toy-quick").rename(tmp_path / "toy-quick-other")
    assert cli.main(["check", "toy", "9", "--quick", "--seeds", "8"]) == 1
    assert "none of the 3 records in" in capsys.readouterr().err
    assert cli.main(["check", "toy", "1"]) == 1
    assert "holds no intact record" in capsys.readouterr().err


def test_a_cluster_that_is_not_there(capsys, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr(cluster.workers.__wrapped__, "__kwdefaults__", {"timeout": 0.3})
    assert cli.main(["run", "toy", "--cluster", "tcp://127.0.0.1:1", "--jobs", "2"]) == 2
    assert "got --cluster and --jobs 2" in capsys.readouterr().err
    assert cli.main(["run", "toy", "--cluster", "tcp://127.0.0.1:1"]) == 2
    error = capsys.readouterr().err
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1' within 0.3 s" in error
    assert len(error.splitlines()) == 1
