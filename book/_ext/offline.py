"""Keep pages light and self-contained: no script of another host, special ones for their users.

Jupyter Book puts every .js file below _static on every page, although MathJax loads its own parts,
an interactive figure is on one page, and so are the results of a search; not all have terms.
It also puts the start of thebe on every page, twice; thebe comes from another host and is not used.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def drop_special_scripts(app: Sphinx, config: Config) -> None:
    """Take the scripts of single pages, and vendored ones, off the list that each page loads."""
    config.html_js_files = [
        name
        for name in config.html_js_files
        if not str(name).startswith(("vendor/", "interactive/", "search/", "terms/"))
    ]


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take the start of thebe off a page."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]


def setup(app: Sphinx) -> dict[str, object]:
    """Register both steps: the first before Sphinx normalises the list, the other at the end."""
    app.connect("config-inited", drop_special_scripts, priority=100)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "3", "parallel_read_safe": True, "parallel_write_safe": True}
