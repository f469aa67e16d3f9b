"""What a page says of itself, to search engines and to other sites, and its images and tables.

* A description: the first sentences without formulas. A title and a picture for links to the page.
* sitemap.xml: the addresses of all pages.
* All images but the first are loaded when they come near the window, which keeps their place.
* A cell of a table's head that is empty heads nothing, and a head without words is left out.
* What is in a list, as the entries of the bibliography are, has the role of an item.
"""

import re
from html import escape, unescape
from itertools import dropwhile, takewhile
from pathlib import Path
from textwrap import shorten
from typing import Any

import imagesize
from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 200  # letters of a description
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
LETTER = re.compile(r"\w+")  # a formula that is read as it stands
FORMULA = "\N{REPLACEMENT CHARACTER}"
CARD = "_static/card.png"
IMAGE = re.compile(r'<img (?=[^>]*\bsrc="_images/([^"]+)")')
EMPTY = r'<th class="head([^"]*)">(?:<p></p>)?</th>'
EMPTY_HEAD = re.compile(rf"<thead>\s*<tr[^>]*>(?:\s*{EMPTY})+\s*</tr>\s*</thead>\n?")


def sentences(doctree: nodes.document) -> list[str]:
    """Return the first sentences of a page that are read without its formulas."""
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            copy = paragraph.deepcopy()
            for formula in list(copy.findall(nodes.math)):
                letter = formula.astext().replace(r"\beta", "\N{GREEK SMALL LETTER BETA}")
                formula.replace_self(nodes.Text(letter if LETTER.fullmatch(letter) else FORMULA))
            found = SENTENCE.split(" ".join(copy.astext().split()))
            found = list(
                takewhile(
                    lambda one: FORMULA not in one, dropwhile(lambda one: FORMULA in one, found)
                )
            )
            if found:
                return found
    return []


def description(doctree: nodes.document) -> str:
    """Return as many of the first sentences as fit, of the first one at least its beginning."""
    text = ""
    for sentence in sentences(doctree):
        if text and len(text) + 1 + len(sentence) > LONGEST:
            break
        text = f"{text} {sentence}".strip()
    return shorten(text, LONGEST, placeholder=" \N{HORIZONTAL ELLIPSIS}")


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the tags of the head."""
    if doctree is None:
        return
    title = unescape(re.sub("<[^>]+>", "", context["title"]))
    text = escape(description(doctree))
    tags = [f'<meta name="description" content="{text}" />'] if text else []
    linked = {
        "type": "article",
        "site_name": escape(app.config.html_title),
        "title": escape(title),
        "description": text,
        "url": escape(context["pageurl"]),
        "image": escape(f"{app.config.html_baseurl}{CARD}"),
    }
    tags += [
        f'<meta property="og:{name}" content="{value}" />'
        for name, value in linked.items()
        if value
    ]
    # The viewport is in Sphinx's template as well.
    others = re.sub(r'<meta name="viewport"[^>]*>\s*', "", context["metatags"])
    context["metatags"] = "\n    ".join([others, *tags])


def amend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the images with their sizes, those after the first as lazy; and the heads of tables."""
    if doctree is None:
        return
    sources = {name: source for source, name in app.builder.images.items()}
    seen = 0

    def image(match: re.Match[str]) -> str:
        nonlocal seen
        seen += 1
        width, height = map(round, imagesize.get(Path(app.srcdir, sources[match[1]])))
        lazy = 'loading="lazy" ' if seen > 1 else ""
        return f'<img {lazy}width="{width}" height="{height}" '

    body = IMAGE.sub(image, context["body"])
    body = EMPTY_HEAD.sub("", body)
    body = re.sub(EMPTY, r'<td class="head\1"></td>', body)
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def search_passages(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load the script of the page of results."""
    if page == "search":
        app.add_js_file("search/passages.js", loading_method="defer")


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    """List the addresses of the pages."""
    if exception is None and app.builder.format == "html":
        pages = (
            app.config.html_baseurl + app.builder.get_target_uri(page)
            for page in sorted(app.env.found_docs)
        )
        lines = [
            '<?xml version="1.0" encoding="utf-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
            *(f"<url><loc>{escape(page)}</loc></url>" for page in pages),
            "</urlset>",
        ]
        Path(app.outdir, "sitemap.xml").write_text("\n".join(lines) + "\n", encoding="utf8")


def setup(app: Sphinx) -> dict[str, object]:
    for step in (describe, amend, search_passages):
        app.connect("html-page-context", step)
    app.connect("build-finished", write_sitemap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
