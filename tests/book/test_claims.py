"""The claims and their verdicts: nothing is left out, everything named exists, rules can say no."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import chapters
import claim_rules
import claims
import numpy as np
import pytest
from claim_rules import descent, recovery, reflections, speed, tables, verdicts

from book.tools.notebooks import BOOK
from experiments.uci.tables import GATED, RELU, SHORT

ROOT = BOOK.parent

CLAIMS = claims.read(BOOK)
# No paper claims anything of the runs of the fuzzer and the adversary.
NO_SUITES = {"fuzz", "adversary"}
SUITES = {path.name for path in (ROOT / "results").iterdir() if path.is_dir()} - NO_SUITES


@pytest.fixture(scope="module")
def found():
    return [claims.finding(claim, BOOK) for claim in CLAIMS]


def test_every_claim_has_a_measurement_and_a_verdict(found):
    assert len(CLAIMS) > 60
    assert len({claim.claim for claim in CLAIMS}) == len(CLAIMS)
    for claim, (measured, verdict) in zip(CLAIMS, found, strict=True):
        assert verdict in verdicts.VERDICTS, claim.claim
        assert len(measured) > 5, claim.claim
        assert not re.search(r"\b(nan|inf|None)\b", measured), claim.claim
        if claim.rule or verdict == verdicts.PROVED and not claim.theorem:
            assert re.search(r"\d", measured), claim.claim
    # The page would be worth little if nobody had ever said no.
    assert {verdict for _, verdict in found} == set(verdicts.VERDICTS)


def test_what_a_claim_names_exists():
    bibliography = (BOOK / "references.bib").read_text(encoding="utf8")
    papers = set(re.findall(r"^@\w+\{([^,]+),", bibliography, re.MULTILINE))
    proved = {
        name: {label for _, _, label in chapters.statements(chapters.read(BOOK, name).source)}
        for name in chapters.names(BOOK)
    }
    for claim in CLAIMS:
        assert claim.paper in papers, claim.claim
        assert claim.chapter in proved, claim.claim
        assert not claim.theorem or any(claim.theorem in labels for labels in proved.values())
        assert claim.code, claim.claim
        for name in claim.code:
            module, _, last = name.rpartition(".")
            try:
                importlib.import_module(name)
            except ImportError:
                assert hasattr(importlib.import_module(module), last), name
        sources = [claim.row or claim.rule, claim.not_attempted]
        assert any(sources), f"{claim.claim} has neither a row, nor a rule, nor a reason"
        assert bool(claim.test) != bool(claim.not_attempted), claim.claim


def test_the_tests_exist():
    for path, _, name in {claim.test.partition("::") for claim in CLAIMS if claim.test}:
        source = (ROOT / path).read_text(encoding="utf8")
        assert name.startswith("test_")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), (path, name)


def test_every_row_of_the_chapters_tables_is_a_claim(found):
    named = {(claim.chapter, claims.row_of(claim, BOOK).claim) for claim in CLAIMS if claim.row}
    every = {
        (name, row.claim)
        for name in chapters.names(BOOK)
        for row in claims.rows(BOOK / f"{name}.ipynb")
    }
    assert len(every) > 50
    assert {row for row in every if not row[1].startswith(claims.OURS)} == named


def test_no_verdict_is_kinder_than_the_chapters(found):
    order = verdicts.VERDICTS.index
    for claim, (_, verdict) in zip(CLAIMS, found, strict=True):
        if claim.row and verdict != verdicts.NOT_ATTEMPTED:
            told = claims.verdict_of(claims.row_of(claim, BOOK).verdict)
            least = verdicts.PROVED if told == verdicts.REPRODUCED and claim.theorem else told
            assert order(verdict) >= order(least), claim.claim


def test_every_experiment_has_a_rule_and_every_rule_a_claim(monkeypatch):
    assert {claim.rule for claim in CLAIMS if claim.rule} == set(claim_rules.RULES)
    read = set()
    for module in (descent, recovery, reflections, tables):
        kept = module.stored
        monkeypatch.setattr(
            module, "stored", lambda name, kept=kept: (read.add(name), kept(name))[1]
        )
    for rule in claim_rules.RULES.values():
        assert rule.__doc__
        rule()
    # No paper says how tight a bound above rank 5 is.
    assert read | {"benchmarks", "bounds"} == SUITES


def test_records_that_are_not_there_are_not_attempted(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVEXLIB_RESULTS", str(tmp_path))
    verdicts.stored.cache_clear()
    for claim in CLAIMS:
        if claim.rule and claim.rule != "gpu":
            assert claims.finding(claim, BOOK) == ("0 records are stored", "not attempted")
    verdicts.stored.cache_clear()


def problems(objectives, count=438, epochs=2000, neurons=3, null=0):
    """Records of `count` problems; each method reaches one objective, the ReLU program sooner.

    The program of the first `null` problems has no neuron.
    """
    return [
        {
            "config": {"data": f"table-{k}", "lambda": 0.1, "method": method, "epochs": epochs},
            "result": {
                "objective": 1.0 if k < null else value,
                "neurons": 0 if k < null else neurons,
                "curve": {"objective": [value], "seconds": [1.0 + (method != "relu")]},
            },
        }
        for k in range(count)
        for method, value in objectives.items()
    ]


@pytest.mark.parametrize(
    ("values", "count", "epochs", "verdict"),
    [
        ((1.0, 9.0, 9.0), 438, 2000, "reproduced"),
        ((1.0, 9.0, 9.0), 438, 100, "reproduced in part"),
        ((1.0, 9.0, 9.0), 437, 2000, "reproduced in part"),
        ((1.0, 1.2, 9.0), 438, 2000, "reproduced in part"),
        ((9.0, 1.0, 9.0), 438, 2000, "not reproduced"),
        ((1.0, 1.0, 1.0), 438, 2000, "not reproduced"),
    ],
)
@pytest.mark.parametrize("rule", ["uci_gated", "uci_relu", "uci_relu_short"])
def test_shares_of_problems(monkeypatch, rule, values, count, epochs, verdict):
    pools = {"uci_gated": GATED, "uci_relu": RELU, "uci_relu_short": SHORT}
    objectives = dict(zip(pools[rule], values, strict=True))
    monkeypatch.setattr(tables, "stored", lambda name: problems(objectives, count, epochs))
    measured, found = getattr(tables, rule)()
    assert found == verdict
    assert f"on the {count} problems with a neuron of {count} of 438" in measured
    assert f"({epochs} epochs of descent)" in measured
    others = [name for name in pools if pools[name][1] not in objectives]
    for name in others:
        assert getattr(tables, name)()[1] == "not attempted"


def test_problems_that_nobody_can_miss_are_left_out(monkeypatch):
    objectives = dict(zip(RELU, (1.0, 1.3, 9.0), strict=True))
    monkeypatch.setattr(tables, "stored", lambda name: problems(objectives, 10, null=4))
    assert tables.uci_relu()[0] == (
        "ReLU program / SGD / Adam: 100 / 100 / 0 % to 1, 100 / 100 / 0 % to 0.5, "
        "100 / 0 / 0 % to 0.1, on the 6 problems with a neuron of 10 of 438 (2000 epochs of "
        "descent)"
    )


def test_more_problems_change_the_verdict(monkeypatch):
    methods = dict.fromkeys(("gated", "relu", "sgd", "adam"), 1.0)
    monkeypatch.setattr(tables, "stored", lambda name: problems(methods, 7))
    text = "7 of 438 problems have all four methods, 7 tables begun"
    assert tables.uci_problems() == (text, "reproduced in part")
    monkeypatch.setattr(tables, "stored", lambda name: problems(methods))
    assert tables.uci_problems()[1] == "reproduced"
    assert tables.uci_time()[1] == "reproduced"  # relu is there after one second, the others two


def lagged(lags, above, convex=1.0, sgd=2.0):
    """A comparison on the ECG: how far the seeds of SGD end above, and two training errors."""
    methods = {
        "generated": [{"objective": 1.0, "train_mse": convex}],
        "sgd": [{"objective": 1.0 + excess, "train_mse": sgd} for excess in above],
    }
    bound = {"dual": 1.0 - 1e-7 if lags <= 2 else 0.9, "rigorous": True}
    config = {"part": "compare", "lags": lags, "n_train": 9, "ratio": 0.1, "tol": 1e-4}
    return {"config": config, "result": {"methods": methods, "he": methods, "bound": bound}}


@pytest.mark.parametrize(
    ("above", "sgd", "certified", "searched"),
    [
        ((0.1, 0.2), 2.0, "reproduced", "reproduced"),
        ((0.1, 0.2), 0.9, "reproduced in part", "reproduced in part"),  # a lower loss
        ((0.1, 0.0), 2.0, "not reproduced", "not reproduced"),  # one seed of them arrives
    ],
)
def test_objective_and_loss_on_the_electrocardiogram(monkeypatch, above, sgd, certified, searched):
    records = [lagged(lags, above, sgd=sgd) for lags in (2, *[5] * 6)]
    monkeypatch.setattr(descent, "stored", lambda name: records)
    assert descent.ecg_certified()[1] == certified
    assert descent.ecg_searched()[1] == searched
    assert f"is lower than SGD's in {int(sgd > 1)} of 1" in descent.ecg_certified()[0]


@pytest.mark.parametrize(
    ("sgd", "verdict"),
    [
        ([1.1, 1.1, 0.1], "reproduced"),  # one lucky seed of three
        ([1.1, 0.9, 0.9], "not reproduced"),
        ([1.0005, 1.0005, 1.0005], "not reproduced"),  # all tied
    ],
)
def test_parallel_training_counts_medians_and_sets(monkeypatch, sgd, verdict):
    kinds = {
        "decay": {
            "generated": {"by_seed": [1.0, 1.0, 1.2]},
            "adam": {"alone": {"by_seed": [1.3, 1.3, 1.3]}},
            "sgd": {"alone": {"by_seed": sgd}},
        }
    }
    records = [
        {"config": {"part": "sets", "set": f"set-{k}", "ratio": r}, "result": {"kinds": kinds}}
        for k in range(6)
        for r in (0.1, 0.01)
    ]
    monkeypatch.setattr(descent, "stored", lambda name: records)
    measured, found = descent.three_layer_descent()
    assert found == verdict
    assert "of 6 sets" in measured
    assert "12 settings" in measured


@pytest.mark.parametrize(
    ("counts", "undecided", "verdict"),
    [
        ([[0, 25, 50], [2, 30, 50]], 0, "reproduced"),
        ([[0, 25, 50], [2, 20, 40]], 0, "reproduced in part"),  # 40 of 50: no nine tenths
        ([[0, 25, 50], [22, 30, 50]], 0, "reproduced in part"),  # 22 of 50: perhaps a half
        ([[0, 25, 50], [2, 30, 50]], 2, "not reproduced"),  # 2 of 150 open
        ([[0, 10, 20], [0, 10, 20]], 0, "not reproduced"),
    ],
)
def test_the_transition_among_all_neurons(monkeypatch, counts, undecided, verdict):
    records = [
        {
            "config": {
                "part": "transition",
                "d": d,
                "samples": [d, 2 * d, 8 * d],
                "seeds": [*range(50)],
            },
            "result": {
                "rows": [
                    {
                        "minimal": k,
                        "isometry": 0,
                        "enough_active": 50,
                        "open": undecided * (k == 50),
                    }
                    for k in minimal
                ]
            },
        }
        for d, minimal in zip((2, 3), counts, strict=True)
    ]
    monkeypatch.setattr(recovery, "stored", lambda name: records)
    measured, found = recovery.recovery_relu()
    assert found == verdict
    assert measured.startswith(f"300 draws, {2 * undecided} undecided")


def test_one_draw_is_no_better_than_in_part(monkeypatch):
    row = claims.Row("a claim", "0.1 against 0.2", "1e-6", "reproduced")
    monkeypatch.setattr(claims, "row_of", lambda claim, folder: row)
    claim = claims.Claim("A claim.", "paper", "chapter", ("convexlib.solve",), row="a claim")
    assert claims.finding(claim, BOOK) == ("0.1 against 0.2 (tolerance 1e-6)", "reproduced")
    once = dataclasses.replace(claim, once="one split")
    measured = "0.1 against 0.2 (tolerance 1e-6; one split)"
    assert claims.finding(once, BOOK) == (measured, "reproduced in part")
    proved = dataclasses.replace(once, theorem="a-label")
    assert claims.finding(proved, BOOK)[1] == "proved and checked"


def test_paper_and_place_in_the_book_stand_apart():
    claim = next(claim for claim in CLAIMS if claim.theorem and not claim.rule)
    claim = dataclasses.replace(claim, not_attempted="nothing was tried")
    (paper,) = (line for line in claims.entry(claim, BOOK, set()) if "{cite:t}" in line)
    (place,) = (line for line in claims.entry(claim, BOOK, set()) if "{prf:ref}" in line)
    assert paper.startswith(f": *Paper.* {{cite:t}}`{claim.paper}`. ")
    assert place == f": *In this book.* {{prf:ref}}`{claim.theorem}`"


@pytest.mark.parametrize(
    ("shift", "half", "verdict"),
    [
        (0.1, 0.05, "reproduced"),
        (0.1, 0.2, "reproduced in part"),  # other days may say otherwise
        (0.0005, 0.0001, "reproduced in part"),  # other seeds may
        (-0.1, 0.05, "not reproduced"),
    ],
)
def test_validation_errors(monkeypatch, shift, half, verdict):
    noise = 0.01 * np.random.default_rng(0).standard_normal(10)
    level = {"convex": 1.0, "sgd-cosine": 1.0 + shift, "adam-cosine": 1.2}
    runs = {name: [{"validation": base + e} for e in noise] for name, base in level.items()}
    monkeypatch.setattr(descent.nyse_tables, "chosen", lambda found, name: (0.1, runs[name]))
    monkeypatch.setattr(
        descent.nyse_tables, "difference", lambda found, one, other, part: (-abs(shift), half)
    )
    assert descent.nyse_validation()[1] == verdict


def test_words_of_the_chapters():
    for words, verdict in {
        "reproduced": "reproduced",
        "reproduced, with proof": "reproduced",
        "reproduced for trees": "reproduced in part",
        "reproduced in sign; about the size of the spread": "reproduced in part",
        "not reproduced": "not reproduced",
    }.items():
        assert claims.verdict_of(words) == verdict
    with pytest.raises(ValueError, match="unknown verdict 'nearly'"):
        claims.verdict_of("nearly")


def test_a_gpu_record_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "results_dir", lambda: tmp_path)
    assert speed.gpu()[1] == "not attempted"
    (tmp_path / "benchmarks").mkdir()
    body = {"n": 9, "P": 4, "met": True, "runs": [{"seconds": 0.5, "gap": 1e-5}]}
    path = Path(tmp_path, "benchmarks", "gpu-large.json")
    path.write_text(json.dumps(body))
    assert speed.gpu() == ("0.5 s to a certified gap of 1.0e-05 for n = 9, P = 4", "reproduced")
    path.write_text(json.dumps(body | {"met": False}))
    assert speed.gpu()[1] == "not reproduced"
