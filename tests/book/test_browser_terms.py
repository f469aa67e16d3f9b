"""Words of the glossary show what they mean, to the pointer and to the keyboard."""

import pytest

from tests.book.built import HTML, NARROW, PAGES, WIDE
from tests.book.test_browser_access import barriers

pytestmark = pytest.mark.browser

TERM = "article a:has(> .std-term)"
USERS = [p for p in PAGES if p != "glossary.html" and "std-term" in (HTML / p).read_text("utf8")]
# What the glossary says of each word: the text without its formulas.
DEFINITIONS = """() => Object.fromEntries([...document.querySelectorAll('article dt')].map((dt) => {
  const copy = dt.nextElementSibling.cloneNode(true);
  copy.querySelectorAll('mjx-container').forEach((formula) => formula.remove());
  return [dt.id, copy.textContent.trim()];
}))"""
SHOWN = """() => {
  const copy = document.getElementById('term-note').cloneNode(true);
  copy.querySelectorAll('mjx-container').forEach((formula) => formula.remove());
  return copy.textContent.trim();
}"""
TYPESET_NOTE = "!document.querySelector('#term-note .math:not(:has(mjx-container))')"
BEFORE = """(word) => {
  const stop = document.createElement('button');
  word.before(stop);
  stop.focus();
}"""


@pytest.fixture(scope="module")
def glossary(browser, server):
    page = browser.new_page()
    page.goto(f"{server}glossary.html", wait_until="load")
    page.evaluate("MathJax.startup.promise")
    found = page.evaluate(DEFINITIONS)
    page.close()
    return found


@pytest.mark.parametrize("name", USERS or ["no page"])
def test_every_word_shows_its_definition(visit, server, glossary, name):
    page = visit.page
    visit.open(server + name)
    note = page.locator("#term-note")
    assert not note.is_visible()
    words = page.locator(TERM)
    assert words.count() >= 1
    for word in words.all():
        word.evaluate("(e) => e.dispatchEvent(new Event('mouseenter'))")
        page.wait_for_function(TYPESET_NOTE)
        assert note.is_visible()
        assert page.evaluate(SHOWN) == glossary[word.get_attribute("href").partition("#")[2]]
    assert visit.problems == []


def test_pointer(visit, server):
    page = visit.page
    visit.open(f"{server}path.html")
    note, word = page.locator("#term-note"), page.locator(TERM).first
    word.hover()
    note.wait_for(state="visible")
    note.hover()
    page.wait_for_timeout(500)  # longer than the patience of terms.js
    assert note.is_visible()
    page.mouse.move(0, 0)
    note.wait_for(state="hidden")


def test_keyboard(visit, server):
    page = visit.page
    visit.open(f"{server}path.html")
    note, word = page.locator("#term-note"), page.locator(TERM).first
    word.evaluate(BEFORE)
    page.keyboard.press("Tab")
    assert word.evaluate("(e) => e === document.activeElement")
    assert note.is_visible()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    told = [n["description"]["value"] for n in tree if n.get("description", {}).get("value")]
    assert note.inner_text() in told
    page.keyboard.press("Escape")
    assert not note.is_visible()
    assert word.get_attribute("aria-describedby") is None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_note_is_in_the_window_and_without_barriers(visit, server, theme):
    page = visit.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visit.open(f"{server}algebra.html")
    note = page.locator("#term-note")
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        for word in page.locator(TERM).all():
            word.focus()
            page.wait_for_function(TYPESET_NOTE)
            box = note.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size["width"]
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= size["height"]
    assert barriers(page) == []
    page.emulate_media(media="print")
    assert not note.is_visible()
