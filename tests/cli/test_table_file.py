"""Tables from files: what is read, and what is refused in one line."""

import csv
import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexlib.cli.files import load_table
from convexlib.errors import ConvexlibError, InputError


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


def test_without_a_header_columns_have_numbers(file) -> None:
    path = file("1,2,3\n4,5,6\n")
    assert load_table(path, header=False).target == "2"
    table = load_table(path, "0", header=False)
    np.testing.assert_array_equal(table.y, [1.0, 4.0])
    assert table.features == ("1", "2")


def test_a_column_may_be_called_last(file) -> None:
    assert load_table(file("last,b\n1,2\n")).target == "last"
    np.testing.assert_array_equal(load_table(file("last,b\n1,2\n")).y, [1.0])


REFUSED = {
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


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused(name: str, file) -> None:
    content, message = REFUSED[name]
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


@settings(max_examples=200)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text(alphabet='ab,;"\n\r\t 0123.e-_\0\ufeffé', max_size=60).map(str.encode),
    ),
    header=st.booleans(),
    target=st.sampled_from(["last", "a", "0", ""]),
    delimiter=st.sampled_from([",", ";", "e", "\0", "é"]),
)
def test_any_content(
    content: bytes, header: bool, target: str, delimiter: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    refusal = ""
    try:
        table = load_table(path, target, header=header, delimiter=delimiter)
    except ConvexlibError as error:
        refusal = str(error)
    assert len(refusal) < 1000
    if refusal:
        return
    assert np.isfinite(table.X).all()
    assert np.isfinite(table.y).all()
    assert table.X.shape == (len(table.y), len(table.features))


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    )
)
def test_every_table_of_floats_is_read_exactly(
    rows: list[list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([["a", "b", "y"], *rows])
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    path.write_text(stream.getvalue(), encoding="utf-8")
    table = load_table(path)
    np.testing.assert_array_equal(np.column_stack([table.X, table.y]), rows)
