"""Files of networks: which kind of file it is, and what was read from it.

No code is run, whoever made the file: of a pickle the weights alone are read (`weights`), and of a
graph the names of its operations. TorchScript is refused. Its graph cannot be read without loading
it, which may run methods of its own, and PyTorch's security policy says to treat such a file, and
even tools that only look into it, as code from its author.

Graphs are those of ``torch.export.save``, and ONNX, both read as data. ``torch.export.load`` is not
called, since it unpickles parts of the file and evaluates text in it. But the archive is a zip file
in which the graph is JSON, and the weights are bare numbers (in older versions a ``state_dict``,
read with ``weights_only=True``). The package ``onnx`` parses a message; a file of weights that it
names is read only beside it. Each operation is then handed to a `Chain`, which refuses all but
Linear and ReLU by name.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexlib.cli.console import MAX_BYTES, read_bytes
from convexlib.cli.weights import EXPECTED, HOW, Widths, as_floats, build, load_state
from convexlib.errors import ConvexlibError, DataError, InputError
from convexlib.networks.modules import Chain, Rows, Weight

Read = tuple[nn.Module, list[str], str]  # a network, the names of its layers, and its dtypes

_GRAPHS = ("/models/", "serialized_exported_program.json")
_VERSION = 8  # of the format, which torch 2.6 to 2.13 have
_DTYPES = {6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16}
_OPSET = 7  # before, Gemm and Dropout had other arguments
_SAME = ("alias", "clone", "contiguous", "detach")
_RENAMED = {"mm": "matmul", "reshape": "view", "clamp_min": "clamp", "relu_": "relu"}
_PLACED = ("self", "input", "weight", "other", "size", "shape")  # arguments that come in order


@dataclass(frozen=True, eq=False)
class Model:
    """A network and where it is from.

    Attributes
    ----------
    network : nn.Module
        In float32 or float64.
    source : str
        Where its layers were in the file, and in which dtypes.
    """

    network: nn.Module
    source: str


def load_model(
    path: Path,
    activation: str | None = None,
    layers: Sequence[str] | None = None,
    widths: Widths | None = None,
) -> Model:
    """Read a network, exactly.

    Parameters
    ----------
    path : Path
        A file of ``torch.save`` or ``torch.export.save``, or one that ends in ``.onnx``.
    activation, layers, widths
        See `convexlib.cli.weights.build`; the last two only tell layers in weights apart.

    Raises
    ------
    DataError
        If the file cannot be read.
    InputError
        If it holds no network that `convexlib.certify` may know, or numbers that are not finite,
        or if something about it has to be said and is not.
    """
    content = read_bytes(path, "the model")
    archive = None if path.suffix.lower() == ".onnx" else _opened(content, path)
    try:
        if archive is not None and not is_exported(archive):
            return _of_weights(content, path, activation, layers, widths)
        if layers is not None:
            raise InputError("--layers is for weights alone; this file has a graph, with an order.")
        if archive is None:
            kind, (network, names, dtypes) = "an ONNX file", read_onnx(content, path)
        else:
            kind, (network, names, dtypes) = "torch.export", read_exported(archive, path)
    except DataError:  # of a file beside it
        raise
    except ConvexlibError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    return Model(network, f"from {', '.join(names)} in the graph of {kind}, {dtypes}")


def _of_weights(
    content: bytes,
    path: Path,
    activation: str | None,
    layers: Sequence[str] | None,
    widths: Widths | None,
) -> Model:
    state, checkpoint = load_state(content, path)
    network, names, dtypes = build(state, activation, layers, widths)
    place = f" of the checkpoint's {checkpoint!r}" if checkpoint else ""
    return Model(network, f"from {', '.join(names)}{place}, {dtypes}")


def _opened(content: bytes, path: Path) -> zipfile.ZipFile:
    """The archive, if it is one, runs no code, and unpacks to no more than allowed."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
    except Exception as error:  # damaged archives raise many kinds, and are refused
        raise InputError(
            f"{path} is not a file of torch.save in its zip format (of torch 1.6 and later), nor "
            f"of torch.export, and its name does not end in .onnx; {EXPECTED}. {HOW}"
        ) from error
    if any("/code/" in entry.filename or "constants.pkl" in entry.filename for entry in entries):
        raise InputError(
            f"{path} is a TorchScript archive, which is code; {EXPECTED}. If you trust it, load it "
            "with torch.jit.load and save its weights: torch.save(it.state_dict(), path). Or save "
            "the network it was made from with torch.export.save, which keeps the graph."
        )
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path} unpacks to more than {MAX_BYTES // 2**20} MB.")
    return archive


def is_exported(archive: zipfile.ZipFile) -> bool:
    """Whether an archive holds a graph of ``torch.export``."""
    return any(_is_graph(name) for name in archive.namelist())


def _is_graph(name: str) -> bool:
    return any(part in name for part in _GRAPHS) and name.endswith(".json")


def read_exported(archive: zipfile.ZipFile, path: Path) -> Read:
    """Read the network of ``torch.export.save``."""
    try:
        graphs = [name for name in archive.namelist() if _is_graph(name)]
        if len(graphs) > 1:
            raise InputError(f"it holds {len(graphs)} graphs; expected one.")
        program = json.loads(archive.read(graphs[0]))
        version = program["schema_version"]["major"]
        if version != _VERSION:
            raise InputError(
                f"its format of torch.export has version {version}; expected {_VERSION}. Save it "
                "with a newer torch, or save its state_dict."
            )
        return _walk_exported(program["graph_module"], archive, path)
    except ConvexlibError:
        raise
    except Exception as error:  # a damaged file lacks anything, and is refused
        raise InputError(
            f"it is damaged, or of a version of torch.export that is not known "
            f"({type(error).__name__}); expected a file of torch.export.save."
        ) from error


def _exported_tensors(
    archive: zipfile.ZipFile, names: Iterable[str], path: Path
) -> dict[str, Tensor]:
    """The parameters of these names; shared ones share their memory."""
    files = archive.namelist()
    for stored in files:  # as older versions of torch have them
        if stored.endswith(("serialized_state_dict.pt", "/data/weights/model.pt")):
            state, _ = load_state(archive.read(stored), path)
            return {name: state[name] for name in names}
    if any(name.endswith("/byteorder") and archive.read(name) != b"little" for name in files):
        raise InputError("it was saved on a big-endian machine; expected the other byte order.")
    listed = next(name for name in files if name.endswith("_weights_config.json"))
    folder, config = listed.rpartition("/")[0], json.loads(archive.read(listed))["config"]
    entries = {name: config[name] for name in names}
    places = {entry["path_name"] for entry in entries.values()}
    contents = {place: bytearray(archive.read(f"{folder}/{place}")) for place in places}
    return {name: _raw(entry, contents[entry["path_name"]]) for name, entry in entries.items()}


def _raw(entry: Mapping[str, Any], content: bytearray) -> Tensor:
    """A tensor of bare numbers."""
    meta = entry["tensor_meta"]
    if entry["use_pickle"] or meta["dtype"] not in _DTYPES:
        raise InputError(
            f"{entry['path_name']} is not stored as floating-point numbers; expected plain "
            "parameters in float16, bfloat16, float32 or float64."
        )
    sizes = [_int(size) for size in meta["sizes"]]
    strides = [_int(stride) for stride in meta["strides"]]
    if math.prod(sizes) * 8 > MAX_BYTES:  # with strides of zero, of which a few bytes are enough
        raise InputError(f"it stands for more than {MAX_BYTES // 2**20} MB of weights.")
    flat = torch.frombuffer(content, dtype=_DTYPES[meta["dtype"]])
    return flat.as_strided(sizes, strides, _int(meta["storage_offset"]))


def _int(number: Mapping[str, int]) -> int:
    return number["as_int"]


def _walk_exported(module: Mapping[str, Any], archive: zipfile.ZipFile, path: Path) -> Read:
    """Hand the operations of a graph to a chain."""
    chain, graph = Chain("the graph"), module["graph"]
    specs = module["signature"]["input_specs"]
    parameters = [spec["parameter"] for spec in specs if "parameter" in spec]
    names = {one["arg"]["name"]: one["parameter_name"] for one in parameters}
    tensors = _exported_tensors(archive, names.values(), path)
    floats, dtypes = as_floats(tensors)
    values: dict[str, Any] = {
        place: Weight(name, floats[name], tensors[name].data_ptr()) for place, name in names.items()
    }
    inputs = [
        spec["user_input"]["arg"]["as_tensor"]["name"] for spec in specs if "user_input" in spec
    ]
    if len(inputs) != 1:
        raise InputError(f"the graph takes {len(inputs)} inputs; expected one.")
    values[inputs[0]] = chain.value
    rows = graph["tensor_values"][inputs[0]]["sizes"][0].get("as_int")  # None if any number
    for node in graph["nodes"]:
        (output,) = (made for kind in node["outputs"] for made in kind.values())
        word = node["target"].removeprefix("torch.ops.aten.").rpartition(".")[0]
        named = {one["name"]: _argument(one["arg"], values) for one in node["inputs"]}
        made = _result(word, named, rows, chain)
        values[output.get("name", output.get("as_name"))] = made
    if len(graph["outputs"]) != 1:
        raise InputError(f"the graph returns {len(graph['outputs'])} tensors; expected one.")
    result = values[graph["outputs"][0]["as_tensor"]["name"]]
    return chain.network(result, names.values()), chain.names, dtypes


def _argument(given: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An argument of an operation: a tensor, a number, or a list of them."""
    ((kind, value),) = given.items()
    if kind == "as_tensor":
        return values.get(value["name"], value["name"])
    if kind in ("as_int", "as_float", "as_bool", "as_ints"):
        return value
    if kind == "as_none":
        return None
    if kind == "as_sym_int":
        return values[value["as_name"]]
    if kind == "as_sym_ints":
        return [one["as_int"] if "as_int" in one else values[one["as_name"]] for one in value]
    return kind


def _result(word: str, named: dict[str, Any], rows: int | None, chain: Chain) -> Any:
    """What an operation of torch.export returns."""
    first, *rest = named.values()
    turned = word in ("t", "permute", "transpose", "numpy_T") and isinstance(first, Weight)
    if turned and rest in ([], [[1, 0]], [0, 1], [1, 0]):
        return first.T
    if word == "sym_size" and [first, *rest] == [chain.value, 0]:
        return Rows()
    if word == "addmm" and len(rest) == 2 and isinstance(rest[1], Weight):
        return chain.apply("linear", word, rest[0], rest[1].T, first)
    if word in ("view", "reshape") and rows is not None and rest[0][:1] == [rows]:
        rest[0][0] = Rows()  # -1 behind the number of rows, which was fixed in the export
    known = "identity" if word in _SAME else _RENAMED.get(word, word)
    placed = [value for name, value in named.items() if name in _PLACED]
    others = {name: value for name, value in named.items() if name not in _PLACED}
    if "train" in others:
        others["training"] = others.pop("train")
    return chain.apply(known, word, *placed, **others)


def read_onnx(content: bytes, path: Path) -> Read:
    """Read the network of an ONNX file."""
    try:
        import onnx
    except ImportError:
        raise InputError(
            f"{path} is an ONNX file, which the package onnx reads, and it is not installed; "
            "expected pip install onnx. Or save the network with torch.export.save."
        ) from None
    try:
        model = onnx.load_model_from_string(content)
        opset = next((one.version for one in model.opset_import if not one.domain), 0)
        if opset < _OPSET or model.functions:
            got = "functions of its own" if model.functions else f"operations of version {opset}"
            raise InputError(f"it has {got}; expected those of ONNX from version {_OPSET} on.")
        return _walk_onnx(model.graph, path)
    except ConvexlibError:
        raise
    except Exception as error:  # a damaged file lacks anything, and is refused
        raise InputError(
            f"it is damaged, or no ONNX file ({type(error).__name__}); expected one that the "
            "package onnx can load."
        ) from error


def _onnx_tensor(stored: Any, path: Path) -> Tensor:
    """A tensor of an ONNX file, or of the file of weights beside it."""
    import onnx
    from onnx import numpy_helper

    if math.prod(stored.dims) * 8 > MAX_BYTES:
        raise InputError(f"{path} stands for more than {MAX_BYTES // 2**20} MB of weights.")
    if stored.data_location == onnx.TensorProto.EXTERNAL:
        where = {entry.key: entry.value for entry in stored.external_data}
        name = where["location"]
        if Path(name).name != name:
            raise InputError(
                f"its weights are in {name!r}; expected a file beside it. Export it in one file."
            )
        beside = read_bytes(path.parent / name, "the file of weights")
        start = int(where.get("offset", 0))
        stored.raw_data = beside[start : start + int(where.get("length", len(beside)))]
        stored.data_location = onnx.TensorProto.DEFAULT
    kinds = onnx.TensorProto
    if stored.data_type == kinds.BFLOAT16:  # numpy lacks it, and onnx 1.17 makes integers of it
        bits = np.frombuffer(stored.raw_data, "<i2") if stored.raw_data else stored.int32_data
        short = torch.from_numpy(np.array(bits).astype(np.int16))
        return short.view(torch.bfloat16).reshape(tuple(stored.dims))
    if stored.data_type not in (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.INT64, kinds.BOOL):
        raise InputError(
            f"{stored.name} has dtype {kinds.DataType.Name(stored.data_type)}; expected FLOAT, "
            "DOUBLE, FLOAT16 or BFLOAT16. Export the network before it is quantised."
        )
    return torch.from_numpy(numpy_helper.to_array(stored).copy())


def _walk_onnx(graph: Any, path: Path) -> Read:
    """Hand the operations of an ONNX graph to a chain."""
    from onnx import helper

    named = [
        (node, {one.name: helper.get_attribute_value(one) for one in node.attribute})
        for node in graph.node
    ]
    constants = {
        node.output[0]: _onnx_constant(next(iter(attributes.values())), path)
        for node, attributes in named
        if node.op_type == "Constant"
    }
    tensors = {one.name: _onnx_tensor(one, path) for one in graph.initializer} | constants
    floats, dtypes = as_floats(
        {name: one for name, one in tensors.items() if one.is_floating_point() and one.ndim}
    )
    chain = Chain("the graph")
    values: dict[str, Any] = {"": None, **tensors}
    values |= {name: Weight(name, one, name) for name, one in floats.items()}
    inputs = [one.name for one in graph.input if one.name not in tensors]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(
            f"the graph has {len(inputs)} inputs and {len(graph.output)} outputs; expected one of "
            "each."
        )
    values[inputs[0]] = chain.value
    for node, attributes in named:
        if node.output[0] not in constants:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            given = [values.get(name, name) for name in node.input]
            values[node.output[0]] = _onnx_result(kind, given, attributes, chain)
    return chain.network(values[graph.output[0].name], ()), chain.names, dtypes


def _onnx_constant(value: Any, path: Path) -> Tensor:
    """A constant of a graph."""
    return _onnx_tensor(value, path) if hasattr(value, "dims") else torch.tensor(value)


def _onnx_result(kind: str, given: list[Any], named: dict[str, Any], chain: Chain) -> Any:
    """What an operation of ONNX returns."""
    first, *rest = given
    numbers = [one.tolist() if isinstance(one, Tensor) else one for one in rest]
    if isinstance(first, Weight) and kind == "Identity":
        return first
    if isinstance(first, Weight) and kind == "Transpose" and named.get("perm", [1, 0]) == [1, 0]:
        return first.T
    if kind == "Gemm":
        plain = (named.get("alpha", 1), named.get("beta", 1), named.get("transA", 0)) == (1, 1, 0)
        if plain and isinstance(rest[0], Weight):
            matrix = rest[0] if named.get("transB", 0) else rest[0].T
            return chain.apply("linear", kind, first, matrix, *rest[1:])
    elif kind == "Clip":
        low, high = (*numbers, None, None)[:2]
        return chain.apply("clamp", kind, first, named.get("min", low), named.get("max", high))
    elif kind == "Max" and numbers == [0]:
        return chain.apply("clamp", kind, first, 0)
    elif kind == "Flatten" and named.get("axis", 1) == 1:
        return chain.apply("flatten", kind, first, 1)
    elif kind == "Reshape" and not named.get("allowzero", 0):  # where 0 is the size that there is
        sizes = [Rows() if place == size == 0 else size for place, size in enumerate(numbers[0])]
        return chain.apply("view", kind, first, sizes)
    elif kind == "Squeeze":
        return chain.apply("squeeze", kind, first, named.get("axes", (*numbers, None)[0]))
    elif kind == "Dropout":
        return chain.apply("dropout", kind, first, training=bool((*numbers, None, None)[1]))
    elif kind in ("MatMul", "Add", "Relu", "Identity"):
        return chain.apply(kind.lower(), kind, *given)
    return chain.apply("", kind)
