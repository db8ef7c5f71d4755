"""Compiled programs: found by the structure of their functions, with learning rates as data, and bounded in number.

`jax.jit` finds a program by the identity of functions, and keeps it for ever: `optax.adam(1e-2)`, made once more in each pass
of a loop, would be compiled in each pass.
"""

import dataclasses
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.extend.core import Jaxpr, Literal

from slax_rules.loop.structure import Place, Structure, is_installed_by_name, structure, with_numbers

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

UNKNOWN = "unknown"  # in place of the content of a function that cannot be compared
_first: Recent[Any] = Recent(SHARED)
_keys: "weakref.WeakKeyDictionary[Any, Hashable]" = weakref.WeakKeyDictionary()
_keys_by_value: Recent[Hashable] = Recent(SHARED)


def shared(value: Any) -> Any:
    """The first value with the structure of this one, so that their programs are the same; itself if it is the first."""
    if value is None or isinstance(value, type) or is_installed_by_name(value):
        return value
    try:
        known = _known(value)
    except TypeError:
        return value  # it cannot be hashed, as `check_hashable` says, or not be referred to weakly
    if known == UNKNOWN:
        return value
    first = _first.get(known)
    return _first.put(known, value) if first is None else first


def _known(value: Any) -> Hashable:
    """The key of a value's structure, found once."""
    # A function or a partial is compared by identity, and a dataclass, such as a surrogate, as it compares itself.
    is_identity = type(value).__hash__ is object.__hash__
    by_value = dataclasses.is_dataclass(value)
    key = _keys.get(value) if is_identity else _keys_by_value.get((type(value), value)) if by_value else None
    if key is None:
        found = structure(value)
        key = UNKNOWN if found.unknown else found.key
        if is_identity:
            _keys[value] = key
        elif by_value:
            _keys_by_value.put((type(value), value), key)
        first = _first.get(key)
        if first is not None and structure(first).key != key:  # it holds something that has changed since
            _first.put(key, value)
    return key


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


def shared_graph(graphdef: nnx.GraphDef, own: Any = None, instead: Any = None) -> nnx.GraphDef:
    """A graph whose functions are shared, with the transformation `instead` of its own."""
    attributes: list[Any] = list(graphdef.attributes)
    for index, value in _functions(graphdef).items():
        key, held = attributes[index]
        attributes[index] = key, type(held)(instead if value is own else shared(value))
    return type(graphdef)(graphdef.nodes, attributes, graphdef.num_leaves)


_transformations: "weakref.WeakKeyDictionary[Any, dict[Hashable, Any]]" = weakref.WeakKeyDictionary()
_places: Recent[dict[Hashable, tuple[Place, ...]]] = Recent(SHARED)
UPDATE, INIT = ("item", 1), ("item", 0)  # the places of the functions of a transformation


def shared_transformation(optimizer: nnx.Optimizer, trained: Callable[[], Any], state: Any) -> Transformation:
    """Find the numbers of an optimizer's transformation that are data, such as its learning rate.

    A number is data if the update only adds or multiplies it to arrays, or compares it with them: XLA then computes the same
    operations, whether it knows the number or not (two factors that follow each other may be rounded once less if it knows
    both). Others, such as the decays of Adam, from which Python computes 1 - decay in
    float64, stay in the program. So do all in half precision, which would round a number once more.

    Args:
        trained: makes the object that the optimizer trains.
        state: the state of model, rule and optimizer.
    """
    tx = optimizer.tx
    if not isinstance(tx, optax.GradientTransformation):
        return Transformation(tx)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state))
    known = _transformations.setdefault(tx.update, {}).get((tx.init, shapes))
    if known is None:
        found = structure(tx)
        if found.unknown:
            _transformations[tx.update][tx.init, shapes] = UNKNOWN, (), ()
            return Transformation(tx)
        tried = _places.get((found.outline, shapes)) or {}  # the places by what is not data, on which Python may branch
        key = next((key for places in {*tried.values()} if tried.get(key := _without(found, places)) == places), None)
        if key is None:
            places = _data(optimizer, trained(), found)
            key = _without(found, places)
            _places.put((found.outline, shapes), {**tried, key: places})
        else:
            places = tried[key]
        values = {held.place: held.value for held in found.values}
        # A scalar of JAX would be on one device.
        scalars = (value if type(value) is float else np.asarray(value) for value in map(values.get, places))
        known = _transformations[tx.update][tx.init, shapes] = key, places, tuple(scalars)
    key, places, numbers = known
    if key == UNKNOWN:
        return Transformation(tx)
    first = _first.get(key)
    return Transformation(_first.put(key, tx) if first is None else first, places, numbers)


def _without(found: Structure, places: Sequence[Place]) -> Hashable:
    """The content of a transformation except for some numbers, and for those of `init`, which only fill the first state."""
    rest = (held for held in found.values if held.place not in places)
    return found.outline, tuple(held.content for held in rest if held.place is None or held.place[0] != INIT)


# ----------------------------------------------------------------------------------------------------- numbers that are data

EXACT = {"mul", "add", "sub", "max", "min", "lt", "le", "gt", "ge", "eq", "ne", "select_n"}
SAME = {"neg", "broadcast_in_dim", "convert_element_type", "reshape", "copy"}
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
WIDE = 4  # bytes: a narrower number would be rounded twice


def _data(optimizer: nnx.Optimizer, trained: Any, found: Structure) -> tuple[Place, ...]:
    """The places of the numbers of a transformation that can be data."""
    numbers = {
        held.place: held.value
        for held in found.values
        if held.is_number and held.place is not None and held.place[0] == UPDATE
    }
    params = nnx.as_pure(nnx.state(trained, optimizer.wrt))
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, nnx.as_pure(optimizer.opt_state)))
    floats = [leaf.dtype for leaf in jax.tree.leaves(arrays) if jax.dtypes.issubdtype(leaf.dtype, np.floating)]
    if any(dtype.itemsize < WIDE for dtype in floats):
        return ()
    places = _used_as_data(optimizer.tx, numbers, *arrays)
    if places is None:  # one of them decides what Python does
        alone = [_used_as_data(optimizer.tx, {place: number}, *arrays) for place, number in numbers.items()]
        together = {place: numbers[place] for one in alone for place in one or ()}
        places = _used_as_data(optimizer.tx, together, *arrays)
    return tuple(places or ())


def _used_as_data(tx: Any, numbers: Mapping[Place, Any], params: Any, state: Any) -> list[Place] | None:
    """Those of the numbers that the update only combines with arrays; None if it cannot be traced with them as tracers."""

    def update(values: list[Any], gradient: Any, other: Any, state: Any, params: Any) -> Any:
        mine = with_numbers(tx, dict(zip(numbers, values, strict=True)))
        is_extra = isinstance(tx, optax.GradientTransformationExtraArgs)
        loss = jnp.sum(jax.tree.leaves(other)[0])
        extra = {"gradient_at": lambda params: other, "value": loss} if is_extra else {}
        return mine.update(gradient, state, params, **extra)

    try:
        jaxpr = jax.make_jaxpr(update)(list(numbers.values()), params, params, state, params).jaxpr
    except Exception:  # whatever it is, the program itself raises it again if it does not come from the tracers
        return None
    uses = _Uses()
    count = len(numbers)
    uses.follow(jaxpr, [*range(count), *[DATA] * (len(jaxpr.invars) - count)])
    return [place for index, place in enumerate(numbers) if index not in uses.refused]


CONSTANT, DATA = -2, -1  # what a variable is, or the index of the number that it is equal to, up to its sign and shape


class _Uses:
    """The uses of some numbers in a jaxpr."""

    def __init__(self) -> None:
        self.refused: set[int] = set()

    def follow(self, jaxpr: Jaxpr, given: Sequence[int]) -> list[int]:
        """Note the numbers that are used for more than arithmetic with data; return what the outputs are."""
        kinds: dict[Any, int] = dict(zip(jaxpr.invars, given, strict=True))

        def kind(atom: Any) -> int:
            return CONSTANT if isinstance(atom, Literal) else kinds.get(atom, CONSTANT)

        for equation in jaxpr.eqns:
            given = [kind(atom) for atom in equation.invars]
            for variable, made in zip(equation.outvars, self._made(equation, given), strict=True):
                kinds[variable] = made
        return [kind(atom) for atom in jaxpr.outvars]

    def _made(self, equation: Any, given: list[int]) -> list[int]:
        name, count = equation.primitive.name, len(equation.outvars)
        numbers = [one for one in given if one >= 0]
        if not numbers:
            return [DATA if DATA in given else CONSTANT] * count
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if name in CALLS and inner is not None:
            return self.follow(getattr(inner, "jaxpr", inner), given)
        if name in SAME and len(given) == 1 and _is_wide(equation.outvars[0].aval.dtype):
            return numbers
        if name not in EXACT or len(numbers) > 1 or CONSTANT in given:
            self.refused.update(numbers)
        return [DATA] * count


def _is_wide(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, np.floating) and dtype.itemsize >= WIDE


# ----------------------------------------------------------------------------------------------------- many compilations

_compiled: Recent[list[dict[str, Structure]]] = Recent(SHARED)
CURES = {
    "optimizer": "Make such a number part of the optimizer's state: optax.inject_hyperparams(optax.adam)(rate, b1=b1). Keep "
    "one schedule, and multiply what it gives: optax.chain(optax.adam(schedule), optax.scale(rate)).",
    "numbers": "Pass such a number or array with the targets.",
    "unknown": "Make the function once, before the loop.",
}


def warn_of_compilations(
    name: str, graphdef: nnx.GraphDef, parts: Mapping[str, Any], options: Hashable, data: Sequence[Place] = ()
) -> None:
    """Warn of the third compilation of programs that differ only in what their functions hold.

    Args:
        name: the function that the user has called.
        graphdef: the graph of model, rule and optimizer.
        parts: other functions of the program, by the name of their argument.
        options: everything else.
        data: the places of the numbers of the optimizer that are data, which need no compilation.
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
            stacklevel=7,
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
                yield f"{held[0].name} in {part} is {shown}", "optimizer" if part == "the optimizer" else "numbers"
        for what in same[0].unknown if len({one.key for one in same}) == 1 else ():
            yield f"{part} holds {what}, which cannot be compared", "unknown"
