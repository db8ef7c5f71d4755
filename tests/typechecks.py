"""What checks the types of the packages' functions in all tests: see `--jaxtyping-packages` in pyproject.toml."""

import inspect
from collections.abc import Callable
from typing import Any

from beartype import beartype

_made: dict[tuple[str, str, str], Callable[..., Any]] = {}


def beartype_once(check: Callable[..., Any]) -> Callable[..., Any]:
    """beartype of what jaxtyping makes of a signature, made once: a function within a function is a new one in each call."""
    key = (check.__module__, check.__qualname__, str(inspect.signature(check)))
    if key not in _made:
        _made[key] = beartype(check)
    return _made[key]
