"""`convexlib certify`: what it prints, saves, and returns."""

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib import cli
from convexlib.cli.files import load_network
from tests.helpers.checks import network_objective
from tests.helpers.references import loss_value
from tests.helpers.refusals import PLAIN

Captured = pytest.CaptureFixture[str]
BETA = 0.3


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((12, 2))
    return X, np.maximum(X @ [1.0, -0.5], 0) - np.maximum(X @ [-0.3, 1.0], 0) + 0.2


def network(last_bias: bool = True) -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    made = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1, last_bias))
    for weights in made.parameters():
        weights.data = torch.randn(weights.shape, generator=generator)
    return made


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A float32 network and its data, as others would hand them over."""
    X, y = data()
    model, table = tmp_path / "model.pt", tmp_path / "data.csv"
    torch.save(network().state_dict(), model)
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["first", "second", "goal"], *np.column_stack([X, y])])
    return str(model), str(table)


def lines(captured: Captured) -> dict[str, str]:
    """What was printed last under every name."""
    out = captured.readouterr().out
    return {line[:13].strip(): line[13:] for line in out.splitlines() if line.strip()}


def certify(files: tuple[str, str], *arguments: str) -> int:
    return cli.main(["certify", *files, f"--beta={BETA}", "--activation=relu", *arguments])


def test_it_prints_the_objective_and_its_parts(files, capsys: Captured) -> None:
    assert certify(files) == 0
    printed = lines(capsys)
    X, y = data()
    objective = network_objective(network(), X, y, BETA)
    fitted = network()(torch.from_numpy(X).float()).detach().numpy()[:, 0]
    values = [float(word) for word in printed["objective"].split() if word[0].isdigit()][:3]
    assert values[0] == pytest.approx(objective, rel=1e-8)
    assert values[1] == pytest.approx(loss_value("squared", fitted, y), rel=1e-5)
    assert values[1] + values[2] == pytest.approx(values[0], rel=1e-8)
    assert printed["network"] == (
        "Linear(2, 6) -> ReLU -> Linear(6, 1), biases in layers 1, 2, float32"
    )
    assert printed["data"] == "12 rows, 2 features, target goal"
    assert printed["rigorous"].startswith("yes: branch and bound")
    bound = float(printed["lower bound"].split(",")[0])
    assert bound == pytest.approx(cl.certify(network(), *data(), beta=BETA).dual, rel=1e-8)


def test_it_names_the_missing_neuron(files, capsys: Captured) -> None:
    assert certify(files) == 0
    out = capsys.readouterr().out
    missing = cl.missing_neuron(network(), *data(), beta=BETA)
    for name, weight in zip(("first", "second", "bias"), missing.direction, strict=True):
        assert f"{name} {float(weight):+.4f}" in out
    assert f"reaches {missing.violation:.4f} beta" in out
    assert f"active on {missing.active} of 12 rows" in out
    assert f"lowers the objective by {missing.gain:.3g} at once" in out


def test_the_tolerance_decides_the_exit_code(files, capsys: Captured) -> None:
    gap = cl.certify(network(), *data(), beta=BETA).relative_gap
    assert certify(files, f"--tol={gap * 1.01}") == 0
    assert capsys.readouterr().err == ""
    assert certify(files, f"--tol={gap * 0.99}") == 1
    assert "(certified) misses --tol" in capsys.readouterr().err


def test_polishing_saves_a_network_of_the_same_kind(
    files, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "better.pt"
    assert certify(files, f"--polish={out}", "--tol=1e-5") == 0
    printed = lines(capsys)
    better = load_network(out, "relu")
    assert [name for name, _ in better.named_parameters()] == [
        name for name, _ in network().named_parameters()
    ]
    assert next(better.parameters()).dtype == torch.float32
    objective = network_objective(better, *data(), BETA)
    assert float(printed["objective"].split()[0]) == pytest.approx(objective, rel=1e-8)
    assert objective < network_objective(network(), *data(), BETA)
    assert certify((str(out), files[1]), "--tol=1e-5", "--target=goal") == 0
    assert "no neuron that lowers it by 1e-09 of its value" in lines(capsys)["missing"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "better.pt", "data.csv", "model.pt",
    ]  # fmt: skip


def test_a_full_disk_is_one_line_and_leaves_nothing(
    files, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert certify(files, f"--polish={tmp_path / 'better.pt'}", "--rounds=0") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "better.pt cannot be written (No space left on device)" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "model.pt"]


def test_target_header_and_loss(files, tmp_path: Path, capsys: Captured) -> None:
    X, y = data()
    bare = tmp_path / "bare.csv"
    with bare.open("w", newline="") as stream:
        rows = np.column_stack([np.sign(y), X])
        csv.writer(stream, delimiter=";").writerows(rows)
    options = ("--no-header", "--target=0", "--delimiter=;", "--loss=logistic")
    assert certify((files[0], str(bare)), *options) == 0
    expected = cl.certify(network(), X, np.sign(y), beta=BETA, loss="logistic")
    printed = lines(capsys)
    assert float(printed["objective"].split()[0]) == pytest.approx(expected.primal, rel=1e-8)
    assert "(logistic loss)" in printed["objective"]
    bare.write_text(bare.read_text().replace(";", "\t"))
    assert certify((files[0], str(bare)), *options[:2], r"--delimiter=\t", options[3]) == 0
    assert lines(capsys) == printed


def test_the_path_norm_and_deeper_networks(files, tmp_path: Path, capsys: Captured) -> None:
    plain = tmp_path / "plain.pt"
    torch.save(network(last_bias=False).state_dict(), plain)
    assert certify((str(plain), files[1]), "--regularizer=path") == 0
    assert "(0.3 x path)" in lines(capsys)["objective"]
    generator = torch.Generator().manual_seed(0)
    deep = {
        f"{2 * k}.weight": 0.5 * torch.randn(shape, generator=generator)
        for k, shape in enumerate([(2, 2), (1, 2), (1, 1)])
    }
    torch.save(deep, plain)
    assert certify((str(plain), files[1]), "--regularizer=path") == 0
    printed = lines(capsys)
    assert printed["network"] == (
        "Linear(2, 2) -> ReLU -> Linear(2, 1) -> ReLU -> Linear(1, 1), no biases, float32"
    )
    assert "missing" not in printed
    assert (
        certify((str(plain), files[1]), f"--polish={tmp_path / 'x.pt'}", "--regularizer=path") == 2
    )
    assert "polish improves two-layer networks" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target=third",), "has no column 'third'"),
        (("--loss=logistic",), "are not labels"),
        (("--tol=-1",), "expected a relative gap"),
        (("--regularizer=path",), "output bias, which lies on no path"),
        (("--device=abacus",), "device 'abacus' cannot be used"),
        (("--polish=/nowhere/x.pt",), "cannot be written"),
        (("--polish=/",), "it is a directory"),
        (("--max-nodes=x",), None),
        (("--beta=0",), "beta > 0"),
        (("--beta=nan",), "finite"),
        (("--rounds=-1", "--polish=x.pt"), "rounds is -1"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], message: str | None, files, capsys: Captured,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if message is None:
        with pytest.raises(SystemExit) as caught:
            certify(files, *arguments)
        assert caught.value.code == 2
        return
    assert certify(files, *arguments) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


LOOKALIKES = {
    "tanh": nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)),
    "leaky": nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(), nn.Linear(3, 1)),
    "behind the last layer": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU()),
    "relu": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_weights_without_a_graph_are_certified_only_as_what_they_are_said_to_be(
    name: str, files, tmp_path: Path, capsys: Captured
) -> None:
    """All four files have the same keys."""
    path = tmp_path / "other.pt"
    torch.save(LOOKALIKES[name].state_dict(), path)
    assert cli.main(["certify", str(path), files[1], f"--beta={BETA}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "say so with --activation relu" in captured.err
    assert cli.main(["certify", str(path), files[1], "--beta=1", "--activation=relu"]) == 0
    assert "Linear(2, 3) -> ReLU -> Linear(3, 1)," in capsys.readouterr().out


def test_networks_of_the_library_say_themselves_what_they_are(files, tmp_path: Path) -> None:
    own = cl.TwoLayerReLU(torch.ones(2, 2), torch.ones(2))
    torch.save(own.state_dict(), tmp_path / "own.pt")
    assert cli.main(["certify", str(tmp_path / "own.pt"), files[1], f"--beta={BETA}"]) == 0


def test_a_network_for_other_data_is_refused(files, tmp_path: Path, capsys: Captured) -> None:
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,y\n1,2\n3,4\n")
    assert certify((files[0], str(narrow))) == 2
    assert "takes 2 features but X has shape (2, 1)" in capsys.readouterr().err


def test_more_digits_than_a_float_has_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(PLAIN.state_dict(), tmp_path / "model.pt")
    (tmp_path / "data.csv").write_text("a,b,y\n1,2,3\n2,1,0\n")
    words = ["certify", str(tmp_path / "model.pt"), str(tmp_path / "data.csv"), "--beta=0.1"]
    words.append("--activation=relu")
    assert cli.main([*words, "--digits=99"]) == 2
    assert "--digits is 99; expected at most 17" in capsys.readouterr().err
    assert cli.main([*words, "--digits=17"]) == 0
