"""Tables from files: what is read, and what is refused in one line."""

import csv
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexlib.cli.tables import Table, column_names, load_table, one_hot
from convexlib.errors import InputError


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
    assert table.targets == ("y",)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b,y\r\n1,2,3\r\n",  # a byte order mark, as spreadsheets write it
        b'"a","b","y"\n"1","2","3"',
        b"\n\na,b,y\n\n1,2,3\n,,\n",
        b"a;b;y\n1;2;3\n",
        b"a\tb\ty\n1\t2\t3\n",
        b"a b y\n1 2 3\n",
        b"  a   b y  \r\n\r\n   \r\n 1  2.0   3 \r\n",  # as np.savetxt and Fortran align columns
    ],
)
def test_the_same_table_in_other_files(content: bytes, file) -> None:
    delimiter = next((mark for mark in ";\t, " if mark.encode() in content), ",")
    table = load_table(file(content), "b", delimiter=delimiter)
    np.testing.assert_array_equal(table.X, [[1.0, 3.0]])
    np.testing.assert_array_equal(table.y, [2.0])
    assert table.features == ("a", "y")


def test_columns_without_names_have_numbers_and_one_may_be_called_last(file) -> None:
    table = load_table(file("1,2,3\n4,5,6\n"), "0", header=False)
    np.testing.assert_array_equal(table.y, [1.0, 4.0])
    assert table.features == ("1", "2")
    table = load_table(file("last,b\nx,2\n"), None, features="last")  # the last column alone
    assert (table.features, table.X.tolist()) == (("b",), [[2.0]])
    table = load_table(file("last,b\n1,2\n"))
    np.testing.assert_array_equal(table.y, [1.0])
    assert table.targets == ("last",)


def test_decimal_commas(file) -> None:
    table = load_table(file("a;b;y\n1,5;-,5;2\n3;4,0;-5,25e1\n"), delimiter=";", decimal=",")
    np.testing.assert_array_equal(table.X, [[1.5, -0.5], [3.0, 4.0]])
    np.testing.assert_array_equal(table.y, [2.0, -52.5])
    with pytest.raises(InputError, match="first line of .* all numbers"):
        load_table(file("1,5;2\n"), delimiter=";", decimal=",")


def test_several_targets_are_columns_of_y_in_the_order_of_their_names(file) -> None:
    table = load_table(file("a,b,c,d\n1,2,3,4\n5,6,7,8\n"), "d, b")
    np.testing.assert_array_equal(table.y, [[4.0, 2.0], [8.0, 6.0]])
    np.testing.assert_array_equal(table.X, [[1.0, 3.0], [5.0, 7.0]])
    assert (table.features, table.targets) == (("a", "c"), ("d", "b"))
    table = load_table(file('a,"b,a",c\n1,2,3\n'), "b,a")  # a name, and no list of names
    np.testing.assert_array_equal(table.y, [2.0])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a,x", "no column 'x'; its columns are a, b, c"),
        ("a,,b", "no column ''"),
        ("a,a", "--target names 2 of the 3 columns.*expected different ones"),
        ("c,b,a", "--target names 3 of the 3 columns.*at least one that is none"),
    ],
)
def test_targets_that_are_no_choice_of_columns(target: str, message: str, file) -> None:
    with pytest.raises(InputError, match=message):
        load_table(file("a,b,c\n1,2,3\n"), target)


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "NA", "N/A", "#N/A", "<NA>", "null"])
def test_a_missing_class_is_none(cell: str, file) -> None:
    path = file(f"a,y\n1,red\n2,{cell}\n")
    got = repr(cell) if cell.strip() else "nothing"
    message = f"line 3, column 'y': got {got}; expected the name of a class. Drop rows"
    with pytest.raises(InputError, match=re.escape(message)):
        load_table(path, labels=True)


def classes(*labels: float) -> Table:
    y = np.array(labels)
    return Table(np.zeros((len(y), 1)), y, ("a",), ("kind",))


def test_classes_become_a_target_each() -> None:
    table = one_hot(classes(1, 0, 2, 1), 3, -1.0)
    np.testing.assert_array_equal(table.y, [[-1, 1, -1], [1, -1, -1], [-1, -1, 1], [-1, 1, -1]])
    assert table.targets == ("kind=0", "kind=1", "kind=2")
    np.testing.assert_array_equal(one_hot(classes(1), 2, 0.0).y, [[0.0, 1.0]])
    with pytest.raises(InputError, match=r"kind holds 3; expected .* classes 0 to 2, one for each"):
        one_hot(classes(0, 3), 3, 0.0)
    with pytest.raises(InputError, match=r"kind holds 0\.5"):
        one_hot(classes(0, 0.5), 3, 0.0)
    with pytest.raises(InputError, match="has one output; expected one for each class"):
        one_hot(classes(0, 1), 1, 0.0)
    two = Table(np.zeros((1, 1)), np.zeros((1, 2)), ("a",), ("b", "c"))
    with pytest.raises(InputError, match="the target b, c is 2 columns; expected with --one-hot"):
        one_hot(two, 3, 0.0)


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
    "blanks": ("a b\n1 2\n", r"as in 'a b'; .*\. If ' ' separates the cells, use --delimiter ' '"),
    "stars": ("a*b\n1*2\n", r"as in 'a\*b'; .*\. Name another separator with --delimiter"),
    "decimal commas and another mark": ("a,b\n1,5;2\n", "got '5;2'.*use --delimiter ';'"),
    "ragged": ("a,b\n1,2\n3\n", "line 3: 1 cells; expected 2"),
    "words": ("a,b\n1,2\nred,4\n", "line 3, column 'a': got 'red'; expected a finite number"),
    "missing": ("a,b\n1,\n", "line 2, column 'b': got nothing"),
    "nan": ("a,b\n1,nan\n", "column 'b': got 'nan'"),
    "infinite": ("a,b\n1,1e999\n", "column 'b': got '1e999'"),
    "comma": (
        'a,b\n1,"2,5"\n',
        r"got '2,5'.*number\. If the comma is the decimal sign, use --decim",
    ),
    "comma of what": (
        'a,b\n1,"2,500"\n',
        "If the comma is.*If it separates thousands, take it out",
    ),
    "thousands": ('a,b\n1,"1,234.5"\n', r"number\. Take the separators of thousands out\.$"),
    "millions": ('a,b\n1,"-1,234,567"\n', r"number\. Take the separators of thousands out\.$"),
    "blank thousands": ("a,b\n1,1 234\n", r"number\. Take the separators of thousands out\.$"),
    "date": (
        "a,b\n1,2024-01-31\n",
        r"got '2024-01-31'.*number\. It looks like a date: write it as",
    ),
    "moment": ("a,b\n1,2024-01-31T10:00:00Z\n", "looks like a date"),
    "German date": ("a,b\n1,31.1.2024\n", "looks like a date"),
    "American date": ("a,b\n1,1/31/24\n", "looks like a date"),
    "time": ("a,b\n1,23:59\n", "looks like a date"),
    "no date": ("a,b\n1,1-2\n", r"number\. Encode categories"),
    "underscore": ("a,b\n1,1_000\n", "got '1_000'"),
    "other digits": ("a,b\n1,\u0663\n", "got '\u0663'"),
    "repeated": ("a,a\n1,2\n", "several columns called 'a'"),
    "quote": ('a,b\n"1,2\n', "line 2: unexpected end of data"),
    "latin": ("größe,b\n1,2\n".encode("latin-1"), "not text in UTF-8.*Save it as UTF-8"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "seems to be UTF-16"),
    "spreadsheet": (b"PK\x03\x04\xff", "compressed file, such as a spreadsheet.*Save it as CSV"),
    "archive in ASCII": (b"PK\x03\x04\x14", "compressed file, such as a spreadsheet"),
    "comment": ("# made today\na,b\n1,2\n", r"one column.*\. If it is a comment, take it out"),
    "quoted": ('a,b\n1,"x, y"\n', r"got 'x, y'.*drop what is missing\.$"),
    "index": (",a,b\n0,1,2\n", r"column 1 of .* has no name.*index=False.*--drop ''"),
    "trailing": ("a,b,\n1,2,\n", r"column 3 of .* has no name.*at the end.* or name the --target"),
    "long integer and a point": ("a,b\n9007199254740993.0,2\n", r"got 9007199254740993\.0, an"),
    "long integer": ("a,b\n9007199254740993,2\n", r"column 'a': got 9007199254740993.*2\*\*53"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("name", REFUSED_TABLES)
def test_what_is_no_table_is_refused(name: str, file) -> None:
    content, message = REFUSED_TABLES[name]
    with pytest.raises(InputError, match=message):
        load_table(file(content))


def test_a_column_without_a_name_and_long_integers_that_are_floats(file) -> None:
    table = load_table(file(",a,b\n0,9007199254740992,1e300\n"), drop=[""])
    assert table.features == ("a",)
    assert table.X[0, 0] == 2.0**53


def test_names_with_commas_are_quoted() -> None:
    assert column_names("a,b") == ["a", "b"]
    assert column_names('"a,b",c') == ["a,b", "c"]
    assert column_names("") == [""]


def test_an_unknown_target_and_a_bad_delimiter(file) -> None:
    path = file("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'c'; its columns are a, b\. Use --target"):
        load_table(path, "c")
    for delimiter in ("", ";;", '"', "\n", "\x0b"):
        with pytest.raises(InputError, match="expected one character"):
            load_table(path, delimiter=delimiter)
    for decimal in (",", "", "x"):
        with pytest.raises(InputError, match="expected a point or a comma, and another character"):
            load_table(path, decimal=decimal)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1.5", r"got '1\.5'.*If the point is the decimal sign, use --decimal '\.'\.$"),
        ("1.500", r"If the point is.*If it separates thousands, take it out\."),
        ("1.234,5", r"number\. Take the separators of thousands out\."),
        ("31.1.2024", "looks like a date"),
    ],
)
def test_points_where_commas_are_expected(cell: str, message: str, file) -> None:
    with pytest.raises(InputError, match=message):
        load_table(file(f"a;b\n1;{cell}\n"), delimiter=";", decimal=",")


def test_names_are_compared_in_no_more_than_a_moment(file) -> None:
    """Each with each would be 10^10 comparisons: minutes."""
    names = ",".join(f"c{place}" for place in range(100_000))
    began = time.process_time()
    assert load_table(file(names + "\n" + ",".join("1" * 100_000))).X.shape == (1, 99_999)
    assert time.process_time() - began < 5.0


def test_the_size_is_limited(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convexlib.cli.tables.MAX_CELLS", 5)
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
