"""Words of the glossary say what they mean where they are read.

A `{term}` links to the glossary. Its page also holds what the glossary says of it, in an element
that no reader, search or printer sees; _static/terms/terms.js shows it beside the word. It is text:
its links are left out, since nobody could follow them there by the keyboard.
"""

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GLOSSARY = "glossary"


def depend(app: Sphinx, doctree: nodes.document) -> None:
    """Read a page with terms again when the glossary changes."""
    if any(node["reftype"] == "term" for node in doctree.findall(addnodes.pending_xref)):
        app.env.note_dependency(str(Path(app.srcdir, f"{GLOSSARY}.md")))


def used(app: Sphinx, doctree: nodes.document) -> list[str]:
    """Return the anchors in the glossary that a page links to."""
    start = f"{app.builder.get_target_uri(GLOSSARY)}#term-"
    links = (link.get("refuri", "") for link in doctree.findall(nodes.reference))
    return list(dict.fromkeys(link.partition("#")[2] for link in links if link.startswith(start)))


def definitions(app: Sphinx) -> dict[str, str]:
    """Return what the glossary says, by anchor, in HTML."""
    glossary = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        definition = item[-1].deepcopy()
        for link in list(definition.findall(nodes.reference)):
            link.replace_self(link.children)
        text = "".join(app.builder.render_partial(part)["fragment"] for part in definition)
        found.update(dict.fromkeys(item[0]["ids"], text))
    return found


def attach(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the definitions of its terms at the end of a page."""
    names = [] if doctree is None or page == GLOSSARY else used(app, doctree)
    if names:
        known = definitions(app)
        context["body"] += "".join(
            f'<template data-term="{escape(name)}">{known[name]}</template>\n' for name in names
        )
        app.add_js_file("terms/terms.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("doctree-read", depend)
    app.connect("html-page-context", attach)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
