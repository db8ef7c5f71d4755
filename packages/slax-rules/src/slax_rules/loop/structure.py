"""What functions, partials and Optax transformations are made of, so that two of them can be compared by content.

A lambda, a `functools.partial` or `optax.adam(1e-2)` is a new object each time it is made. Its structure is its code, the
values that it holds in closures, defaults and arguments, and the global values that it reads. Functions of an installed
package that can be found by their name are compared by it.
"""

import dataclasses
import enum
import functools
import hashlib
import pathlib
import site
import sys
import sysconfig
import types
from collections.abc import Collection, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from slax_rules.loop.bytecode import assigned, digest_of_code, globals_read, names_of, names_read
from slax_rules.loop.identity import ByIdentity, token

SLAX = frozenset({"slax_data", "slax_neurons", "slax_rules", "slax_viz"})
# Bytes of an array that is not compared by content: it would be copied to the host, and kept with its program.
LARGE = 2**24
PLAIN = (type(None), int, complex, str, bytes, type(...), type(NotImplemented), slice, range, np.dtype)
PARTIALS = (functools.partial, jax.tree_util.Partial)
CONTAINERS = {tuple, list, dict, types.FunctionType, types.MethodType, functools.partial}
# Where installed packages are: those of Python, of the user, and of JAX, wherever it is.
INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {site.getusersitepackages(), *(str(pathlib.Path(str(module.__file__)).parents[1]) for module in (jax, optax, np))}
)

# Numbers that Optax's transformations only multiply, add or compare: as data of a program, they may change without a
# compilation, and XLA computes the same with them. From others, such as the decays of Adam, Python computes in float64.
DATA = {
    "step_size of scale",
    "decay of trace",
    "weight_decay of add_decayed_weights",
    "max_delta of clip",
    "max_norm of clip_by_global_norm",
    "eps of scale_by_adam",
    "eps_root of scale_by_adam",
    "eps of scale_by_adamax",
    "init_value of cosine_decay_schedule",
    "init_value of exponential_decay",
}

# Functions and attributes by which code reads a value whose name is not in it.
READERS = frozenset(("getattr", "globals", "vars", "locals", "eval", "exec", "__import__"))
TABLES = frozenset(("environ", "getenv", "import_module", "modules", "__dict__"))

# Attributes of classes: where decorators keep the function, values that count, and methods that compute nothing.
INNER = ("__wrapped__", "__func__", "fget", "func")
CLASS_VALUES = (bool, int, float, str, np.ndarray, np.generic, jax.Array)
NOT_COMPUTING = frozenset(("__init__", "__repr__", "__str__", "__new__", "__init_subclass__"))

Place = tuple[Any, ...]  # the way from a value to a number that it holds: of items, keys and cells of closures


class HeldValue(NamedTuple):
    """A number or an array that a structure holds.

    Args:
        name: where it is, in words, such as "step_size of scale".
        place: the way to it, for a number in `DATA` of a transformation of Optax; else None.
        value: an integer, a boolean, or a real number, as a float or a scalar of NumPy or JAX; or the dtype, shape and digest
            of an array, as text.
    """

    name: str
    place: Place | None
    value: Any

    @property
    def content(self) -> Hashable:
        """The value, to be compared."""
        return self.value if isinstance(self.value, int | str) else float(self.value).hex()


class Structure(NamedTuple):
    """What a value is made of.

    Args:
        code: everything but the numbers and arrays; it can be compared and hashed.
        values: the numbers and arrays, in order.
        is_fixed: true if nothing in it can change, as a global value, a list or a NumPy array can.
        itself: for each object that cannot be compared by content, such as one of a class without fields, what stands for the
            outermost function that reads it, or else for the object: a function that is made afresh may find it changed.
    """

    code: Hashable
    values: tuple[HeldValue, ...]
    is_fixed: bool
    itself: tuple[Hashable, ...]

    def key(self, places: Collection[Place] = ()) -> Hashable:
        """The content without the numbers at some places, to be compared within a process."""
        values = tuple(held.content for held in self.values if held.place not in places)
        return self.code, values, self.itself

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


def structure(value: Any, of_objects: bool = False) -> Structure:
    """Find what a value is made of.

    Args:
        value: a function, a transformation, or something that holds such; or a class, whose methods and other attributes count,
            with the classes above it, up to those of installed packages.
        of_objects: whether to look into large arrays and objects that may change, too, as for a record of what they are now.

    Example:
        >>> import optax
        >>> from slax_rules.loop.structure import structure
        >>> one, two = structure(optax.sgd(0.1)), structure(optax.sgd(0.2))
        >>> one.code == two.code, one.key() == two.key()
        (True, False)
        >>> [(number.name, number.value) for number in two.values]
        [('step_size of scale', -0.2)]
    """
    walk = _Walk(of_objects)
    is_class = isinstance(value, type)
    code = walk.methods(value, ()) if is_class else walk.visit(value, type(value).__name__, ())
    return Structure(code, tuple(walk.values), walk.is_fixed, tuple(walk.itself))


class _Walk:
    """A walk through a value; `place` is None below functions of others than Optax and what `with_numbers` does not rebuild."""

    def __init__(self, of_objects: bool) -> None:
        self.of_objects = of_objects
        self.values: list[HeldValue] = []
        self.itself: list[Hashable] = []
        self.is_fixed = True
        self.functions: list[types.FunctionType] = []  # in which the walk is
        self.above: list[int] = []  # the objects in which the walk is
        self.done: dict[int, int] = {}  # functions that it has visited, whose numbers cannot be replaced
        self.classes: list[type] = []  # dataclasses that it has visited
        self.is_installed = False  # whether the present function is of an installed package

    def visit(self, value: Any, name: str, place: Place | None) -> Hashable:
        if type(value) not in CONTAINERS and (found := self._leaf(value, name, place)) is not None:
            return found
        if id(value) in self.above:
            return "above", len(self.above) - self.above.index(id(value))
        if place is None and isinstance(value, types.FunctionType):
            if id(value) in self.done:
                return "seen", self.done[id(value)]
            self.done[id(value)] = len(self.done)
        self.above.append(id(value))
        try:
            return self._made(value, name, place)
        finally:
            self.above.pop()

    def _leaf(self, value: Any, name: str, place: Place | None) -> Hashable | None:
        """The content of a value that holds no others; None for one that may."""
        if isinstance(value, enum.Enum):
            return "enum", self._named(type(value)), value.name
        if isinstance(value, int):  # or a boolean
            self.values.append(HeldValue(name, None, value))
            return type(value).__name__
        if isinstance(value, (*PLAIN, pathlib.PurePath)):
            return type(value).__name__, str(value) if isinstance(value, slice | np.dtype) else value
        if isinstance(value, float | np.generic | np.ndarray | jax.Array):
            return self._array(value, name, place)
        if isinstance(value, type | types.ModuleType):
            module = value.__module__ if isinstance(value, type) else value.__name__
            is_known = _is_installed(module) or value in self.classes
            return self._named(value) if is_known else self._unknown(value)  # for its attributes
        return None

    def _array(self, value: Any, name: str, place: Place | None) -> Hashable:
        self.is_fixed &= not isinstance(value, np.ndarray)
        if isinstance(value, jax.core.Tracer) or np.dtype(object) == getattr(value, "dtype", None):
            return self._unknown(value)
        if not isinstance(value, float) and not value.ndim and not jax.dtypes.issubdtype(value.dtype, np.floating):
            return type(value).__name__, str(value.dtype), str(_array(value).tolist())
        kind = "float" if type(value) is float else f"{value.dtype}{list(value.shape)}"
        if kind.endswith("[]") or kind == "float":
            self.values.append(HeldValue(name, place if name in DATA else None, value))
        elif value.nbytes > LARGE and not self.of_objects:
            return self._unknown(value)
        else:
            self.values.append(HeldValue(name, None, f"{kind}, digest {_digest(value)}"))
        return kind, type(value).__name__, bool(getattr(value, "weak_type", False))

    def _made(self, value: Any, name: str, place: Place | None) -> Hashable:
        if isinstance(value, types.FunctionType):
            is_installed = _is_installed(_home(value)) and _is_installed(value.__module__)
            found = _found_by_name(value) if is_installed else None
            return Named(value, found) if found else self._function(value, place)
        if type(value) in PARTIALS and not vars(value):
            keywords = ((key, self.visit(item, key, None)) for key, item in value.keywords.items())
            return "partial", self.visit(value.func, name, None), self.visit(value.args, name, None), tuple(keywords)
        if isinstance(value, types.MethodType):
            return "method", self.visit(value.__func__, name, None), self.visit(value.__self__, name, None)
        self.is_fixed &= self.is_installed or not isinstance(value, list | dict | set)
        if type(value) in (list, dict, set) and not value and not self.is_installed:
            return self._unknown(value)  # it may be filled, and then another one is filled
        if type(value) is list or (isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields"))):
            fields = getattr(value, "_fields", range(len(value)))
            items = zip(fields, value, strict=True)
            held = tuple(
                self.visit(item, f"{field} of {name}" if hasattr(value, "_fields") else name, _at(place, index))
                for index, (field, item) in enumerate(items)
            )
            return self._named(type(value)), held, self.methods(type(value), getattr(value, "_fields", ()))
        if type(value) is dict:
            return "dict", tuple(
                (self.visit(key, name, None), self.visit(item, str(key), _at(place, key)))
                for key, item in value.items()
            )
        if isinstance(value, set | frozenset) and all(isinstance(item, PLAIN) for item in value):
            return "set", tuple(sorted(map(repr, value)))
        if dataclasses.is_dataclass(value) and not isinstance(value, nnx.Pytree | nnx.Variable):
            kind, fields = type(value).__name__, dataclasses.fields(value)
            others = {*getattr(value, "__dict__", ())} - {field.name for field in fields}
            if others or not value.__dataclass_params__.frozen:  # type: ignore[union-attr]
                return self._object(value, name)  # it may be changed
            content = [
                (one.name, self.visit(getattr(value, one.name, ...), f"{one.name} of {kind}", None)) for one in fields
            ]
            return self._named(type(value)), tuple(content), self.methods(type(value), [one.name for one in fields])
        if callable(value) and (found := _found_by_name(value)):
            if _is_installed(value.__module__):
                return Named(value, found)
            parts = {
                key: part
                for key, part in getattr(value, "__dict__", {}).items()
                if not key.startswith("__") or key == "__wrapped__"
            }
            return Named(value, found), self.visit(parts, name, None)  # with the gradients of a `jax.custom_vjp`
        if type(value).__module__.startswith("optax."):  # `MultiSteps`
            kind = type(value).__name__
            content = [
                (key, self.visit(held, f"{key.strip('_')} of {kind}", None)) for key, held in vars(value).items()
            ]
            return self._named(type(value)), tuple(content)
        return self._object(value, name)

    def _object(self, value: Any, name: str) -> Hashable:
        """An object that may be changed, with its attributes if they are asked for."""
        attributes = dict(getattr(value, "__dict__", {})) if self.of_objects else {}
        for kind in type(value).__mro__ if self.of_objects else ():
            slots = getattr(kind, "__slots__", ())
            names = [slots] if isinstance(slots, str) else [*slots]
            attributes |= {slot: getattr(value, slot) for slot in names if hasattr(value, slot)}
        held = ((key, self.visit(item, f"{key} of {name}", None)) for key, item in attributes.items())
        return self._unknown(value), tuple(held)

    def methods(self, kind: type, fields: Collection[str]) -> Hashable:
        """The content of what a class and the classes above it define besides fields, without installed ones."""
        if kind in self.classes or _is_installed(kind.__module__):
            return ()
        self.classes.append(kind)
        own = (one for one in kind.__mro__ if not _is_installed(one.__module__))
        content = []
        for name, held in (item for one in own for item in vars(one).items() if item[0] not in fields):
            function = _function_of(held)
            if function is None:
                is_own = not name.startswith("__") and isinstance(held, CLASS_VALUES)
            else:
                is_generated = name.startswith("__") and function.__code__.co_filename == "<string>"  # of a dataclass
                is_own = not (is_generated or name in NOT_COMPUTING or _is_installed(_home(function)))
            if is_own:
                content.append(
                    (name, self.visit(held if function is None else function, f"{name} of {kind.__name__}", None))
                )
        return tuple(content)

    def _function(self, function: types.FunctionType, place: Place | None) -> Hashable:
        code, owner = function.__code__, function.__qualname__.partition(".")[0]
        self.functions.append(function)
        outside, self.is_installed = self.is_installed, _is_installed(_home(function))
        self.is_fixed &= self.is_installed
        is_of_optax = str(_home(function)).startswith("optax.")
        cells = []
        for index, (name, cell) in enumerate(zip(code.co_freevars, function.__closure__ or (), strict=True)):
            try:
                content = cell.cell_contents
            except ValueError:  # a name that has no value yet
                continue
            where, within = f"{name} of {owner}", _at(place, index) if is_of_optax else None
            if name in assigned(code):  # its present value is a state
                if not self.is_installed:
                    cells.append((name, self._unknown(content)))
                    continue
                # Optax makes the integers of a schedule floats when it is traced.
                content, within = float(content) if isinstance(content, int) else content, None
            cells.append((name, self.visit(content, where, within)))
        reads_by_name = not (READERS.isdisjoint(globals_read(code)) and TABLES.isdisjoint(names_read(code)))
        if (reads_by_name or set(vars(function)) - {"__wrapped__"}) and not self.is_installed:
            self._unknown(function)
        defaults = self.visit((function.__defaults__, function.__kwdefaults__), owner, None)
        reads = () if self.is_installed else tuple(self._globals(function))
        self.is_installed = outside
        self.functions.pop()
        return "function", function.__qualname__, digest_of_code(code), tuple(cells), defaults, reads

    def _globals(self, function: types.FunctionType) -> Iterator[Hashable]:
        """The global values that a function reads, and the attributes of the modules among them."""
        for module in sorted(names_of(function.__code__, "IMPORT_NAME")):
            if not _is_installed(module):
                yield module, self._unknown(sys.modules.get(module))
        for name in globals_read(function.__code__):
            if name not in function.__globals__:
                continue
            content = function.__globals__[name]
            if name in names_of(function.__code__, "STORE_GLOBAL", "DELETE_GLOBAL"):
                yield name, self._unknown(content)  # its present value is a state
            elif not isinstance(content, types.ModuleType) or _is_installed(content.__name__):
                yield name, self.visit(content, name, None)
            else:
                yield name, self._named(content)
                for attribute in names_read(function.__code__):
                    if attribute in vars(content):
                        yield name, attribute, self.visit(vars(content)[attribute], f"{name}.{attribute}", None)

    def _named(self, value: Any) -> Named:
        module = "" if isinstance(value, types.ModuleType) else f"{value.__module__}."
        return Named(value, f"{module}{getattr(value, '__qualname__', value.__name__)}")

    def _unknown(self, value: Any) -> Hashable:
        self.itself.append(token(self.functions[0] if self.functions else value))
        return "unknown", self._named(type(value))


def _function_of(held: Any) -> types.FunctionType | None:
    """The function that an attribute of a class is made of, as a method, a property or a decorated one; or None."""
    for _ in range(9):
        inner = next((getattr(held, name, None) for name in INNER if getattr(held, name, None) is not None), None)
        if inner is None or isinstance(held, type):
            break
        held = inner
    return held if isinstance(held, types.FunctionType) else None


def _at(place: Place | None, index: Any) -> Place | None:
    return None if place is None else (*place, index)


def _digest(array: Any) -> str:
    """The digest of the numbers of an array."""
    return _DIGESTS.of(array) if isinstance(array, jax.Array) else _digest_of(array)


def _digest_of(array: Any) -> str:
    return hashlib.blake2b(np.ascontiguousarray(_array(array)).tobytes(), digest_size=12).hexdigest()


_DIGESTS: ByIdentity[str] = ByIdentity(_digest_of)  # of arrays of JAX, which do not change


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


def own_class(value: Any) -> bool:
    """True for a class outside of installed packages, whose methods may change, or read what changes."""
    return isinstance(value, type) and not _is_installed(value.__module__)


def is_installed_by_name(value: Any) -> bool:
    """True for a function of an installed package that is there once, as far as its name says."""
    is_function = type(value) is types.FunctionType and "<" not in value.__qualname__
    return is_function and _is_installed(_home(value)) and _is_installed(value.__module__)


def _home(function: types.FunctionType) -> str | None:
    """The module that a function is written in, whatever function it wraps."""
    return function.__globals__.get("__name__")


@functools.cache
def _is_installed(module: str | None) -> bool:
    """True for a module of Python, of an installed package or of Slax, whose global values do not change."""
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names or top in SLAX:
        return top != "__main__"
    path = getattr(sys.modules.get(top), "__file__", None)
    return path is not None and path.startswith(INSTALLED)
