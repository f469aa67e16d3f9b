"""The built book as a reader meets it: every page, in headless chromium, without a network.

Nothing is built here: `make browser` builds the book first. Where the built book or chromium is
missing the tests are skipped, and the reason is named; with CONVEXLIB_REQUIRE_BROWSER=1 they fail.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.book.built import HTML, NARROW, PAGES, TYPESET, WIDE

SEARCHED = "duality"  # a word that several pages contain

pytestmark = pytest.mark.browser

# The longest text-bearing boxes that stick out of the window and cannot be scrolled to.
CLIPPED = """() => {
  const scrolls = (e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const sticksOut = (e) => e.getBoundingClientRect().right > window.innerWidth + 1;
  const clipped = (e) => {
    for (let p = e; p && p !== document.body; p = p.parentElement) if (scrolls(p)) return false;
    return e.checkVisibility() && sticksOut(e);
  };
  const boxes = document.querySelectorAll(
    'article p, article li, article pre, article img, article table, article mjx-container');
  return [...boxes].filter(clipped).map((e) => e.outerHTML.slice(0, 120));
}"""
# The least contrast of text with its background, as WCAG 2 defines it.
CONTRAST = """() => {
  const rgba = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [...(text.startsWith('color(') ? [r, g, b].map((v) => 255 * v) : [r, g, b]), a];
  };
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const luminance = (colour) => colour.slice(0, 3)
    .map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (e) => {
    const a = luminance(rgba(getComputedStyle(e).color)), b = luminance(background(e));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const texts = document.querySelectorAll('article :is(h1, h2, h3, p, li, td, th, dt, pre)');
  return Math.min(...[...texts].filter((e) => e.checkVisibility()).map(contrast));
}"""
# TeX that is still text: outside code, a backslash command or a doubled dollar sign.
RAW_TEX = """() => {
  const copy = document.querySelector('article').cloneNode(true);
  copy.querySelectorAll('pre, code, script, style, mjx-container').forEach((e) => e.remove());
  return copy.textContent.match(/\\\\[a-zA-Z]+|\\\\[([]|[$][$]/g) || [];
}"""


# Formulas inside a line that show less than their width although the line is wide enough for them.
CUT = """() => [...document.querySelectorAll('mjx-container.wide-math')].filter((formula) => {
  const line = formula.closest('p, li, td, dd, figcaption') ?? document.body;
  const natural = formula.firstElementChild.getBoundingClientRect().width;
  return natural < line.clientWidth - 30 && formula.clientWidth < natural - 1;
}).map((formula) => formula.textContent)"""

# Formulas that scroll although all that is seen of them fits.
LOOSE = """() => [...document.querySelectorAll('mjx-container')].filter((formula) => {
  const { width, height } = formula.firstElementChild.getBoundingClientRect();
  return getComputedStyle(formula).overflowX === 'auto' && (
    (width <= formula.clientWidth && formula.scrollWidth > formula.clientWidth + 1)
    || (height <= formula.clientHeight && formula.scrollHeight > formula.clientHeight + 1));
}).map((formula) => formula.textContent)"""


@pytest.mark.parametrize("name", PAGES or ["no page"])
def test_page_in_both_widths_and_both_themes(visit, server, name):
    visit.open(server + name)
    page = visit.page
    formulas = page.locator("article .math, article .amsmath").count()
    if formulas:
        assert page.locator("article mjx-container").count() >= formulas
    assert page.locator("mjx-merror").count() == 0
    if name not in {"search.html", "genindex.html"}:
        assert page.evaluate(RAW_TEX) == []
        for width in (WIDE, NARROW):
            page.set_viewport_size(width)
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
                assert page.evaluate(CONTRAST) > 4.5, f"{theme} text is hard to read"
            assert page.evaluate(CLIPPED) == [], f"at {width['width']} px"
            assert page.evaluate(CUT) == [], f"at {width['width']} px"
            assert page.evaluate(LOOSE) == [], f"at {width['width']} px"
    for width in (WIDE, NARROW):
        page.set_viewport_size(width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width["width"]
    assert visit.problems == []


def test_mathematics_works_from_the_file_system(visit, book):
    page = visit.page
    page.goto((HTML / "index.html").as_uri(), wait_until="commit")
    page.wait_for_url("**/intro.html")  # index.html only leads there
    page.evaluate(TYPESET)
    assert page.locator("mjx-container").count() > 0
    assert visit.problems == []


def test_search_finds_pages(visit, server):
    visit.open(f"{server}search.html?q={SEARCHED}")
    results = visit.page.locator("#search-results ul.search li a")
    results.first.wait_for()
    assert results.count() >= 1
    assert visit.problems == []


def test_internal_links_and_anchors_resolve(book):
    broken = []
    for page, elements in book.items():
        for link in elements.links:
            target = urlsplit(urljoin(page, link))
            if target.scheme or target.netloc:
                continue
            path = unquote(target.path) or page
            if not (HTML / path).is_file():
                broken.append(f"{page}: {link}")
            elif path in book and unquote(target.fragment) not in book[path].anchors:
                broken.append(f"{page}: no anchor {link}")
    assert broken == []


@pytest.mark.parametrize("name", ["ecg.html", "path.html"])
def test_names_of_the_library_in_code_lead_to_their_documentation(visit, server, book, name):
    visit.open(f"{server}{name}")
    code = "\n".join(visit.page.locator("article div.highlight pre").all_text_contents())
    documented = {name for name in book["api.html"].anchors if name.startswith("convexlib.")}
    names = re.findall(r"\bcl((?:\.\w+)+)", code)
    expected = [f"api.html#convexlib{name}" for name in names if f"convexlib{name}" in documented]
    links = visit.page.locator("article div.highlight a")
    assert [link.get_attribute("href") for link in links.all()] == expected
    assert len(expected) > 3


def test_pages_load_local_files_only(book):
    remote = [
        f"{page}: {load}"
        for page, elements in book.items()
        for load in elements.loads
        if urlsplit(load).scheme not in {"", "data"} or urlsplit(load).netloc
    ]
    assert remote == []


def test_images_have_a_text_alternative(book):
    # Where no text is given the writer repeats the file's name.
    silent = [
        f"{page}: {source}"
        for page, elements in book.items()
        for source, text in elements.images
        if not text.strip() or Path(text).name == Path(source).name
    ]
    assert silent == []
