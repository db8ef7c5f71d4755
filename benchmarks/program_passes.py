"""What a program for a GPU reads and writes: its products, its kernels and loops, and the element-wise work between them.

An array is one of size [T, B, N]. Operations that are done twice, and those that nothing needs, do not count, since XLA removes
them. For each array that element-wise operations leave to a product, a kernel or a loop, XLA is taken to run one kernel, which
reads once each array from which it follows.
"""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr

from slax_neurons import LIF, connect, unroll
from slax_neurons.neurons.fused import _run

LAYERS = 3
SIZES = (8, 4, 16)  # T, B, N of the programs that are counted; counts do not depend on them
CALLS = ("jaxpr", "call_jaxpr")  # parameters of an operation that stands for a program
APART = ("dot_general", "pallas_call", "scan")
FREE = ("reshape", "squeeze", "transpose", "copy")  # of arrays that keep their place


class Pass(NamedTuple):
    """A kernel, loop or product: its kind, an operation of JAX or "element-wise", and how many arrays it reads and writes."""

    kind: str
    arrays: int
    steps_per_iteration: int = 1


@cache
def gradient(loop: str, layers: int = LAYERS, steps_per_iteration: int = 1) -> Any:
    """The program of the gradient of a sum of spikes with respect to the weights of some layers of (Linear N to N, LIF)."""
    steps, batch, n = SIZES
    rngs = nnx.Rngs(0)
    modules = [(nnx.Linear(n, n, use_bias=False, rngs=rngs), LIF()) for _ in range(layers)]
    graphdef, state = nnx.split(connect([module for layer in modules for module in layer]))

    def loss(state: nnx.State, inputs: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        options = {"loop": loop, "chunk": steps, "steps_per_iteration": steps_per_iteration}
        return unroll(model, model.initialize_carry((batch, n)), inputs, **options)[1].sum()

    return flat(jax.grad(loss), state, jax.ShapeDtypeStruct((steps, batch, n), "float32"))


def flat(function: Any, *arguments: Any) -> Any:
    """The program of a function without calls, without what is done twice, and without what nothing reads."""

    def evaluate(closed: ClosedJaxpr, *inputs: Any) -> list[Any]:
        values = dict(zip([*closed.jaxpr.invars, *closed.jaxpr.constvars], [*inputs, *closed.consts], strict=True))
        read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]  # noqa: E731
        for equation in closed.jaxpr.eqns:
            given, parameters = list(map(read, equation.invars)), equation.params
            name = equation.primitive.name
            of_given = (str(a) if isinstance(a, Literal) else id(values[a]) for a in equation.invars)
            key = (name, str(parameters), *of_given)
            inner = next((parameters[call] for call in CALLS if call in parameters), None)
            if key in made:
                found = made[key]
            elif name == "slax_neuron":
                found = evaluate(jax.make_jaxpr(partial(_run, **parameters))(*given), *given)
            elif inner is not None and name not in APART:
                found = evaluate(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), *given)
            else:
                found = equation.primitive.bind(*given, **parameters)
                found = found if equation.primitive.multiple_results else [found]
            made[key] = found
            values |= zip(equation.outvars, found, strict=True)
        return list(map(read, closed.jaxpr.outvars))

    made: dict[Any, list[Any]] = {}
    closed = jax.make_jaxpr(function)(*arguments)
    flat_program = jax.make_jaxpr(partial(evaluate, closed))(*closed.in_avals).jaxpr
    return dce_jaxpr(flat_program, [True] * len(flat_program.outvars))[0]


def passes(program: Any, size: int = SIZES[0] * SIZES[1] * SIZES[2]) -> Iterator[Pass]:
    """The passes of a flat program."""
    place: dict[Any, Any] = {}  # of a variable, the variable whose memory it has
    sources: dict[Any, set[Any]] = {}  # of an element-wise result, the arrays in memory from which it follows

    def arrays(atoms: Any) -> set[Any]:
        return {place.get(a, a) for a in atoms if not isinstance(a, Literal) and 2 * a.aval.size > size}

    needed = arrays(program.outvars)
    for equation in program.eqns:
        name, reads, writes = equation.primitive.name, arrays(equation.invars), arrays(equation.outvars)
        followed = set().union(*(sources.get(array, {array}) for array in reads))
        if name in FREE and reads:
            place[equation.outvars[0]] = next(iter(reads))
        elif name in APART:
            needed |= reads
            yield Pass(name, len(reads) + len(writes), equation.params.get("unroll", 1))
        elif writes:
            sources |= dict.fromkeys(writes, followed)
        elif reads:  # a sum
            yield Pass("element-wise", len(followed))
    yield from (Pass("element-wise", len(sources[array]) + 1) for array in needed & sources.keys())
