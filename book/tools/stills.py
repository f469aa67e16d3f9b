"""Draw what stands for an interactive figure where no script runs: book/_static/interactive/.

The figures' own scripts draw them, as they are before the reader moves anything, in headless
chromium. <figure>.html is the picture for the page, coloured by the page's style sheet (light or
dark); <figure>.pdf is the same for LaTeX. Run it after a change of a script, of the data or of the
style sheet; tests/book/test_browser_interactive.py compares the stored pictures with new ones.

    python book/tools/stills.py
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_static" / "interactive"
CHROMIUM = os.environ.get("CONVEXLIB_CHROMIUM", "/usr/bin/chromium")
MARGIN = 4  # CSS pixels around the picture on the page for LaTeX
# On paper there is no theme: the style sheet's variables, in black on white.
PAPER = """
:root { --pst-color-text-base: #1a1a1a; --pst-color-text-muted: #595959;
        --pst-color-background: #fff; --pst-color-surface: #fff; }
body { margin: 0; font-family: "DejaVu Sans", sans-serif; }
figure.interactive { margin: 0; padding: 0; border: 0; width: 40rem; }
"""
# What is left of a live figure: its pictures. Nothing to focus, nothing that claims to be a slider,
# and no digits of which the last ones are another machine's.
TO_STILL = r"""figure => {
  const stage = figure.querySelector(".stage");
  stage.querySelectorAll("label, output, .reach, .controls").forEach(part => part.remove());
  for (const part of stage.querySelectorAll("*"))
    for (const name of part.getAttributeNames())
      if (name === "tabindex" || name === "role" || name.startsWith("aria-"))
        part.removeAttribute(name);
  return stage.firstElementChild.innerHTML.replace(/\d+\.\d+/g, digits => (+digits).toFixed(2));
}"""


def sources(name: str) -> list[Path]:
    """Return the files that a picture is made from: the style, the scripts, the data."""
    parts = sorted(path.name for path in FOLDER.glob(f"{name}_*.js"))
    files = "interactive.css", "stage.js", *parts, f"{name}.js", f"{name}.json"
    return [FOLDER / file for file in files]


def fingerprint(picture: str) -> str:
    """Return what the PDF carries as its title, so that one can tell which picture it is of."""
    style = (FOLDER / "interactive.css").read_text(encoding="utf8")
    return hashlib.sha256((picture + style).encode()).hexdigest()


def draw(browser: Browser, name: str, pdf: Path | None = None) -> str:
    """Return the picture as HTML; write it to `pdf` too, if a path is given."""
    style, *scripts, data = (path.read_text(encoding="utf8") for path in sources(name))
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.set_content(
        f"<!doctype html><meta charset='utf8'><style>{style}{PAPER}</style>"
        f"<figure class='interactive' data-figure='{name}'><div class='stage'></div>"
        f"<script type='application/json'>{data}</script></figure>"
        + "".join(f"<script>{script}</script>" for script in scripts)
    )
    figure = page.locator("figure")
    picture: str = figure.evaluate(TO_STILL) + "\n"
    if pdf is not None:
        title = fingerprint(picture)
        page.evaluate("title => { document.title = title; }", title)
        box: Any = figure.bounding_box()
        page.add_style_tag(content=f"body {{ padding: {MARGIN}px; }}")
        page.pdf(
            path=pdf,
            width=f"{box['width'] + 2 * MARGIN}px",
            height=f"{box['height'] + 2 * MARGIN}px",
            print_background=True,
            page_ranges="1",
        )
    context.close()
    return picture


def main() -> None:
    """Write both files of every figure."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in sorted(path.stem for path in FOLDER.glob("*.json")):
            picture = draw(browser, name, FOLDER / f"{name}.pdf")
            (FOLDER / f"{name}.html").write_text(picture, encoding="utf8")
            print(f"{len(picture):6d} characters  {name}.html")
        browser.close()


if __name__ == "__main__":
    main()
