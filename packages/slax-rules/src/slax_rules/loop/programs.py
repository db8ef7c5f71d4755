"""Compiled programs: found by the structure of their functions, with learning rates as data, and bounded in number.

`jax.jit` finds a program by the identity of functions, and keeps it for ever: `optax.adam(1e-2)`, made once more in each pass
of a loop, would be compiled in each pass.
"""

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from flax import nnx

from slax_rules.loop.copies import renewed
from slax_rules.loop.data_numbers import INIT, data_places
from slax_rules.loop.structure import Place, Structure, is_installed_by_name, structure

KEPT = 64  # programs of a function; one takes about 10 MB
SHARED = 256  # functions that others of the same structure are replaced by
COMPILATIONS = 3  # with this compilation of one structure, there is a warning

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


class Programs:
    """A function `function(what, *arguments)`, compiled once for each `what`; the `KEPT` programs that were used last are kept.

    Args:
        function: a function under `jit`. `what` is static and can be hashed. If it has `numbers`, which it compares without,
            they are data: the function gets `what.with_numbers(tracers)`.
        missed: called with `what` before a compilation.
        compiler_options: see `jax.jit`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        missed: Callable[[Any], None] = lambda what: None,
        compiler_options: dict[str, Any] | None = None,
    ):
        self.function, self.missed, self.compiler_options = function, missed, compiler_options
        self.compiled: Recent[Any] = Recent(KEPT, lambda program: program.clear_cache())
        self.last: tuple[Any, Any] = (None, None)  # found by identity: to compare two graphs takes time

    def __call__(self, what: Any, *arguments: Any) -> Any:
        return self.program(what)(getattr(what, "numbers", ()), *arguments)

    def lower(self, what: Any, *arguments: Any) -> Any:
        """Lower the program, as `jax.jit` does."""
        return self.program(what).lower(getattr(what, "numbers", ()), *arguments)

    def program(self, what: Any) -> Any:
        """The jitted function of the numbers of `what` and of the arguments."""
        last, found = self.last
        if last is what:
            return found
        found = self.compiled.get(what)
        if found is None:
            self.missed(what)
            found = self.compiled.put(what, self.jitted(what))
        self.last = what, found
        return found

    def jitted(self, what: Any) -> Any:
        """The function under `jit`, for one `what`."""

        def program(numbers: Any, *arguments: Any) -> Any:
            return self.function(what.with_numbers(numbers) if numbers else what, *arguments)

        program.__name__ = self.function.__name__
        return jax.jit(program, compiler_options=self.compiler_options)


# ------------------------------------------------------------------------------------------------- functions by structure


Key = tuple[Hashable, Hashable]  # the content of a value
UNKNOWN = "unknown"  # the first part of a content that cannot be compared, so that it stands for no other value


class Seen(NamedTuple):
    """A value that was seen before.

    Args:
        key: its content when it was seen first, by which the programs know the value.
        is_fixed: true if the content cannot change.
        copies: of a value that cannot be compared, by their content: they stand for it where that is another than at first.
    """

    key: Key
    is_fixed: bool
    copies: dict[Key, Any]


_seen: "weakref.WeakKeyDictionary[Any, Seen]" = weakref.WeakKeyDictionary()
_first: Recent[tuple[Any, Key]] = Recent(SHARED)  # a value, and its content when it was put here


def shared(value: Any, looks_again: bool = True) -> Any:
    """The first value with the structure of this one, so that their programs are the same; itself if it is the first.

    A value whose content has changed, as when a global value is assigned again, is replaced by a copy: programs know functions
    by identity. With `looks_again=False`, a value that was seen before keeps its content of then, as under `jax.jit`.
    """
    if value is None or isinstance(value, type) or is_installed_by_name(value):
        return value
    try:
        seen = _seen.get(value)
    except TypeError:
        return value  # it cannot be hashed, as `check_hashable` says, or not be referred to weakly
    if seen is not None and (seen.is_fixed or not looks_again):
        return _standing(value, seen, seen.key, _key, may_change=False)
    found = structure(value)
    key = _key(value, found)
    if seen is None:
        seen = _seen[value] = Seen(key, found.is_fixed, {})
    standing = _standing(value, seen, key, _key, may_change=not seen.is_fixed)
    if standing not in _seen:  # a copy
        found = structure(standing)
        _seen[standing] = Seen(_key(standing, found), found.is_fixed, {})
    return standing


def _key(value: Any, found: Structure | None = None) -> Key:
    found = found or structure(value)
    return (UNKNOWN, found.key) if found.unknown else found.key


def _standing(value: Any, seen: Seen, key: Key, content: Callable[[Any], Key], may_change: bool) -> Any:
    """What stands for all values with the content `key`: the first of them, this value, or a copy of this value."""
    is_same = key == seen.key
    if key[0] == UNKNOWN:
        return value if is_same else seen.copies.get(key) or seen.copies.setdefault(key, renewed(value))
    kept = _first.get(key)
    if kept is None or (may_change and kept[0] is not value and content(kept[0]) != kept[1]):
        chosen = value if is_same else renewed(value)
        kept = _first.put(key, (chosen, key if is_same else content(chosen)))
    return kept[0]


class Transformation(NamedTuple):
    """An Optax transformation, with the numbers that are data of its programs.

    Args:
        shared: the transformation that stands for all that differ in these numbers alone.
        places: where the numbers are in it.
        numbers: the numbers.
    """

    shared: optax.GradientTransformation
    places: tuple[Place, ...] = ()
    numbers: tuple[Any, ...] = ()


def shared_graph(
    graphdef: nnx.GraphDef, own: Any = None, instead: Any = None, looks_again: bool = True
) -> nnx.GraphDef:
    """A graph whose functions are shared, with the transformation `instead` of its own. See `shared` for `looks_again`."""
    attributes: list[Any] = list(graphdef.attributes)
    for index, value in _functions(graphdef).items():
        key, held = attributes[index]
        attributes[index] = key, type(held)(instead if value is own else shared(value, looks_again))
    return type(graphdef)(graphdef.nodes, attributes, graphdef.num_leaves)


class _Found(NamedTuple):
    """What is known of a transformation: its content, how it was at first, and its numbers that are data."""

    content: Hashable
    seen: Seen
    key: Key
    places: tuple[Place, ...]
    numbers: tuple[Any, ...]


_transformations: "weakref.WeakKeyDictionary[Any, dict[Hashable, _Found]]" = weakref.WeakKeyDictionary()
_places: Recent[dict[Hashable, tuple[Place, ...]]] = Recent(SHARED)


def shared_transformation(
    optimizer: nnx.Optimizer, trained: Callable[[], Any], state: Any, looks_again: bool = True
) -> Transformation:
    """Find the numbers of an optimizer's transformation that are data, such as its learning rate.

    A number is data if the update only adds or multiplies it to arrays, or compares it with them: XLA then computes the same
    operations, whether it knows the number or not (two factors that follow each other may be rounded once less if it knows
    both). Others, such as the decays of Adam, from which Python computes 1 - decay in
    float64, stay in the program. So do all in half precision, which would round a number once more. Those of `init` are data,
    since they only fill the first state.

    Args:
        trained: makes the object that the optimizer trains.
        state: the state of model, rule and optimizer.
        looks_again: whether to look for changes in a transformation that was seen before, which takes 0.1 to 0.3 ms.
    """
    tx = optimizer.tx
    if not isinstance(tx, optax.GradientTransformation):
        return Transformation(tx)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state))
    kept = _transformations.setdefault(tx.update, {})
    known = kept.get((tx.init, shapes))
    looks = known is None or (looks_again and not known.seen.is_fixed)
    if looks:
        found = structure(tx)
        if known is None or found.key != known.content:
            places = () if found.unknown else _known_places(optimizer, trained, found, shapes)
            key = (UNKNOWN, found.key) if found.unknown else _without(found, places)
            values = {held.place: held.value for held in found.values}
            # A scalar of JAX would be on one device.
            scalars = (value if type(value) is float else np.asarray(value) for value in map(values.get, places))
            seen = Seen(key, found.is_fixed, {}) if known is None else known.seen
            known = kept[tx.init, shapes] = _Found(found.key, seen, key, places, tuple(scalars))
    _, seen, key, places, numbers = known
    standing = _standing(tx, seen, key, lambda tx: _without(structure(tx), places), looks and not seen.is_fixed)
    return Transformation(standing, places, numbers)


def _known_places(optimizer: nnx.Optimizer, trained: Callable[[], Any], found: Structure, shapes: Hashable) -> Any:
    """The places of the numbers of a transformation that are data, found once for each content of the rest."""
    tried = _places.get((found.outline, shapes)) or {}  # Python may branch on what is not data
    places = next((places for places in {*tried.values()} if tried.get(_without(found, places)) == places), None)
    if places is None:
        of_init = (held.place for held in found.values if held.is_number and held.place and held.place[0] == INIT)
        places = (*of_init, *data_places(optimizer, trained(), found))
        _places.put((found.outline, shapes), {**tried, _without(found, places): places})
    return places


def _without(found: Structure, places: Sequence[Place]) -> Key:
    """The content of a transformation except for some numbers."""
    return found.outline, tuple(held.content for held in found.values if held.place not in places)


# ----------------------------------------------------------------------------------------------------- many compilations

_compiled: Recent[list[dict[str, Structure]]] = Recent(SHARED)
CURES = {
    "optimizer": "Make such a number part of the optimizer's state: optax.inject_hyperparams(optax.adam)(rate, b1=b1).",
    "schedule": "Keep one schedule, and multiply what it gives: optax.chain(optax.adam(schedule), optax.scale(rate)).",
    "numbers": "Pass such a number or array with the targets.",
    "unknown": "Make the function once, before the loop.",
}


def warn_of_compilations(
    name: str,
    graphdef: nnx.GraphDef,
    parts: Mapping[str, Any],
    options: Hashable,
    data: Sequence[Place] = (),
    stacklevel: int = 7,
) -> None:
    """Warn of the third compilation of programs that differ only in what their functions hold.

    Args:
        name: the function that the user has called.
        graphdef: the graph of model, rule and optimizer.
        parts: other functions of the program, by the name of their argument.
        options: everything else.
        data: the places of the numbers of the optimizer that are data, which need no compilation.
        stacklevel: from here to the code of the user, as for `warnings.warn`.
    """
    functions = _functions(graphdef)
    optimizers = [value for value in functions.values() if isinstance(value, optax.GradientTransformation)]
    others = [value for value in functions.values() if not isinstance(value, optax.GradientTransformation)]
    named = {"the optimizer": tuple(optimizers), **parts, "the model": tuple(others)}
    found = {part: structure(held) for part, held in named.items()}
    rest = tuple(None if index in functions else entry for index, entry in enumerate(graphdef.attributes))
    key = tuple((part, one.outline) for part, one in found.items()), rest, tuple(graphdef.nodes), options
    all_found = _compiled.get(key) or []
    if len(all_found) == COMPILATIONS:
        return
    _compiled.put(key, [*all_found, found])
    differing = list(_differing([*all_found, found], {(("item", 0), *place) for place in data}))
    if len(all_found) + 1 == COMPILATIONS and differing:
        texts, cures = zip(*differing, strict=True)
        warnings.warn(
            f"{name} compiles a training step for the {COMPILATIONS}rd time, since {'; '.join(texts)}. Each compilation takes "
            f"seconds. {' '.join(CURES[cure] for cure in dict.fromkeys(cures))}",
            UserWarning,
            stacklevel=stacklevel,
        )


def _functions(graphdef: nnx.GraphDef) -> dict[int, Any]:
    """The functions and transformations in a graph, by the index of their attribute."""
    statics = ((index, getattr(held, "value", None)) for index, (_, held) in enumerate(graphdef.attributes))
    return {
        index: value
        for index, value in statics
        if isinstance(value, optax.GradientTransformation) or (callable(value) and not isinstance(value, type))
    }


def _differing(all_found: list[dict[str, Structure]], data: set[Place]) -> Iterator[tuple[str, str]]:
    """What differs between programs, in words, and the name of the cure. Numbers that are data do not count."""
    for part in all_found[0]:
        same = [found[part] for found in all_found]
        for held in zip(*(one.values for one in same), strict=True):
            contents = dict.fromkeys(one.content for one in held)
            is_data = part == "the optimizer" and held[0].place in data
            if len(contents) > 1 and not is_data:
                shown = ", ".join(f"{one.value:.4g}" if one.is_number else "an array" for one in held)
                yield f"{held[0].name} in {part} is {shown}", _cure(part, held[0].name)
        for what in same[0].unknown if len({one.key for one in same}) == 1 else ():
            yield f"{part} holds {what}, which cannot be compared", "unknown"


def _cure(part: str, name: str) -> str:
    """The cure for a number of a part, by its name: those of schedules of Optax end with the schedule."""
    is_scheduled = name.endswith(("schedule", "schedules", "exponential_decay"))
    return "numbers" if part != "the optimizer" else "schedule" if is_scheduled else "optimizer"
