"""A Griffe extension: a public name in backticks in a docstring becomes a link to its place in the reference."""

import re
from typing import Any

import griffe

from docs.site.hooks import PACKAGES, public_names

NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_]\w*)`(?!`)")


class References(griffe.Extension):
    """Link the names in docstrings, and take their examples for what they are."""

    def __init__(self) -> None:
        self._known = {name: f"{package}.{name}" for package in PACKAGES for name in public_names(package)}

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = NAME.sub(lambda match: self._linked(match, obj.name), text)

    def _linked(self, match: re.Match[str], own: str) -> str:
        target = self._known.get(match[1])
        return match[0] if target is None or match[1] == own else f"[`{match[1]}`][{target}]"
