"""Inputs for what reads the files of others: networks and tables."""

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from convexlib.cli.models import load_model
from convexlib.cli.tables import load_table
from tests.fuzz import sandbox
from tests.fuzz.calls import entry
from tests.fuzz.entries_networks import filled

CELLS = (
    "1", "-2.5", "1e3", "nan", "inf", "", " 7 ", "a", "1_0", "١", "0x1", '"1"', '"', "1e400", "\0",
    '"1,234.5"', "2024-01-31", '"1,5"', "1 234",
)  # fmt: skip


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (sandbox.folder() / "was_run",)


def archive_of(value: Any) -> bytes:
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def sequential(d: int, m: int, bias: bool, seed: int) -> nn.Module:
    """A two-layer network with Gaussian weights."""
    network = nn.Sequential(nn.Linear(d, m, bias), nn.ReLU(), nn.Linear(m, 1, bias))
    return filled(network, seed, 1.0, torch.float32)


@cache
def exported(d: int, relu: bool) -> bytes:
    """What torch.export.save writes for a network with ReLU or Tanh."""
    stream, middle = io.BytesIO(), nn.ReLU() if relu else nn.Tanh()
    network = filled(nn.Sequential(nn.Linear(d, 2), middle, nn.Linear(2, 1)), 0, 1.0, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch uses what torch has deprecated
        torch.export.save(torch.export.export(network, (torch.ones(3, d),)), stream)
    return stream.getvalue()


# The first and the second layer; a bad order, layers of which one has no name of its own.
NAMES = (("fc1", "fc2"), ("module.fc1", "module.fc2"), ("fc2", "fc1"), ("a", "b.c"), ("1", "0"))
SHORT = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The same bytes, cut, or with others in some places, or as they are."""
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 4)))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        content = content[:place] + draw(st.binary(min_size=1, max_size=2)) + content[place + 1 :]
    if draw(st.integers(0, 3)) == 2:
        content = content[: draw(st.integers(0, len(content)))]
    return content


@st.composite
def models(draw: st.DrawFn, d: int = 2) -> bytes:
    """The content of a .pt file: sound, damaged, of something else, or with code in it."""
    kinds = ("sound",) * 6 + ("named",) * 3 + ("damaged",) * 4 + ("graph", "graph", "other", "code",
             "zip", "any")  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    network = sequential(d, draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(0, 9)))
    state: Any = network.state_dict()
    if kind == "code":
        value = Bomb() if draw(st.booleans()) else {"0.weight": Bomb()}
        return draw(st.sampled_from((archive_of(value), pickle.dumps(value))))
    if kind == "other":
        others = (
            network, list(state), {"a": state["0.weight"]}, {}, None, "text",
            OrderedDict({key: value.double() * 1e300 for key, value in state.items()}),
            OrderedDict({**state, "2.weight": torch.ones(1, 7)}),
            {"U": torch.ones(2, d), "alpha": torch.full((2,), torch.nan)},
            {"U": torch.ones(2, d), "alpha": torch.ones(2)},
            {"U": torch.ones(1).expand(2**30, d), "alpha": torch.ones(1)},
        )  # fmt: skip
        return archive_of(draw(st.sampled_from(others)))
    if kind == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../was_run", b"x")
            archive.writestr("a/data.pkl", draw(st.binary(max_size=40)))
        return stream.getvalue()
    if kind == "graph":
        return draw(damaged(exported(d, draw(st.booleans()))))
    if kind == "named":
        names, dtype = draw(st.sampled_from(NAMES)), draw(st.sampled_from(SHORT))
        renamed = {names[int(key[0]) // 2] + key[1:]: one.to(dtype) for key, one in state.items()}
        return archive_of(draw(st.sampled_from((renamed, {"model": renamed, "epoch": 1}))))
    if kind == "any":
        return draw(st.binary(max_size=200))
    content = archive_of(state)
    return draw(damaged(content)) if kind == "damaged" else content


@st.composite
def texts(draw: st.DrawFn, d: int = 2) -> bytes:
    """The content of a .csv file: sound in most cases."""
    kind = draw(st.sampled_from(("sound",) * 6 + ("damaged", "cells", "ragged", "wide", "utf-16")))
    n, rows = draw(st.integers(0, 5)), []
    for row in range(n):
        cells = [str((7 * row + 3 * column) % 5 - 2.25) for column in range(d + 1)]
        if kind == "cells":
            cells[draw(st.integers(0, d))] = draw(st.sampled_from(CELLS))
        if kind == "ragged":
            cells = cells[: draw(st.integers(0, d + 1))]
        rows.append(",".join(cells))
    header = draw(st.sampled_from(("a,b,y", "a,b,y", "a,b,y", "a,a,y", "1,2,3", "é,ß,ı", "", '"')))
    text = "\n".join([header, *rows]) + draw(st.sampled_from(("", "\n", "\r\n", "\n\n,,\n")))
    content = text.encode("utf-16" if kind == "utf-16" else "utf-8")
    if kind == "wide":
        content = content.replace(b",", b"," * 300)
    return draw(damaged(content)) if kind == "damaged" else content


def written(name: str, content: bytes) -> Path:
    """A file with this content."""
    path = sandbox.folder() / name
    path.write_bytes(content)
    return path


def model(content: bytes, activation: str | None, **options: Any) -> Any:
    """Read a network; no code may run."""
    try:
        return load_model(written("model.pt", content), activation, **options).network
    finally:
        assert not (sandbox.folder() / "was_run").exists(), "code from the file was run"


entry(
    "load_model", model,
    st.fixed_dictionaries({"content": models(), "activation": st.sampled_from(["relu", None])}),
    kept=("content", "activation", "layers", "widths"), share=2.0,
    options={"layers": st.sampled_from((None,) * 4 + (["fc1", "fc2"], ["0", "2"], [], ["0", "0"])),
             "widths": st.sampled_from((None, (2, 1), (2, 1), (2, None), (3, 2)))},
)  # fmt: skip


def table(content: bytes, **options: Any) -> Any:
    """Read a table."""
    found = load_table(written("data.csv", content), **options)
    assert found.X.shape == (len(found.y), len(found.features))
    assert found.y.shape[1:] == (() if len(found.targets) == 1 else (len(found.targets),))
    return [found.X, found.y]


entry(
    "load_table", table, st.fixed_dictionaries({"content": texts()}), share=2.0,
    kept=("content", "target", "header", "delimiter", "decimal"),
    options={"target": st.sampled_from(("last",) * 6 + ("a", "0", "", "é", "a,b", "y,y", "a,b,y")),
             "header": st.booleans(), "decimal": st.sampled_from((".",) * 6 + (",", "")),
             "delimiter": st.sampled_from((",",) * 9 + (";", "", ",,", "\n", '"', "\t", "1", " "))},
)  # fmt: skip
