"""The summary of a stack: its modules with output shapes, states and parameters, and its edges."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from slax_neurons.delay import DelayBuffer
from slax_neurons.modules import as_shape, output_struct
from slax_neurons.synapses.synapse import kind
from slax_neurons.unrolling import Function, input_dtype
from slax_neurons.wiring import Connect, carry_without_buffer, check_stack

COLUMNS = ("module", "type", "output", "states", "parameters")


@dataclasses.dataclass(frozen=True)
class ModuleSummary:
    """A module of a stack, or an edge with its synapse.

    Args:
        name: index, prefixed with the indices of enclosing stacks: "3.1" is module 1 of the stack that is module 3. An edge
            is named by its sender and its receiver, "1 -> 0".
        kind: name of the class, with the classes that it wraps, or of the function.
        output: shape of the output per step, [B, features...]; if the output is a tree of arrays, each array's shape by name.
        states: shapes of the states by name, and the number of past outputs kept for edges; for an edge its delay.
        parameters: number of trainable numbers in it.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect, summary
        >>> model = connect([nnx.Linear(8, 16, rngs=nnx.Rngs(0)), LIF()])
        >>> summary(model, (32, 8)).modules[0]
        ModuleSummary(name='0', kind='Linear', output='[32, 16]', states='', parameters=144)
    """

    name: str
    kind: str
    output: str
    states: str
    parameters: int


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """All modules of a stack in order, each stack before its modules and the edges after them. It prints as a table.

    Args:
        modules: one per module and edge.
        parameters: number of all trainable numbers; numbers that several modules share are counted once.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect, summary
        >>> model = connect([nnx.Linear(8, 16, rngs=nnx.Rngs(0)), LIF()])
        >>> table = summary(model, (32, 8))
        >>> table.parameters, [module.kind for module in table.modules]
        (144, ['Linear', 'LIF'])
    """

    modules: tuple[ModuleSummary, ...]
    parameters: int

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [(row.name, row.kind, row.output, row.states, f"{row.parameters:,}") for row in self.modules]
        return [COLUMNS, *rows, ("total", "", "", "", f"{self.parameters:,}")]

    def __repr__(self) -> str:
        return "\n".join(aligned(self._rows(), left=4))


def summary(model: Any, input_shape: tuple[int, ...]) -> Summary:
    """List a stack's modules with output shapes, states and numbers of parameters, and its edges; nothing is computed.

    Args:
        model: a stack made by `connect`; the modules of stacks inside it are listed too.
        input_shape: shape of one step, [B, features...], as `initialize_carry` takes it.

    Returns:
        A `Summary`, which prints as a table.

    Raises:
        TypeError: a model that is not a `Connect`.
        ValueError: a shape without batch and features, or one that does not fit the modules.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect, summary
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF()], {0: [1]}, rngs=rngs)
        >>> print(summary(model, (32, 8)))
        module  type    output    states                      parameters
        0       Linear  [32, 16]                                     144
        1       LIF     [32, 16]  [32, 16], 1 step of output           0
        1 -> 0  Linear  [32, 16]  1 step late                        272
        total                                                        416
    """
    check_stack(model, "summary")
    shape = as_shape("summary", input_shape, "that of a step, (B, features...): inputs.shape[1:]", axes=2)
    rows = tuple(_rows(model, jax.ShapeDtypeStruct(shape, input_dtype(model)), ""))
    return Summary(rows, _parameters(model))


def _rows(model: Connect, inputs: Any, prefix: str) -> Iterator[ModuleSummary]:
    outputs: list[Any] = []
    carry = _carry(model, inputs)
    for index, (module, entry) in enumerate(zip(model.modules, carry, strict=True)):
        current = outputs[-1] if outputs else inputs
        own = carry_without_buffer(entry)
        outputs.append(output_struct(module, own, current))
        states = [] if isinstance(module, Connect) else [_shapes(own)]
        if isinstance(entry, DelayBuffer):
            states.append(f"{_steps(entry.outputs.shape[0])} of output")
        kept = ", ".join(filter(None, states))
        yield ModuleSummary(f"{prefix}{index}", _kind(module), _shapes(outputs[-1]), kept, _parameters(module))
        if isinstance(module, Connect):
            yield from _rows(module, current, f"{prefix}{index}.")
    for edge, synapse in zip(model.edges, model.synapses, strict=True):
        name = f"{prefix}{edge.sender} -> {prefix}{edge.receiver}"
        late = f"{_steps(edge.steps)} late" if edge.steps else "within the step"
        yield ModuleSummary(name, _kind(synapse), _shapes(outputs[edge.receiver]), late, _parameters(synapse))


def _carry(model: Connect, inputs: Any) -> Any:
    """The shapes and dtypes of a stack's carry; the carry itself is not made, so that no random stream advances."""
    graphdef, state = nnx.split(model)
    return jax.eval_shape(lambda state: nnx.merge(graphdef, state).initialize_carry(inputs.shape, nnx.Rngs(0)), state)


def _kind(module: Any) -> str:
    if not isinstance(module, Function):
        return kind(module)
    function = module.function.func if isinstance(module.function, functools.partial) else module.function
    return getattr(function, "__name__", type(function).__name__)


def _shapes(tree: Any) -> str:
    """The shapes of the arrays in a tree, each with its name if it has one."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = ((jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves)
    return ", ".join(f"{name} {list(leaf.shape)}".strip() for name, leaf in named)


def _steps(number: int) -> str:
    return f"{number} step{'s' if number > 1 else ''}"


def _parameters(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Make one line from each row, with the first `left` columns aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    cells = (zip(sides, row, widths, strict=True) for row in rows)
    return ["  ".join(side(cell, width) for side, cell, width in line).rstrip() for line in cells]
