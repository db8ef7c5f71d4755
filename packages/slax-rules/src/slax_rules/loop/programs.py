"""Compiled programs: found by the content of the functions in them, and bounded in number.

`jax.jit` finds a program by the identity of functions, and keeps it for ever: `optax.adam(1e-2)`, made once more in each pass
of a loop, would be compiled in each pass.
"""

import dataclasses
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from slax_rules.loop.structure import Place, Structure, is_installed_by_name, structure

KEPT = 64  # programs of a function; one takes about 10 MB

_lock = threading.RLock()
_T = TypeVar("_T")


class Recent(Generic[_T]):
    """A table of the entries that were used last; the others are dropped."""

    def __init__(self, size: int, dropped: Callable[[_T], None] = lambda entry: None):
        self.size, self.dropped = size, dropped
        self.entries: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable) -> _T | None:
        """The entry of a key, which is now the one used last."""
        with _lock:
            entry = self.entries.get(key)
            if entry is not None and next(reversed(self.entries.values())) is not entry:  # a key takes time to compare
                self.entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: _T) -> _T:
        """Add or replace an entry, and return it."""
        with _lock:
            self.entries[key] = entry
            self.entries.move_to_end(key)
            while len(self.entries) > self.size:
                self.dropped(self.entries.popitem(last=False)[1])
        return entry


class What:
    """What a program is made of, apart from arrays: a frozen dataclass of graphs, functions and options.

    Two are equal if their contents are. Fields that are not compared are data of the program.
    """

    def __eq__(self, other: object) -> bool:
        if self is other or type(self) is not type(other):
            return self is other
        return key_of(self, looks_again=False) == key_of(other, looks_again=False)

    def __hash__(self) -> int:
        return hash(key_of(self, looks_again=False))

    def key(self, looks_again: bool) -> Hashable:
        """The content; see `key_of`."""
        fields = (getattr(self, one.name) for one in dataclasses.fields(self) if one.compare)  # type: ignore[arg-type]
        return type(self), *(key_of(field, looks_again) for field in fields)


class Programs:
    """A function `function(what, *arguments)`, compiled once for each content of `what`.

    A program is traced with the functions of the `what` that is passed in, each time that arguments have other shapes. The
    `KEPT` programs that were used last are kept.

    Args:
        function: a function under `jit`. `what` is static: a `What`, a graph, a function, or a tuple of such and of options. If
            it has `numbers`, they are data: the function gets `what.with_numbers(tracers)`.
        missed: called with `what` before a compilation.
        compiler_options: see `jax.jit`.
        looks_again: whether a function that was seen before is looked at again, in case what it reads has changed; see
            `key_of`. An object `what` that is passed in repeatedly is looked at once.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        missed: Callable[[Any], None] = lambda what: None,
        compiler_options: dict[str, Any] | None = None,
        looks_again: bool = True,
    ):
        self.function, self.missed, self.looks_again = function, missed, looks_again
        self.compiler_options = compiler_options
        self.compiled: Recent[Any] = Recent(KEPT, lambda program: program.clear_cache())
        # The last one is found by identity, since to compare two graphs takes time.
        self.last: tuple[Any, Any, Any, int] = (None, None, None, 0)
        self.present = threading.local()

    def __call__(self, what: Any, *arguments: Any) -> Any:
        return self._use(what, lambda program: program(getattr(what, "numbers", ()), *arguments))

    def lower(self, what: Any, *arguments: Any) -> Any:
        """Lower the program, as `jax.jit` does."""
        return self._use(what, lambda program: program.lower(getattr(what, "numbers", ()), *arguments))

    def _use(self, what: Any, use: Callable[[Any], Any]) -> Any:
        """Use the program of `what`, which is traced with the functions of `what` if it is traced."""
        last, key, program, changes = self.last
        if last is not what or changes != Seen.changes:
            key = key_of(what, self.looks_again)
            program = self._found(what, key)
        outer = getattr(self.present, "traced", None)
        try:
            self.present.traced = what, key
            return use(program)
        except _ChangedError:  # since it was looked at
            key = key_of(what)
            self.present.traced = what, None
            return use(self._found(what, key))
        finally:
            self.present.traced = outer

    def _found(self, what: Any, key: Hashable) -> Any:
        """The program of a key, under `jit`."""
        found = self.compiled.get(key)
        if found is None:
            self.missed(what)
            found = self.compiled.put(key, self._jitted())
        self.last = what, key, found, Seen.changes
        return found

    def _jitted(self) -> Any:
        def program(numbers: Any, *arguments: Any) -> Any:
            what, key = self.present.traced
            if key is not None and key_of(what) != key:
                raise _ChangedError
            return self.function(what.with_numbers(numbers) if numbers else what, *arguments)

        program.__name__ = self.function.__name__
        return jax.jit(program, compiler_options=self.compiler_options)


class _ChangedError(Exception):
    """A function that a program would be traced with is not what the program was found by."""


def key_of(value: Any, looks_again: bool = True) -> Hashable:
    """The content of functions and of what holds them, by which programs are found.

    With `looks_again=False`, a function that was seen before has the content that it had when it was last looked at, as under
    `jax.jit`. To look at one takes about 20 microseconds, and at a transformation 0.1 to 0.3 ms.
    """
    if value is None or isinstance(value, str | int | float | Mesh):
        return value
    if isinstance(value, What):
        return value.key(looks_again)
    if isinstance(value, nnx.GraphDef):
        return graph_key(value, looks_again)
    if isinstance(value, optax.GradientTransformation) or callable(value) or dataclasses.is_dataclass(value):
        return _content(value, looks_again)
    return tuple(key_of(item, looks_again) for item in value) if isinstance(value, tuple) else value


@dataclasses.dataclass(frozen=True)
class _GraphKey:
    """The content of a graph."""

    nodes: Any
    attributes: Any

    def __hash__(self) -> int:
        return len(self.attributes)  # to hash them would take a large part of a call's time


def graph_key(graphdef: nnx.GraphDef, looks_again: bool, data: Sequence[Place] = ()) -> Hashable:
    """The content of a graph, without the numbers of its transformation that are data, at these places."""
    attributes: list[Any] = list(graphdef.attributes)
    for index, value in functions_of(graphdef).items():
        places = tuple(data) if isinstance(value, optax.GradientTransformation) else ()
        attributes[index] = attributes[index][0], _content(value, looks_again, places)
    return _GraphKey(graphdef.nodes, attributes)


def functions_of(graphdef: nnx.GraphDef) -> dict[int, Any]:
    """The functions and transformations in a graph, by the index of their attribute."""
    statics = ((index, getattr(held, "value", None)) for index, (_, held) in enumerate(graphdef.attributes))
    return {
        index: value
        for index, value in statics
        if isinstance(value, optax.GradientTransformation) or (callable(value) and not isinstance(value, type))
    }


class _Content:
    """A content, whose hash is computed once."""

    def __init__(self, content: Hashable):
        self.content, self.hash = content, hash(content)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Content) and self.hash == other.hash and self.content == other.content
        )

    def __hash__(self) -> int:
        return self.hash


class Seen:
    """A function or a transformation, as it was when it was last looked at.

    Args:
        found: its structure.
        itself: stands for the value in its content if it cannot be compared.

    Attributes:
        changes: how often another content was found than before, over all functions.
    """

    changes = 0

    def __init__(self, found: Structure, itself: Hashable):
        self.found, self.itself = found, itself
        self.contents: dict[Any, _Content] = {}
        self.data: dict[Hashable, Any] = {}  # the numbers that are data, by the shapes of what is trained

    def content(self, places: Sequence[Place] = ()) -> _Content:
        """The content without the numbers at some places."""
        if places not in self.contents:
            values = tuple(held.content for held in self.found.values if held.place not in places)
            itself = self.itself if self.found.unknown else None
            self.contents[places] = _Content((itself, places, self.found.outline, values))
        return self.contents[places]


_seen: "weakref.WeakKeyDictionary[Any, dict[Any, Seen]]" = weakref.WeakKeyDictionary()


def look_at(value: Any, looks_again: bool) -> Seen:
    """What is known of a function or a transformation; see `key_of` for `looks_again`."""
    anchor, which = (value.update, value.init) if isinstance(value, optax.GradientTransformation) else (value, None)
    try:
        of_anchor = _seen.setdefault(anchor, {})
        seen = of_anchor.get(which)
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return Seen(structure(value), _Same(value))
    if seen is None or (looks_again and not seen.found.is_fixed):
        found = structure(value)
        if seen is None or found.key != seen.found.key:
            Seen.changes += seen is not None
            seen = of_anchor[which] = Seen(found, object() if seen is None else seen.itself)
    return seen


class _Same:
    """A value that is equal to itself only."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _content(value: Any, looks_again: bool, places: Sequence[Place] = ()) -> Hashable:
    if value is None or isinstance(value, type) or is_installed_by_name(value):
        return value
    return look_at(value, looks_again).content(places)
