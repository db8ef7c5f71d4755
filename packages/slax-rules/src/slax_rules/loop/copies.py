"""Copies of functions, and of what holds them, with other numbers."""

import types
from collections.abc import Mapping
from typing import Any

from slax_rules.loop.structure import Place


def with_numbers(value: Any, numbers: Mapping[Place, Any]) -> Any:
    """A copy of a value with other numbers at some places; what holds none of them stays the same object."""
    if not numbers:
        return value
    if () in numbers:
        return numbers[()]
    parts: dict[Any, dict[Place, Any]] = {}
    for (first, *rest), number in numbers.items():
        parts.setdefault(first, {})[tuple(rest)] = number

    def part(index: Any, old: Any) -> Any:
        return with_numbers(old, parts.get(index, {}))

    if isinstance(value, tuple | list):
        items = [part(index, item) for index, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: part(key, item) for key, item in value.items()}
    cells = (
        types.CellType(part(index, cell.cell_contents)) if index in parts else cell
        for index, cell in enumerate(value.__closure__)
    )
    return _copied(value, tuple(cells))


def _copied(function: types.FunctionType, closure: Any) -> types.FunctionType:
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    made.__dict__.update(function.__dict__)
    return made
