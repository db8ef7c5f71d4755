"""Model, rule and optimizer as a graph and arrays: numbers of the optimizer such as the learning rate are data as well."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_rules.loop.copies import with_numbers
from slax_rules.loop.programs import StaticPart, graph_key, inspected
from slax_rules.loop.structure import Place

WIDE = 4  # bytes: among narrower numbers, one that is data would be rounded twice


@dataclasses.dataclass(frozen=True, eq=False)
class Graph(StaticPart):
    """The graph of (model, rule, optimizer or None).

    Args:
        graphdef: the graph, as `nnx.split` makes it.
        places: where the optimizer's update function holds the numbers that are data.
        numbers: these numbers; graphs are equal without them.
        transformation: the optimizer's transformation.
    """

    graphdef: nnx.GraphDef
    places: tuple[Place, ...] = ()
    numbers: tuple[Any, ...] = dataclasses.field(default=(), compare=False)
    transformation: Any = dataclasses.field(default=None, compare=False)

    def key(self, rechecks: bool) -> Hashable:
        """The content; see `key_of`."""
        return graph_key(self.graphdef, rechecks, self.transformation, self.places)

    def with_numbers(self, numbers: tuple[Any, ...]) -> "Graph":
        """The graph with other numbers of the optimizer."""
        return dataclasses.replace(self, numbers=numbers)

    def merged(self, state: nnx.State) -> tuple[Any, Any, Any]:
        """The model, the rule and the optimizer, as copies, with the numbers of this graph."""
        model, rule, optimizer = nnx.merge(self.graphdef, state, copy=True)
        if self.numbers:
            numbers = dict(zip(self.places, self.numbers, strict=True))
            optimizer.tx = optimizer.tx._replace(update=with_numbers(optimizer.tx.update, numbers))
        return model, rule, optimizer


def split(objects: tuple[Any, Any, Any], rechecks: bool = True) -> tuple[Graph, nnx.State]:
    """The graph of (model, rule, optimizer or None), and their state. See `key_of` for `rechecks`.

    In half precision no number is data, since it would be rounded once more.
    """
    graphdef, state = nnx.split(objects)
    tx = getattr(objects[2], "tx", None)
    if not isinstance(tx, optax.GradientTransformation):
        return Graph(graphdef), state
    values = () if _is_half(state) else inspected(tx.update, rechecks).found.values
    found = [held for held in values if held.place is not None]
    # A scalar of JAX would be on one device.
    numbers = (held.value if type(held.value) is float else np.asarray(held.value) for held in found)
    return Graph(graphdef, tuple(held.place for held in found), tuple(numbers), tx), state


def _is_half(state: nnx.State) -> bool:
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(state)}
    return any(jnp.issubdtype(dtype, np.floating) and dtype.itemsize < WIDE for dtype in dtypes)
