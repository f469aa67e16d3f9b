"""Weights from files: what is read, what is refused in one line, and that no code runs."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import convexlib as cl
from convexlib.cli.models import load_model
from convexlib.cli.weights import build
from convexlib.errors import ConvexlibError, DataError, InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU
from tests.helpers.files import check_read_or_refused


def sequential(*sizes: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, narrow in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(wide, narrow, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


OWN = {
    "two layers": TwoLayerReLU(torch.randn(4, 2), torch.randn(4)),
    "gated": TwoLayerGatedReLU(torch.randn(4, 2), torch.randn(4), torch.randn(4, 2)),
    "parallel": cl.ParallelReLU(torch.randn(3, 2, 2), [torch.randn(3, 1, 2)], torch.randn(3)),
    "sequential": sequential(2, 5, 1),
    "no biases": sequential(2, 5, 1, bias=False).double(),
    "first bias": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False)),
    "deep": sequential(2, 5, 4, 1, bias=False),
}


@pytest.mark.parametrize("name", OWN)
def test_a_network_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    network = OWN[name]
    model = load_model(saved(tmp_path / "m.pt", network.state_dict()), "relu")
    again = model.network
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    assert model.source.endswith(f", {dtype} weights")
    assert type(again) is type(network)
    state = again.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    X = torch.randn(7, 2).to(next(network.parameters()))
    assert torch.equal(again(X), network(X))


def test_reading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", sequential(2, 5, 1).state_dict())
    before = torch.get_rng_state()
    load_model(path, "relu")
    assert torch.equal(torch.get_rng_state(), before)


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["torch", "inside", "plain"])
def test_no_code_is_run(kind: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "was_run", tmp_path / "m.pt"
    if kind == "plain":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        bomb = Bomb(mark)
        torch.save({"0.weight": bomb} if kind == "inside" else bomb, path)
    with pytest.raises(InputError, match=r"state_dict"):
        load_model(path)
    assert not mark.exists()


class Own(nn.Module):
    """A class that is no part of torch."""


def layers(*shapes: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Weights of these shapes (outputs, inputs), named a, b, c, ..."""
    return {f"{chr(97 + place)}.weight": torch.ones(shape) for place, shape in enumerate(shapes)}


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))


REFUSED = {
    "whole": (sequential(2, 3, 1), r"pickled object \(torch\.nn\.modules.*torch\.save\(network"),
    "own class": (Own(), "pickled object .*Own"),
    "tensor": (torch.ones(2, 2), "holds a Tensor; expected a state_dict"),
    "list": ([1, 2], "holds a list"),
    "empty": ({}, "it is empty"),
    "empty checkpoint": ({"model": {}}, "it is empty"),
    "two checkpoints": ({"model": {}, "state_dict": {}}, "under 'state_dict' and 'model'; exp"),
    "text": ({"0.weight": "a"}, "'0.weight' is no dense tensor"),
    "number key": ({0: torch.ones(1)}, "'0' is no dense tensor"),
    "sparse": ({"0.weight": torch.eye(2).to_sparse()}, "no dense tensor"),
    "meta": ({"0.weight": torch.ones(2, 2, device="meta")}, "no dense tensor"),
    "other names": ({"W1": torch.ones(2, 2)}, r"the keys are W1; expected a state_dict of Linear"),
    "unordered": ({"W1": torch.ones(2, 2)}, r"save the Linear layers in order: nn\.Sequential"),
    "many names": ({f"x{i}": torch.ones(1) for i in range(12)}, "and 4 more; expected"),
    "normalised": (normed().state_dict(), r"batch normalisation, whose eps is not in a state_dict "
                   r"\(1\.running_mean\);.*call convexlib\.certify from Python"),
    "layer norm": (layers((3, 2), (1, 3)) | {"n.weight": torch.ones(3), "n.bias": torch.ones(3)},
                   r"n\.weight has shape \(3,\).*looks like a normalisation or PReLU"),
    "convolution": ({"conv.weight": torch.ones(4, 1, 3, 3), "fc.weight": torch.ones(1, 4)},
                    r"conv\.weight has shape \(4, 1, 3, 3\).*looks like a convolution"),
    "weight norm": ({"fc.weight_g": torch.ones(2, 1), "fc.weight_v": torch.ones(2, 2)},
                    "are parametrised: call remove_parametrizations"),
    "recurrent": ({"rnn.weight_ih_l0": torch.ones(4, 2)}, "the keys are rnn.weight_ih_l0"),
    "nan": ({"U": torch.full((2, 2), torch.nan), "alpha": torch.ones(2)}, "U contains 4 weights"),
    "integer": ({"0.weight": torch.ones(2, 2).long()}, r"torch\.int64; expected floating-point"),
    "quantised": ({"0.weight": torch.ones(2, 2).to(torch.int8)}, "before they are quantised"),
    "complex": ({"0.weight": torch.ones(2, 2) * 1j}, r"complex64; expected"),
    "shapes": ({"U": torch.ones(2, 2), "alpha": torch.ones(3)}, r"alpha \(3,\)"),
    "chain": (
        {"0.weight": torch.ones(3, 2), "2.weight": torch.ones(1, 4)},
        r"2\.weight has shape \(1, 4\); expected \(neurons, 3\), behind 0\.weight of shape \(3,",
    ),
    "bias": (
        {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(4), "2.weight": torch.ones(1, 3)},
        r"0\.bias has shape \(4,\); expected \(3,\), one per row of 0\.weight\.$",
    ),
    "transposed": (
        {"fc.weight": torch.ones(3, 2), "fc.bias": torch.ones(2), "out.weight": torch.ones(2, 1)},
        r"fc\.bias has shape \(2,\).*They fit if the matrices are transposed.*Save W\.T",
    ),
    "vector": ({"0.weight": torch.ones(3)}, r"0\.weight has shape \(3,\)"),
    "no neurons": ({"0.weight": torch.ones(0, 3)}, r"0\.weight has shape \(0, 3\).*at least 1"),
    "only bias": ({"0.bias": torch.ones(3)}, r"the keys are 0\.bias"),
    "inner": ({"U": torch.ones(1, 1, 1), "alpha": torch.ones(1), "inner.1": torch.ones(1)}, "keys"),
    "view": ({"U": torch.ones(1).expand(2**30), "alpha": torch.ones(1)}, "more than 256 MB of"),
    "no order": (layers((3, 2), (1, 4)), r"a\.weight \(3, 2\), b\.weight \(1, 4\) do not fit in"),
    "two orders": (layers((2, 2), (2, 2), (1, 2)), "several orders, a,b,c or b,a,c; expected one.*"
                   "--layers a,b,c"),
    "six orders": (layers((2, 2), (2, 2), (2, 2), (1, 2)), "or a,c,b,d and 4 more; expected one"),
    "too many": (layers(*[(2, 2)] * 9), "has 9 layers; expected at most 8.*--layers a,b,c,d,e,f,g"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_state_dict_is_refused_with_advice(name: str, tmp_path: Path) -> None:
    value, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load_model(saved(tmp_path / "m.pt", value), "relu")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module_.", "model.net.", ""])
@pytest.mark.parametrize("name", OWN)
def test_what_all_names_begin_with_tells_nothing(name: str, prefix: str, tmp_path: Path) -> None:
    network = OWN[name]
    state = {prefix + key: value for key, value in network.state_dict().items()}
    model = load_model(saved(tmp_path / "m.pt", {"epoch": 3, "model_state_dict": state}), "relu")
    assert type(model.network) is type(network)
    for key, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)
    first = prefix + ("0" if isinstance(network, nn.Sequential) else "U")
    assert model.source.startswith(f"from {first}, ")
    assert "of the checkpoint's 'model_state_dict', float" in model.source


class Named(nn.Module):
    """The commonest way to write a network; its layers are made in another order than used."""

    def __init__(self, d: int, m: int, c: int = 1) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(m, c), nn.Linear(d, m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))


def agrees(model: nn.Module, network: nn.Module, d: int) -> bool:
    x = torch.randn(7, d, generator=torch.Generator().manual_seed(0))
    return torch.equal(model(x), network(x))


def test_the_only_order_that_fits_is_taken(tmp_path: Path) -> None:
    network = Named(2, 5)
    path = saved(tmp_path / "m.pt", network.state_dict())
    model = load_model(path, "relu")
    assert agrees(model.network, network, 2)
    assert model.source == "from body, head, float32 weights"
    # By their shapes alone these may be 5 -> 1 -> 5 as well.
    network = Named(1, 5)
    path = saved(tmp_path / "m.pt", network.state_dict())
    with pytest.raises(InputError, match="several orders, head,body or body,head; expected one"):
        load_model(path, "relu")
    assert agrees(load_model(path, "relu", widths=(1, 1)).network, network, 1)
    assert agrees(load_model(path, "relu", widths=(1, None)).network, network, 1)
    assert agrees(load_model(path, "relu", ["body", "head"]).network, network, 1)
    assert load_model(path, "relu", ["head", "body"]).network[0].in_features == 5


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [("0 2 4", "0 2 4"), ("1 10 9", "1 9 10"), ("0.3 0.0 1", "0.0 0.3 1"), ("0 3 1", "0 1 3")],
)
def test_numbers_are_an_order(numbers: str, expected: str) -> None:
    """Of an nn.Sequential, with other layers between or nested, whose shapes fit in any order."""
    state = {f"net.{number}.weight": torch.randn(3, 3) for number in numbers.split()}
    network, names, _ = build(state, "relu")
    assert names == [f"net.{number}" for number in expected.split()]
    assert torch.equal(network[2].weight, state[f"{names[1]}.weight"])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["a"], "--layers is a; expected each of a,b once"),
        (["a", "b", "b"], "--layers is a,b,b; expected each"),
        (["a", "x"], "expected each of a,b once"),
        (["b", "a"], r"a\.weight has shape \(3, 2\); expected \(neurons, 1\), behind b\.weight"),
    ],
)
def test_layers_that_are_named_wrongly(named: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(layers((3, 2), (1, 3)), "relu", named)
    with pytest.raises(InputError, match="--layers is for Linear layers"):
        build(OWN["two layers"].state_dict(), None, named)


def test_matrices_of_the_other_kind_are_seen_by_the_data() -> None:
    """x @ W with W (inputs, outputs): read as Linear these would be 1 -> 3 -> 2."""
    state = layers((2, 3), (3, 1))
    with pytest.raises(InputError, match=r"\(3, 1\) do not fit in any order\. They fit if the mat"):
        build(state, "relu", widths=(2, 1))
    assert build(state, "relu", widths=(1, 2))[1] == ["b", "a"]
    with pytest.raises(InputError, match="They fit if the matrices are transposed"):
        build(layers((2, 3), (3, 3), (3, 4), (4, 1)), "relu", widths=(2, 1))


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ("float16", "float16 weights, taken exactly as float64"),
        ("bfloat16", "bfloat16 weights, taken exactly as float64"),
        ("bfloat16 float64", "bfloat16 and float64 weights, taken exactly as float64"),
        ("float16 float32", "float16 and float32 weights, taken exactly as float64"),
        ("float32", "float32 weights"),
        ("float64", "float64 weights"),
    ],
)
def test_short_and_mixed_formats_are_exact(kinds: str, said: str, tmp_path: Path) -> None:
    dtypes = [getattr(torch, kind) for kind in kinds.split()]
    state = sequential(2, 5, 1).state_dict()
    state = {key: one.to(dtypes[place % len(dtypes)]) for place, (key, one) in
             enumerate(state.items())}  # fmt: skip
    model = load_model(saved(tmp_path / "m.pt", state), "relu")
    assert model.source == f"from 0, 2, {said}"
    for key, value in model.network.state_dict().items():
        assert value.dtype == (dtypes[0] if "exactly" not in said else torch.float64)
        assert torch.equal(value.double(), state[key].double())


def test_what_lies_between_the_layers_has_to_be_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", Named(2, 5).state_dict())
    with pytest.raises(InputError, match=r"m\.pt: it holds the weights of 2 Linear layers.*Tanh"):
        load_model(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    torch.save(sequential(2, 3, 1).state_dict(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"zip format \(of torch 1\.6.*does not end in \.onnx"):
        load_model(old)
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:  # what torch.jit.save writes, by its names
        archive.writestr("archive/data.pkl", b"x")
        archive.writestr("archive/code/__torch__.py", b"x")
    with pytest.raises(InputError, match="TorchScript archive, which is code"):
        load_model(script)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(257 * 2**20))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(InputError, match="unpacks to more than 256 MB"):
        load_model(bomb)


PATHS = {
    "folder": (Path.mkdir, DataError, "is a directory"),
    "nothing": (lambda path: None, DataError, "No such file"),
    "a\0b": (lambda path: None, DataError, "cannot be read"),
    "pipe": (os.mkfifo, DataError, "not a regular file"),  # opening it would wait for ever
    "empty": (Path.touch, InputError, "is empty"),
}


@pytest.mark.parametrize("name", PATHS, ids=ascii)
def test_paths_that_are_no_files(name: str, tmp_path: Path) -> None:
    make, error, message = PATHS[name]
    make(tmp_path / name)
    with pytest.raises(error, match=message):
        load_model(tmp_path / name)


STREAM = io.BytesIO()
torch.save(sequential(2, 3, 1).state_dict(), STREAM)
GOOD = STREAM.getvalue()


@settings(max_examples=150)
@given(places=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=12),
       end=st.one_of(st.just(len(GOOD)), st.integers(1, len(GOOD))))  # fmt: skip
def test_any_damage(
    places: list[tuple[int, int]], end: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(GOOD)
    for place, byte in places:
        content[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(content[:end])
    check_read_or_refused(path, "relu")


NAMES = st.sampled_from(
    ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "1.weight", "U", "alpha", "gates",
     "inner.0", "inner.1", "01.weight", "x", "", "0.running_mean", "1.num_batches_tracked",
     "a.weight", "a.bias", "b.weight", "m.U", "m.alpha", ".weight"]
)  # fmt: skip
SHAPES = st.lists(st.integers(0, 3), max_size=3)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    tensor = torch.ones(draw(SHAPES), dtype=torch.float64)
    value = draw(st.sampled_from([1.0, -2.0, 0.0, np.nan, np.inf, 1e300]))
    return (value * tensor).to(draw(DTYPES))


@settings(max_examples=200)
@given(state=st.dictionaries(NAMES, tensors(), max_size=5))
def test_any_state_dict(state: dict[str, torch.Tensor]) -> None:
    try:
        network = build(OrderedDict(state), "relu")[0]
    except ConvexlibError as error:
        network, text = None, str(error)
    if network is None:
        assert len(text) < 2000
        return
    left = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    shapes = [tuple(value.shape) for value in network.state_dict().values()]
    assert sorted(shapes) == sorted(tuple(value.shape) for value in left)
