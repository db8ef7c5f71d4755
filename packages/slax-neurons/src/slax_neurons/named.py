"""A dictionary of what has a name."""

import difflib
from typing import TypeVar

V = TypeVar("V")


class Named(dict[str, V]):
    """Entries by name; an unknown name is a KeyError with those that are known. `NEURONS["mine"] = Mine` adds one."""

    def __missing__(self, name: str) -> V:
        close = difflib.get_close_matches(str(name).lower(), self, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise KeyError(f"Got the name {name!r}, expected one of: {', '.join(self)}.{hint}")
