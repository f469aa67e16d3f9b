"""No barrier that axe-core calls serious or critical, on any page, and no head of a table is empty.

axe-core knows what keeps a reader with a screen reader, with a keyboard only or with weak eyes from
a page. What it finds hardly depends on the setting, so that a sample of the pages has all of them.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.book.built import PAGES, WIDE

pytestmark = pytest.mark.browser

TELEPHONE = {"width": 390, "height": 844}
SAMPLE = ("intro.html", "two_layer.html", "data.html", "glossary.html", "search.html")
SETTINGS = [(TELEPHONE, "light"), (WIDE, "dark"), (WIDE, "light")]
# Formulas are half of a page's elements; a letter stands for each, in its place and colour.
SHORT_FORMULAS = """() => document.querySelectorAll('mjx-container').forEach((formula) => {
  const { width, height } = formula.getBoundingClientRect();
  formula.replaceChildren('x');
  Object.assign(formula.style, {
    display: 'inline-block', width: `${width}px`, height: `${height}px`,
  });
})"""
# The theme makes what scrolls a stop of the Tab key, a third of a second after the window or the
# page has last changed.
STOPS_ARE_SET = """() => [...document.querySelectorAll('pre, .pst-scrollable-table-container')]
  .every((box) => box.tabIndex === 0
    || (box.scrollWidth <= box.clientWidth && box.scrollHeight <= box.clientHeight))"""


def barriers(page):
    """List what axe-core finds."""
    page.evaluate(SHORT_FORMULAS)
    page.wait_for_function(STOPS_ARE_SET)
    return [
        (found["impact"], found["id"], node["html"][:200])
        for found in Axe().run(page).response["violations"]
        for node in found["nodes"]
        if found["impact"] in {"serious", "critical"} or found["id"] == "empty-table-header"
    ]


def look(visit, url, size, theme):
    visit.page.set_viewport_size(size)
    # Colours that fade from one theme into the other would be measured on the way.
    visit.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visit.open(url)
    visit.page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
    return barriers(visit.page)


@pytest.mark.parametrize("name", PAGES or ["no page"])
def test_every_page_on_a_telephone_in_the_dark(visit, server, name):
    assert look(visit, server + name, TELEPHONE, "dark") == []


@pytest.mark.parametrize(("size", "theme"), SETTINGS)
@pytest.mark.parametrize("name", SAMPLE)
def test_sample_in_other_settings(visit, server, name, size, theme):
    assert look(visit, server + name, size, theme) == []
