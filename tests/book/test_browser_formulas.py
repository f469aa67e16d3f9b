"""Formulas for readers who hear them, who use the keyboard only, or who copy text."""

import pytest

from tests.book.built import NARROW, WIDE

pytestmark = pytest.mark.browser

SAMPLE = ("two_layer.html", "ecg.html", "algebra.html")
SEEN = """() => [...document.querySelectorAll('mjx-container')]
  .filter((e) => e.checkVisibility({ visibilityProperty: true })).length"""
# What formulas show is hidden from screen readers, so that nothing is read twice.
TWICE = "mjx-container > mjx-math:not([aria-hidden='true'])"
# What is copied of each paragraph with formulas.
COPIED = """() => [...document.querySelectorAll('article p:has(mjx-container)')].map((p) => {
  const selection = getSelection();
  selection.selectAllChildren(p);
  return selection.toString();
})"""
# Formulas that scroll, and formulas that the Tab key stops at.
SCROLLING = """() => [...document.querySelectorAll('mjx-container')].map((e, i) => [e, i])
  .filter(([e]) => getComputedStyle(e).overflowX === 'auto' && e.scrollWidth > e.clientWidth)
  .map(([_, i]) => i)"""
STOPS = """() => [...document.querySelectorAll('mjx-container')].map((e, i) => [e, i])
  .filter(([e]) => e.tabIndex === 0).map(([_, i]) => i)"""


def spoken(page):
    """Return the words of each formula in the accessibility tree."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = {node["nodeId"]: node for node in tree}

    def words(node):
        own = [node["name"]["value"]] if node["role"]["value"] == "StaticText" else []
        below = [nodes[child] for child in node.get("childIds", ()) if child in nodes]
        return own + [word for child in below for word in words(child)]

    return ["".join(words(n)) for n in tree if n.get("role", {}).get("value") == "MathMLMath"]


@pytest.mark.parametrize("name", SAMPLE)
def test_screen_readers_find_every_formula_once(visit, server, name):
    visit.open(server + name)
    found = spoken(visit.page)
    assert len(found) == visit.page.evaluate(SEEN) > 100
    assert all(words.strip() for words in found)
    assert visit.page.locator(TWICE).count() == 0


@pytest.mark.parametrize("name", SAMPLE)
def test_copied_text_has_nothing_that_is_not_seen(visit, server, name):
    visit.open(server + name)
    copied = visit.page.evaluate(COPIED)
    assert len(copied) > 50
    visit.page.evaluate("document.querySelectorAll('mjx-assistive-mml').forEach((e) => e.remove())")
    assert visit.page.evaluate(COPIED) == copied


@pytest.mark.parametrize("name", SAMPLE)
def test_the_keyboard_reaches_formulas_that_scroll_and_no_others(visit, server, name):
    page = visit.page
    visit.open(server + name)
    for width, least in ((NARROW, 1), (WIDE, 0), (NARROW, 1)):
        page.set_viewport_size(width)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        scrolling = page.evaluate(SCROLLING)
        assert len(scrolling) >= least
        assert page.evaluate(STOPS) == scrolling
