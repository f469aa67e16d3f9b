"""The certificate that a page computes, against the library, in headless chromium."""

import json

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

import convexlib as cl
from convexlib.pricing import price

pytestmark = pytest.mark.browser

NAME = "certify_here"
NETWORK = {"U": [[1.0], [-0.5]], "b": [0.5, 1.0], "alpha": [1.0, -1.0]}
TABLE = "x,y\n-1,1\n0,0.5\n1,2\n2,1\n"
EVALUATE = """cases => cases.map(({ U, alpha, rows, y, z, beta }) => ({
  priced: faces.finish(faces.price(faces.finish(faces.arrange(rows)), z)),
  result: faces.finish(bounds.certify({ U, alpha }, rows, y, beta)),
}))"""
KINDS = ("Gaussian", "repeated", "on a line through 0", "integers", "scales", "silent", "near")


def case(number):
    """A network, data and a dual point, degenerate in most cases; without a bias in some."""
    rng = np.random.default_rng(number)
    kind, d, n = KINDS[number % len(KINDS)], 1 + number % 2, int(rng.integers(1, 14))
    F = rng.standard_normal((n, d))
    if kind == "repeated":
        F = F[rng.integers(0, n, n)]
    elif kind == "on a line through 0":
        F = np.outer(rng.integers(-3, 4, n), rng.standard_normal(d))
    elif kind == "integers":
        F = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "scales":
        F = F * 1000 ** rng.uniform(-1, 1, d)
    elif kind == "near":
        F[n // 2 :] = F[: n - n // 2] + 10 ** rng.uniform(-16, -5) * rng.standard_normal(d)
    X = np.column_stack([F, np.ones(n)]) if rng.random() < 0.6 else F
    y, m = rng.standard_normal(n), int(rng.integers(1, 5))
    U, alpha = rng.standard_normal((m, X.shape[1])), rng.standard_normal(m)
    if kind == "silent":
        U[0], alpha[-1] = 0.0, 0.0
    z = rng.standard_normal(n) * (rng.random(n) < 0.8)
    reach = price(torch.from_numpy(X), torch.from_numpy(y)).lower
    beta = max(reach, 1e-3) * 10 ** rng.uniform(-2, 0.1)
    return {"kind": kind, "rows": X, "y": y, "U": U, "alpha": alpha, "z": z, "beta": beta}


def open_page(visit, server):
    """The figure, its two texts, beta, the button and what it says."""
    visit.open(f"{server}{NAME}.html")
    found = visit.page.locator(f'figure[data-figure="{NAME}"]')
    return found, found.locator("output")


def certified(found, says, network, table, beta):
    """Fill in, press, wait for numbers; return them."""
    found.locator("textarea").nth(0).fill(network)
    found.locator("textarea").nth(1).fill(table)
    found.get_by_label("weight decay").fill(beta)
    found.get_by_role("button", name="Certify").click()
    says.page.wait_for_function("output => 'lower' in output.dataset", arg=says.element_handle())
    names = ("objective", "lower", "gap", "found", "violation", "gain")
    return {name: float(says.get_attribute(f"data-{name}")) for name in names}


def test_two_hundred_certificates_agree_with_the_library(visit, server):
    open_page(visit, server)
    cases = [case(number) for number in range(200)]
    sent = [
        {key: np.asarray(value).tolist() for key, value in one.items() if key != "kind"}
        for one in cases
    ]
    for one, got in zip(cases, visit.page.evaluate(EVALUATE, sent), strict=True):
        X, y, z = (torch.from_numpy(one[key]) for key in ("rows", "y", "z"))
        exact = price(X, z, target=0.0, rtol=1e-11)
        priced, result = got["priced"], got["result"]
        assert abs(priced["value"] - exact.lower) <= 1e-9 * exact.lower, one["kind"]
        assert priced["upper"] >= exact.lower, one["kind"]
        if one["kind"] != "near":  # what is moved onto one line costs as much as it was moved
            assert priced["upper"] <= exact.upper * (1 + 1e-7), one["kind"]

        network = cl.TwoLayerReLU(*(torch.from_numpy(one[key]) for key in ("U", "alpha")))
        problem = cl.TwoLayer(X, y, beta=one["beta"], arrangements="generate")
        solved = cl.solve(problem, tol=1e-8)
        certificate = cl.certify(network, X, y, beta=one["beta"], z=solved.z)
        assert certificate.rigorous
        primal = certificate.primal
        assert abs(result["value"] - primal) <= 1e-9 * primal
        assert result["lower"] <= min(solved.value, primal)
        assert result["lower"] >= 0.998 * certificate.dual  # of use, not only true
        assert result["found"] >= certificate.dual * (1 - 1e-12)
        assert abs(result["gap"] - (primal - result["lower"]) / primal) < 1e-9
        lacking = cl.missing_neuron(network, X, y, beta=one["beta"])
        value = result["missing"]["value"]
        assert abs(value - lacking.violation * one["beta"]) <= 1e-6 * value
    assert visit.problems == []


def test_rows_beyond_the_margin_of_cancellation_get_the_plain_bound(visit, server):
    open_page(visit, server)
    ask = "([rows, z]) => faces.finish(faces.price(faces.finish(faces.arrange(rows)), z))"
    near = [[1, 1e-7], [1, 0]]  # too far apart to share a line
    for rows, z in ((near, [1, -1]), ([[0, 0, 0]], [1]), ([[1], [2]], [0, 0])):
        got = visit.page.evaluate(ask, [rows, z])
        X = np.array(rows, dtype=float)
        sizes = np.abs(z) @ np.linalg.norm(X, axis=1)
        assert (sizes if X.any() else 0) <= got["upper"] <= sizes * (1 + 1e-12)
        assert got["value"] <= got["upper"]


def test_samples_that_contradict_each_other_cancel(visit, server):
    open_page(visit, server)
    ask = "([rows, z]) => faces.finish(faces.price(faces.finish(faces.arrange(rows)), z))"
    for rows, z, most in (
        ([[1, 1], [1, 1]], [1, -1 + 1e-9], 2**0.5 * 1e-9),
        ([[1, 1], [2, 2], [-1, -1]], [2, -1, 1e-8], 2**0.5 * 1e-8),
        ([[3, 1, 2], [3, 1, 2], [1, 0, 0]], [1, -1, 0], 0.0),
    ):
        got = visit.page.evaluate(ask, [rows, z])
        assert most * (1 - 1e-6) <= got["upper"] <= most * (1 + 1e-6) + 1e-12
    data = {"U": [[0.3, 0.1]], "alpha": [0.2], "rows": [[1, 1], [1, 1]], "y": [1, -1], "beta": 0.1}
    certify = (
        "({ U, alpha, rows, y, beta }) => faces.finish(bounds.certify({ U, alpha }, rows, y, beta))"
    )
    lower = visit.page.evaluate(certify, data)["lower"]
    assert 1 - 1e-8 <= lower <= 1  # the zero network is optimal, and its loss is 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_dropped_files_are_certified(visit, server, tmp_path, theme):
    visit.page.emulate_media(color_scheme=theme)
    found, says = open_page(visit, server)
    drop = """(area, [name, text]) => {
      const files = new DataTransfer();
      files.items.add(new File([text], name));
      area.dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
    }"""
    areas = found.locator("textarea")
    files = ("net.json", json.dumps(NETWORK)), ("data.csv", TABLE)
    for area, file in zip(areas.all(), files, strict=True):
        area.evaluate(drop, file)
    for area, (_, text) in zip(areas.all(), files, strict=True):
        expect(area).to_have_value(text)
    got = certified(found, says, *(text for _, text in files), "0.1")
    U = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]).double()
    network = cl.TwoLayerReLU(U, torch.tensor([1.0, -1.0]).double())
    X = np.array([[-1.0, 1], [0, 1], [1, 1], [2, 1]])
    certificate = cl.certify(network, X, np.array([1, 0.5, 2, 1]), beta=0.1)
    lacking = cl.missing_neuron(network, X, np.array([1, 0.5, 2, 1]), beta=0.1)
    assert abs(got["objective"] - certificate.primal) < 1e-12
    assert 0.998 * certificate.dual < got["lower"] < certificate.primal
    assert abs(got["violation"] - lacking.violation) < 1e-9
    assert abs(got["gain"] - lacking.gain) < 1e-9
    assert "No network of any width is below" in says.inner_text()
    assert found.locator("svg .datum").count() == 4
    assert float(found.get_by_role("progressbar").get_attribute("value")) == 1

    # The same from files that are chosen, and with a state's names.
    state = {"0.weight": NETWORK["U"], "0.bias": NETWORK["b"], "2.weight": [NETWORK["alpha"]]}
    texts = json.dumps(state), TABLE.replace(",", ";")
    for place, text in enumerate(texts):
        (tmp_path / f"file{place}").write_text(text)
        found.locator('input[type="file"]').nth(place).set_input_files(tmp_path / f"file{place}")
        expect(areas.nth(place)).to_have_value(text)
    assert certified(found, says, *texts, "0.1") == got
    assert visit.problems == []


def test_every_example_is_shown(visit, server):
    found, says = open_page(visit, server)
    choice = found.locator("select")
    gaps = []
    for place in range(choice.locator("option").count()):
        choice.select_option(index=place)
        gaps.append(float(says.get_attribute("data-gap")))
        drawn = found.locator("svg :is(.datum, polygon.plus, polygon.minus)").count()
        assert drawn == len(found.locator("textarea").nth(1).input_value().splitlines()) - 1
    assert min(gaps[:2]) > 0.01
    assert gaps[2] < 1e-6
    assert "below 10\u207b\u2076" in says.inner_text()
    assert visit.problems == []


def test_a_large_table_leaves_the_page_free(visit, server):
    found, says = open_page(visit, server)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 3)).round(3)
    network = {"U": [[1.0, 0.5]], "b": [0.5], "alpha": [1.0]}
    found.locator("textarea").nth(0).fill(json.dumps(network))
    found.locator("textarea").nth(1).fill("\n".join(",".join(map(str, row)) for row in rows))
    found.get_by_label("weight decay").fill("60")
    found.get_by_role("button", name="Certify").click()
    assert says.inner_text() == "Computing."  # the page answers before the end
    visit.page.wait_for_function("output => 'lower' in output.dataset", arg=says.element_handle())
    lower, best = (float(says.get_attribute(f"data-{key}")) for key in ("lower", "found"))
    assert (1 - 1e-3) * best <= lower <= best
    # A new run ends the one before.
    found.get_by_role("button", name="Certify").click()
    got = certified(found, says, json.dumps(NETWORK), TABLE, "0.1")
    visit.page.wait_for_timeout(300)
    assert float(says.get_attribute("data-objective")) == got["objective"]
    assert visit.problems == []


def with_(**changes):
    return json.dumps(NETWORK | changes)


WRONG = [
    ("{", TABLE, "1", ("not JSON", 'expected {"U"', "Choose an example")),
    ('{"U": [[NaN]], "alpha": [1]}', TABLE, "1", ("not JSON",)),
    ("[1]", TABLE, "1", ("has no keys", "expected U, b, alpha", "Rename")),
    ('{"V": [[1]]}', TABLE, "1", ('the keys "V"', "expected U, b, alpha", "Rename")),
    (with_(c=1), TABLE, "1", ('the key "c"', "no output bias", "convexlib certify")),
    (with_(U=[]), TABLE, "1", ("U is []", "expected a list of rows")),
    (with_(U=[[1], [1, 2]]), TABLE, "1", ("U[1] has 2 numbers", "expected 1", "alike")),
    (with_(U=[[1], ["x"]]), TABLE, "1", ('U[1][0] is "x"', "expected a number", "Correct")),
    (with_(U=[[1], [1e300]]), TABLE, "1", ("U[1][0] is 1e+300", "at most 1e50")),
    (with_(U=[[1, 2, 3]] * 2), TABLE, "1", ("reads 3 features", "1 or 2", "convexlib certify")),
    (with_(U=[[1]] * 1001), TABLE, "1", ("1001 neurons", "at most 1000", "convexlib certify")),
    (with_(alpha=[1]), TABLE, "1", ("alpha has 1 numbers", "expected 2")),
    (with_(b=3), TABLE, "1", ("b is 3", "expected a list")),
    (with_(), "", "1", ("0 rows", "expected 1 to 300", "Paste")),
    (with_(), "1,2\n" * 301, "1", ("301 rows", "expected 1 to 300", "convexlib certify")),
    (with_(), "1,2,3", "1", ("Line 1", "3 columns", "expected 2", "Correct")),
    (with_(), "x,y\n1,2\n\n3", "1", ("Line 4", "1 column;", "expected 2")),
    (with_(), "x,y\n1,", "1", ('Line 2, column 2 of the table is ""', "expected a number")),
    (with_(), "1,2\n3,nan", "1", ('column 2 of the table is "nan"', "expected a number")),
    (with_(), "1,2\n3,1e999", "1", ("column 2 of the table is", "at most 1e50")),
    (with_(), TABLE, "x", ('beta is "x"', "expected a number from 1e-20", "weight decay")),
    (with_(), TABLE, "0", ('beta is "0"', "expected")),
    (with_(), TABLE, "", ('beta is ""', "expected")),
]  # fmt: skip


def test_bad_input_gets_a_message(visit, server):
    found, says = open_page(visit, server)
    for network, table, beta, words in WRONG:
        found.locator("textarea").nth(0).fill(network)
        found.locator("textarea").nth(1).fill(table)
        found.get_by_label("weight decay").fill(beta)
        found.get_by_role("button", name="Certify").click()
        text = says.inner_text()
        assert [word for word in words if word not in text] == [], text
        assert says.get_attribute("data-lower") is None, text
    large = {"name": "large.csv", "mimeType": "text/csv", "buffer": b"1" * 1_000_001}
    found.locator('input[type="file"]').nth(1).set_input_files(large)
    says.filter(has_text="large.csv has 1000001 bytes; expected at most 1000000.").wait_for()
    assert visit.problems == []
