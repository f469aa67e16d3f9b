"""Networks from files: what is read, what is refused in one line, and that no code runs."""

import csv
import io
import os
import pickle
import time
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
from convexlib.cli.files import build, load_network, load_table
from convexlib.errors import ConvexlibError, DataError, InputError
from convexlib.networks import TwoLayerGatedReLU, TwoLayerReLU


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
    again = load_network(saved(tmp_path / "m.pt", network.state_dict()), "relu")
    assert type(again) is type(network)
    state = again.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    X = torch.randn(7, 2).to(next(network.parameters()))
    assert torch.equal(again(X), network(X))


def test_reading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", sequential(2, 5, 1).state_dict())
    before = torch.get_rng_state()
    load_network(path, "relu")
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
        load_network(path)
    assert not mark.exists()


class Own(nn.Module):
    """A class that is no part of torch."""


REFUSED = {
    "whole": (sequential(2, 3, 1), r"pickled object \(torch\.nn\.modules.*torch\.save\(network"),
    "own class": (Own(), "pickled object .*Own"),
    "tensor": (torch.ones(2, 2), "holds a Tensor; expected the state_dict"),
    "list": ([1, 2], "holds a list"),
    "empty": ({}, "it is empty"),
    "checkpoint": ({"model_state_dict": sequential(2, 3, 1).state_dict()}, "checkpoint with the"),
    "text": ({"0.weight": "a"}, "'0.weight' is no dense tensor"),
    "number key": ({0: torch.ones(1)}, "'0' is no dense tensor"),
    "sparse": ({"0.weight": torch.eye(2).to_sparse()}, "no dense tensor"),
    "meta": ({"0.weight": torch.ones(2, 2, device="meta")}, "no dense tensor"),
    "other names": ({"fc1.weight": torch.ones(2, 2)}, r"the keys are fc1\.weight; expected"),
    "unordered": ({"fc1.weight": torch.ones(2, 2)}, r"save the layers in order: nn\.Sequential"),
    "many names": ({f"x{i}": torch.ones(1) for i in range(12)}, "and 4 more; expected"),
    "normalised": (
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1)).state_dict(),
        "batch normalisation, whose eps",
    ),
    "nan": ({"U": torch.full((2, 2), torch.nan), "alpha": torch.ones(2)}, "U contains 4 non-fin"),
    "half": ({"0.weight": torch.ones(2, 2).half()}, r"float16; expected torch\.float64"),
    "integer": ({"0.weight": torch.ones(2, 2).long()}, "int64; expected"),
    "mixed": ({"U": torch.ones(2, 2), "alpha": torch.ones(2).double()}, "several dtypes"),
    "shapes": ({"U": torch.ones(2, 2), "alpha": torch.ones(3)}, r"alpha \(3,\)"),
    "chain": (
        {"0.weight": torch.ones(3, 2), "2.weight": torch.ones(1, 4)},
        r"2\.weight has shape \(1, 4\); expected \(neurons, 3\)",
    ),
    "bias": (
        {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(2), "2.weight": torch.ones(1, 3)},
        r"0\.bias has shape \(2,\); expected \(3,\)",
    ),
    "vector": ({"0.weight": torch.ones(3)}, r"0\.weight has shape \(3,\)"),
    "gap": ({"0.weight": torch.ones(3, 2), "3.weight": torch.ones(1, 3)}, "the keys are 0.weight"),
    "only bias": ({"0.bias": torch.ones(3)}, r"the keys are 0\.bias"),
    "inner": ({"U": torch.ones(1, 1, 1), "alpha": torch.ones(1), "inner.1": torch.ones(1)}, "keys"),
    "view": ({"U": torch.ones(1).expand(2**30), "alpha": torch.ones(1)}, "more than 256 MB of"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_state_dict_is_refused_with_advice(name: str, tmp_path: Path) -> None:
    value, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load_network(saved(tmp_path / "m.pt", value))


def test_other_files_are_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    torch.save(sequential(2, 3, 1).state_dict(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"zip format \(of torch 1\.6"):
        load_network(old)
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:  # what torch.jit.save writes, by its names
        archive.writestr("archive/data.pkl", b"x")
        archive.writestr("archive/code/__torch__.py", b"x")
    with pytest.raises(InputError, match="TorchScript archive, which is code"):
        load_network(script)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(257 * 2**20))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(InputError, match="unpacks to more than 256 MB"):
        load_network(bomb)


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
        load_network(tmp_path / name)


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
    try:
        network = load_network(path, "relu")
    except ConvexlibError as error:
        network, text = None, str(error)
    if network is None:
        assert len(text) < 2000
    else:
        assert all(bool(torch.isfinite(p).all()) for p in network.parameters())


NAMES = st.sampled_from(
    ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "1.weight", "U", "alpha", "gates",
     "inner.0", "inner.1", "01.weight", "x", "", "0.running_mean", "1.num_batches_tracked"]
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
        network = build(OrderedDict(state), "relu")
    except ConvexlibError as error:
        network, text = None, str(error)
    if network is None:
        assert len(text) < 2000
        return
    left = {key for key in state if not key.endswith("num_batches_tracked")}
    assert set(network.state_dict()) == left


# --- Tables from files: what is read, and what is refused in one line ---


@pytest.fixture
def file(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "d.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_the_last_column_is_the_target(file) -> None:
    table = load_table(file("a,b,y\n1,2,3\n-4.5,5e-1, 6 \n"))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [-4.5, 0.5]])
    np.testing.assert_array_equal(table.y, [3.0, 6.0])
    assert table.features == ("a", "b")
    assert table.target == "y"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b,y\r\n1,2,3\r\n",  # a byte order mark, as spreadsheets write it
        b'"a","b","y"\n"1","2","3"',
        b"\n\na,b,y\n\n1,2,3\n,,\n",
        b"a;b;y\n1;2;3\n",
        b"a\tb\ty\n1\t2\t3\n",
    ],
)
def test_the_same_table_in_other_files(content: bytes, file) -> None:
    delimiter = next((mark for mark in ";\t" if mark.encode() in content), ",")
    table = load_table(file(content), "b", delimiter=delimiter)
    np.testing.assert_array_equal(table.X, [[1.0, 3.0]])
    np.testing.assert_array_equal(table.y, [2.0])
    assert table.features == ("a", "y")


def test_columns_without_names_have_numbers_and_one_may_be_called_last(file) -> None:
    table = load_table(file("1,2,3\n4,5,6\n"), "0", header=False)
    np.testing.assert_array_equal(table.y, [1.0, 4.0])
    assert table.features == ("1", "2")
    table = load_table(file("last,b\n1,2\n"))
    np.testing.assert_array_equal(table.y, [1.0])
    assert table.target == "last"


REFUSED_TABLES = {
    "no header": ("1,2\n3,4\n", "first line of .* all numbers.*--no-header"),
    "only a header": ("a,b\n", "has a header and no rows"),
    "blank": (" \n,\n", "no lines but blank ones"),
    "one column": ("a\n1\n", "has one column"),
    "wrong mark": (
        "a;b\n1;2\n",
        r"one column, as in 'a;b'; expected features and a target, separated by ','\. If ';' "
        "separates the cells, use --delimiter ';'",
    ),
    "tabs": ("a\tb\n1\t2\n", r"as in 'a\\tb'; .*use --delimiter '\\t'"),
    "blanks": ("a b\n1 2\n", r"as in 'a b'; .*\. Name another separator with --delimiter"),
    "decimal commas and another mark": ("a,b\n1,5;2\n", "got '5;2'.*use --delimiter ';'"),
    "ragged": ("a,b\n1,2\n3\n", "line 3: 1 cells; expected 2"),
    "words": ("a,b\n1,2\nred,4\n", "line 3, column 'a': got 'red'; expected a finite number"),
    "missing": ("a,b\n1,\n", "line 2, column 'b': got nothing"),
    "nan": ("a,b\n1,nan\n", "column 'b': got 'nan'"),
    "infinite": ("a,b\n1,1e999\n", "column 'b': got '1e999'"),
    "comma": ('a,b\n1,"2,5"\n', "got '2,5'.*Write decimals with a point"),
    "underscore": ("a,b\n1,1_000\n", "got '1_000'"),
    "other digits": ("a,b\n1,\u0663\n", "got '\u0663'"),
    "repeated": ("a,a\n1,2\n", "several columns called 'a'"),
    "quote": ('a,b\n"1,2\n', "line 2: unexpected end of data"),
    "latin": ("größe,b\n1,2\n".encode("latin-1"), "not text in UTF-8.*Save it as UTF-8"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "seems to be UTF-16"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("name", REFUSED_TABLES)
def test_what_is_no_table_is_refused(name: str, file) -> None:
    content, message = REFUSED_TABLES[name]
    with pytest.raises(InputError, match=message):
        load_table(file(content))


def test_an_unknown_target_and_a_bad_delimiter(file) -> None:
    path = file("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'c'; its columns are a, b\. Use --target"):
        load_table(path, "c")
    for delimiter in ("", ";;", '"', "\n", " "):
        with pytest.raises(InputError, match="expected one character"):
            load_table(path, delimiter=delimiter)


def test_names_are_compared_in_no_more_than_a_moment(file) -> None:
    """Each with each would be 10^10 comparisons: minutes."""
    names = ",".join(f"c{place}" for place in range(100_000))
    began = time.process_time()
    assert load_table(file(names + "\n" + ",".join("1" * 100_000))).X.shape == (1, 99_999)
    assert time.process_time() - began < 5.0


def test_the_size_is_limited(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convexlib.cli.files.MAX_CELLS", 5)
    with pytest.raises(InputError, match="has more than 5 cells"):
        load_table(file("a,b\n1,2\n3,4\n5,6\n"))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=100)
@given(rows=st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_table_of_floats_is_read_exactly(
    rows: list[list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([["a", "b", "y"], *rows])
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    path.write_text(stream.getvalue(), encoding="utf-8")
    table = load_table(path)
    np.testing.assert_array_equal(np.column_stack([table.X, table.y]), rows)
