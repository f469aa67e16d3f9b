"""`convexlib run`, `list` and `table`: what they print, keep, and return."""

import argparse

import pytest
import torch

from convexlib import cli
from convexlib.experiments.runner import Experiment


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    """An experiment that squares its seeds, and calls squares above 4 a miss."""
    calls = []

    def function(config):
        calls.append(config["seed"])
        return {"square": config["seed"] ** 2}

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
    )
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(cli, "EXPERIMENTS", {"toy": experiment})
    return calls


def test_run_prints_the_table_and_continues_where_it_was(capsys, toy, tmp_path):
    assert cli.main(["run", "toy"]) == 0
    assert capsys.readouterr().out.split() == ["0", "1"]
    assert cli.main(["run", "toy", "--quick", "--seeds", "0-2", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.split() == ["0", "1", "4"]
    assert toy == [0, 1, 2]
    assert len(list((tmp_path / "toy-quick").glob("*.json"))) == 3


def test_a_missed_tolerance_is_exit_code_1(capsys, tmp_path):
    assert cli.main(["run", "toy", "--full"]) == 1
    captured = capsys.readouterr()
    assert captured.out.split() == ["0", "1", "4", "9"]
    assert captured.err == "convexlib: toy: too large\n"
    assert len(list((tmp_path / "toy").glob("*.json"))) == 4


def test_table_reads_the_records_of_one_profile(capsys):
    assert cli.main(["table", "toy"]) == 1
    assert "holds no intact record" in capsys.readouterr().err
    cli.main(["run", "toy"])
    capsys.readouterr()
    assert cli.main(["table", "toy"]) == 0
    assert sorted(capsys.readouterr().out.split()) == ["0", "1"]
    assert cli.main(["table", "toy", "--full"]) == 1


def test_list_counts_records(capsys):
    cli.main(["run", "toy", "--seeds", "1"])
    capsys.readouterr()
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.split() == ["toy", "quick", "1/2,", "full", "0/4", "Squares"]


@pytest.mark.parametrize("arguments", [["nyse"], ["toy", "--quick", "--full"], []])
def test_bad_arguments_are_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", *arguments])
    assert stopped.value.code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(capsys):
    assert cli.main(["run", "toy", "--device", "cuda"]) == 2
    assert "device 'cuda' cannot be used" in capsys.readouterr().err
    assert cli.main(["run", "toy", "--device", "abacus"]) == 2


def test_seeds_are_read():
    assert cli.seeds("0-4") == [0, 1, 2, 3, 4]
    assert cli.seeds("7") == [7]
    assert cli.seeds("0,2,5-6") == [0, 2, 5, 6]
    for text in ("", "a", "3-1", "1,1", "1-2-", "1-2-3", "0.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not like 0-4"):
            cli.seeds(text)


def test_the_real_experiments_are_listed(monkeypatch, capsys):
    monkeypatch.undo()
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.startswith("ecg")
