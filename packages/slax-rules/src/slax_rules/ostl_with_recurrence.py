"""Online spatio-temporal learning where layers have connections of their own."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Dropout, Edge, Neuron, connect
from slax_neurons.engine import apply_rows, check_sequence
from slax_rules.forward import Forward
from slax_rules.online import OnlineCell
from slax_rules.rtrl import RTRL
from slax_rules.stack import check_stack, feeds_neuron, written_out


def ostl_with_recurrence(model: nnx.RNNCellBase) -> "RecurrentOSTL":
    """Puts a stack under OSTL with the recurrence of each layer inside its trace: RTRL within a layer, and signals that pass
    between layers within their step.

        E_t [N S, P_l] = dh_t/dtheta_l, with h_t and s_t those of the layer alone, by way of its own edges too
        gradient  sum_t delta_t ds_t/dtheta_l        signal below  delta_t ds_t/dx_t

    Equals BPTT where `ostl` does for layers without recurrence. Memory per sample N S times the layer's parameters, time N
    times that. Where a layer has no edge to itself it is `ostl`, at a higher price.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`, whose edges go from a
            layer's neuron to its own synapse: connect([Linear(...), LIF(), ...], {0: [1]}, rngs=...).

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: another model, or an edge from one layer to another.

    References:
        Bohnstingl, Wozniak, Pantazi, Eleftheriou: Online spatio-temporal learning in deep neural networks, 2022,
        doi 10.1109/TNNLS.2022.3153985; the form for recurrent layers.
    """
    return RecurrentOSTL(model)


class RecurrentOSTL(Connect, OnlineCell):
    """A stack whose layers are each under RTRL; made by `ostl_with_recurrence`. The carry is a tuple of the layers' carries,
    () for a module without one."""

    def __init__(self, model: nnx.RNNCellBase):
        if isinstance(model, OnlineCell):
            raise TypeError(
                f"{self.rule_name} got a stack that is under {model.rule_name} already. Give it the plain stack."
            )
        if not isinstance(model, Connect):
            raise TypeError(
                f"{self.rule_name} got {type(model).__name__}, expected a stack made by connect([Linear(...), LIF()])."
            )
        self.modules = model.modules
        self.edges, self.synapses = model.edges, model.synapses
        stack = written_out(self)
        check_stack(self.rule_name, stack)
        for edge in stack.edges:
            if edge.sender != edge.receiver + 1:
                raise TypeError(
                    f"{self.rule_name} takes edges from a layer to itself, got one from {edge.sender} to {edge.receiver}. Use "
                    "ostl, for which what comes over an edge is a given input, or rtrl for the whole model."
                )

    @property
    def default_window(self) -> int:
        return RTRL.default_window

    @property
    def rule_name(self) -> str:
        return "OSTL with recurrence"

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> tuple:
        """The carries of all layers at rest, for inputs of `input_shape` [B, features...]."""
        plain = written_out(self).initialize_carry(input_shape, rngs)
        inputs = jax.ShapeDtypeStruct((1, *input_shape), jax.tree.leaves(plain)[0].dtype)
        carries: list[Any] = []
        for part in self._parts():
            carry = part.initialize_carry(inputs.shape[1:], rngs) if isinstance(part, nnx.RNNCellBase) else ()
            carries.append(carry)
            graphdef, state = nnx.split(part)
            with jax.numpy_dtype_promotion("standard"):  # the dtype of a stack's input is not known
                inputs = jax.eval_shape(
                    lambda state, carry, x, graphdef=graphdef: _run(nnx.merge(graphdef, state), carry, x)[1],
                    state,
                    carry,
                    inputs,
                )
        return tuple(carries)

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[Any, Float[Array, "B ..."]]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, outputs[0]

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[tuple, Float[Array, "T B ..."]]:
        """A whole window, layer by layer."""
        check_sequence(inputs)
        parts = self._parts()
        if not isinstance(carry, tuple) or len(carry) != len(parts):
            raise ValueError(
                f"{self.rule_name} got a carry that is not a tuple of {len(parts)} entries. Make it with "
                "initialize_carry(inputs.shape[1:]) of this cell, not of the plain one."
            )
        carries: list[Any] = []
        for part, state in zip(parts, carry, strict=True):
            state, inputs = _run(part, state, inputs)
            carries.append(state)
        return tuple(carries), inputs

    def outputs(self, carry: Any, inputs: Float[Array, "T B ..."]) -> Any:
        """Raises TypeError: a rule knows layers, not modules."""
        raise TypeError(f"A stack under {self.rule_name} has no outputs per module. Use the plain stack.")

    def _parts(self) -> list[nnx.Module]:
        """The stack in order, each layer as a cell under RTRL."""
        stack = written_out(self)
        parts: list[nnx.Module] = []
        for index, module in enumerate(stack.modules):
            if isinstance(module, Neuron):
                fed = index > 0 and feeds_neuron(stack.modules, index - 1)
                edges = (
                    [Edge(1, 0, edge.steps, synapse) for edge, synapse in stack.edges_into(index - 1)] if fed else []
                )
                layer = connect([stack.modules[index - 1], module] if fed else [module], edges)
                parts.append(Forward(layer, RTRL()))
            elif not feeds_neuron(stack.modules, index):
                parts.append(module)
        return parts


def _run(part: Any, carry: Any, inputs: Array) -> tuple[Any, Array]:
    return part.unroll(carry, inputs) if isinstance(part, Forward | Dropout) else (carry, apply_rows(part, inputs))
