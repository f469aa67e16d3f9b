"""Graphs from files: what is read, what is refused by name, and that no code runs."""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from convexlib.cli.models import load_model
from convexlib.errors import DataError, InputError
from tests.helpers.files import check_read_or_refused

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Two layers, with a forward of the test."""

    def __init__(self, forward: Forward, **others: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.drop = nn.Linear(3, 4), nn.Linear(4, 1), nn.Dropout()
        for name, part in others.items():
            setattr(self, name, part)
        self.how = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.how(self, x)


def plain(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.fc2(F.relu(net.fc1(x)))


def saved(path: Path, network: nn.Module, rows: int | None = None, prepare=None) -> Path:
    """Export for a number of rows, or for any."""
    dtype = next(network.parameters()).dtype
    shapes = None if rows else ({0: torch.export.Dim("rows")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch uses what torch has deprecated
        program = torch.export.export(
            network, (torch.ones(rows or 5, 3, dtype=dtype),), dynamic_shapes=shapes
        )
        torch.export.save(prepare(program) if prepare else program, path)
    return path


def same_outputs(read: nn.Module, network: nn.Module) -> bool:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    kind = next(network.parameters()).dtype
    expected = network(x.to(kind)).detach().reshape(5, -1).double()
    found = read(x.to(kind).to(next(read.parameters()))).detach().double()
    return torch.allclose(found, expected, rtol=0, atol=4 * torch.finfo(kind).eps)


EXPORTED = {
    "functions": plain,
    "dropout": lambda net, x: net.fc2(net.drop(F.relu(net.fc1(x)))),
    "flatten": lambda net, x: net.fc2(net.fc1(x.flatten(1)).relu()),
    "view": lambda net, x: net.fc2(net.fc1(x.view(x.size(0), -1)).relu()),
    "columns": lambda net, x: net.fc2(net.fc1(x.reshape(-1, 3)).relu()),
    "squeeze": lambda net, x: net.fc2(net.fc1(x).clamp(min=0)).squeeze(-1),
    "matrices": lambda net, x: (x @ net.fc1.weight.T + net.fc1.bias).relu() @ net.fc2.weight.t()
    + net.fc2.bias,
}  # fmt: skip


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_is_read(name: str, rows: int | None, tmp_path: Path) -> None:
    network = Net(EXPORTED[name]).eval()
    model = load_model(saved(tmp_path / "m.pt2", network, rows))
    assert [type(layer) for layer in model.network] == [nn.Linear, nn.ReLU, nn.Linear]
    assert same_outputs(model.network, network)
    assert model.source == "from fc1, fc2 in the graph of torch.export, float32 weights"


@pytest.mark.parametrize("rows", [None, 5])
def test_its_lower_operations_are_read_too(rows: int | None, tmp_path: Path) -> None:
    network = Net(EXPORTED["dropout"]).eval()
    path = saved(tmp_path / "m.pt2", network, rows, lambda program: program.run_decompositions())
    assert same_outputs(load_model(path).network, network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_in_any_format_are_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    network = Net(plain).to(dtype)
    model = load_model(saved(tmp_path / "m.pt2", network))
    for key, value in model.network.state_dict().items():
        given = network.state_dict()[{"0": "fc1", "2": "fc2"}[key[0]] + key[1:]]
        assert value.dtype == torch.float64
        assert torch.equal(value, given.double())
    kind = str(dtype).removeprefix("torch.")
    exact = "" if kind == "float64" else ", taken exactly as float64"
    assert model.source.endswith(f"torch.export, {kind} weights{exact}")


def tied() -> Net:
    network = Net(lambda net, x: net.fc2(F.relu(net.same(F.relu(net.fc1(x))))))
    network.fc1, network.same, network.fc2 = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
    network.same.weight = network.fc1.weight
    return network


REFUSED = {
    "tanh": (Net(lambda net, x: net.fc2(torch.tanh(net.fc1(x)))), "operation tanh;.*Only piecew"),
    "leaky": (Net(lambda net, x: net.fc2(F.leaky_relu(net.fc1(x)))), "operation leaky_relu"),
    "gelu": (Net(lambda net, x: net.fc2(F.gelu(net.fc1(x)))), "operation gelu"),
    "capped": (Net(lambda net, x: net.fc2(net.fc1(x).clamp(0, 1))), "operation clamp in a form"),
    "from above": (Net(lambda net, x: net.fc2(net.fc1(x).clamp(max=0))), "ation clamp in a form"),
    "scaled": (Net(lambda net, x: 2 * plain(net, x)), "operation mul;"),
    "shifted": (Net(lambda net, x: plain(net, x) + 1), "operation add in a form"),
    "skip": (Net(lambda net, x: net.fc2(F.relu(net.fc1(x)) + net.fc1(x))), "the graph is no chain"),
    "last axis": (Net(lambda net, x: F.softmax(plain(net, x), 1)), "operation softmax;"),
    "normalised": (Net(lambda net, x: net.fc2(net.norm(net.fc1(x)).relu()),
                       norm=nn.BatchNorm1d(4)).eval(), "operation batch_norm;.*only Linear -> B"),
    "layer norm": (Net(lambda net, x: net.fc2(net.norm(net.fc1(x)).relu()),
                       norm=nn.LayerNorm(4)), "operation layer_norm;.*only Linear -> Batch"),
    "training": (Net(EXPORTED["dropout"]).train(), r"Dropout in training.*network\.eval\(\)"),
    "tied": (tied(), r"uses (fc1|same)\.weight twice"),
    "two tensors": (Net(lambda net, x: [(y, y.relu()) for y in [plain(net, x)]][0]),
                    "returns 2 tensors; expected one"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_refused_by_name(name: str, tmp_path: Path) -> None:
    network, message = REFUSED[name]
    with pytest.raises(InputError, match=rf"m\.pt2: .*({message})"):
        load_model(saved(tmp_path / "m.pt2", network))


def test_options_for_weights_are_refused_for_graphs(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt2", Net(plain))
    with pytest.raises(InputError, match="--layers is for weights alone; this file has a graph"):
        load_model(path, layers=["fc1", "fc2"])
    assert same_outputs(load_model(path, "relu").network, Net(plain))


# --- The archive itself: other versions, damage, and what would run code ---


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files in an archive."""
    path = saved(tmp_path_factory.mktemp("exported") / "m.pt2", Net(plain))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def graph_of(files: dict[str, bytes]) -> str:
    """The name of the file with the graph."""
    return next(name for name in files if name.endswith(("/model.json", "exported_program.json")))


def test_the_archives_of_older_versions(exported: dict[str, bytes], tmp_path: Path) -> None:
    weights = io.BytesIO()
    torch.save(Net(plain).state_dict(), weights)
    graph = exported[graph_of(exported)]
    for names in (
        ("serialized_exported_program.json", "serialized_state_dict.pt"),  # of torch 2.6
        ("m/models/model.json", "m/data/weights/model.pt"),  # which torch still reads
    ):
        files = dict(zip(names, (graph, weights.getvalue()), strict=True))
        model = load_model(packed(tmp_path / "m.pt2", files))
        assert same_outputs(model.network, Net(plain))


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_no_code_is_run(exported: dict[str, bytes], tmp_path: Path) -> None:
    """`torch.export.load` unpickles samples and some weights, and evaluates sizes."""
    mark, stream = tmp_path / "was_run", io.BytesIO()
    torch.save(Bomb(mark), stream)
    bomb, path = stream.getvalue(), tmp_path / "m.pt2"
    graph = graph_of(exported)
    text = exported[graph].decode()
    evil = text.replace("Symbol('", f"__import__('os').mkdir('{mark}') or Symbol('")
    assert evil != text
    harmless = {**exported, graph: evil.encode(), "m/data/sample_inputs/model.pt": bomb}
    assert same_outputs(load_model(packed(path, harmless)).network, Net(plain))
    for names in (
        ("serialized_exported_program.json", "serialized_state_dict.pt"),
        ("m/models/model.json", "m/data/weights/model.pt"),
    ):
        files = dict(zip(names, (exported[graph], bomb), strict=True))
        with pytest.raises(InputError, match="pickled object .*mkdir.*would run code"):
            load_model(packed(path, files))
    listed = [name for name in exported if name.endswith("weights_config.json")]
    for name in listed:  # of newer versions
        changed = exported[name].replace(b'"use_pickle": false', b'"use_pickle": true')
        files = {key: bomb if "/weights/weight_" in key else one for key, one in exported.items()}
        with pytest.raises(InputError, match="not stored as floating-point numbers"):
            load_model(packed(path, {**files, name: changed}))
    assert not mark.exists()


def change(program: dict, key: str) -> None:
    """Make a graph that another version could have."""
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    if key == "version":
        program["schema_version"]["major"] = 9
    elif key == "no graph":
        del program["graph_module"]["graph"]
    elif key == "inputs":
        signature["input_specs"].append(signature["input_specs"][-1])
    elif key == "another library":
        graph["nodes"][1]["target"] = "torch.ops.mine.relu.default"
    elif key == "a private word":
        graph["nodes"][1]["target"] = "torch.ops.aten.use.default"
    elif key == "a name":
        graph["nodes"][1]["inputs"][0]["arg"]["as_tensor"]["name"] = "nowhere"
    elif key == "convolution":
        graph["nodes"][0]["target"] = "torch.ops.aten.conv2d.default"
    elif key == "unused":
        del graph["nodes"][-1]["inputs"][-1]
    elif key == "a constant":
        signature["input_specs"][0] = {"tensor_constant": {}}


CHANGED = {
    "version": "torch.export has version 9; expected 8",
    "no graph": r"damaged, or of a version of torch\.export that is not known \(KeyError\)",
    "inputs": "takes 2 inputs; expected one",
    "another library": r"operation torch\.ops\.mine\.relu",
    "a private word": "operation use;",
    "a name": "no chain: relu does not take",
    "convolution": "operation conv2d;.*Only fully connected layers are read",
    "unused": r"fc2\.bias of the graph takes no part in the outputs",
    "a constant": "operation linear in a form",
}


@pytest.mark.parametrize("key", CHANGED)
def test_graphs_of_another_kind(key: str, exported: dict[str, bytes], tmp_path: Path) -> None:
    name = graph_of(exported)
    program = json.loads(exported[name])
    change(program, key)
    files = {**exported, name: json.dumps(program).encode()}
    with pytest.raises(InputError, match=CHANGED[key]):
        load_model(packed(tmp_path / "m.pt2", files))


def test_several_graphs_and_too_many_weights(exported: dict[str, bytes], tmp_path: Path) -> None:
    path, name = tmp_path / "m.pt2", graph_of(exported)
    with pytest.raises(InputError, match="holds 2 graphs; expected one"):
        load_model(packed(path, {**exported, "m/models/second.json": exported[name]}))
    for listed in [key for key in exported if key.endswith("weights_config.json")]:
        text = exported[listed].replace(
            b'"sizes": [{"as_int": 4}', b'"sizes": [{"as_int": 99999999}'
        )
        with pytest.raises(InputError, match="more than 256 MB of weights"):
            load_model(packed(path, {**exported, listed: text}))
    for order in [key for key in exported if key.endswith("byteorder")]:
        with pytest.raises(InputError, match="big-endian"):
            load_model(packed(path, {**exported, order: b"big"}))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage(data: st.DataObject, exported: dict[str, bytes], tmp_path: Path) -> None:
    files = dict(exported)
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    files[name] = bytes(content[: data.draw(st.integers(0, len(content)))])
    check_read_or_refused(packed(tmp_path / "m.pt2", files))


# --- ONNX ---


def onnx_file(path: Path, nodes: list, weights: dict[str, np.ndarray], **options) -> Path:
    """An ONNX file from x to y."""
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra: pip install .[onnx]")
    shape = onnx.helper.make_tensor_value_info
    kinds = [onnx.helper.make_node(kind, *names, **more) for kind, *names, more in nodes]
    graph = onnx.helper.make_graph(
        kinds,
        "network",
        [shape(name, onnx.TensorProto.FLOAT, [None, 3]) for name in options.get("inputs", "x")],
        [shape("y", onnx.TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(one, name) for name, one in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", options.get("opset", 18))]
    model = onnx.helper.make_model(graph, opset_imports=opset)
    path.write_bytes(model.SerializeToString())
    return path


RNG = np.random.default_rng(0)
W1, B1 = RNG.standard_normal((4, 3)).astype("f"), RNG.standard_normal(4).astype("f")
W2, B2 = RNG.standard_normal((1, 4)).astype("f"), RNG.standard_normal(1).astype("f")
WEIGHTS = {"fc1.weight": W1, "fc1.bias": B1, "fc2.weight": W2, "fc2.bias": B2}
GEMM = {"transB": 1}
FIRST = ("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], GEMM)
SECOND = ("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], GEMM)
RELU = ("Relu", ["h"], ["a"], {})
ZERO = np.array(0.0, dtype="f")
READ = {
    "torch": ([FIRST, RELU, SECOND], WEIGHTS),
    "matrices": (
        [("MatMul", ["x", "W"], ["m"], {}), ("Add", ["b", "m"], ["h"], {}), RELU,
         ("MatMul", ["a", "V"], ["n"], {}), ("Add", ["n", "c"], ["y"], {})],
        {"W": W1.T.copy(), "b": B1, "V": W2.T.copy(), "c": B2},
    ),
    "around": (
        [("Flatten", ["x"], ["f"], {"axis": 1}), ("Identity", ["f"], ["i"], {}),
         ("Gemm", ["i", "fc1.weight", "fc1.bias"], ["h"], GEMM), ("Relu", ["h"], ["r"], {}),
         ("Dropout", ["r"], ["a"], {}), ("Gemm", ["a", "fc2.weight", "fc2.bias"], ["z"], GEMM),
         ("Squeeze", ["z", "axes"], ["y"], {})],
        WEIGHTS | {"axes": np.array([-1])},
    ),
    "reshaped": (
        [("Reshape", ["x", "shape"], ["f"], {}),
         ("Gemm", ["f", "fc1.weight", "fc1.bias"], ["h"], GEMM), RELU, SECOND],
        WEIGHTS | {"shape": np.array([0, -1])},
    ),
    "clip": ([FIRST, ("Clip", ["h", "zero"], ["a"], {}), SECOND], WEIGHTS | {"zero": ZERO}),
    "max": ([FIRST, ("Max", ["h", "zero"], ["a"], {}), SECOND], WEIGHTS | {"zero": ZERO}),
    "constant": (
        [("Transpose", ["W"], ["U"], {}), ("Gemm", ["x", "U", "fc1.bias"], ["h"], GEMM), RELU,
         SECOND],
        {"W": W1.T.copy(), **{key: WEIGHTS[key] for key in ("fc1.bias", "fc2.weight", "fc2.bias")}},
    ),
}  # fmt: skip


def same_as_weights(network: nn.Module) -> bool:
    x = RNG.standard_normal((5, 3))
    expected = np.maximum(x @ W1.T + B1, 0) @ W2.T + B2
    found = network.double()(torch.from_numpy(x)).detach().numpy()
    return np.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", READ)
def test_an_onnx_network_is_read(name: str, tmp_path: Path) -> None:
    model = load_model(onnx_file(tmp_path / "m.onnx", *READ[name]))
    assert [type(layer) for layer in model.network] == [nn.Linear, nn.ReLU, nn.Linear]
    assert same_as_weights(model.network)
    assert model.source.endswith("in the graph of an ONNX file, float32 weights")


def test_onnx_weights_in_short_formats_are_exact(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    half = {name: one.astype(np.float16) for name, one in WEIGHTS.items()}
    model = load_model(onnx_file(tmp_path / "m.onnx", [FIRST, RELU, SECOND], half))
    assert np.array_equal(model.network[0].weight.detach().numpy(), half["fc1.weight"])
    assert model.source.endswith("float16 weights, taken exactly as float64")
    short = {name: torch.from_numpy(one).bfloat16() for name, one in WEIGHTS.items()}
    path = onnx_file(tmp_path / "m.onnx", [FIRST, RELU, SECOND], WEIGHTS)
    stored = onnx.load(path)
    for place, tensor in enumerate(stored.graph.initializer):
        tensor.data_type = onnx.TensorProto.BFLOAT16
        bits = short[tensor.name].view(torch.int16).numpy()
        tensor.raw_data = bits.tobytes()
        if place % 2:  # the other way in which the format has them
            tensor.ClearField("raw_data")
            tensor.int32_data.extend(bits.ravel().view(np.uint16).tolist())
    path.write_bytes(stored.SerializeToString())
    model = load_model(path)
    for place, name in ((0, "fc1"), (2, "fc2")):
        assert torch.equal(model.network[place].weight, short[f"{name}.weight"].double())
        assert torch.equal(model.network[place].bias, short[f"{name}.bias"].double())
    assert model.source.endswith("bfloat16 weights, taken exactly as float64")
    whole = {name: one.astype(np.int8) for name, one in WEIGHTS.items()}
    with pytest.raises(InputError, match=r"fc1\.weight has dtype INT8; expected FLOAT.*quantised"):
        load_model(onnx_file(tmp_path / "m.onnx", [FIRST, RELU, SECOND], whole))


def act(kind: str, **more: float) -> list:
    return [FIRST, (kind, ["h"], ["a"], more), SECOND]


ONNX_REFUSED = {
    "tanh": (act("Tanh"), {}, "operation Tanh;.*Only piecewise linear"),
    "leaky": (act("LeakyRelu", alpha=0.1), {}, "operation LeakyRelu;.*Mirrors"),
    "gelu": (act("Gelu"), {"opset": 20}, "operation Gelu"),
    "own": (act("Relu", domain="mine"), {}, r"operation mine\.Relu"),
    "skip": ([FIRST, RELU, ("Add", ["a", "h"], ["b"], {}), SECOND], {}, "is no chain: Add"),
    "scaled": ([("Gemm", ["x", "fc1.weight"], ["h"], GEMM | {"alpha": 2.0}), RELU, SECOND], {},
               "operation Gemm"),
    "turned data": ([("Gemm", ["x", "fc1.weight"], ["h"], {"transA": 1}), RELU, SECOND], {},
                    "operation Gemm"),
    "training": ([FIRST, RELU, ("Dropout", ["a", "", "yes"], ["b"], {}),
                  ("Gemm", ["b", "fc2.weight", "fc2.bias"], ["y"], GEMM)], {}, "Dropout in train"),
    "capped": ([FIRST, ("Clip", ["h", "zero", "one"], ["a"], {}), SECOND], {}, "Clip in a form"),
    "other maximum": ([FIRST, ("Max", ["h", "one"], ["a"], {}), SECOND], {}, "operation Max"),
    "merged rows": ([("Reshape", ["x", "flat"], ["f"], {}), RELU, SECOND], {}, "Reshape in a form"),
    "two inputs": ([FIRST, RELU, SECOND], {"inputs": ("x", "z")}, "has 2 inputs and 1 outputs"),
    "old": ([FIRST, RELU, SECOND], {"opset": 6}, "operations of version 6; expected .* version 7"),
    "twice": ([("Gemm", ["x", "S"], ["h"], {}), RELU, ("Gemm", ["a", "S"], ["y"], {})], {},
              "uses S twice"),
    "nowhere": ([("Gemm", ["x", "missing"], ["h"], GEMM), RELU, SECOND], {}, "operation Gemm"),
    "not turned": ([("Transpose", ["S"], ["T"], {"perm": [0, 1]}),
                    ("Gemm", ["x", "T"], ["h"], {}), RELU, SECOND], {}, "operation Transpose"),
    "computed": ([("Mul", ["fc1.weight", "one"], ["w"], {}),
                  ("Gemm", ["x", "w", "fc1.bias"], ["h"], GEMM), RELU, SECOND], {}, "ration Mul"),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX_REFUSED)
def test_other_onnx_graphs_are_refused_by_name(name: str, tmp_path: Path) -> None:
    nodes, options, message = ONNX_REFUSED[name]
    others = {"one": np.array(1.0, dtype="f"), "zero": ZERO, "yes": np.array(True),
              "flat": np.array([1, -1]), "S": np.ones((3, 3), dtype="f")}  # fmt: skip
    path = onnx_file(tmp_path / "m.onnx", nodes, WEIGHTS | others, **options)
    with pytest.raises(InputError, match=rf"m\.onnx: .*({message})"):
        load_model(path)


def beside(path: Path, location: str) -> Path:
    """The same network with its first weights in another file, as torch writes them."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file(path, [FIRST, RELU, SECOND], WEIGHTS))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4"), ("length", str(W1.nbytes))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    path = beside(tmp_path / "m.onnx", "m.onnx.data")
    with pytest.raises(DataError, match=r"the file of weights .*m\.onnx\.data cannot be read"):
        load_model(path)
    (tmp_path / "m.onnx.data").write_bytes(b"skip" + W1.tobytes())
    assert same_as_weights(load_model(path).network)
    (tmp_path / "m.onnx.data").write_bytes(b"skip")
    with pytest.raises(InputError, match="damaged, or no ONNX file"):
        load_model(path)
    for elsewhere in ("../secret", "/etc/passwd", "a/b"):
        with pytest.raises(InputError, match="expected a file beside it"):
            load_model(beside(path, elsewhere))


def test_what_is_no_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "m.onnx"
    for content in (b"x", b"\x08\x07", bytes(range(200))):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"m\.onnx: it (is damaged|has operations of version)"):
            load_model(path)


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="not installed; expected pip install onnx"):
        load_model(path)
