"""Names of the library in code link to what the page of the API says of them.

The chapters import it as `cl`. What stands behind that, as in `cl.solve`, is known without looking
at the code any further; variables that hold the library's objects stay as they are.
"""

import re
from typing import Any

from sphinx.application import Sphinx

NAME = re.compile(
    r'<span class="n">cl</span>(?:<span class="o">\.</span><span class="n">\w+</span>)+'
)
PART = re.compile(r'<span class="n">(\w+)</span>')


def link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Link each name to the longest part of it that is documented."""
    if doctree is None:
        return
    domain = app.env.get_domain("py")
    places = {name: (target, at) for name, _, _, target, at, _ in domain.get_objects()}

    def linked(match: re.Match[str]) -> str:
        parts = list(PART.finditer(match[0]))
        while parts:
            name = ".".join(["convexlib", *(part[1] for part in parts[1:])])
            if name in places:
                target, anchor = places[name]
                address = f"{app.builder.get_relative_uri(page, target)}#{anchor}"
                end = parts[-1].end()
                return f'<a class="code-link" href="{address}">{match[0][:end]}</a>{match[0][end:]}'
            parts.pop()
        return match[0]

    context["body"] = NAME.sub(linked, context["body"])


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("html-page-context", link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
