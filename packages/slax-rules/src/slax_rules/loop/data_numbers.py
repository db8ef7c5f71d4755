"""Which numbers of an optimizer can be data of a compiled step: its update is traced, and what is done with each is read."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.extend.core import Jaxpr, Literal

from slax_rules.loop.copies import with_numbers
from slax_rules.loop.structure import Place, Structure

UPDATE, INIT = ("item", 1), ("item", 0)  # the places of the functions of a transformation
EXACT = {"mul", "add", "sub", "max", "min", "lt", "le", "gt", "ge", "eq", "ne", "select_n"}
SAME = {"neg", "broadcast_in_dim", "convert_element_type", "reshape", "copy"}
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
WIDE = 4  # bytes: a narrower number would be rounded twice


def data_places(optimizer: nnx.Optimizer, trained: Any, found: Structure) -> tuple[Place, ...]:
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
