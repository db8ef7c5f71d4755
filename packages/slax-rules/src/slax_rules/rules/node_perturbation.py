"""Node perturbation: noise on the currents of all units, and what it does to the loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from slax_rules.engine.influence import state_space
from slax_rules.engine.layer import LayerGradient
from slax_rules.engine.noise import effect_of_noise, noise_of_layers, noise_stream
from slax_rules.engine.passes import add_layer, forward, zero_copy
from slax_rules.engine.stack import Stack, check_stack, flat_carry, pull_back, stacked_carry, with_plain_synapses
from slax_rules.engine.synapse import has_bias, has_weights, synapse_gradients
from slax_rules.rules.base import Rule, RuleState, WindowGradient


class PerturbationTraces(NamedTuple):
    """The key of the sequence, the index of the next step, the effect of the noise on the states, and for each layer and
    weight the sum of noise times input, [B, ...]."""

    key: Key[Array, ""]
    step: Int[Array, ""]
    states: Float[Array, "B H"]
    weights: Any


class NodePerturbation(nnx.Module, Rule):
    """Node perturbation: noise on the currents of all units, correlated with what it does to the loss.

        gradient: sum_t d_t E_t        E_t = E_{t-1} + nu_t x_t

    per sample, where nu_t [N] are independent random signs for the units of a layer, and x_t the input of its weights. d_t is
    the derivative of the loss of step t along the noise of all layers in all steps up to t: the change of a reward by small
    noise, per size of the noise. It is found without error by one pass in forward mode, and no signal passes down.

    The mean over the signs is the gradient of BPTT: it omits nothing and adds noise, less than `ForwardGradient` where units
    and steps are fewer than weights; each sample has noise of its own. Its gradient does not depend on the window: d_t and E_t
    are carried on. Memory per sample: H + P numbers for H states and P weights. The pass in forward mode takes one step at a
    time.

    Args:
        rngs: random streams, whose stream `noise` is forked. Each call of `gradients` draws the key of a sequence.

    Raises:
        TypeError: parameters that do not enter a current, so that the noise does not reach them: of a neuron, of a delay, or
            of modules after the last neuron.

    References:
        Fiete, Seung: Gradient learning in spiking neural networks by dynamic perturbation of conductances, 2006,
        doi 10.1103/PhysRevLett.97.048104. Werfel, Xie, Seung: Learning curves for stochastic gradient descent in linear
        feedforward networks, 2005, doi 10.1162/089976605774320539.

    Note:
        The papers add noise of a small size and compare the reward with that without noise; here the noise is infinitely small,
        so spikes do not change, and the derivative passes through them by their surrogate.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import NodePerturbation, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()], {0: [1]}, rngs=rngs)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=NodePerturbation(rngs=rngs))
    """

    def __init__(self, *, rngs: nnx.Rngs | nnx.RngStream | None = None):
        self.stream = noise_stream("NodePerturbation", rngs)

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        check_stack(self.title, model)
        stack = Stack.read(model)  # type: ignore[arg-type]
        for layer in stack.layers:
            layer.check_fixed(self.title)
        if stack.has_parameters_above:
            raise TypeError(f"{self.title} got parameters after the last neuron, expected [..., Linear(...), LI()].")

    def init(self, model: Any, carry: Any, inputs: jax.ShapeDtypeStruct) -> PerturbationTraces:
        states = state_space(model, inputs.shape).states(carry)
        layers = Stack.read(with_plain_synapses(model)).layers
        weights = [tuple(map(_weights, layer.synapses)) for layer in layers]
        zeros = jax.tree.map(lambda array: jnp.zeros((len(states), *array.shape), array.dtype), weights)
        return PerturbationTraces(self.stream(), jnp.zeros((), jnp.int32), jnp.zeros_like(states), zeros)

    def window(self, model: Any, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any) -> WindowGradient:
        plain = with_plain_synapses(model)
        stack, (key, first, states, before) = Stack.read(plain), state.traces
        run = forward(model, flat_carry(model, state.carry), inputs)
        value, signals = jax.value_and_grad(loss)(run.read_by(loss))

        shapes = [window.currents.shape[1:] for window in run.windows]
        noises = noise_of_layers(key, first, len(inputs), shapes, run.windows[0].currents.dtype)
        space = state_space(model, inputs.shape[1:], loss.layers)
        effects, states = effect_of_noise(space, state.carry, inputs, noises, states, "current")
        products = jax.tree.map(lambda a, b: jnp.sum(a * b, axis=tuple(range(2, a.ndim))), signals, effects)
        slopes = functools.reduce(jnp.add, jax.tree.leaves(products))  # d_t [K, B]
        later = jnp.cumsum(slopes[::-1], axis=0)[::-1]  # the sum of d over this step and all later ones

        own = zero_copy(plain)
        into, after = Stack.read(own), []
        for layer, window, nu, old in zip(stack.layers, run.windows, noises, before, strict=True):
            by_sample = jax.vmap(lambda x, c, layer=layer: synapse_gradients(layer.synapses, x, c), in_axes=1)(
                jax.tree.map(lambda x: x[:, :, None], window.inputs), nu[:, :, None]
            )
            after.append(jax.tree.map(jnp.add, old, by_sample))
            weights = later.reshape(*later.shape, *[1] * (nu.ndim - 2))
            inside = synapse_gradients(layer.synapses, window.inputs, nu * weights)
            past = jax.tree.map(lambda e: jnp.tensordot(later[0].astype(e.dtype), e, 1), old)
            found = jax.tree.map(jnp.add, inside, past)
            add_layer(stack, into, layer.number, self, LayerGradient(found, (), None))
        carry, _ = stacked_carry(model, iter(run.carries), state.carry)
        traces = PerturbationTraces(key, first + len(inputs), states, after)
        gradient = pull_back(model, nnx.state(own, nnx.Param))
        return WindowGradient(value, gradient, nnx.State({}), RuleState(carry, traces), run.outputs[-1])


def _weights(synapse: Any) -> dict[str, Array]:
    """The weights of a synapse by name, as in `synapse_gradients`."""
    named = {"kernel": has_weights(synapse), "bias": has_bias(synapse)}
    return {name: getattr(synapse, name)[...] for name, is_there in named.items() if is_there}
