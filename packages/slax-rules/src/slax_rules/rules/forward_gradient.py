"""Forward gradients: the slope of the loss along random directions, times these directions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from slax_neurons import unroll
from slax_neurons.building_blocks import accumulates
from slax_rules.engine.influence import state_space
from slax_rules.engine.noise import noise, noise_stream
from slax_rules.rules.base import Rule, RuleState, WindowGradient, check_cell


class ForwardTangents(NamedTuple):
    """The key of the sequence's directions, and the derivative of the states along each of them."""

    key: Key[Array, ""]
    states: Float[Array, "B D H"]


class ForwardGradient(nnx.Module, Rule):
    """Forward gradients: the slope of the loss along random directions v, times these directions.

        s_t = D_t s_{t-1} + F_t v                D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta    # the direct part
        gradient: v sum_t delta_t (dy_t/dtheta v + dy_t/dh_{t-1} s_{t-1})    # the mean over the directions

    where h is the state of the entire model, delta_t the gradient of the loss w.r.t. its output y_t, and v one random sign for
    each parameter, the same for all samples and steps of a sequence. One pass in forward mode finds the sum, a
    number, without a reverse pass and without a trace for each weight.

    The mean over all signs is the gradient of BPTT, and so is the sum over any orthonormal basis of directions: it omits
    nothing and adds noise. With D directions and P parameters, the mean squared cosine to BPTT's gradient is about D / P: a
    floor for other estimators, where parameters are many. Its gradient does not depend on the window, since s_t is carried from
    window to window; with updates within a sequence, s_t is the derivative at the parameters before them, as J_t is in `RTRL`.
    It takes any cell. Memory per sample: D H numbers for H states; time: about D + 1 passes forward.

    Args:
        directions: their number D.
        rngs: random streams, whose stream `noise` is forked. Each call of `gradients` draws the key of a sequence.

    Raises:
        ValueError: no direction.

    References:
        Baydin, Pearlmutter, Syme, Wood, Torr: Gradients without backpropagation, 2022, arXiv 2202.08587.

    Note:
        The paper draws normal numbers. Signs have the same mean and less noise.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import ForwardGradient, cross_entropy, gradients
        >>> model = nnx.GRUCell(8, 3, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = ForwardGradient(directions=4, rngs=nnx.Rngs(2))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    def __init__(self, directions: int = 1, *, rngs: nnx.Rngs | nnx.RngStream | None = None):
        if directions < 1:
            raise ValueError(f"ForwardGradient got directions={directions}, expected at least 1.")
        self.directions = directions
        self.stream = noise_stream("ForwardGradient", rngs)

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        check_cell(self.title, model)
        state_space(model, inputs.shape)

    def init(self, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> ForwardTangents:
        states = state_space(model, inputs.shape).states(carry)
        return ForwardTangents(self.stream(), jnp.zeros((len(states), self.directions, states.shape[1]), states.dtype))

    def window(
        self, model: nnx.RNNCellBase, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any
    ) -> WindowGradient:
        space = state_space(model, inputs.shape[1:], loss.layers)
        if accumulates(model):
            unroll(model, state.carry, inputs)  # for its running sums alone
        key, before = state.traces

        def run(params: nnx.State, states: Array) -> tuple[tuple[Array, Array], Any]:
            end, outputs = space.run(space.with_states(state.carry, states), inputs, params)
            return (loss(outputs), space.states(end)), (end, outputs.final)

        def along(*direction: Any) -> Any:
            return jax.jvp(run, (space.params, space.states(state.carry)), direction, has_aux=True)

        arrays = enumerate(jax.tree.leaves(space.params))
        signs = [noise(key, index, (self.directions, *array.shape), array.dtype) for index, array in arrays]
        over = jax.vmap(along, in_axes=(0, 1), out_axes=((None, None), (0, 1), None))
        (value, _), (slopes, after), (end, outputs) = over(space.as_gradient(signs), before)
        gradient = [jnp.tensordot(slopes.astype(v.dtype), v, 1) / self.directions for v in signs]
        traces = ForwardTangents(key, after)
        return WindowGradient(value, space.as_gradient(gradient), nnx.State({}), RuleState(end, traces), outputs)
