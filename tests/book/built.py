"""The built book for the tests that look at it: where it is, what a page holds, a tab."""

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = Path(os.environ.get("CONVEXLIB_BOOK_HTML", ROOT / "book" / "_build" / "html"))
CHROMIUM = Path(os.environ.get("CONVEXLIB_CHROMIUM", "/usr/bin/chromium"))
REQUIRED = os.environ.get("CONVEXLIB_REQUIRE_BROWSER") == "1"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
FURNITURE = ("_static", "_sources", "_images")  # what has no pages of the book
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if path.relative_to(HTML).parts[0] not in {"index.html", *FURNITURE}
)
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
TYPESET = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
}"""


class Elements(HTMLParser):
    """What the static checks need of a page: its anchors, its links, its images, what it loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[tuple[str, str]] = []
        self.feed((HTML / page).read_text(encoding="utf8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") != "canonical":
            self.loads.append(found.get("href", ""))
        if tag in {"script", "iframe", "img", "source", "video", "audio"} and "src" in found:
            self.loads.append(found["src"])
        if tag == "img":
            self.images.append((found.get("src", ""), found.get("alt", "")))


def absent(reason):
    """Skip, or fail where the checks are required."""
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


class Visit:
    """A tab that remembers what went wrong while it was open."""

    def __init__(self, browser):
        self.context = browser.new_context(viewport=WIDE, color_scheme="light")
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("console", self.read_console)
        self.page.on("request", self.read_request)
        self.page.on("response", self.read_response)

    def read_console(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def read_request(self, request):
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "file"} and parts.hostname != "127.0.0.1":
            self.problems.append(f"request to another host: {request.url}")

    def read_response(self, response):
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def open(self, url):
        self.page.goto(url, wait_until="load")
        self.page.evaluate(TYPESET)
