"""What a page says of itself, how much it loads, and what a search shows of it."""

import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlsplit
from xml.etree import ElementTree

import imagesize
import pytest

from tests.book.built import HTML, NARROW, PAGES, WIDE

pytestmark = pytest.mark.browser

MADE = {"genindex.html", "search.html", "prf-prf.html"}  # by Sphinx, from no source
WRITTEN = [page for page in PAGES if page not in MADE]


class Tags(HTMLParser):
    """The meta tags, the images and the canonical address of a page."""

    def __init__(self, page):
        super().__init__()
        self.meta, self.images, self.canonical = [], [], []
        self.feed((HTML / page).read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "meta":
            self.meta.append(found)
        if tag == "img" and found.get("src", "").startswith("_images/"):
            self.images.append(found)
        if tag == "link" and found.get("rel") == "canonical":
            self.canonical.append(found["href"])

    def values(self, name):
        """Return what the tags of one name say."""
        return [
            tag["content"] for tag in self.meta if name in (tag.get("name"), tag.get("property"))
        ]


@pytest.fixture(scope="module")
def tags(book):
    return {page: Tags(page) for page in PAGES}


def test_one_viewport(tags):
    assert {page: len(found.values("viewport")) for page, found in tags.items()} == dict.fromkeys(
        PAGES, 1
    )


def test_descriptions_tell_the_pages_apart(tags):
    texts = []
    for page in WRITTEN:
        (text,) = tags[page].values("description")
        assert 20 <= len(text) <= 200, page
        assert not re.search(r"[\\$\N{REPLACEMENT CHARACTER}]", text), page
        assert tags[page].values("og:description") == [text]
        texts.append(text)
    assert len(set(texts)) == len(texts)


def test_links_to_a_page_have_its_title_and_a_picture(tags):
    for page in WRITTEN:
        (address,) = tags[page].canonical
        assert address.endswith(f"/{page}")
        assert tags[page].values("og:url") == [address]
        heading = re.search(r"<title>(.*?) &#8212;", (HTML / page).read_text(encoding="utf8"))
        assert tags[page].values("og:title") == [unescape(heading[1])]
        (picture,) = tags[page].values("og:image")
        root = address.removesuffix(page)
        assert picture.startswith(root)
        assert imagesize.get(HTML / picture.removeprefix(root)) == (1200, 630)


def test_sitemap_lists_the_pages(tags):
    tree = ElementTree.parse(HTML / "sitemap.xml")
    addresses = sorted(element.text for element in tree.iter() if element.tag.endswith("}loc"))
    assert addresses == sorted(tags[page].canonical[0] for page in WRITTEN)


def test_images_below_the_first_wait_and_keep_their_place(tags):
    assert sum(len(found.images) for found in tags.values()) > 50
    for found in tags.values():
        for position, image in enumerate(found.images):
            assert (image.get("loading") == "lazy") == (position > 0)
            size = tuple(map(round, imagesize.get(HTML / image["src"])))
            assert (int(image["width"]), int(image["height"])) == size


def test_images_keep_their_shape(visit, server):
    visit.open(f"{server}two_layer.html")
    for width in (NARROW, WIDE):
        visit.page.set_viewport_size(width)
        for image in visit.page.locator('article img[src^="_images/"]').all():
            image.scroll_into_view_if_needed()
            image.evaluate("(i) => i.decode()")
            shape = image.evaluate("(i) => i.width * i.naturalHeight / i.height / i.naturalWidth")
            assert abs(shape - 1) < 0.01


def test_icons_without_their_script(visit, server):
    loaded = {}
    visit.page.on("response", lambda r: loaded.update({urlsplit(r.url).path: len(r.body())}))
    visit.open(f"{server}two_layer.html")
    visit.page.wait_for_load_state("networkidle")
    assert not {"fontawesome.js", "searchindex.js"} & {path.rsplit("/")[-1] for path in loaded}
    assert sum(loaded.values()) < 3_000_000
    icon = visit.page.locator("#pst-back-to-top i")
    assert icon.evaluate("(i) => getComputedStyle(i, '::before').content") not in {"none", '""'}
    assert visit.page.evaluate("document.fonts.check('900 16px \"Font Awesome 6 Free\"')")


def test_the_icon_of_the_search_is_beside_the_words(visit, server):
    visit.open(f"{server}search.html?q=spline")
    search = visit.page.locator(".bd-search-container form.bd-search")
    icon, words = (search.locator(part).bounding_box() for part in ("i", "input"))
    assert icon["width"] > 0
    assert icon["x"] + icon["width"] <= words["x"]


@pytest.mark.parametrize(("word", "stem"), [("duality", "dualit"), ("certified", "certif")])
def test_results_show_the_word_in_the_page(visit, server, word, stem):
    visit.open(f"{server}search.html?q={word}")
    passages = visit.page.locator("#search-results ul.search li p.context")
    passages.nth(4).wait_for()
    found = passages.all_inner_texts()
    assert all(stem in text.lower() for text in found), found
    assert visit.problems == []
