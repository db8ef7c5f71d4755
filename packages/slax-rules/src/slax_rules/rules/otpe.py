"""OTPE, and the common parts of rules that sum eligibilities as the membranes of the layer above sum spikes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons.building_blocks import scan_steps
from slax_rules.engine.eligibility import Adjoint, powers_of
from slax_rules.engine.jacobians import psi_of_steps
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow
from slax_rules.rules.ostl import EligibilityRule


@dataclasses.dataclass(frozen=True)
class LeakySumRule(LayerRule):
    """The base of OTPE, approximate OTPE and e-prop, which sum a hidden layer's outputs with the decay of the layer above.

    No membrane above the last layer sums its outputs, so there is no sum in it.
    """

    output_decay: float | None = None

    def __post_init__(self) -> None:
        self.check_unit_interval("output_decay")

    def check_layer(self, layer: Layer) -> None:
        """Raise TypeError if the decay of the next layer is not one number and none was given."""
        above = layer.above
        if self.output_decay is None and above is not None and above.membrane_decay is None:
            raise TypeError(f"{self.title} got {type(above).__name__} above, without one decay. Give output_decay=0.9.")

    def decay(self, layer: Layer) -> Float[Array, ""]:
        """The decay of the leaky sum: the decay given to the rule, or the next layer's membrane decay."""
        decay = layer.above.membrane_decay if self.output_decay is None else self.output_decay  # type: ignore[union-attr]
        return jnp.asarray(decay, layer.neuron.param_dtype)


@dataclasses.dataclass(frozen=True)
class SummedEligibilities(LeakySumRule, EligibilityRule):
    """The base of OTPE and e-prop, whose eligibilities are OSTL's eps, summed.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t
        R_t = k R_{t-1} + eps_t                gradient: sum_t delta_t R_t

    R is the trace of one more state of the neuron, the last, r_t = k r_{t-1} + s_t, of which delta is the signal. So the K
    steps take the same few matrix products as OSTL, for S + 1 states: see `engine/eligibility.py`. The gradient of a layer's
    own penalties is a signal on the outputs themselves. The last layer has no sum: R_t = eps_t.
    """

    def decay_of(self, layer: Layer) -> Float[Array, ""] | None:
        return None if layer.above is None else self.decay(layer)


@dataclasses.dataclass(frozen=True)
class OTPE(SummedEligibilities):
    """Online training with postsynaptic estimates (OTPE): eligibilities, summed as the next layer's membrane sums spikes.

        R_t = k R_{t-1} + eps_t        gradient: sum_t delta_t R_t
        w_t = k w_{t-1} + 1            g_t = (k w_{t-1} g_{t-1} + psi_t) / w_t        signal below: delta_t g_t W^T

    with the eligibilities eps of `OSTL` and the decay k of the next layer's membrane. R is the part of a weight's past effect
    that this membrane still holds. g is the mean of psi over the same time, and w its weight. The last layer has no next layer
    and uses OSTL.

    Args:
        output_decay: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        ValueError: an output_decay outside [0, 1].
        TypeError: no output_decay for a layer below a layer whose decay is not a single number.

    References:
        Summe, Schaefer, Joshi: Estimating post-synaptic effects for online training of feed-forward SNNs, 2023,
        arXiv 2311.16151.

    Note:
        The authors and Slax 0.0.1 use the layer's own decay for k. Slax 0.0.1 also updates its traces twice per step and
        weights the signal below with both psi and g; neither is in the paper or in the authors' code.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OTPE(), window=5)
    """

    def init_ahead(self, layer: Layer, states: tuple[Array, ...]) -> Any:
        return () if layer.above is None else init_leaky_mean(states[0])

    def ahead(self, layer: Layer, window: LayerWindow, before: Any) -> tuple[Any, Any]:
        if layer.above is None:
            return (), before
        mean, g = leaky_means(before, psi_of_steps(layer.neuron, window.steps), self.decay(layer))
        return g, mean

    def back(
        self, layer: Layer, window: LayerWindow, steps: Any, after: Adjoint, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Adjoint, Array | None]:
        found, before, origins = super().back(layer, window, steps, after, signal)  # sum_t delta_t R_t
        if layer.above is None:
            return found, before, origins
        g, below = steps, signal * steps
        if window.penalty is not None:  # of the outputs themselves, not of their sum
            below = below + window.penalty * (psi_of_steps(layer.neuron, window.steps) - g)
        return found._replace(passed_below=below), before, origins


class LeakyMean(NamedTuple):
    """A mean g, a tree of arrays [B, *N], and its weight w for each sample, which may have started at another step."""

    mean: Any
    weight: Float[Array, " B"]


def init_leaky_mean(like: Any) -> LeakyMean:
    """The mean of no steps, for arrays shaped like these."""
    first = jax.tree.leaves(like)[0]
    return LeakyMean(jax.tree.map(jnp.zeros_like, like), jnp.zeros(first.shape[:1], first.dtype))


def leaky_means(before: LeakyMean, values: Any, decay: Float[Array, ""]) -> tuple[LeakyMean, Any]:
    """The mean of arrays [K, B, *N] after all K steps, and after each step.

    w_t = decay w_{t-1} + 1        g_t = (decay w_{t-1} g_{t-1} + value_t) / w_t
    """

    first = jax.tree.leaves(values)[0]
    powers = powers_of(decay, len(first) + 1)
    # w_t in closed form
    weights = jnp.outer(powers[1:], before.weight.astype(powers.dtype)) + jnp.cumsum(powers[:-1])[:, None]

    def step(mean: Any, at: tuple[Any, Array]) -> tuple[Any, Any]:
        value, share = at
        mean = jax.tree.map(lambda g, new: g + share * (new - g), mean, value)
        return mean, mean

    shares = jnp.expand_dims((1 / weights).astype(first.dtype), range(2, first.ndim))
    mean, means = scan_steps(step, before.mean, (values, shares))
    return LeakyMean(mean, weights[-1].astype(before.weight.dtype)), means
