"""WCAG 2 AA on both pages: text 4.5, graphics 3, for figures, movable figures and the theme."""

import re
from pathlib import Path

import numpy as np
import pydata_sphinx_theme
import pytest
from matplotlib.colors import to_rgb

from convexlib import plots
from convexlib.plots.style import ACTIVE, TAG
from tests.helpers.contrast import contrast

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
TEXT, GRAPHICS = 4.5, 3.0
THEMES = ("light", "dark")


def variables(theme: str) -> dict[str, str]:
    """Return the colours that the theme, and book.css after it, define for a page."""
    folder = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    css = (folder / "static" / "styles" / "pydata-sphinx-theme.css").read_text()
    blocks = re.findall(rf'html\[data-theme="?{theme}"?\]\s*\{{([^}}]*)\}}', css)
    found = re.findall(r"--pst-color-([\w-]+):\s*([^;]+)", ";".join(blocks))
    own = (STATIC / "book.css").read_text(encoding="utf8")  # loaded after the theme's
    for body in re.findall(rf'^html\[data-theme="{theme}"\] \{{([^}}]*)\}}', own, re.MULTILINE):
        found += re.findall(r"--pst-color-([\w-]+):\s*([^;]+)", body)
    return {name: value.strip() for name, value in found}


def resolved(theme: str, name: str) -> str:
    """Return a colour of the theme, references to others followed."""
    value = variables(theme)[name]
    while reference := re.fullmatch(r"var\(--pst-color-([\w-]+)\)", value):
        value = variables(theme)[reference[1]]
    return value


def rule(css: str, selector: str) -> str:
    (body,) = re.findall(rf"^{re.escape(selector)} \{{([^}}]*)\}}", css, re.MULTILINE)
    return body


def brightness(theme: str) -> float:
    """Return the factor by which book.css changes the pictures of a page."""
    dark = 'html[data-theme="dark"] .bd-content img:not(.only-dark, .dark-light)'
    css = (STATIC / "book.css").read_text(encoding="utf8")
    body = rule(css, dark if theme == "dark" else ".bd-content img")
    return float(re.search(r"filter: brightness\(([\d.]+)\);", body)[1])


def shown(colour: object, theme: str) -> np.ndarray:
    """Return a colour of a figure as the page shows it: the filter multiplies sRGB values."""
    return np.clip(np.array(to_rgb(colour)) * brightness(theme), 0, 1)


@pytest.mark.parametrize("theme", THEMES)
def test_text_of_figures(theme):
    assert contrast(shown(plots.GREY, theme), resolved(theme, "background")) >= TEXT
    # Tags stand on a patch of their own.
    assert contrast(shown("white", theme), shown(TAG["facecolor"], theme)) >= TEXT


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("colour", [*plots.COLOURS, plots.GREY])
def test_lines_of_figures(theme, colour):
    page = resolved(theme, "background")
    assert contrast(shown(colour, theme), page) >= GRAPHICS
    assert contrast(colour, page) >= GRAPHICS  # elsewhere no filter: a notebook, the PDF


@pytest.mark.parametrize("theme", THEMES)
def test_the_map_from_off_to_on(theme):
    page = resolved(theme, "background")
    shades = [contrast(shown(ACTIVE(x), theme), page) for x in np.linspace(0, 1, 101)]
    assert min(shades) >= GRAPHICS


@pytest.mark.parametrize("theme", THEMES)
def test_figures_that_move(theme):
    css = (STATIC / "interactive" / "interactive.css").read_text(encoding="utf8")
    named = re.findall(r"^  --\w+: (#[0-9a-f]{6});", css, re.MULTILINE)
    assert len(named) == 3
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", css)) == set(named)
    assert set(named) <= {*plots.COLOURS, plots.GREY}
    # Their text has the colours of the page, so that only lines and areas need the palette's.
    for selector in ("figure.interactive svg text", "figure.interactive svg .faint"):
        (name,) = re.findall(r"fill: var\(--pst-color-([\w-]+),", rule(css, selector))
        assert contrast(resolved(theme, name), resolved(theme, "background")) >= TEXT
    for colour in named:
        assert contrast(colour, resolved(theme, "background")) >= GRAPHICS


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "name", ["text-base", "text-muted", "heading", "link", "link-hover", "inline-code"]
)
def test_text_of_the_theme(theme, name):
    for behind in ("background", "surface"):  # the second one: every other row of a table
        assert contrast(resolved(theme, name), resolved(theme, behind)) >= TEXT


def test_book_css_takes_its_colours_from_the_theme():
    css = (STATIC / "book.css").read_text(encoding="utf8")
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(", css) == []
    used = set(re.findall(r"var\(--pst-color-([\w-]+)\)", css))
    assert used
    for theme in THEMES:
        assert used <= variables(theme).keys()
