"""Compiled programs: found by the content of the functions in them, and bounded in number.

`jax.jit` finds a program by the identity of functions, and keeps it for ever: `optax.adam(1e-2)`, made once more in each pass
of a loop, would be compiled in each pass.
"""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from slax_rules.loop.identity import ByIdentity
from slax_rules.loop.structure import Place, Structure, is_installed_by_name, own_class, structure

KEPT = 64  # programs of a function; one takes about 10 MB

_lock = threading.RLock()
_T = TypeVar("_T")


class LRU(Generic[_T]):
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


class StaticPart:
    """What a program is made of, apart from arrays: a frozen dataclass of graphs, functions and options.

    An object is looked at when its program is first needed, and a `dataclasses.replace(what)` is looked at again. Two are equal
    if their contents are. Fields that are not compared are data of the program.
    """

    def __eq__(self, other: object) -> bool:
        if self is other or type(self) is not type(other):
            return self is other
        return key_of(self, rechecks=False) == key_of(other, rechecks=False)

    def __hash__(self) -> int:
        return hash(key_of(self, rechecks=False))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_known"}

    def key(self, rechecks: bool) -> Hashable:
        """The content; see `key_of`."""
        fields = (getattr(self, one.name) for one in dataclasses.fields(self) if one.compare)  # type: ignore[arg-type]
        return type(self), *(key_of(field, rechecks) for field in fields)

    @property
    def known(self) -> dict["Programs", Hashable]:
        """The key in each table of programs in which it was found."""
        found: dict[Programs, Hashable] = vars(self).setdefault("_known", {})
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class StaticParts(StaticPart):
    """Several parts of a program."""

    parts: tuple[Any, ...]


class Programs:
    """A function `function(what, *arguments)`, compiled once for each content of `what`.

    A program is traced with the functions of the `what` that is passed in, each time that arguments have other shapes. The
    `KEPT` programs that were used last are kept.

    Args:
        function: a function under `jit`. `what` is static. If it has `numbers`, they are data: the function gets
            `what.with_numbers(tracers)`.
        compiler_options: see `jax.jit`.
        rechecks: whether a function that was seen before, in another `what`, is looked at again, in case what it reads has
            changed; see `key_of`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        compiler_options: dict[str, Any] | None = None,
        rechecks: bool = True,
    ):
        self.function, self.compiler_options, self.rechecks = function, compiler_options, rechecks
        self.compiled: LRU[tuple[Hashable, Any]] = LRU(KEPT, lambda found: found[1].clear_cache())
        self.traced = threading.local()

    def __call__(self, what: StaticPart, *arguments: Any) -> Any:
        """Call the program of `what`, which is traced with the functions of `what` if it is traced."""
        numbers, key = getattr(what, "numbers", ()), what.known.get(self)
        key, program = self._found(what, what.key(self.rechecks) if key is None else key)
        self.traced.what, self.traced.key = what, key
        try:
            return program(numbers, *arguments)
        except _ChangedError:  # since it was looked at
            pass
        finally:
            self.traced.what = None
        _, program = self._found(what, what.key(rechecks=True))
        self.traced.what, self.traced.key = what, None
        try:
            return program(numbers, *arguments)
        finally:
            self.traced.what = None

    def _found(self, what: StaticPart, key: Hashable) -> tuple[Hashable, Any]:
        """The key in the table, which is quickly compared with itself, and the program under `jit`."""
        try:
            found = self.compiled.get(key)
        except Exception:
            check_hashable(what)
            raise
        if found is None:
            check_hashable(what)
            found = self.compiled.put(key, (key, self._jitted()))
        what.known[self] = found[0]
        return found

    def _jitted(self) -> Any:
        def program(numbers: Any, *arguments: Any) -> Any:
            what, key = self.traced.what, self.traced.key
            if key is not None and what.key(rechecks=True) != key:
                raise _ChangedError
            return self.function(what.with_numbers(numbers) if numbers else what, *arguments)

        program.__name__ = self.function.__name__
        return jax.jit(program, compiler_options=self.compiler_options)


def check_hashable(value: Any) -> None:
    """Raise TypeError for an option of a module in a graph that cannot be hashed: programs are compared by it."""
    if isinstance(value, nnx.GraphDef):
        options = [(key, getattr(held, "value", held)) for key, held in value.attributes]
        wrong = [f"{key}={option!r}" for key, option in options if not _is_hashable(option)]
        if wrong:
            raise TypeError(
                f"Got {', '.join(wrong)}, expected hashable values, since programs are found by them: a tuple in place of a "
                "list, a frozen dataclass."
            )
    parts = (getattr(value, one.name) for one in dataclasses.fields(value)) if isinstance(value, StaticPart) else value  # type: ignore[arg-type]
    for part in parts if isinstance(value, StaticPart | tuple) else ():
        check_hashable(part)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class _ChangedError(Exception):
    """A function that a program would be traced with is not what the program was found by."""


def key_of(value: Any, rechecks: bool = True) -> Hashable:
    """The content of functions and of what holds them, by which programs are found.

    With `rechecks=False`, a function that was seen before has the content that it had when it was last looked at, as under
    `jax.jit`. To look at one takes about 20 microseconds, and at a transformation 0.1 to 0.3 ms.
    """
    if value is None or isinstance(value, str | int | float | Mesh):
        return value
    if isinstance(value, StaticPart):
        return value.key(rechecks)
    if isinstance(value, nnx.GraphDef):
        return graph_key(value, rechecks)
    if isinstance(value, optax.GradientTransformation) or callable(value) or dataclasses.is_dataclass(value):
        return _content(value, rechecks)
    return tuple(key_of(item, rechecks) for item in value) if isinstance(value, tuple) else value


@dataclasses.dataclass(frozen=True)
class _GraphKey:
    """The content of a graph."""

    nodes: Any
    attributes: Any
    methods: Any

    def __hash__(self) -> int:
        return len(self.attributes)  # to hash them would take a large part of a call's time


def graph_key(graphdef: nnx.GraphDef, rechecks: bool, own: Any = None, data: Sequence[Place] = ()) -> Hashable:
    """The content of a graph, without the numbers of its own transformation that are data, at these places."""
    attributes: list[Any] = list(graphdef.attributes)
    for index, (name, held) in enumerate(attributes):
        value = getattr(held, "value", None)
        if is_function(value):
            attributes[index] = name, _content(value, rechecks, data if value is own else None)
    kinds = filter(own_class, dict.fromkeys(map(_class_of, graphdef.nodes)))
    return _GraphKey(graphdef.nodes, attributes, tuple(inspected(kind, rechecks).content(()) for kind in kinds))


def _class_of(node: Any) -> Any:
    """The class of a node: of a module, or of a value such as a rule, which is a tree for JAX."""
    treedef = getattr(getattr(node, "metadata", None), "treedef", None)
    data = None if treedef is None else treedef.node_data()
    return data[0] if data else getattr(node, "type", None)


def is_function(value: Any) -> bool:
    """True for a function or a transformation, which are compared by content."""
    return isinstance(value, optax.GradientTransformation) or (callable(value) and not isinstance(value, type))


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


class Inspected:
    """A function, as it was when it was last looked at."""

    def __init__(self, found: Structure):
        self.found = found
        self.contents: dict[Any, _Content] = {}

    def content(self, places: Sequence[Place]) -> _Content:
        """The content without the numbers at some places."""
        if places not in self.contents:
            self.contents[places] = _Content((places, self.found.key(places)))
        return self.contents[places]


_seen: ByIdentity[list[Inspected]] = ByIdentity(lambda value: [])


def inspected(value: Any, rechecks: bool) -> Inspected:
    """What is known of a function; see `key_of` for `rechecks`."""
    known = _seen.of(value)
    if not known or (rechecks and not known[0].found.is_fixed):
        found = structure(value)
        if not known or found.key() != known[0].found.key():
            known[:] = [Inspected(found)]
    return known[0]


def _content(value: Any, rechecks: bool, data: Sequence[Place] | None = None) -> Hashable:
    """The content of a function or a transformation.

    Args:
        data: for the optimizer's own transformation, whose `init` no program calls, the places of the numbers that are data.
    """
    if isinstance(value, optax.GradientTransformation):
        parts = value if data is None else (value.update,)
        return type(value), *(_content(part, rechecks, data) for part in parts)
    if value is None or isinstance(value, type) or is_installed_by_name(value):
        return value
    return inspected(value, rechecks).content(data or ())
