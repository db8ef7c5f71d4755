"""A table of facts about values, found by their identity, without keeping the values alive."""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class ByIdentity(Generic[_T]):
    """A table of what is known of values, by their identity; it keeps none of them alive.

    Args:
        make: makes what is known of a new value from it.
    """

    def __init__(self, make: Callable[[Any], _T]):
        self.make = make
        self.entries: dict[int, tuple[Callable[[], Any], _T]] = {}

    def of(self, value: Any) -> _T:
        """What is known of a value; made afresh if no weak reference to it can be made."""
        entry = self.entries.get(at := id(value))
        if entry is None or entry[0]() is not value:
            made = self.make(value)
            try:
                entry = self.entries[at] = weakref.ref(value, lambda _: self.entries.pop(at, None)), made
            except TypeError:
                return made
        return entry[1]


class _Token:
    """Stands for a value; it is equal to itself only."""


class _Itself:
    """A value to which no weak reference can be made, equal to itself only."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


_TOKENS: ByIdentity[_Token] = ByIdentity(lambda value: _Token())


def token(value: Any) -> Hashable:
    """What stands for a value by its identity, and keeps it alive only if it must."""
    return _TOKENS.of(value) if getattr(type(value), "__weakrefoffset__", 0) else _Itself(value)
