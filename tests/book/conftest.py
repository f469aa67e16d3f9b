"""A browser, a server and the pages of the built book.

Where the built book or chromium is missing the tests are skipped, and the reason is named; with
CONVEXLIB_REQUIRE_BROWSER=1 they fail.
"""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.book.built import CHROMIUM, FLAGS, HTML, PAGES, Elements, Visit, absent


@pytest.fixture(scope="module")
def book():
    if not (HTML / "index.html").exists():
        absent(f"no built book at {HTML}: run `make book`")
    return {page: Elements(page) for page in PAGES}


@pytest.fixture(scope="module")
def server(book):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(HTML))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(book):
    if not CHROMIUM.exists():
        absent(f"no {CHROMIUM}: apt-get install chromium, or set CONVEXLIB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    tab = Visit(browser)
    yield tab
    tab.context.close()
