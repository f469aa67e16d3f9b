"""The interactive figures of the built book, moved by keyboard and mouse in headless chromium."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import convexlib as cl
from book.tools import interactive, stills
from convexlib.problems.mirrors.dictionaries import abs_chains
from convexlib.problems.mirrors.features import ChainFeature
from tests.book.built import NARROW

pytestmark = pytest.mark.browser


def figure(visit, url, name):
    """Open the page of an interactive figure; return the figure and what it says."""
    visit.open(url)
    found = visit.page.locator(f'figure[data-figure="{name}"]')
    return found, found.locator("output")


def test_rotating_the_gate_moves_the_supported_vertex(visit, server):
    found, says = figure(visit, f"{server}two_layer.html", "gate")
    X = np.array(interactive.gate()["X"])
    handle = found.get_by_role("slider")
    handle.focus()
    seen = set()
    for key in ["Home", *["ArrowRight"] * 119, "PageUp", "ArrowLeft"]:
        handle.press(key)
        angle = np.deg2rad(float(handle.get_attribute("aria-valuenow")))
        active = X @ [np.cos(angle), np.sin(angle)] >= 0
        bits = "".join("01"[int(on)] for on in active)
        seen.add(bits)
        assert says.get_attribute("data-pattern") == bits
        assert f"Pattern {bits}." in says.inner_text()
        vertex = json.loads(says.get_attribute("data-vertex"))
        assert np.allclose(vertex, X.T @ active, atol=1e-12)
    assert len(seen) == 10  # all of them: five samples in the plane in general position
    assert visit.problems == []


def test_sliding_beta_kills_neurons(visit, server):
    found, says = figure(visit, f"{server}two_layer_practice.html", "path")
    stored = json.loads((interactive.FOLDER / "path.json").read_text())
    slider = found.get_by_label("weight decay")
    slider.focus()
    for key, place in (("End", -1), ("Home", 0), ("ArrowRight", 1), ("PageUp", None)):
        slider.press(key)
        place = int(slider.input_value()) if place is None else place
        neurons = stored["neurons"][place]
        assert int(says.get_attribute("data-neurons")) == len(neurons)
        assert found.locator(".neuron").count() == len(neurons)
        objective = float(says.get_attribute("data-objective"))
        assert abs(objective - stored["dual"][place]) < 1e-6 * objective
        assert f"{len(neurons)} neuron" in slider.get_attribute("aria-valuetext")
    assert visit.problems == []


def test_dragging_a_sample_moves_its_mirror(visit, server):
    found, says = figure(visit, f"{server}mirrors.html", "mirrors")
    samples = found.get_by_role("slider")
    samples.nth(0).scroll_into_view_if_needed()
    start = samples.nth(0).bounding_box()
    visit.page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(start["x"] - 20, start["y"] + 30)
    visit.page.mouse.up()
    samples.nth(1).press("ArrowRight")
    samples.nth(2).press("PageUp")
    x = np.array([float(one.get_attribute("aria-valuenow")) for one in samples.all()])
    assert x[0] < -0.2
    assert np.allclose(x[1:], [1.1, 3.5])
    units = [ChainFeature("abs", (1, 1), tuple(b), x) for b in abs_chains(x, 3)[1]]
    every = np.unique(np.concatenate([unit.kinks for unit in units]).round(9))
    places = json.loads(says.get_attribute("data-places"))
    assert np.allclose(np.unique(np.round(places, 9)), every)
    choice = found.get_by_role("combobox")
    for option, fold, anchor in (
        ("reflect x\u2083 about x\u2082", x[1], x[2]),
        ("fold x\u2081 onto x\u2082", (x[0] + x[1]) / 2, x[1]),
        ("no second fold, at x\u2083", x[2], x[2]),
    ):
        choice.select_option(label=option)
        unit = ChainFeature("abs", (1, 1), (-fold, -abs(anchor - fold)), x)
        assert np.allclose(json.loads(says.get_attribute("data-kinks")), unit.kinks)
    assert visit.problems == []


def test_samples_turn_the_mirror_and_the_images_stay_on_the_line(visit, server):
    found, says = figure(visit, f"{server}looking_glass.html", "looking_glass")
    X = np.array(interactive.looking_glass()["X"])
    samples = found.get_by_role("slider")
    samples.nth(1).scroll_into_view_if_needed()
    start = samples.nth(1).bounding_box()
    place = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    visit.page.mouse.move(*place)
    visit.page.mouse.down()
    visit.page.mouse.move(place[0] + 30, place[1] - 20)
    visit.page.mouse.up()
    moved = samples.nth(1).get_attribute("aria-valuetext").replace("\u2212", "-")
    X[1] = json.loads("[" + moved.split("(")[1].rstrip(")") + "]")
    assert X[1, 0] > 2.2
    assert X[1, 1] > 0.1
    for key, step in (("ArrowRight", (0.1, 0)), ("ArrowUp", (0, 0.1)), ("ArrowDown", (0, -0.1))):
        samples.nth(3).press(key)
        X[3] += step
    choice = found.get_by_role("combobox")
    half = "\u00bd"
    for option, a, b, anchor in (
        ("mirror through x\u2082 and x\u2083, anchor x\u2081", X[1], X[2], X[0]),
        ("mirror through x\u2082 and x\u2083, anchor x\u2084", X[1], X[2], X[3]),
        (f"mirror through x\u2083 and {half}(x\u2082 + x\u2081), anchor x\u2081",
         X[2], (X[1] + X[0]) / 2, X[0]),
    ):  # fmt: skip
        choice.select_option(label=option)
        u = cl.cross_product((b - a)[None]).numpy()
        u /= np.abs(u).sum()
        expected = np.abs(np.abs((X - a) @ u) - abs((anchor - a) @ u))
        assert np.allclose(json.loads(says.get_attribute("data-values")), expected, atol=1e-9)
        assert np.allclose(json.loads(says.get_attribute("data-images")), 0.0, atol=1e-9)
    assert visit.problems == []


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("two_layer", "gate"), ("two_layer_practice", "path"), ("mirrors", "mirrors"),
        ("looking_glass", "looking_glass"), ("certify_here", "certify_here"),
    ],
)  # fmt: skip
def test_an_interactive_figure_is_a_picture_and_a_sentence_without_scripts(
    browser, server, page, name
):
    context = browser.new_context(java_script_enabled=False, viewport=NARROW)
    tab = context.new_page()
    tab.goto(f"{server}{page}.html", wait_until="domcontentloaded")
    stage = tab.locator(f'figure[data-figure="{name}"] .stage')
    assert stage.locator("p").inner_text().startswith("The page in the browser lets you")
    picture = stage.locator('[role="img"]')
    assert picture.get_attribute("aria-label")
    assert (drawings := picture.locator("svg").all())
    for drawing in drawings:
        box = drawing.bounding_box()
        assert 200 < box["width"] < NARROW["width"]
    assert stage.get_by_role("slider").count() == 0
    context.close()


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_the_stored_picture_is_what_the_script_draws(browser, name):
    drawn = stills.draw(browser, name)
    assert drawn == (stills.FOLDER / f"{name}.html").read_text(encoding="utf8")
    title = f"/Title ({stills.fingerprint(drawn)})"  # the PDF names the picture it shows
    assert title.encode() in (stills.FOLDER / f"{name}.pdf").read_bytes()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_touch_moves_a_sample_and_not_the_page(browser, server, theme):
    context = browser.new_context(viewport=NARROW, has_touch=True, color_scheme=theme)
    tab = context.new_page()
    tab.goto(f"{server}mirrors.html", wait_until="domcontentloaded")
    sample = tab.locator('figure[data-figure="mirrors"]').get_by_role("slider").nth(2)
    sample.scroll_into_view_if_needed()
    top, box = tab.evaluate("window.scrollY"), sample.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = context.new_cdp_session(tab)  # real touch events, from which pointer events are made
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x - 10, "y": y - 30}]),
        ("touchMove", [{"x": x - 40, "y": y - 60}]),
        ("touchEnd", []),
    ):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert float(sample.get_attribute("aria-valuenow")) < 2.6  # from 3
    assert tab.evaluate("window.scrollY") == top
    context.close()


def test_only_pages_with_interactive_figures_load_their_scripts(book):
    scripts = {
        page: [
            Path(path).name
            for path in (urlsplit(load).path for load in elements.loads)
            if "interactive/" in path and path.endswith(".js")
        ]
        for page, elements in book.items()
    }
    assert scripts.pop("two_layer.html") == ["stage.js", "gate.js"]
    assert scripts.pop("two_layer_practice.html") == ["stage.js", "path.js"]
    assert scripts.pop("mirrors.html") == ["stage.js", "mirrors.js"]
    assert scripts.pop("looking_glass.html") == ["stage.js", "looking_glass.js"]
    parts = ["certify_here_faces.js", "certify_here_read.js", "certify_here_rounds.js"]
    assert scripts.pop("certify_here.html") == ["stage.js", *parts, "certify_here.js"]
    assert not any(scripts.values())
