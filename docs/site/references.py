"""A Griffe extension: a public name in backticks in a docstring becomes a link to its place in the reference.

A dotted name that begins with one of the packages, such as `slax_rules.gradients`, has to exist, or the build fails.
"""

import re
from typing import Any

import griffe

from docs.site.api import PACKAGES, public_names
from docs.site.pages import ROOT

NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_]\w*(?:\.\w+)*)`(?!`)")


class References(griffe.Extension):
    """Link the names in docstrings."""

    def __init__(self) -> None:
        self._known = {public.name: f"{public.package}.{public.name}" for public in public_names()}

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Link the names in the docstring of an object, except for its own."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = NAME.sub(lambda match: self._linked(match, obj), obj.docstring.value)

    def _linked(self, match: re.Match[str], obj: griffe.Object) -> str:
        name = match[1]
        if name.startswith(PACKAGES) and "." in name and name not in self._known.values():
            check_module(name, obj)
            return match[0]
        target = name if name in self._known.values() else self._known.get(name)
        return match[0] if target is None or name == obj.name else f"[`{name}`][{target}]"


def check_module(name: str, obj: griffe.Object) -> None:
    """Stop the build if a dotted name is neither public nor a module."""
    module = name.replace(".", "/")
    if not any(ROOT.glob(f"packages/*/src/{module}{end}") for end in (".py", "/__init__.py")):
        raise SystemExit(f"The docstring of {obj.path} names {name}, and there is no such public name or module.")
