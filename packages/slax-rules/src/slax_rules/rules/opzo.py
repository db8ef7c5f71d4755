"""Online pseudo-zeroth-order training: direct feedback through matrices that noise has learned."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from slax_neurons import LI, Delay
from slax_neurons.building_blocks import StepSize, carry_without_buffer, check_rngs
from slax_rules.engine import layerwise
from slax_rules.engine.influence import state_space
from slax_rules.engine.jacobians import states_of
from slax_rules.engine.noise import effect_of_noise, noise_of_layers, noise_stream
from slax_rules.engine.passes import zero_copy
from slax_rules.engine.stack import Stack, check_stack, flat_carry, with_plain_synapses
from slax_rules.rules.base import Layer, LayerRule, Layerwise, Rule, RuleState, Symmetric, WindowGradient
from slax_rules.rules.ottt import OTTT
from slax_rules.rules.routes import Direct, feedback_matrix

INPUT_TRACES = OTTT()  # as published


class LearnedMatrices(Direct):
    """Direct feedback through the matrices of `OPZO`."""

    def __init__(self, matrices: nnx.List):
        self.matrices = matrices

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        return self.matrices[layer.number][...]


class OPZOTraces(NamedTuple):
    """The key of the sequence, the index of the next step, and the traces of the rule for layers."""

    key: Key[Array, ""]
    step: Int[Array, ""]
    layers: tuple[Any, ...]


class OPZO(nnx.Module, Layerwise):
    """Online pseudo-zeroth-order training (OPZO): direct feedback through matrices that noise has learned.

        signal of layer l: e_t (M^l)^T
        gradient: M^l - z_t^l c_t        # of M^l, in the mean over steps and samples

    with the error e_t of the read-out, as in `Direct`, and the gradient of a layer by a rule for layers. z_t^l are independent
    random signs for the outputs of layer l, and c_t [C] is the derivative of the outputs of the model along the noise of all
    layers in this step. The mean of z_t^l c_t is the mean derivative of the model's outputs w.r.t. the layer's, within a
    step: the product of the weights above, if nothing there is nonlinear. Under stochastic gradient descent, M^l is a running
    mean with the decay 1 - learning rate; other optimizers move it toward the same mean.

    The matrices are parameters of the rule, so the optimizer is made with both: `nnx.Optimizer((model, rule),
    optax.adamw(1e-3), wrt=nnx.Param)`. For the hidden layer below the read-out, M^l is what a weight mirror learns (Akrout et
    al. 2019, arXiv 1904.05391).

    Args:
        model: a stack, whose kernels give the shapes.
        rule: a rule for all layers without another route, which finds the gradient from these signals.
        rngs: random streams; the first matrices are drawn as in `Direct` from the stream `params`, and the stream `noise` is
            forked. Each call of `gradients` draws the key of a sequence.

    Raises:
        TypeError: a rule that is not for layers, or that has another route; a hidden layer that does not feed a Linear, has
            several outputs for a unit, or is behind a delay; a read-out that is not `LI`; in use, a model of other sizes.

    References:
        Xiao, Meng, Zhang, He, Lin: Online pseudo-zeroth-order training of neuromorphic spiking neural networks, 2024,
        arXiv 2407.12516.

    Note:
        The paper runs the network with noise of a small size, and takes the output itself, or its difference between two runs,
        for c_t; here the noise is infinitely small and c_t the derivative, so outputs stay as they are. Its M is a running mean
        with a decay near 1, whatever optimizer the weights have.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OPZO, OSTL, cross_entropy, train_offline
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> rule = OPZO(model, OSTL(), rngs=rngs)
        >>> optimizer = nnx.Optimizer((model, rule), optax.adam(1e-3), wrt=nnx.Param)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss = train_offline(model, optimizer, cross_entropy, inputs, labels, rule=rule)
        >>> rule.matrices[0].shape
        (16, 3)
    """

    def __init__(self, model: Any, rule: Rule = INPUT_TRACES, *, rngs: nnx.Rngs):
        check_rngs("OPZO", rngs)
        check_stack("OPZO", model)
        if not isinstance(rule, LayerRule) or not isinstance(rule.route, Symmetric):
            by = f" with the route {type(rule.route).__name__}" if isinstance(rule, LayerRule) else ""
            raise TypeError(
                f"OPZO got {type(rule).__name__}{by}, expected one rule for all layers without another route, whose place "
                "OPZO's matrices take, such as OTTT() or OSTL()."
            )
        layers = Stack.read(with_plain_synapses(model)).layers
        if not isinstance(layers[-1].neuron, LI):
            raise TypeError(
                f"OPZO got {type(layers[-1].neuron).__name__} as the read-out, expected LI: [Linear(...), LI()]."
            )
        above = [module for part in model.modules[1:] for _, module in nnx.iter_modules(part)]
        bad = [one for one in above[:-1] if isinstance(one, Delay) or getattr(one, "currents_per_unit", 1) > 1]
        if bad:
            raise TypeError(
                f"OPZO got {type(bad[0]).__name__} above the first synapse, expected neurons with an output for each unit, and "
                "no delay that noise would have to cross within a step. Use the route Direct(rngs=rngs)."
            )
        kernels = [layer.synapses[0].kernel[...] for layer in layers if layer.synapses]
        if len(kernels) < len(layers) or any(kernel.ndim > 2 for kernel in kernels[1:]):
            raise TypeError(
                "OPZO got a layer without a Linear above a hidden layer, expected [Linear(...), neuron] there. Use the route "
                "Direct(rngs=rngs)."
            )
        key, size = rngs.params(), kernels[-1].shape[-1]
        drawn = (feedback_matrix(key, n, 0, (len(one), size), one.dtype) for n, one in enumerate(kernels) if n)
        self.matrices = nnx.List(map(nnx.Param, drawn))
        self.rule = rule
        self.stream = noise_stream("OPZO", rngs)

    @property
    def route(self) -> LearnedMatrices:
        """The route of the rule for layers."""
        return LearnedMatrices(self.matrices)

    def for_layers(self, layers: Sequence[Layer]) -> tuple[LayerRule, ...]:
        return dataclasses.replace(self.rule, route=self.route).for_layers(layers)

    def default_window(self, size: StepSize) -> int:
        return self.rule.default_window(size)

    def init(self, model: Any, carry: Any, inputs: jax.ShapeDtypeStruct) -> OPZOTraces:
        *hidden, outputs = (math.prod(shape[1:]) for shape in _state_shapes(model, carry))
        found = [(units, outputs) for units in hidden]
        expected = [matrix.shape for matrix in self.matrices]
        if found != expected:
            raise TypeError(
                f"OPZO got hidden layers whose units and outputs are {found}, expected {expected}, by the kernels of the model "
                "that it was made with. Make it with this model; where a module changes the number of outputs, as pooling, use "
                "the route Direct(rngs=rngs)."
            )
        return OPZOTraces(self.stream(), jnp.zeros((), jnp.int32), layerwise.init(self, model, carry, inputs))

    def window(self, model: Any, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any) -> WindowGradient:
        (key, first, traces), steps = state.traces, len(inputs)
        shapes, own = _state_shapes(model, state.carry)[:-1], zero_copy(self)
        if shapes:
            noises = noise_of_layers(key, first, steps, shapes, own.matrices[0].dtype)
            space = state_space(model, inputs.shape[1:])
            effect, _ = effect_of_noise(space, state.carry, inputs, [*noises, None], None, "output")
            shares = loss.shares(own.matrices[0].dtype)
            for gradient, matrix, z in zip(own.matrices, self.matrices, noises, strict=True):
                z = z.reshape(*z.shape[:2], -1)
                correlation = jnp.einsum("kb,kbn,kbc->nc", shares, z, effect.final)
                gradient[...] = shares.sum() * matrix[...] - correlation
        found = layerwise.window(self, model, RuleState(state.carry, traces), inputs, loss)
        traces = OPZOTraces(key, first + steps, found.state.traces)
        return found._replace(rule=nnx.state(own, nnx.Param), state=RuleState(found.state.carry, traces))


def _state_shapes(model: Any, carry: Any) -> list[tuple[int, ...]]:
    """The shapes [B, N] of the states of all layers."""
    carries = flat_carry(model, carry)
    return [states_of(carry_without_buffer(carries[index]))[0].shape for index in Stack.read(model).neurons]
