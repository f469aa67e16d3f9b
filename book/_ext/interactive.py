"""The directive `{interactive} name`: a figure that the reader can move, drawn by a small script.

    ```{interactive} gate
    :label: what a screen reader calls the figure
    :still: The sentence below the picture that stands in its place where no script runs.

    The caption.
    ```

The script is _static/interactive/name.js and starts from name.json, which is written into the page,
because a page opened from the file system may not fetch files. What is too long for one script
is in name_*.js, which are loaded before it. Only pages with such a figure load the scripts. The
picture for readers without scripts is name.html, in LaTeX name.pdf; the script itself has drawn
both (book/tools/stills.py).
"""

from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = "interactive"  # below _static


class interactive(nodes.General, nodes.Element):  # noqa: N801  docutils names nodes in lower case
    """A figure; its children are the caption."""


class Interactive(SphinxDirective):
    """Read the caption and the data."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "label": directives.unchanged_required,
        "still": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Return the figure, or an error where an option or a file is missing."""
        name = self.arguments[0]
        folder = Path(self.env.srcdir, "_static", FOLDER)
        missing = [f":{option}:" for option in self.option_spec if option not in self.options]
        files = [f"{name}.{kind}" for kind in ("js", "json", "html", "pdf")]
        missing += [file for file in files if not (folder / file).is_file()]
        if missing:
            raise self.error(f"the interactive figure {name!r} lacks {', '.join(missing)}")
        for file in files[1:]:
            self.env.note_dependency(str(folder / file))
        data, picture = ((folder / file).read_text(encoding="utf8").strip() for file in files[1:3])
        figure = interactive(name=name, data=data, picture=picture, **self.options)
        self.state.nested_parse(self.content, self.content_offset, figure)
        return [figure]


def open_html(writer: Any, figure: interactive) -> None:
    """Open the figure: the picture and the sentence that the script replaces, data, caption."""
    data = figure["data"].replace("<", r"\u003c")  # what is in a script ends at the first </script
    label = escape(figure["label"])
    writer.body.append(
        f'<figure class="interactive" data-figure="{escape(figure["name"])}">'
        f'<div class="stage" role="group" aria-label="{label}">'
        f'<div role="img" aria-label="{label}">{figure["picture"]}</div>'
        f"<p>{escape(figure['still'])}</p></div>"
        f'<script type="application/json">{data}</script>'
        "<figcaption>"
    )


def close_html(writer: Any, figure: interactive) -> None:
    writer.body.append("</figcaption></figure>\n")


def open_latex(writer: Any, figure: interactive) -> None:
    """Print the picture, the sentence and the caption as a quotation."""
    name = f"interactive-{figure['name']}"
    writer.builder.images[f"_static/{FOLDER}/{figure['name']}.pdf"] = f"{name}.pdf"  # to be copied
    writer.body.append(
        "\n\\begin{quote}\n{\\centering\\noindent"
        f"\\sphinxincludegraphics[width=0.8\\linewidth]{{{{{name}}}.pdf}}\\par}}\n"
        + writer.encode(figure["still"])
        + "\n\n"
    )


def close_latex(writer: Any, figure: interactive) -> None:
    writer.body.append("\n\\end{quote}\n")


def pass_over(writer: Any, figure: interactive) -> None:
    """Leave the caption as it is."""


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load the scripts of the figures that a page has."""
    names = [] if doctree is None else [figure["name"] for figure in doctree.findall(interactive)]
    folder, scripts = Path(app.srcdir, "_static", FOLDER), ["stage"]
    for name in dict.fromkeys(names):
        scripts += [*sorted(path.stem for path in folder.glob(f"{name}_*.js")), name]
    for script in scripts if names else []:
        app.add_js_file(f"{FOLDER}/{script}.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(
        interactive,
        html=(open_html, close_html),
        latex=(open_latex, close_latex),
        text=(pass_over, pass_over),
    )
    app.add_directive("interactive", Interactive)
    app.connect("html-page-context", load_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
