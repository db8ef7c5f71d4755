"""What functions, partials and Optax transformations are made of, so that two of them can be compared by content.

A lambda, a `functools.partial` or `optax.adam(1e-2)` is a new object each time it is made. Its structure is its code, the
values that it holds in closures, defaults and arguments, and the global values that it reads. Functions of an installed
package that can be found by their name are compared by it.
"""

import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import pathlib
import site
import sys
import sysconfig
import types
import weakref
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

SLAX = frozenset({"slax_data", "slax_neurons", "slax_rules", "slax_viz"})
LARGE = (
    2**24
)  # bytes of an array that is not compared by content: it would be copied to the host, and kept with its program
PLAIN = (type(None), bool, int, complex, str, bytes, type(Ellipsis), type(NotImplemented), slice, range, np.dtype)
# Where installed packages are: those of Python, of the user, and of JAX, wherever it is.
INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {site.getusersitepackages(), *(str(pathlib.Path(str(module.__file__)).parents[1]) for module in (jax, optax, np))}
)

Place = tuple[tuple[str, Any], ...]  # the way from a value to a number that it holds


class Held(NamedTuple):
    """A number or an array that a structure holds.

    Args:
        name: where it is, in words, such as "step_size of scale".
        place: the way to it; None if `with_numbers` cannot replace it.
        value: a real number, as a float or a scalar of NumPy or JAX; or the dtype, shape and digest of an array, as text.
    """

    name: str
    place: Place | None
    value: Any

    @property
    def is_number(self) -> bool:
        """True for one real number."""
        return not isinstance(self.value, str)

    @property
    def content(self) -> Hashable:
        """The value, to be compared."""
        return float(self.value).hex() if self.is_number else self.value


class Structure(NamedTuple):
    """What a value is made of.

    Args:
        code: everything but the numbers and arrays; it can be compared and hashed.
        integers: the integers and booleans, in order, each with its name as in `Held`.
        values: the floating-point numbers and arrays, in order.
        unknown: what cannot be compared by content, such as an object of a class without fields, in words.
    """

    code: Hashable
    integers: tuple[tuple[str, int], ...]
    values: tuple[Held, ...]
    unknown: tuple[str, ...]

    @property
    def outline(self) -> Hashable:
        """Everything but the floating-point numbers and arrays, to be compared within a process."""
        return self.code, tuple(integer for _, integer in self.integers)

    @property
    def key(self) -> Hashable:
        """The complete content, to be compared within a process."""
        return self.outline, tuple(value.content for value in self.values)

    def digest(self) -> str:
        """A short text for the code, the same in every process."""
        return hashlib.blake2b(repr(self.code).encode(), digest_size=6).hexdigest()


class Named:
    """A class, a module or a function, compared by identity within a process, and by name between processes."""

    def __init__(self, value: Any, name: str):
        self.value, self.name = value, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self.value is other.value

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


def structure(value: Any) -> Structure:
    """Find what a value is made of.

    Example:
        >>> import optax
        >>> from slax_rules.loop.structure import structure
        >>> one, two = structure(optax.sgd(0.1)), structure(optax.sgd(0.2))
        >>> one.outline == two.outline, one.key == two.key
        (True, False)
        >>> [(number.name, number.value) for number in two.values]
        [('step_size of scale', -0.2)]
    """
    walk = _Walk()
    code = walk.visit(value, type(value).__name__, ())
    return Structure(code, tuple(walk.integers), tuple(walk.values), tuple(walk.unknown))


class _Walk:
    """A walk through a value; `place` is None below what `with_numbers` does not rebuild."""

    def __init__(self) -> None:
        self.integers: list[tuple[str, int]] = []
        self.values: list[Held] = []
        self.unknown: list[str] = []
        self.above: list[int] = []  # the objects that the walk is in
        self.is_installed = False  # whether the function that it is in is of an installed package

    def visit(self, value: Any, name: str, place: Place | None) -> Hashable:
        if isinstance(value, enum.Enum):
            return "enum", self._named(type(value)), value.name
        if isinstance(value, int):  # or a boolean
            self.integers.append((name, value))
            return type(value).__name__
        if isinstance(value, PLAIN):
            return type(value).__name__, str(value) if isinstance(value, slice | np.dtype) else value
        if isinstance(value, float | np.generic | np.ndarray | jax.Array):
            return self._array(value, name, place)
        if isinstance(value, type | types.ModuleType):
            module = value.__module__ if isinstance(value, type) else value.__name__
            return self._named(value) if _is_installed(module) else self._unknown(value, name)  # for its attributes
        if id(value) in self.above:
            return "above", len(self.above) - self.above.index(id(value))
        self.above.append(id(value))
        try:
            return self._made(value, name, place)
        finally:
            self.above.pop()

    def _array(self, value: Any, name: str, place: Place | None) -> Hashable:
        if isinstance(value, jax.core.Tracer) or np.dtype(object) == getattr(value, "dtype", None):
            return self._unknown(value, name)
        if not isinstance(value, float) and not value.ndim and not jax.dtypes.issubdtype(value.dtype, np.floating):
            return type(value).__name__, str(value.dtype), str(_array(value).tolist())
        kind = "float" if type(value) is float else f"{value.dtype}{list(value.shape)}"
        if kind.endswith("[]") or kind == "float":
            self.values.append(Held(name, place, value))
        elif value.nbytes > LARGE:
            return self._unknown(value, f"{name}, of {value.nbytes / 1e6:.0f} MB")
        else:
            digest = hashlib.blake2b(np.ascontiguousarray(_array(value)).tobytes(), digest_size=12)
            self.values.append(Held(name, None, f"{kind}, digest {digest.hexdigest()}"))
        return kind, type(value).__name__, bool(getattr(value, "weak_type", False))

    def _made(self, value: Any, name: str, place: Place | None) -> Hashable:
        if isinstance(value, functools.partial):
            within = _at(place, "keywords", None)
            keywords = ((key, self.visit(item, key, _at(within, "key", key))) for key, item in value.keywords.items())
            func = self.visit(value.func, name, _at(place, "func", None))
            return "partial", func, self.visit(value.args, name, _at(place, "args", None)), tuple(keywords)
        if isinstance(value, types.MethodType):
            return "method", self.visit(value.__func__, name, None), self.visit(value.__self__, name, None)
        if isinstance(value, list | dict | set) and not value and not self.is_installed:
            return self._unknown(value, f"{name}, which is empty")  # it may be filled, and then another one is filled
        if isinstance(value, tuple | list):
            fields = getattr(value, "_fields", range(len(value)))
            items = zip(fields, value, strict=True)
            return self._named(type(value)), tuple(
                self.visit(item, f"{field} of {name}" if hasattr(value, "_fields") else name, _at(place, "item", index))
                for index, (field, item) in enumerate(items)
            )
        if isinstance(value, dict):
            return "dict", tuple(
                (self.visit(key, name, None), self.visit(item, str(key), _at(place, "key", key)))
                for key, item in value.items()
            )
        if isinstance(value, set | frozenset) and all(isinstance(item, PLAIN) for item in value):
            return "set", tuple(sorted(map(repr, value)))
        if isinstance(value, pathlib.PurePath):
            return "path", str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, nnx.Pytree | nnx.Variable):
            kind, fields = type(value).__name__, dataclasses.fields(value)
            others = {*getattr(value, "__dict__", ())} - {field.name for field in fields}
            if others or not value.__dataclass_params__.frozen:  # type: ignore[union-attr]
                return self._unknown(value, name)  # it may be changed
            content = [
                (one.name, self.visit(getattr(value, one.name), f"{one.name} of {kind}", None)) for one in fields
            ]
            return self._named(type(value)), tuple(content), *_methods(type(value))
        if callable(value) and (found := _found_by_name(value)):
            if _is_installed(value.__module__):
                return Named(value, found)
            if not isinstance(value, types.FunctionType):  # such as one under `jit`
                return Named(value, found), self.visit(getattr(value, "__wrapped__", None), name, None)
        if isinstance(value, types.FunctionType):
            return self._function(value, place)
        if type(value).__module__.startswith("optax."):  # `MultiSteps`
            kind = type(value).__name__
            content = [
                (key, self.visit(held, f"{key.strip('_')} of {kind}", None)) for key, held in vars(value).items()
            ]
            return self._named(type(value)), tuple(content)
        return self._unknown(value, name)

    def _function(self, function: types.FunctionType, place: Place | None) -> Hashable:
        code, owner = function.__code__, function.__qualname__.partition(".")[0]
        outside, self.is_installed = self.is_installed, _is_installed(function.__module__)
        cells = []
        for index, (name, cell) in enumerate(zip(code.co_freevars, function.__closure__ or (), strict=True)):
            try:
                content = cell.cell_contents
            except ValueError:  # a name that has no value yet
                continue
            where, within = f"{name} of {owner}", _at(place, "closure", index)
            if name in _assigned(code):  # its present value is a state
                if not self.is_installed:
                    cells.append((name, self._unknown(content, where)))
                    continue
                # Optax makes the integers of a schedule floats when it is traced.
                content, within = float(content) if isinstance(content, int) else content, None
            cells.append((name, self.visit(content, where, within)))
        if set(vars(function)) - {"__wrapped__"} and not self.is_installed:
            self._unknown(function, f"{owner}, with attributes")
        defaults = self.visit((function.__defaults__, function.__kwdefaults__), owner, None)
        reads = () if self.is_installed else tuple(self._globals(function))
        self.is_installed = outside
        return "function", _code(code), tuple(cells), defaults, reads

    def _globals(self, function: types.FunctionType) -> Iterator[Hashable]:
        """The global values that a function reads, and the attributes of the modules among them."""
        attributes = sorted(set(_names(function.__code__)))
        for name in sorted(set(_global_names(function.__code__))):
            if name not in function.__globals__:
                continue
            content = function.__globals__[name]
            if not isinstance(content, types.ModuleType) or _is_installed(content.__name__):
                yield name, self.visit(content, name, None)
            else:
                yield name, self._named(content)
                for attribute in attributes:
                    if attribute in vars(content):
                        yield name, attribute, self.visit(vars(content)[attribute], f"{name}.{attribute}", None)

    def _named(self, value: Any) -> Named:
        module = "" if isinstance(value, types.ModuleType) else f"{value.__module__}."
        return Named(value, f"{module}{getattr(value, '__qualname__', value.__name__)}")

    def _unknown(self, value: Any, name: str) -> Hashable:
        self.unknown.append(f"{name}, a {type(value).__name__}")
        return "unknown", self._named(type(value))


def with_numbers(value: Any, numbers: Mapping[Place, Any]) -> Any:
    """A copy of a value with other numbers at some places; what holds none of them stays the same object."""
    if () in numbers:
        return numbers[()]
    parts: dict[tuple[str, Any], dict[Place, Any]] = {}
    for (first, *rest), number in numbers.items():
        parts.setdefault(first, {})[tuple(rest)] = number

    def part(step: str, index: Any, old: Any) -> Any:
        return with_numbers(old, parts[step, index]) if (step, index) in parts else old

    if not parts:
        return value
    if isinstance(value, functools.partial):
        args, keywords = part("args", None, value.args), part("keywords", None, value.keywords)
        return functools.partial(part("func", None, value.func), *args, **keywords)
    if isinstance(value, tuple | list):
        items = [part("item", index, item) for index, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: part("key", key, item) for key, item in value.items()}
    cells = (
        types.CellType(part("closure", index, cell.cell_contents)) if ("closure", index) in parts else cell
        for index, cell in enumerate(value.__closure__)
    )
    copy = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, tuple(cells))
    copy.__kwdefaults__ = value.__kwdefaults__
    copy.__dict__.update(value.__dict__)
    return copy


def _at(place: Place | None, step: str, index: Any) -> Place | None:
    return None if place is None else (*place, (step, index))


def _array(value: Any) -> np.ndarray:
    is_key = isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if is_key else value)


def _found_by_name(value: Any) -> str | None:
    """The name by which a module has a value, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(name).split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None


def is_installed_by_name(value: Any) -> bool:
    """True for a function of an installed package that is there once, as far as its name says."""
    return type(value) is types.FunctionType and "<" not in value.__qualname__ and _is_installed(value.__module__)


@functools.cache
def _is_installed(module: str | None) -> bool:
    """True for a module of Python, of an installed package or of Slax, whose global values do not change."""
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names or top in SLAX:
        return top != "__main__"
    path = getattr(sys.modules.get(top), "__file__", None)
    return path is not None and path.startswith(INSTALLED)


_DIGESTS: "weakref.WeakKeyDictionary[types.CodeType, str]" = weakref.WeakKeyDictionary()


def _code(code: types.CodeType) -> str:
    """A digest of code, without the names of files and the numbers of lines."""
    if code not in _DIGESTS:
        constants = [
            _code(constant) if isinstance(constant, types.CodeType) else _constant(constant)
            for constant in code.co_consts
        ]
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        text = repr((code.co_code, constants, shape, names))
        _DIGESTS[code] = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return _DIGESTS[code]


@functools.cache
def _assigned(code: types.CodeType) -> frozenset[str]:
    """The variables of an enclosing function that code assigns to."""
    found = {one.argval for one in dis.get_instructions(code) if one.opname in ("STORE_DEREF", "DELETE_DEREF")}
    return frozenset(found & set(code.co_freevars))


def _methods(kind: type) -> list[Hashable]:
    """The code of the functions of a class and of the classes above it, without installed ones."""
    own = (one for one in kind.__mro__ if not _is_installed(one.__module__))
    functions = ((name, getattr(held, "__code__", None)) for one in own for name, held in vars(one).items())
    return [
        (name, _code(code)) for name, code in functions if code is not None and not code.co_filename.startswith("<")
    ]


def _constant(constant: Any) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """The names of the globals that code reads, and the functions within it."""
    yield from (one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _global_names(constant)


def _names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in code, and in the functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)
