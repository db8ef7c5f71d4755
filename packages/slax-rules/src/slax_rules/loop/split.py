"""Model, rule and optimizer as a graph and arrays: the learning rate and such numbers of the optimizer are data, too."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from slax_rules.loop.copies import with_numbers
from slax_rules.loop.data_numbers import INIT, UPDATE, data_places
from slax_rules.loop.programs import Recent, What, graph_key, look_at
from slax_rules.loop.structure import Place, Structure
from slax_rules.loop.windows import trained_together

_places: Recent[dict[Hashable, tuple[Place, ...]]] = Recent(256)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph(What):
    """The graph of (model, rule, optimizer or None).

    Args:
        graphdef: the graph, as `nnx.split` makes it.
        places: where the numbers of the optimizer's transformation are that are data.
        numbers: these numbers; graphs are equal without them.
        transformation: the optimizer's transformation.
    """

    graphdef: nnx.GraphDef
    places: tuple[Place, ...] = ()
    numbers: tuple[Any, ...] = dataclasses.field(default=(), compare=False)
    transformation: Any = dataclasses.field(default=None, compare=False)

    def key(self, looks_again: bool) -> Hashable:
        """The content; see `key_of`."""
        return graph_key(self.graphdef, looks_again, self.transformation, self.places)

    def with_numbers(self, numbers: tuple[Any, ...]) -> "Graph":
        """The graph with other numbers of the optimizer."""
        return dataclasses.replace(self, numbers=numbers)

    def merged(self, state: nnx.State) -> tuple[Any, Any, Any]:
        """The model, the rule and the optimizer, as copies, with the numbers of this graph.

        The optimizer's `init`, which may branch on a number, takes no tracers.
        """
        model, rule, optimizer = nnx.merge(self.graphdef, state, copy=True)
        pairs = zip(self.places, self.numbers, strict=True)
        taken = {at: number for at, number in pairs if at[0] == UPDATE or not isinstance(number, jax.core.Tracer)}
        if taken:
            optimizer.tx = with_numbers(optimizer.tx, taken)
        return model, rule, optimizer


def split(objects: tuple[Any, Any, Any], looks_again: bool = True) -> tuple[Graph, nnx.State]:
    """The graph of (model, rule, optimizer or None), and their state. See `key_of` for `looks_again`."""
    model, rule, optimizer = objects
    graphdef, state = nnx.split(objects)
    if optimizer is None:
        return Graph(graphdef), state
    names = tuple(name for name, _ in graphdef.attributes)  # a transformation may tell parameters apart by their names
    data = _data(optimizer, lambda: trained_together(model, rule), names, state, looks_again)
    return Graph(graphdef, *data, optimizer.tx), state


def _data(
    optimizer: nnx.Optimizer, trained: Callable[[], Any], names: tuple[Any, ...], state: nnx.State, looks_again: bool
) -> tuple[tuple[Place, ...], tuple[Any, ...]]:
    """Find the numbers of an optimizer's transformation that are data, such as its learning rate, and their places.

    A number is data if the update only adds or multiplies it to arrays, or compares it with them: XLA then computes the same
    operations, whether it knows the number or not (two factors that follow each other may be rounded once less if it knows
    both). Others, such as the decays of Adam, from which Python computes 1 - decay in float64, stay in the program. So do all
    in half precision, which would round a number once more. Those of `init` are data, since they only fill the first state.
    """
    if not isinstance(optimizer.tx, optax.GradientTransformation):
        return (), ()
    seen = look_at(optimizer.tx, looks_again)
    shapes = names, *((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state))
    if shapes not in seen.data:
        places = () if seen.found.unknown else _known_places(optimizer, trained, seen.found, shapes)
        values = {held.place: held.value for held in seen.found.values}
        # A scalar of JAX would be on one device.
        scalars = (value if type(value) is float else np.asarray(value) for value in map(values.get, places))
        seen.data[shapes] = places, tuple(scalars)
    return seen.data[shapes]


def _known_places(optimizer: nnx.Optimizer, trained: Callable[[], Any], found: Structure, shapes: Hashable) -> Any:
    """The places of the numbers of a transformation that are data, found once for each content of the rest."""
    tried = _places.get((found.outline, shapes)) or {}  # Python may branch on what is not data
    places = next((places for places in {*tried.values()} if tried.get(_without(found, places)) == places), None)
    if places is None:
        of_init = (held.place for held in found.values if held.is_number and held.place and held.place[0] == INIT)
        places = (*of_init, *data_places(optimizer, trained(), found))
        _places.put((found.outline, shapes), {**tried, _without(found, places): places})
    return places


def _without(found: Structure, places: Sequence[Place]) -> Hashable:
    """The values of a structure except for numbers at some places."""
    return tuple(held.content for held in found.values if held.place not in places)
