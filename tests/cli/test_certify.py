"""`convexlib certify`: what it prints, saves, and returns."""

import csv
import errno
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convexlib as cl
from convexlib.certify import polish
from convexlib.cli.models import load_model
from convexlib.errors import NotCertifiableError
from convexlib.solvers.base import Tracker
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
    assert printed["read as"] == (
        "Linear(2, 6) -> ReLU -> Linear(6, 1), biases in layers 1, 2, from 0, 2, float32 weights"
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
    better = load_model(out, "relu").network
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


@pytest.mark.parametrize("later", [False, True])
def test_an_interrupt_ends_it_and_leaves_nothing(
    later: bool, certify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One keystroke, in the certificate or in the polish, which the solver itself survives."""
    plain, strikes = Tracker.update, [1]

    def update(self, *args, **kwargs):
        if strikes and self.method == "generate" and (ready or not later):
            strikes.pop()
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    def polished(*args, **kwargs):
        ready.append(1)
        return polish(*args, **kwargs)

    ready: list[int] = []
    monkeypatch.setattr(Tracker, "update", update)
    monkeypatch.setattr("convexlib.cli.certify.polish", polished)
    code, printed, errors = certify(f"--polish={tmp_path / 'better.pt'}")
    assert (code, errors, strikes) == (130, ["convexlib: interrupted"], [])
    assert ("lower bound" in printed) is later
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
    assert printed["read as"] == (
        "Linear(2, 2) -> ReLU -> Linear(2, 1) -> ReLU -> Linear(1, 1), no biases, from 0, 2, 4, "
        "float32 weights"
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
        (("--device=abacus",), "device is 'abacus', which cannot hold float64"),
        (("--polish=/nowhere/x.pt",), "cannot be written"),
        (("--polish=/",), "it is a directory"),
        (("--beta=0",), "beta > 0"),
        (("--beta=nan",), "finite"),
        (("--rounds=-1", "--polish=x.pt"), "rounds is -1"),
        (("--rounds=3",), "got --rounds without --polish"),
        (("--digits=99",), "--digits is 99; expected at most 17"),
        (("--decimal=,",), "the decimal sign is ',' and the delimiter ','"),
        (("--layers=0",), "--layers is 0; expected each of 0,2 once"),
        (("--one-hot",), "one output; expected one for each class"),
        (("--target=first,goal",), "takes 2 inputs"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], message: str, certify, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, (error,) = certify(*arguments)
    assert code in (1, 2)
    assert "objective" not in printed
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
    assert printed["read as"].startswith("Linear(2, 3) -> ReLU -> Linear(3, 1),")


def test_networks_of_the_library_say_themselves_what_they_are(certify, tmp_path: Path) -> None:
    own = cl.TwoLayerReLU(torch.ones(2, 2), torch.ones(2))
    torch.save(own.state_dict(), tmp_path / "own.pt")
    code, printed, _ = certify(model=tmp_path / "own.pt", activation="")
    assert code == 0
    assert printed["read as"] == "TwoLayerReLU(d=2, neurons=2), from U, alpha, float32 weights"


class Net(nn.Module):
    """A network as they are mostly written."""

    def __init__(self, c: int = 1, activation=F.relu, last=nn.Identity()) -> None:  # noqa: B008
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(2, 4), nn.Linear(4, c)
        self.activation, self.last = activation, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.fc2(self.activation(self.fc1(x))))


def exported(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch uses what torch has deprecated
        torch.export.save(torch.export.export(network, (torch.ones(3, 2),)), path)
    return path


def test_what_was_read_and_from_where_is_printed(certify, tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    state = {f"_orig_mod.{key}": value.bfloat16() for key, value in Net().state_dict().items()}
    torch.save({"epoch": 1, "model_state_dict": state}, path)
    code, printed, _ = certify(model=path)
    assert code == 0
    assert printed["read as"] == (
        "Linear(2, 4) -> ReLU -> Linear(4, 1), biases in layers 1, 2, from _orig_mod.fc1, "
        "_orig_mod.fc2 of the checkpoint's 'model_state_dict', bfloat16 weights, taken exactly as "
        "float64"
    )
    objective = cl.certify(Net().bfloat16(), *data(), beta=BETA, refine=False).primal
    assert float(printed["objective"].split()[0]) == pytest.approx(objective, rel=1e-8)
    code, printed, _ = certify("--layers=_orig_mod.fc1,_orig_mod.fc2", model=path)
    assert code == 0
    code, _, (error,) = certify("--layers=fc1,fc2", model=path)
    assert code == 2
    assert "expected each of _orig_mod.fc1,_orig_mod.fc2 once" in error


def test_a_graph_says_itself_what_it_is(certify, tmp_path: Path) -> None:
    path = exported(tmp_path / "own.pt2", Net())
    code, printed, _ = certify(model=path, activation="")
    assert code == 0
    assert printed["read as"].endswith(
        "from fc1, fc2 in the graph of torch.export, float32 weights"
    )
    objective = cl.certify(Net(), *data(), beta=BETA, refine=False).primal
    assert float(printed["objective"].split()[0]) == pytest.approx(objective, rel=1e-8)


def several(path: Path) -> np.ndarray:
    """A table with two targets and a class, and the targets."""
    X, y = data()
    Y, kinds = np.column_stack([y, -X[:, 0]]), np.arange(len(X)) % 3
    write_table(path, [["a", "b", "y", "z", "kind"], *np.column_stack([X, Y, kinds])])
    return Y


def test_several_outputs_are_certified_together(certify, tmp_path: Path) -> None:
    model, table = tmp_path / "two.pt", tmp_path / "several.csv"
    Y = several(table)
    write_table(table, [["a", "y", "b", "z"], *np.column_stack([data()[0], Y])[:, [0, 2, 1, 3]]])
    torch.save(Net(2).state_dict(), model)
    code, printed, errors = certify("--target=y,z", model=model, table=table)
    assert (code, errors) == (0, [])
    expected = cl.certify(Net(2), data()[0], Y, beta=BETA)
    values = [float(word) for word in printed["objective"].split() if word[0].isdigit()][:3]
    assert values[0] == pytest.approx(expected.primal, rel=1e-8)
    assert values[1] + values[2] == pytest.approx(values[0], rel=1e-8)
    bound = float(printed["lower bound"].split(",")[0])
    assert bound == pytest.approx(expected.dual, rel=1e-6)
    assert printed["data"] == "12 rows, 2 features, targets y, z"
    assert printed["rigorous"].startswith("yes")
    assert "missing" not in printed
    out = tmp_path / "out.pt"
    code, printed, (error,) = certify("--target=y,z", f"--polish={out}", model=model, table=table)
    assert (code, printed, out.exists()) == (2, {}, False)
    assert "has 2 outputs; expected one with --polish" in error


@pytest.mark.parametrize(("loss", "other"), [("squared", 0.0), ("logistic", -1.0)])
def test_classes_are_a_target_each(loss: str, other: float, certify, tmp_path: Path) -> None:
    model, table = tmp_path / "three.pt", tmp_path / "classes.csv"
    X = data()[0]
    kinds = np.arange(len(X)) % 3
    write_table(table, [["a", "b", "kind"], *np.column_stack([X, kinds])])
    torch.save(Net(3).state_dict(), model)
    code, printed, _ = certify("--one-hot", f"--loss={loss}", model=model, table=table)
    assert code == 0
    Y = np.where(np.eye(3)[kinds] > 0, 1.0, other)
    expected = cl.certify(Net(3), X, Y, beta=BETA, loss=loss, refine=False).primal
    assert float(printed["objective"].split()[0]) == pytest.approx(expected, rel=1e-8)
    assert printed["data"].endswith("targets kind=0, kind=1, kind=2")


def test_decimal_commas_and_blanks(certify, tmp_path: Path) -> None:
    table = tmp_path / "data.txt"
    rows = [" ".join(f"{cell:9.4f}" for cell in row) for row in np.column_stack(data())]
    table.write_text("a  b c\n" + "\n".join(rows))
    code, point, _ = certify("--delimiter= ", table=table)
    assert code == 0
    table.write_text("a  b c\n" + "\n".join(rows).replace(".", ","))
    code, comma, _ = certify("--delimiter= ", "--decimal=,", table=table)
    assert code == 0
    assert comma == point


OTHERS = {
    "tanh": (torch.tanh, nn.Tanh(), nn.Identity()),
    "leaky": (F.leaky_relu, nn.LeakyReLU(), nn.Identity()),
    "gelu": (F.gelu, nn.GELU(), nn.Identity()),
    "behind the last": (F.relu, nn.ReLU(), nn.ReLU()),
}
ROADS = ("sequential", "class", "class of modules", "state_dict", "export", "onnx")


def onnx_file(path: Path, network: Net, name: str) -> Path:
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra: pip install .[onnx]")
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    kinds = {"tanh": "Tanh", "leaky": "LeakyRelu", "gelu": "Gelu", "behind the last": "Relu"}
    nodes = [
        ("Gemm", ["x", "fc1.weight", "fc1.bias"], "h"),
        (kinds[name], ["h"], "a"),
        ("Gemm", ["a", "fc2.weight", "fc2.bias"], "z"),
        ("Relu" if name == "behind the last" else "Identity", ["z"], "y"),
    ]
    helper, shape = onnx.helper, onnx.helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node(kind, given, [made], **({"transB": 1} if kind == "Gemm" else {}))
            for kind, given, made in nodes
        ],
        "network",
        [shape("x", onnx.TensorProto.FLOAT, [None, 2])],
        [shape("y", onnx.TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(one, key) for key, one in weights.items()],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    )
    return path


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_are_certified_by_no_road(
    name: str, road: str, certify, tmp_path: Path
) -> None:
    function, layer, last = OTHERS[name]
    network = Net(activation=layer if road == "class of modules" else function, last=last)
    if road == "sequential":
        network = nn.Sequential(network.fc1, layer, network.fc2, *[last] * (name[0] == "b"))
    if road in ("sequential", "class", "class of modules"):
        with pytest.raises(NotCertifiableError, match="operation|cannot certify"):
            cl.certify(network, *data(), beta=BETA)
        return
    path = tmp_path / ("other.pt2" if road == "export" else "other.pt")  # torch logs others
    if road == "state_dict":
        torch.save(network.state_dict(), path)
    elif road == "export":
        exported(path, network)
    else:
        path = onnx_file(tmp_path / "other.onnx", network, name)
    code, printed, (error,) = certify(model=path, activation="")
    assert (code, printed) == (2, {})
    said = "say so with --activation relu" if road == "state_dict" else "operation|cannot certify"
    assert re.search(said, error)


SHAPES = {
    "narrow": ("a,y\n1,2\n3,4\n5,6\n7,8\n", 1, r"takes 2 inputs, and .*csv has 1 column beside the "
               r"target \(y\); expected the inputs as the network saw them\.$"),
    "swapped": ("u,v,w,x\n1,2,3,4\n5,6,7,8\n", 1, "It has 2 rows: are they the features"),
    "more targets": ("a,b,y,z,v\n1,2,3,4,5\n", 3, "has 3 outputs: .* as in --target y,z,v"),
    "one target": ("a,b,y\n1,2,3\n", 3, r"has 3 outputs, and .* 1 target \(y\); expected one"),
    "no order": ("a,b,y,z\n1,2,3,4\n", 2, "several orders, .* None fits the columns of the table"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_network_for_other_data_is_refused(name: str, certify, tmp_path: Path) -> None:
    content, outputs, message = SHAPES[name]
    table, model = tmp_path / "other.csv", tmp_path / "own.pt"
    table.write_text(content)
    torch.save(Net(outputs).state_dict(), model)
    code, printed, (error,) = certify(table=table, model=model)
    assert (code, printed) == (2, {})
    assert re.search(message, error)
