"""Docstrings on the site: public names in backticks become links to their place in the reference, and equations become math."""

import re
from typing import Any

import griffe

from docs.site.api import PUBLIC
from docs.site.equations import typeset

NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_]\w*)`(?!`)")


def typeset_with_links(text: str, own: str) -> str:
    """A docstring, or a part of one, of the object with the name `own`, which gets no links to itself."""

    def linked(match: re.Match[str]) -> str:
        target = PUBLIC.get(match[1])
        return match[0] if target is None or match[1] == own else f"[`{match[1]}`][{target}]"

    parts = re.split(r"(^```.*?^```)", typeset(text), flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else NAME.sub(linked, part) for part in parts)


class References(griffe.Extension):
    """A Griffe extension that typesets docstrings, and takes their examples for what they are."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring and not obj.is_module:  # no page shows a module
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = typeset_with_links(text, obj.name)
