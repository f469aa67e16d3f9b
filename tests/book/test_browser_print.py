"""A page on paper: light, without navigation, with nothing to scroll."""

import pytest

from tests.book.built import PAGES

pytestmark = pytest.mark.browser

PAPER = {"width": 718, "height": 1000}  # px: A4 without margins of 10 mm
NAVIGATION = (
    ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-area, button, "
    "details:not([open])"
)
# What scrolls or ends beyond the paper.
CUT = """() => [...document.querySelectorAll(
  'article :is(pre, figure, img, table, mjx-container:is([display], .wide-math))')]
  .filter((e) => e.checkVisibility())
  .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
  .map((e) => e.outerHTML.slice(0, 120))"""
NOTE_COLOUR = """() => window.addEventListener('beforeprint', () => {
  window.printed = getComputedStyle(document.body).backgroundColor;
})"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_paper_is_white(visit, server, theme):
    page = visit.page
    page.emulate_media(color_scheme=theme)
    visit.open(f"{server}two_layer.html")
    page.evaluate(NOTE_COLOUR)
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("window.printed") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.dataset.theme") == theme  # as it was
    assert visit.problems == []


def test_marks_of_a_search_leave_no_link_on_paper(visit, server):
    page = visit.page
    visit.open(f"{server}recovery.html?highlight=teacher")
    link = page.get_by_role("link", name="Hide Search Matches")
    link.wait_for()
    page.emulate_media(media="print")
    assert not link.is_visible()


@pytest.mark.parametrize("name", PAGES or ["no page"])
def test_nothing_is_cut(visit, server, name):
    page = visit.page
    page.set_viewport_size(PAPER)
    visit.open(server + name)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(NAVIGATION).filter(visible=True).count() == 0
    assert page.evaluate(CUT) == []
    assert visit.problems == []
