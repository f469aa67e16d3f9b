"""`convexlib certify`: what it prints, saves, and returns."""

import csv
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl
from convexlib.cli.files import load_network
from tests.helpers.checks import network_objective
from tests.helpers.references import loss_value

Certify = Callable[..., tuple[int, dict[str, str], list[str]]]
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


def write_table(path: Path, rows: list, delimiter: str = ",") -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)


@pytest.fixture
def certify(run, tmp_path: Path) -> Certify:
    """Certify a float32 network, in files as others would hand them over.

    Returns the exit code, what was printed last under every name, and the lines on stderr.
    """
    model, table = tmp_path / "model.pt", tmp_path / "data.csv"
    torch.save(network().state_dict(), model)
    write_table(table, [["first", "second", "goal"], *np.column_stack(data())])

    def call(
        *words: str, model: Path = model, table: Path = table, activation: str = "relu"
    ) -> tuple[int, dict[str, str], list[str]]:
        said = [f"--activation={activation}"] if activation else []
        code, out, err = run("certify", str(model), str(table), f"--beta={BETA}", *said, *words)
        printed: dict[str, str] = {}
        name = ""
        for line in filter(None, out):
            if line.startswith(" "):  # it continues the one above
                printed[name] += line
            else:
                name = line[:13].strip()
                printed[name] = line[13:]
        return code, printed, err

    return call


def test_it_prints_the_objective_its_parts_and_the_missing_neuron(certify) -> None:
    code, printed, errors = certify()
    assert (code, errors) == (0, [])
    X, y = data()
    fitted = network()(torch.from_numpy(X).float()).detach().numpy()[:, 0]
    values = [float(word) for word in printed["objective"].split() if word[0].isdigit()][:3]
    assert values[0] == pytest.approx(network_objective(network(), X, y, BETA), rel=1e-8)
    assert values[1] == pytest.approx(loss_value("squared", fitted, y), rel=1e-5)
    assert values[1] + values[2] == pytest.approx(values[0], rel=1e-8)
    assert printed["network"] == (
        "Linear(2, 6) -> ReLU -> Linear(6, 1), biases in layers 1, 2, float32"
    )
    assert printed["data"] == "12 rows, 2 features, target goal"
    assert printed["rigorous"].startswith("yes: branch and bound")
    bound = float(printed["lower bound"].split(",")[0])
    assert bound == pytest.approx(cl.certify(network(), X, y, beta=BETA).dual, rel=1e-8)
    missing = cl.missing_neuron(network(), X, y, beta=BETA)
    for name, weight in zip(("first", "second", "bias"), missing.direction, strict=True):
        assert f"{name} {float(weight):+.4f}" in printed["missing"]
    assert f"reaches {missing.violation:.4f} beta" in printed["missing"]
    assert f"active on {missing.active} of 12 rows" in printed["missing"]
    assert f"lowers the objective by {missing.gain:.3g} at once" in printed["missing"]


def test_the_tolerance_decides_the_exit_code(certify) -> None:
    gap = cl.certify(network(), *data(), beta=BETA).relative_gap
    assert certify(f"--tol={gap * 1.01}", "--digits=17")[::2] == (0, [])
    code, _, (error,) = certify(f"--tol={gap * 0.99}")
    assert code == 1
    assert "(certified) misses --tol" in error


def test_polishing_saves_a_network_of_the_same_kind(certify, tmp_path: Path) -> None:
    out = tmp_path / "better.pt"
    code, printed, _ = certify(f"--polish={out}", "--tol=1e-5")
    assert code == 0
    better = load_network(out, "relu")
    assert better.state_dict().keys() == network().state_dict().keys()
    assert next(better.parameters()).dtype == torch.float32
    objective = network_objective(better, *data(), BETA)
    assert float(printed["objective"].split()[0]) == pytest.approx(objective, rel=1e-8)
    assert objective < network_objective(network(), *data(), BETA)
    code, printed, _ = certify("--tol=1e-5", "--target=goal", model=out)
    assert code == 0
    assert "no neuron that lowers it by 1e-09 of its value" in printed["missing"]
    assert {path.name for path in tmp_path.iterdir()} == {"better.pt", "data.csv", "model.pt"}


def test_a_full_disk_is_one_line_and_leaves_nothing(
    certify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    code, _, (error,) = certify(f"--polish={tmp_path / 'better.pt'}", "--rounds=0")
    assert code == 1
    assert "better.pt cannot be written (No space left on device)" in error
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", "model.pt"}


@pytest.mark.parametrize(("delimiter", "word"), [(";", ";"), ("\t", r"\t")])
def test_target_header_delimiter_and_loss(delimiter: str, word: str, certify, tmp_path) -> None:
    X, y = data()
    bare = tmp_path / "bare.csv"
    write_table(bare, np.column_stack([np.sign(y), X]), delimiter)
    options = ("--no-header", "--target=0", f"--delimiter={word}", "--loss=logistic")
    code, printed, _ = certify(*options, table=bare)
    assert code == 0
    expected = cl.certify(network(), X, np.sign(y), beta=BETA, loss="logistic").primal
    assert float(printed["objective"].split()[0]) == pytest.approx(expected, rel=1e-8)
    assert "(logistic loss)" in printed["objective"]


def test_the_path_norm_and_deeper_networks(certify, tmp_path: Path) -> None:
    path, out = tmp_path / "path.pt", tmp_path / "out.pt"
    torch.save(network(last_bias=False).state_dict(), path)
    code, printed, _ = certify("--regularizer=path", model=path)
    assert code == 0
    assert "(0.3 x path)" in printed["objective"]
    generator = torch.Generator().manual_seed(0)
    deep = {
        f"{2 * k}.weight": 0.5 * torch.randn(shape, generator=generator)
        for k, shape in enumerate([(2, 2), (1, 2), (1, 1)])
    }
    torch.save(deep, path)
    code, printed, (error,) = certify("--regularizer=path", f"--polish={out}", model=path)
    assert code == 2
    assert printed["network"] == (
        "Linear(2, 2) -> ReLU -> Linear(2, 1) -> ReLU -> Linear(1, 1), no biases, float32"
    )
    assert "missing" not in printed
    assert "polish improves two-layer networks" in error
    assert not out.exists()


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
        (("--beta=0",), "beta > 0"),
        (("--beta=nan",), "finite"),
        (("--rounds=-1", "--polish=x.pt"), "rounds is -1"),
        (("--digits=99",), "--digits is 99; expected at most 17"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], message: str, certify, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, (error,) = certify(*arguments)
    assert code in (1, 2)
    assert message in error


def test_weights_without_a_graph_are_certified_only_as_what_they_are_said_to_be(
    certify, tmp_path: Path
) -> None:
    """Its file has the keys of one with ReLU."""
    path = tmp_path / "other.pt"
    torch.save(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).state_dict(), path)
    code, printed, (error,) = certify(model=path, activation="")
    assert (code, printed) == (2, {})
    assert "say so with --activation relu" in error
    code, printed, _ = certify(model=path)
    assert code == 0
    assert printed["network"].startswith("Linear(2, 3) -> ReLU -> Linear(3, 1),")


def test_networks_of_the_library_say_themselves_what_they_are(certify, tmp_path: Path) -> None:
    own = cl.TwoLayerReLU(torch.ones(2, 2), torch.ones(2))
    torch.save(own.state_dict(), tmp_path / "own.pt")
    code, printed, _ = certify(model=tmp_path / "own.pt", activation="")
    assert code == 0
    assert printed["network"] == "2 -> 2 -> 1, no biases, float32"


def test_a_network_for_other_data_is_refused(certify, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,y\n1,2\n3,4\n")
    code, _, (error,) = certify(table=narrow)
    assert code == 2
    assert "takes 2 features but X has shape (2, 1)" in error
