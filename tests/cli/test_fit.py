"""`convexlib fit` and `convexlib predict`: from a table to a certified network, and back."""

import csv
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import convexlib as cl
from convexlib.cli import main
from convexlib.cli.console import BAD_INPUT, DONE, FAILED
from convexlib.solvers.base import Tracker


@pytest.fixture
def cars(tmp_path):
    """A table as it comes: names, unscaled columns, classes, dates."""
    rng = np.random.default_rng(0)
    weight = rng.normal(3000, 500, 60)
    power = weight / 28 + rng.normal(0, 18, 60)
    frame = pd.DataFrame(
        {
            "name": [f"car {k}" for k in range(60)],
            "power": power,
            "weight": weight,
            "mpg": 46 - 0.0075 * weight + rng.normal(0, 1, 60),
            "origin": np.where(weight > 3200, "USA", np.where(power > 100, "Europe", "Japan")),
        }
    )
    path = tmp_path / "cars.csv"
    frame.to_csv(path, index=False)
    return path, frame


def fit(path, *words):
    return main(["fit", str(path), *words])


def test_a_number_is_fitted_certified_and_predicted(cars, capsys):
    path, frame = cars
    assert fit(path, "--target", "mpg", "--features", "power,weight", "--folds", "3") == DONE
    said = capsys.readouterr().out
    assert "60 rows, 2 features, target mpg" in said
    assert said.count("on 3 folds") == 7
    assert "a proof is within reach" in said
    assert ", rigorous" in said
    assert "for networks of any width\n" in said
    saved = torch.load(path.with_name("cars.model.pt"), weights_only=True)
    scales = json.loads(saved["convexlib.fit"])
    # The certificate again, from the files alone.
    columns = frame[["power", "weight"]]
    X = np.array((columns - columns.mean()) / columns.std(ddof=0))
    y = np.array((frame.mpg - frame.mpg.mean()) / frame.mpg.std(ddof=0))
    state = saved["state_dict"]
    first = torch.nn.Linear(*state["0.weight"].T.shape, dtype=torch.float64)
    last = torch.nn.Linear(*state["2.weight"].T.shape, bias=False, dtype=torch.float64)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    network.load_state_dict(state)
    certificate = cl.certify(network, X, y, beta=scales["beta"])
    assert certificate.relative_gap <= 1e-4
    assert f"objective    {certificate.primal:.6g}" in said
    # Predictions in the units of the table.
    assert main(["predict", str(path.with_name("cars.model.pt")), str(path)]) == DONE
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["mpg"]
    with torch.no_grad():
        outputs = network(torch.from_numpy(X)).numpy()[:, 0]
    expected = frame.mpg.mean() + frame.mpg.std(ddof=0) * outputs
    np.testing.assert_allclose([float(value) for (value,) in rows[1:]], expected, rtol=1e-12)
    report = path.with_name("cars.report.html").read_text()
    assert "lower bound" in report
    assert "data:image/png;base64," in report
    assert "http" not in report  # it needs nothing from elsewhere


def test_classes_are_texts(cars, capsys, tmp_path):
    path, frame = cars
    words = ("--target", "origin", "--classify", "--drop", "name,mpg", "--beta", "1")
    assert fit(path, *words, "--out", str(tmp_path / "origin")) == DONE
    said = capsys.readouterr().out
    assert "tried" not in said
    assert "accuracy" in said
    alone = "for networks of any width in which each neuron feeds one class"
    assert f"{alone}\n" in said
    report = " ".join((tmp_path / "origin.report.html").read_text().split())
    assert "can be from the best of them. One whose neurons are shared by classes can be" in report
    assert f"{alone}</td>" in report
    out = tmp_path / "found.csv"
    model = str(tmp_path / "origin.model.pt")
    assert main(["predict", model, str(path), "--out", str(out)]) == DONE
    found = pd.read_csv(out)["origin"]
    accuracy = float((found == frame.origin).mean())
    assert f"{accuracy:.4f} on the rows that it was trained on" in said
    assert accuracy > 0.8


@pytest.mark.parametrize("kind", ["one feature", "two features", "classes"])
def test_a_dollar_in_a_name_is_no_formula(cars, kind):
    path, frame = cars
    frame["origin"] = "$_$" + frame.origin
    frame = frame.rename(columns={"power": r"p$\x$", "mpg": "m$^$", "origin": r"o$\y$"})
    frame.drop(columns="name").to_csv(path, index=False)
    words = {
        "one feature": ("--target", "m$^$", "--features", r"p$\x$"),
        "two features": ("--target", "m$^$", "--drop", r"o$\y$"),
        "classes": ("--classify",),
    }[kind]
    assert fit(path, *words, "--beta", "9") == DONE
    assert path.with_name("cars.report.html").exists()


def test_a_name_that_the_font_lacks_is_no_warning(cars, capsys, recwarn):
    path, frame = cars
    frame.rename(columns={"power": "\u5e74", "origin": "\u9f84" * 300}).to_csv(path, index=False)
    assert fit(path, "--classify", "--features", "\u5e74", "--beta", "9") == DONE
    assert capsys.readouterr().err == ""
    assert [str(one.message) for one in recwarn] == []


def test_a_picture_that_fails_leaves_no_model(cars, monkeypatch):
    path, _ = cars
    monkeypatch.setattr("convexlib.cli.fit._picture", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(path, "--target", "mpg", "--features", "power", "--beta", "9")
    assert [other.name for other in path.parent.iterdir()] == ["cars.csv"]


@pytest.mark.parametrize("later", [False, True])
def test_an_interrupt_ends_it_and_leaves_nothing(cars, capsys, monkeypatch, later):
    """One keystroke, in the search for beta or in the last fit, which the solver survives."""
    plain, strikes = Tracker.update, [1]

    def update(self, *args, **kwargs):
        if strikes and self.method == "generate":
            strikes.pop()
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Tracker, "update", update)
    path, _ = cars
    words = ["--features", "power,weight", "--target", "mpg"]
    assert fit(path, *words, *(("--beta", "1") if later else ("--folds", "2"))) == 130
    assert (strikes, capsys.readouterr().err.splitlines()[-1:]) == ([], ["convexlib: interrupted"])
    assert [found.name for found in path.parent.iterdir()] == ["cars.csv"]


def values(said):
    """Objective and bound, as they were printed last."""
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if line[:1].isalpha())
    return float(lines["objective"].split()[0]), float(lines["lower"].split()[1].rstrip(","))


def certify(path, beta, *words):
    model = str(path.with_name("cars.model.pt"))
    return main(["certify", model, str(path), "--beta", beta, "--activation", "relu", *words])


def test_certify_takes_the_scales_of_the_file(cars, capsys, tmp_path):
    path, frame = cars
    assert fit(path, "--target", "mpg", "--features", "power,weight", "--beta", "3") == DONE
    fitted = values(capsys.readouterr().out)
    model = path.with_name("cars.model.pt")
    assert main(["certify", str(model), str(path), "--target", "mpg"]) == DONE  # beta of the file
    assert values(capsys.readouterr().out) == pytest.approx(fitted, rel=1e-4)
    better = tmp_path / "better.pt"
    assert certify(path, "3", "--target", "mpg", "--polish", str(better)) == DONE
    said = capsys.readouterr().out
    assert "scales       of the model file: features and target in its standard units" in said
    assert values(said) == pytest.approx(fitted, rel=1e-4)
    assert main(["predict", str(better), str(path)]) == DONE
    found = np.array(capsys.readouterr().out.split()[1:], dtype=float)
    assert np.corrcoef(found, frame.mpg)[0, 1] > 0.9
    for words, message in (
        (("--target", "power"), "--target is 'power', and"),
        (("--loss", "logistic"), "was fitted to a number; expected --loss squared"),
    ):
        assert certify(path, "3", *words) == BAD_INPUT
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("classes", [2, 3])
def test_certify_takes_the_classes_of_the_file(cars, capsys, classes):
    path, frame = cars
    if classes == 2:
        frame.replace("USA", "Japan").to_csv(path, index=False)
    assert fit(path, "--classify", "--features", "power,weight", "--beta", "3") == DONE
    objective, bound = values(capsys.readouterr().out)
    assert certify(path, "3", "--loss", "logistic") == DONE
    again = values(capsys.readouterr().out)
    assert again[0] == pytest.approx(objective, rel=1e-4)
    assert again[1] <= again[0]
    if classes == 2:
        assert again[1] == pytest.approx(bound, rel=1e-3)
    assert certify(path, "3") == BAD_INPUT
    assert "was fitted to classes; expected --loss logistic" in capsys.readouterr().err
    assert certify(path, "3", "--loss", "logistic", "--one-hot") == BAD_INPUT
    assert "holds the names of its own; expected the table as" in capsys.readouterr().err


def test_a_table_with_commas_for_points(cars, capsys):
    path, frame = cars
    frame[["power", "mpg"]].to_csv(path, index=False, sep=";", decimal=",")
    assert fit(path, "--delimiter", ";", "--decimal", ",", "--beta", "1") == DONE
    assert "1 features, target mpg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "mpg"), "column 'name': got 'car 0'; expected a finite number"),
        (("--target", "origin", "--drop", "name"), "column 'origin': got 'USA'|'Europe'|'Japan'"),
        (("--target", "mpg", "--features", "power,horse"), "no column 'horse'"),
        (("--target", "mpg", "--features", "mpg,power"), "--features names 'mpg', which is"),
        (("--target", "mpg", "--drop", "name,origin,power,weight"), "is left as a feature"),
        (("--target", "mpg,power", "--drop", "name,origin"), "names 2 columns; expected one"),
        (("--target", "mpg", "--features", "power,power"), "names 'power' more than once"),
        (("--drop", "name,origin"), "--drop names 'origin', which is the target"),
        (("--target", "mpg", "--features", "power", "--beta", "-1"), "beta is -1"),
        (("--target", "mpg", "--features", "power", "--max-seconds", "-1"), "max_seconds is -1"),
        (("--target", "mpg", "--features", "power", "--max-seconds", "nan"), "max_seconds is nan"),
        *((("--out", out), f"--out is '{out or '.'}', a folder") for out in ("", ".", "..", "/")),
        (("--target", "mpg", "--features", "power", "--folds", "40"), "too few for 40 folds"),
        (("--target", "name", "--classify", "--features", "power"), "at most half as many as rows"),
        (
            ("--target", "origin", "--classify", "--features", "power", "--folds", "30"),
            "fewer rows than there are",
        ),
    ],
)
def test_refusals(cars, capsys, words, message):
    path, _ = cars
    assert fit(path, *words) == BAD_INPUT
    said = capsys.readouterr()
    error = said.err
    assert "tried" not in said.out
    assert any(part in error for part in message.split("|")), error
    assert not path.with_name("cars.model.pt").exists()


@pytest.mark.parametrize("data", ["", ".", "..", "/"])
def test_a_folder_is_no_table(data, capsys):
    assert fit(data) == BAD_INPUT
    assert f"DATA.csv is '{data or '.'}', a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("a,y\n1,2\n", (), "the table has one row; expected at least two"),
        ("a,y\n1,5\n2,5\n3,5\n", (), "the target 'y' is 5.0 in every row; expected at least two"),
        ("a,y\n1,0.1\n2,0.1\n3,0.1\n", (), "the target 'y' is 0.1 in every row"),
        ("a,y\n1,k\n2,k\n", ("--classify",), "the target 'y' is k in every row"),
        ("a,y\n1,.5\n2,.5\n3,1\n4,1\n", ("--classify",), "not all of them whole (such as '.5')"),
        ("a,y\n1,1\n2,1.0\n3,2\n4,2\n", ("--classify",), "'1' and '1.0', the same number"),
        ("a,b,y\n0.1,7,1\n0.1,7,2\n0.1,7,3\n", (), "every feature is constant (a, b)"),
        ("a,y\n1e300,1\n2,2\n3,3\n", (), "'a' is 1.0e+300; expected between 1e-290 and 1e+290"),
        ("a,y\n1,1e-300\n2,2e-300\n3,0\n", (), "column 'y' is 2.0e-300; expected between"),
    ],
)
def test_nothing_to_learn_from_is_refused_before_anything_is_said(
    tmp_path, capsys, content, words, message
):
    path = tmp_path / "d.csv"
    path.write_text(content)
    assert fit(path, *words) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err


@pytest.fixture
def steps(tmp_path):
    """A table of constant columns, one of them but for rounding, and of unusual units."""
    path = tmp_path / "steps.csv"
    x = np.linspace(-1.0, 1.0, 12)
    frame = pd.DataFrame({"x": x, "same": 0.1, "sum": [0.3, 0.1 + 0.2] * 6, "y": np.abs(x)})
    frame.to_csv(path, index=False)
    return path, frame


def test_a_constant_column_is_named_and_left_alone(steps, capsys):
    path, frame = steps
    assert fit(path, "--beta", "1") == DONE
    said = capsys.readouterr().out
    assert "constant     same, sum: of no use" in said
    assert "sizes" not in said  # rounding, divided by, would be a feature, or far too small a one
    model = str(path.with_name("steps.model.pt"))
    assert main(["predict", model, str(path)]) == DONE
    before = capsys.readouterr().out
    frame.assign(same=5e3).to_csv(path, index=False)
    assert main(["predict", model, str(path)]) == DONE
    assert capsys.readouterr().out == before


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_units_whose_squares_are_no_numbers(steps, capsys, unit):
    path, frame = steps
    outputs = []
    for scale in (1.0, unit):
        (scale * frame[["x", "y"]]).to_csv(path, index=False)
        assert fit(path, "--beta", "0.1") == DONE
        capsys.readouterr()
        assert main(["predict", str(path.with_name("steps.model.pt")), str(path)]) == DONE
        found = capsys.readouterr().out.split()[1:]
        outputs.append(np.array(found, dtype=float) / scale)
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-3)


def test_a_prediction_beyond_all_numbers_is_refused(steps, capsys):
    path, frame = steps
    (1e-200 * frame[["x"]]).assign(y=frame.y).to_csv(path, index=False)
    assert fit(path, "--beta", "0.1") == DONE
    capsys.readouterr()
    frame.assign(x=1e200).to_csv(path, index=False)
    assert main(["predict", str(path.with_name("steps.model.pt")), str(path)]) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert "row 1 has values too far from those of the fit" in said.err


def test_what_predict_cannot_read(cars, capsys, tmp_path):
    path, frame = cars
    assert main(["predict", str(path), str(path)]) == BAD_INPUT
    assert "no model of `convexlib fit`" in capsys.readouterr().err
    assert fit(path, "--target", "mpg", "--features", "power", "--beta", "1") == DONE
    other = tmp_path / "other.csv"
    frame[["weight"]].to_csv(other, index=False)
    capsys.readouterr()
    assert main(["predict", str(path.with_name("cars.model.pt")), str(other)]) == BAD_INPUT
    assert "no column 'power'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["power"], "means": [0.0], "sizes": [1.0]},
        {"means": [0.0], "sizes": [1.0]},
        {"classes": ["a", "b", "c"]},
        {"level": None},
    ],
)
def test_scales_of_another_network_are_refused(cars, capsys, change):
    path, _ = cars
    assert fit(path, "--target", "mpg", "--features", "power,weight", "--beta", "9") == DONE
    model = path.with_name("cars.model.pt")
    saved = torch.load(model, weights_only=True)
    saved["convexlib.fit"] = json.dumps({**json.loads(saved["convexlib.fit"]), **change})
    torch.save(saved, model)
    for words in (("predict",), ("certify", "--beta", "9", "--activation", "relu")):
        assert main([words[0], str(model), str(path), *words[1:]]) == BAD_INPUT
        assert "is no model of `convexlib fit`, or is damaged" in capsys.readouterr().err


def test_what_to_expect_names_no_option_that_is_not_there(cars, capsys, monkeypatch):
    path, _ = cars
    monkeypatch.setattr(sys.modules[cl.Outlook.__module__], "_SEEN", 0.0)
    assert fit(path, "--target", "mpg", "--features", "power", "--beta", "1") == DONE
    for text in (capsys.readouterr().out, path.with_name("cars.report.html").read_text()):
        assert "a proof may take minutes or stay open: more time and more cones help" in text
        assert "max_" not in text


def test_a_folder_that_is_not_there_is_refused_before_the_work(cars, capsys, tmp_path):
    path, _ = cars
    assert fit(path, "--target", "mpg", "--out", str(tmp_path / "none" / "m")) == FAILED
    assert "is not a folder that can be written to" in capsys.readouterr().err


def test_no_command_writes_over_what_it_reads(cars, capsys, tmp_path):
    """Under its own name, or through a link."""
    path, frame = cars
    columns = ("--target", "mpg", "--features", "power", "--beta", "9")
    assert fit(path, *columns) == DONE
    model, table, link = tmp_path / "cars.model.pt", tmp_path / "x.report.html", tmp_path / "link"
    frame.to_csv(table, index=False)
    link.symlink_to(path)
    before = {file: file.read_bytes() for file in (path, model, table)}
    certify = ("certify", str(model), str(path), "--beta", "9", "--activation", "relu")
    for words in (
        *(("predict", str(model), str(path), "--out", str(out)) for out in (path, link, model)),
        *((*certify, "--polish", str(out)) for out in (path, link, model)),
        ("fit", str(table), "--out", str(tmp_path / "x"), *columns),
    ):
        capsys.readouterr()
        assert main(words) == BAD_INPUT
        assert "which is read and would be lost; expected another one" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before
