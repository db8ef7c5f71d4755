"""A stand-in for tqdm where it is missing: the same loops without a progress bar."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class tqdm:
    """An iterable without a progress bar, with the methods that our code calls."""

    def __init__(self, iterable: Iterable = (), *_: Any, **__: Any):
        self.iterable = iterable

    def __iter__(self) -> Iterator:
        return iter(self.iterable)

    def __enter__(self) -> "tqdm":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


sys.modules["tqdm.auto"] = sys.modules[__name__]
