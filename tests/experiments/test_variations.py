"""A reader's own settings and data: what is run, where its records are, and what is refused."""

import re

import numpy as np
import pytest

from convexlib.errors import DataError, InputError
from experiments import bounds, ecg, images, nyse, recovery, reflections, runner, three_layer, uci
from experiments import commands as cli
from experiments.records import stored
from experiments.runner import check_config, planned
from experiments.variations import changed, own_data, own_table, parse, ratio_of

ALL = (bounds, ecg, images, nyse, recovery, reflections, three_layer, uci)
EXPERIMENTS = [one.EXPERIMENT for one in ALL]
SMALL = {"n_train": 60, "n_test": 30, "lags": 1, "width": 4, "factor": 1, "seeds": [0]}


@pytest.fixture
def series(tmp_path):
    """Four hundred samples of a noisy wave, beside their times, which are no numbers."""
    wave = np.sin(np.arange(400) / 7) + 0.1 * np.random.default_rng(0).standard_normal(400)
    path = tmp_path / "wave.csv"
    path.write_text("time,value\n" + "".join(f"day {t},{v}\n" for t, v in enumerate(wave)))
    return path


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("beta=0.5", "beta", 0.5),
        ("width=8", "width", 8),
        ("tol=1e-3", "tol", 1e-3),
        ("rates.adam=0.1,3", "rates.adam", [0.1, 3]),
        ("rates=[.5]", "rates", [0.5]),
        ("n_fit=none", "n_fit", None),
        ("whitened=true", "whitened", True),
        ("data=breast-cancer-wisc-diag", "data", "breast-cancer-wisc-diag"),
    ],
)
def test_values_are_read(text, key, value):
    assert parse(text) == (key, value)
    assert type(parse(text)[1]) is type(value)


@pytest.mark.parametrize(
    "text", ["beta", "=1", "beta=", "beta=1,,2", "beta=nan", "beta=1e999", "beta=1_0", "a=b c"]
)
def test_other_values_are_refused(text):
    with pytest.raises(InputError, match="expected key=value|expected a finite number, a name"):
        parse(text)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_a_change_is_in_all_configurations_that_have_the_key_and_in_no_other(experiment):
    configs = experiment.configs("quick")
    key = "lambda" if experiment in (images.EXPERIMENT, uci.EXPERIMENT) else "ratio"
    folder, found = planned(experiment, "quick", changes={key: 0.25})
    assert folder == f"{experiment.name}-quick-other"
    assert {config[key] for config in found} == {0.25}
    others = [{k: v for k, v in config.items() if k != key} for config in configs if key in config]
    assert [{k: v for k, v in c.items() if k != key} for c in found] == [
        config for n, config in enumerate(others) if config not in others[:n]
    ]
    for config in found:
        check_config(config, experiment.configs)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_profiles_hold_each_configuration_once_for_the_seeds_and_device_asked_for(experiment):
    every = [config for profile in ("quick", "full") for config in experiment.configs(profile)]
    assert len({runner.digest(config) for config in every}) == len(every)
    seeds = [config.get("seeds") for config in experiment.configs("quick", seeds=(7, 8))]
    assert [7, 8] in seeds
    assert [0, 1] not in seeds
    if experiment.name not in ("recovery", "reflections"):  # which refuse one
        devices = [config["device"] for config in experiment.configs("quick", device="cuda")]
        assert set(devices) == {"cuda"}


def test_beta_stands_in_the_place_of_its_ratio():
    (config, *_) = planned(ecg.EXPERIMENT, "full", changes={"beta": 2})[1]
    assert config["beta"] == 2.0
    assert "ratio" not in config
    check_config(config, ecg.configs)
    with pytest.raises(InputError, match="got beta and ratio"):
        planned(ecg.EXPERIMENT, "full", changes={"beta": 2, "ratio": 0.1})
    with pytest.raises(InputError, match="'beta' is not among the settings; .* lambda, "):
        planned(uci.EXPERIMENT, "quick", changes={"beta": 2})


def test_changes_inside_others_and_choices():
    _, found = planned(ecg.EXPERIMENT, "quick", changes={"rates.adam": 0.5, "lags": 2})
    assert {tuple(config["rates"]["adam"]) for config in found} == {(0.5,)}
    assert all(len(config["rates"]["sgd"]) > 0 for config in found)
    _, found = planned(uci.EXPERIMENT, "full", changes={"method": "relu", "data": "wine"})
    assert [config["lambda"] for config in found] == list(uci.LAMBDAS[::-1])
    assert {config["method"] for config in found} == {"relu"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bta": 1},
            "'bta' is not among the settings; expected some of .*, beta, .*rates",
        ),
        ({"device": "cuda"}, "'device' is not among the settings"),
        ({"rates": 0.1}, r"'rates' is not among the settings; .*rates\.adam"),
        ({"part": "none"}, "part is 'none'; expected one of beats, compare"),
        ({"method": "sgd"}, "method is 'sgd'; expected no method, as none has one"),
        ({"width": 0}, "width is 0; expected a value of the kind and sign of 100, 50"),
        ({"width": 2.5}, "width is 2.5; expected a value of the kind"),
        ({"width": True}, "width is True; expected a value of the kind"),
        ({"ratio": "small"}, "ratio is 'small'; expected a value of the kind"),
        ({"ratio": [0.1, 0.2]}, r"ratio is \[0.1, 0.2\]; expected a value of the kind"),
        ({"ratio": float("inf")}, "ratio is inf; expected a value of the kind"),
        ({"seeds": [[0]]}, r"seeds is \[0\]; expected a value of the kind"),
        ({"seeds": [0, 0]}, r"seeds is \[0, 0\]; expected each value once"),
    ],
)
def test_changes_that_do_not_fit_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        planned(ecg.EXPERIMENT, "quick", changes=changes)


def test_names_are_those_that_there_are_but_for_data():
    with pytest.raises(InputError, match="instance is 'square'; .* 'circle', 'ecg'"):
        planned(three_layer.EXPERIMENT, "quick", changes={"instance": "square"})
    assert planned(three_layer.EXPERIMENT, "quick", changes={"set": "wine"})[1]
    with pytest.raises(InputError, match="no configuration has all of K, ridges|not among"):
        changed([{"K": 1}, {"ridges": [1]}], {"K": 1, "ridges": 1}, [{"K": 1}, {"ridges": [1]}])


def test_seconds_may_be_parts_of_one_and_stay_whole_where_they_are():
    ((config,), (same,)) = (
        planned(bounds.EXPERIMENT, "quick", changes={"seconds": given})[1]
        for given in ([0, 0.25], [0, 1])
    )
    assert config["seconds"] == [0, 0.25]
    assert runner.digest(same) == runner.digest(bounds.configs("quick")[0])


def test_the_command_says_which_configuration_was_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    assert cli.main(["run", "images", "--set", "part=ten", "--set", "data=iris"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("data is 'iris'; expected .* The configuration was {\"batch_size\"", line)


def test_what_is_wrong_with_a_file_is_said_without_the_configuration(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    path = tmp_path / "short.csv"
    path.write_text("value\n1\n2\n")
    assert cli.main(["run", "ecg", "--data", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"short\.csv has 2 rows; expected 502 or more.*, or take more data\.$", line)


def test_the_call_and_the_command_are_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    changes = {**SMALL, "beta": 0.5, "rates.sgd": [0.1], "tol": 1e-6}
    found = runner.run_experiment(ecg.EXPERIMENT, "quick", changes=changes)
    assert {record["result"]["beta"] for record in found} == {0.5}
    assert all(record["config"]["rates"]["sgd"] == [0.1] for record in found)
    place = tmp_path / "ecg-quick-other"
    assert len(stored(place)) == len(found)
    before = (place / "compare.jsonl").read_bytes()
    words = [f"--set={key}={str(value).replace(' ', '')}" for key, value in changes.items()]
    assert cli.main(["run", "ecg", *words]) == 0
    assert (place / "compare.jsonl").read_bytes() == before
    assert f"{ratio_of(found[0]):.5g}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["ecg-quick-other"]


def test_recovery_by_descent_takes_beta_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    changes = {"part": "descent", "beta": 0.25, "steps": 20, "seeds": [0], "n": 12, "width": 4}
    found = runner.run_experiment(recovery.EXPERIMENT, "quick", changes=changes)
    assert {record["config"]["beta"] for record in found} == {0.25}
    assert all(min(record["result"]["excess"]) >= -1e-6 for record in found)
    assert any(
        line.split()[1:2] == ["0.25"] for line in recovery.EXPERIMENT.table(found).splitlines()
    )


def test_a_variation_is_not_among_the_records_of_the_book(tmp_path, monkeypatch):
    """Not even where all its configurations are."""
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    same = {"part": "linear"}
    assert planned(nyse.EXPERIMENT, "full", changes=same)[0] == "nyse-other"
    assert planned(nyse.EXPERIMENT, "full", changes=same)[1] == nyse.configs("full")[:1]
    assert planned(nyse.EXPERIMENT, "full")[0] == "nyse"


def test_a_series_of_ones_own(series, tmp_path):
    changes = {**SMALL, "ratio": 0.1}
    found = runner.run_experiment(ecg.EXPERIMENT, changes=changes, data=series, folder=tmp_path)
    values = np.loadtxt(series, delimiter=",", skiprows=1, usecols=1)
    for record in found:
        assert record["config"]["part"] == "compare"
        assert record["config"]["record"] == "wave"
        assert record["result"]["rows"] == [60, 2]
        task = ecg.methods.setting(record["config"])[0]
        np.testing.assert_allclose(task.mean + task.scale * task.y, values[1:61], atol=1e-12)
    assert ecg.EXPERIMENT.table(found)
    (config, *_) = planned(ecg.EXPERIMENT, "quick", data=series)[1]
    with pytest.raises(InputError, match=r"has 400 rows; expected 502 or more, as n_train is"):
        ecg.compute(config)


def test_a_series_is_tested_to_its_end_or_on_as_many_rows_as_named(series, tmp_path):
    def task(**changes):
        changes = {"n_train": 60, "lags": 2, **changes}
        (config, *_) = planned(ecg.EXPERIMENT, "quick", data=series, changes=changes)[1]
        return ecg.methods.setting(config)[0]

    assert len(task().X_test) == 400 - 60 - 2
    assert len(task(n_test=50).X_test) == 50
    changes = {key: value for key, value in SMALL.items() if key != "n_test"} | {"ratio": 0.5}
    found = runner.run_experiment(ecg.EXPERIMENT, changes=changes, data=series, folder=tmp_path)
    record = found[0]
    assert record["result"]["tested"] == 339
    assert "on the 339 samples that are left to test" in ecg.EXPERIMENT.table([record])
    with pytest.raises(InputError, match="has 400 rows; expected 1062 or more, .* with 1000 to"):
        task(n_test=1000)


def test_a_series_takes_the_place_of_the_volume(series):
    changes = {"n_fit": 100, "part": "series", "loss": "squared", "depth": 2, "ratios": [0.1]}
    (config, *_) = planned(nyse.EXPERIMENT, "quick", data=series, changes=changes)[1]
    result = nyse.compute(config)
    values = np.loadtxt(series, delimiter=",", skiprows=1, usecols=1)
    units = (values - values[:280].mean()) / values[:280].std()
    task = nyse.methods.task_of(config)
    np.testing.assert_allclose(task.y, units[5:], atol=1e-12)
    np.testing.assert_allclose(task.yesterday().X[:, 0], units[4:-1], atol=1e-12)
    assert task.parts["test"] == slice(275, 395)
    assert result["path"][0]["gap"] < 1e-6
    with pytest.raises(InputError, match="leave 220 to fit; expected at least n_fit = 600"):
        nyse.compute(config | {"n_fit": 600})


WAVE = np.sin(np.arange(900) / 7)


def refusal(name, changes, path=None):
    """What the first configuration of a variation is refused with, before anything is computed."""
    experiment = next(one for one in EXPERIMENTS if one.name == name)
    (config, *_) = planned(experiment, "quick", changes=changes, data=path)[1]
    with pytest.raises(InputError) as caught:
        runner.measure(experiment.function, config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("images", {"part": "ten", "data": "iris"}, "data is 'iris'; expected one of 'mnist'"),
        ("images", {"n_train": 1790}, "digits has 1797 rows; expected 2190 .* n_test is 400"),
        ("three_layer", {"part": "sets", "n_train": 1797}, "digits has 1797 .* expected 1798"),
        ("three_layer", {"part": "sets", "set": "wine"}, "wine has 3 classes; expected two"),
        ("ecg", {"n_train": 10**6}, "record 208 has 108000 rows; expected 1001001 or more"),
        ("ecg", {"n_test": 10**6}, "record 208 has 108000 rows; .* with 1000000 to test"),
        ("nyse", {"lags": 100_000}, "6051 days with lags 100000 .* leave 0 to fit; .* fewer lags"),
        ("nyse", {"n_fit": 15}, "n_fit = 15 of them, n_fit of 16 or more"),
        ("nyse", {"share": 1.5}, "share is 1.5; expected the part .* below 1"),
        ("bounds", {"set": "ecg-x"}, "set is 'ecg-x'; expected a number of lags from 1 to 1999"),
        ("bounds", {"set": "ecg-99999"}, "set is 'ecg-99999'; expected a number of lags"),
        ("bounds", {"set": "ecg-0"}, "set is 'ecg-0'; expected a number of lags"),
        (
            "recovery",
            {"part": "spikes", "kinks": 100, "spacing": 1.5},
            "100 kinks 1.5 apart do not fit",
        ),
        ("recovery", {"part": "spikes", "n": 2}, "1 kinks 0 apart do not fit .* a larger n"),
        ("recovery", {"part": "spikes", "spacing": 1e9}, "2 kinks 1e.09 apart do not fit"),
        ("recovery", {"part": "map", "ratios": 0.01}, "n is 0 and d is 6; expected n of 1 or more"),
        ("recovery", {"part": "relu", "ratios": 0.01}, "n is 0 and d is 3; expected n of 1 or"),
        (
            "recovery",
            {"part": "relu", "whitened": True, "ratios": 0.5},
            "n is 2 and d is 3; expected n of 3 or more, as the data are whitened",
        ),
        ("recovery", {"part": "descent", "scale": 1e-200}, "scale is 1e-200; expected it between"),
        ("recovery", {"part": "descent", "scale": 1e200}, "scale is 1e.200; expected it between"),
    ],
)
def test_settings_that_the_data_do_not_bear_are_refused_before_computing(name, changes, message):
    assert re.search(message, refusal(name, changes))


@pytest.mark.parametrize("name", ["ecg", "nyse"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full(900, 3.0), "is constant over the 50[12]|is constant over the 630 samples"),
        (np.repeat([0.1, 0.7], [700, 200]), "is constant over the 50[12]|is constant over the 630"),
        (1e300 * WAVE, r"the largest entry of the series in .* is 1.0e\+300; expected it between"),
        (1e-300 * WAVE, "the largest entry of the series in .* is 1.0e-300; expected it between"),
        (WAVE[1:2], "has 1 rows; expected 502 or more|1 days with lags 5 .* leave 0 to fit"),
        (WAVE[1:3], "has 2 rows; expected 502 or more|2 days with lags 5 .* leave 0 to fit"),
    ],
)
def test_series_that_cannot_be_used_are_refused(tmp_path, name, values, message):
    path = tmp_path / "own.csv"
    path.write_text("value\n" + "".join(f"{float(value)!r}\n" for value in values))
    changes = {"n_fit": None} if name == "nyse" else {}
    assert re.search(message, refusal(name, changes, path))


def test_fits_that_the_series_leaves_open_are_refused(tmp_path):
    path = tmp_path / "own.csv"
    for values, n_fit, message in (
        (np.arange(900) % 2, None, "the 6 columns of lags depend on each other"),
        (np.repeat([0, 1, 0], [100, 100, 700]), 200, "is constant over the 200 samples that train"),
    ):
        path.write_text("value\n" + "".join(f"{value}\n" for value in values))
        assert message in refusal("nyse", {"part": "linear", "n_fit": n_fit}, path)


DRAWN = np.random.default_rng(0).standard_normal((80, 2))


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (DRAWN[:2], [0, 1], "own has 2 rows; expected 5 or more, as a fifth of them"),
        (DRAWN, DRAWN[:, 0], "80 values in 80 rows, not all of them whole numbers; expected class"),
        (DRAWN, 0.5 * (DRAWN[:, 0] > 0), "2 values in 80 rows, not all of them whole numbers; exp"),
        (DRAWN, np.arange(80), "has 80 values in 80 rows; expected classes as whole numbers, 2 to"),
        (DRAWN, np.zeros(80), "has 1 values in 80 rows; expected classes as whole numbers, 2 to"),
        (DRAWN * [1, 1e200], DRAWN[:, 0] > 0, "the largest entry of column b of own is"),
        (DRAWN * [1, 1e-200], DRAWN[:, 0] > 0, "the largest entry of column b of own is"),
    ],
)
def test_tables_that_are_none_of_classes_are_refused(tmp_path, X, y, message):
    path = tmp_path / "own.csv"
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,kind", comments="")
    assert re.search(message, refusal("uci", {}, path))


def test_a_table_of_classes_of_ones_own(tmp_path):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((40, 2))
    rows = np.column_stack([X, 1 + (X[:, 0] > 0)])
    path = tmp_path / "mine.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b,kind", comments="")
    found = runner.run_experiment(
        uci.EXPERIMENT, changes={"lambda": 0.01, "method": "relu"}, data=path, folder=tmp_path,
    )  # fmt: skip
    (record,) = found
    assert record["config"]["data"] == "mine"
    assert record["result"]["shape"] == [32, 2, 1]
    path.write_text(path.read_text().replace("\n", " \n", 1))
    with pytest.raises(DataError, match=r"mine.csv has changed; expected the file of sha256"):
        uci.compute(record["config"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a;b;kind\n1;2;1\n", "has one column, as in 'a;b;kind'"),
        ("1,2,1\n3,4,2\n", "the first line of .* is all numbers"),
        ('a,kind\n"1,5",1\n', "column 'a': got '1,5'"),
    ],
)
def test_advice_names_no_option_that_experiments_have_not(tmp_path, content, problem):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=f"{problem}; expected names in the first") as caught:
        own_table(own_data(path))
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    "experiment", [one.EXPERIMENT for one in (bounds, images, recovery, reflections, three_layer)]
)
def test_experiments_that_take_no_table_say_so(experiment, series):
    message = f"{experiment.name} makes its own data .*such as ecg, nyse or uci"
    with pytest.raises(InputError, match=message):
        planned(experiment, "quick", data=series)


def test_files_that_are_none_and_doubled_settings(capsys, tmp_path, series):
    assert cli.main(["run", "ecg", "--data", str(tmp_path / "none.csv")]) == 1
    assert "none.csv cannot be read" in capsys.readouterr().err
    assert cli.main(["run", "ecg", "--set", "lags=1", "--set", "lags=2"]) == 2
    assert "got --set twice for one key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["run", "ecg", "--set", "lags"])
    assert re.search("got 'lags'; expected key=value", capsys.readouterr().err)
    with pytest.raises(InputError, match="profile is 'slow'; expected one of 'quick', 'full'"):
        runner.run_experiment(ecg.EXPERIMENT, "slow")
    with pytest.raises(InputError, match="changes is ndarray; expected a dict of settings"):
        runner.run_experiment(ecg.EXPERIMENT, "quick", changes=np.array(["a", "b"]))
