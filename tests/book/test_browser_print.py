"""A page on paper: light, without navigation, with nothing to scroll."""

import pytest

from tests.book.built import TYPESET

pytestmark = pytest.mark.browser

PAPER = {"width": 718, "height": 1000}  # px: A4 without margins of 10 mm
NAVIGATION = (
    ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-area, button"
)
CUT = """() => [...document.querySelectorAll(
  'article :is(pre, figure, img, table, mjx-container:is([display], .wide-math))')]
  .filter((e) => e.checkVisibility())
  .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
  .map((e) => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two_layer.html", "certify.html"])
def test_page_on_paper(visit, server, name, theme):
    page = visit.page
    page.set_viewport_size(PAPER)
    page.emulate_media(color_scheme=theme)
    visit.open(server + name)
    page.evaluate(
        "window.addEventListener('beforeprint', () => { window.printed = "
        "getComputedStyle(document.body).backgroundColor; })"
    )
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("window.printed") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.dataset.theme") == theme  # as it was
    page.emulate_media(media="print")
    page.evaluate(TYPESET)
    assert page.locator(NAVIGATION).filter(visible=True).count() == 0
    assert page.evaluate(CUT) == []
    assert visit.problems == []
