"""Tables of entries by name, to which installed packages add their own.

slax-neurons and slax-data, neither of which needs the other, have the same file.
"""

import difflib
import functools
from collections import UserDict
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

V = TypeVar("V")


class Table(UserDict[str, V]):
    """The entries of the library, and after them the entry points of a group, each loaded when it is first read.

    Args:
        group: the group of entry points, such as "slax.rules".
        kind: the class of an entry.
        library: the entries of the library, which stay as they are if users add or replace some.

    Raises:
        KeyError: an unknown name, with the known names and the closest.
        ImportError: an entry point whose name is taken; or, when it is read, that fails to load or is not of the kind.
    """

    def __init__(self, group: str, kind: Any, library: dict[str, V]):
        self.group, self.kind, self.library = group, kind, library

    @functools.cached_property
    def data(self) -> dict[str, Any]:  # type: ignore[override]
        found: dict[str, Any] = dict(self.library)
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            if point.name in found:
                raise ImportError(f"Got {place(point)}, whose name is taken. Rename or uninstall it.")
            found[point.name] = point
        return found

    def __getitem__(self, name: str) -> V:
        entry: Any = super().__getitem__(name)
        if isinstance(entry, EntryPoint):
            try:
                loaded = entry.load()
                if not isinstance(loaded, self.kind):
                    raise TypeError(f"Got a {type(loaded).__name__}, expected a {self.kind.__name__}.")
            except Exception as error:
                raise ImportError(f"Got {place(entry)}, which fails: {error!r}. Mend or uninstall it.") from error
            self.data[name] = entry = loaded
        return entry

    def __missing__(self, name: str) -> V:
        plain = {known.lower().replace("_", ""): known for known in self}
        close = difflib.get_close_matches(str(name).lower().replace("_", "").replace("-", ""), plain, n=1)
        hint = f" Did you mean {plain[close[0]]!r}?" if close else ""
        table = self.group.rpartition(".")[2].upper()
        raise KeyError(f"{table} got the name {name!r}, expected one of: {', '.join(self)}.{hint}")

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        return {**self, **other}


def place(point: EntryPoint) -> str:
    """An entry point in words, with its package."""
    return f"the entry point {point.name} = {point.value!r} in {point.group} of {point.dist and point.dist.name}"
