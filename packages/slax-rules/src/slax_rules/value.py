"""Values: frozen dataclasses that JAX and Flax treat as trees."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx


class Value:
    """The base of frozen dataclasses that pass through `jax.jit`, `nnx.split` and optimizers as trees.

    Fields that hold arrays, such as a module, a variable or another value, are the children; all other fields are static.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, lambda static, fields: _rebuilt(cls, static, fields)
        )


def _flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    children = [name for name, content in fields.items() if _holds_arrays(content)]
    static = tuple((name, content) for name, content in fields.items() if name not in children)
    return [(jax.tree_util.GetAttrKey(name), fields[name]) for name in children], (tuple(children), static)


def _rebuilt(cls: type, static: Any, children: Any) -> Any:
    names, fields = static
    return cls(**dict(fields), **dict(zip(names, children, strict=True)))


def _holds_arrays(content: Any) -> bool:
    if isinstance(content, tuple):
        return any(map(_holds_arrays, content))
    return isinstance(content, Value | nnx.Module | nnx.Variable | jax.Array | np.ndarray)
