"""Deep continuous local learning: a loss of its own for each layer."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.parameter import Constant
from slax_rules.engine import LocalRule, Ruled
from slax_rules.online import RuledCarry
from slax_rules.ottt import OTTT


def decolle(
    model: nnx.RNNCellBase,
    *,
    input_shape: tuple[int, ...],
    n_outputs: int,
    rule: LocalRule | None = None,
    rngs: nnx.Rngs,
) -> "Decolle":
    """Puts a stack under deep continuous local learning (DECOLLE).

        y^l_t = s^l_t Q^l        loss  sum over layers l of loss(y^l_t, target)        signal of layer l  dloss/dy^l_t Q^l^T

    with a fixed random read-out Q of each layer, and the gradient of the layer by a local rule. No signal goes below, so a
    layer's gradient does not depend on anything above it.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`; the last module is a
            neuron.
        input_shape: features of one sample's input in one step, as (64,).
        n_outputs: C, the outputs of each read-out.
        rule: what makes a layer's gradient out of its signal; `OTTT()` by default.
        rngs: for the read-outs, Q ~ N(0, 1 / N).

    Returns:
        A cell with the same parameters, whose outputs are those of all read-outs, [B, L, C]; the last are those to predict
        with. Its loss is `local_losses(loss_fn)`.

    Raises:
        TypeError: a model that the rule cannot treat.

    References:
        Kaiser, Mostafa, Neftci: Synaptic plasticity dynamics for deep continuous local learning (DECOLLE), 2020,
        doi 10.3389/fnins.2020.00424.

    Note:
        The paper's neuron has a synapse and a refractory trace through which no gradient passes: `CuBaLIF` with
        stop_reset_gradient is near to it. Its regularisers are not part of the rule.
    """
    return Decolle(model, rule or OTTT(), input_shape=input_shape, n_outputs=n_outputs, rngs=rngs)


def local_losses(loss_fn: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """The loss of all layers' outputs [T, B, L, C]: the sum over layers of `loss_fn` on the outputs [T, B, C] of each."""

    def summed(outputs: Float[Array, "T B L C"], targets: Array) -> Float[Array, "T B"]:
        return jnp.sum(jnp.stack([loss_fn(outputs[:, :, layer], targets) for layer in range(outputs.shape[2])]), axis=0)

    return summed


class Decolle(Ruled):
    """A stack under local losses; made by `decolle`."""

    def __init__(
        self,
        model: nnx.RNNCellBase,
        rule: LocalRule,
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
        rngs: nnx.Rngs,
    ):
        super().__init__(model, rule)
        units = [(math.prod(state.shape[1:]), state.dtype) for state in self.rest((1, *input_shape))]
        self.read_outs = nnx.List(
            [Constant(jax.random.normal(rngs.params(), (n, n_outputs), dtype) / math.sqrt(n)) for n, dtype in units]
        )

    @property
    def rule_name(self) -> str:
        return f"DECOLLE with {super().rule_name}"

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[RuledCarry, Float[Array, "T B L C"]]:
        """A whole window, layer by layer."""
        carry, _, layers = self.run(carry, inputs, local=True)
        steps, batch = inputs.shape[:2]
        read = [
            outputs.reshape(steps, batch, -1) @ read_out[...]
            for outputs, read_out in zip(layers, self.read_outs, strict=True)
        ]
        return carry, jnp.stack(read, axis=2)
