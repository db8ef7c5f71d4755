"""What the code of a function says: its digest, and what it reads, assigns to and imports."""

import dis
import functools
import hashlib
import types
import weakref
from typing import Any

_DIGESTS: "weakref.WeakKeyDictionary[types.CodeType, str]" = weakref.WeakKeyDictionary()


def digest_of_code(code: types.CodeType) -> str:
    """A digest of code, without the names of files and the numbers of lines."""
    if code not in _DIGESTS:
        constants = [
            digest_of_code(constant) if isinstance(constant, types.CodeType) else _constant(constant)
            for constant in code.co_consts
        ]
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        text = repr((code.co_code, constants, shape, names))
        _DIGESTS[code] = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return _DIGESTS[code]


@functools.cache
def names_of(code: types.CodeType, *operations: str) -> frozenset[str]:
    """The names that some operations of code, or of a function within it, have as their arguments."""
    found = {one.argval for one in dis.get_instructions(code) if one.opname in operations}
    return frozenset(found.union(*(names_of(one, *operations) for one in _within(code))))


def assigned(code: types.CodeType) -> frozenset[str]:
    """The variables of an enclosing function that code, or a function within it, assigns to."""
    return names_of(code, "STORE_DEREF", "DELETE_DEREF") & set(code.co_freevars)


def _constant(constant: Any) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def globals_read(code: types.CodeType) -> list[str]:
    """The names of the globals that code reads, with the functions within it, in alphabetical order."""
    return sorted(names_of(code, "LOAD_GLOBAL", "LOAD_NAME"))


@functools.cache
def names_read(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals and attributes in code, with the functions within it, in alphabetical order."""
    return tuple(sorted({*code.co_names}.union(*map(names_read, _within(code)))))


def _within(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
