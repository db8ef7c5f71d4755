"""OTPE, and the common parts of rules that sum eligibilities as the membranes of the layer above sum spikes."""

import dataclasses
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import StepSize, scan_steps
from slax_rules.layerwise.eligibility import (
    EligibilityTraces,
    eligibility_gradient,
    eligibility_window,
    zero_eligibility,
)
from slax_rules.layerwise.jacobians import LocalJacobians, States, StepPoint, linearize, states_of, with_leaky_sum
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.layer_rule import LayerRule
from slax_rules.layerwise.ostl import OSTL
from slax_rules.rule import is_state


def summed_gradient(
    layer: Layer, window: LayerWindow, traces: EligibilityTraces, signal: Float[Array, "K B *N"], k: Float[Array, ""]
) -> tuple[LayerGradient, EligibilityTraces]:
    """The gradient of a window with a leaky sum of the eligibilities, and the traces after it.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t
        R_t = k R_{t-1} + eps_t                gradient  sum_t delta_t R_t

    R is the trace of one more state of the neuron, the last, r_t = k r_{t-1} + s_t, of which delta is the signal. So the K
    steps take the same few matrix products as OSTL, for S + 1 states: see `eligibility_gradient`.
    """

    def with_sum(point: StepPoint) -> LocalJacobians:
        return with_leaky_sum(linearize(layer.neuron, point), k)

    return eligibility_gradient(layer, window, traces, signal, with_sum)


@dataclasses.dataclass(frozen=True)
class SummedRule(LayerRule):
    """The base of OTPE, approximate OTPE and e-prop, whose hidden layers sum with the decay of the layer above."""

    output_decay: float | None = None

    reads_penalty: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_unit_interval("output_decay")

    def check(self, layer: Layer) -> None:
        """Raise TypeError if the decay of the next layer is not one number and none was given."""
        if self.output_decay is not None:
            return
        name, above = type(self).__name__, layer.above
        if above is None:
            raise TypeError(
                f"{name} got the last layer of a stack, {type(layer.neuron).__name__}, expected a layer below another, since "
                "it sums the outputs of a layer with the decay of the next layer's membrane. Give it another rule, such as "
                "OSTL(), or a decay: output_decay=0.9."
            )
        if above.membrane_decay is None:
            raise TypeError(
                f"{name} got {type(above).__name__} as the next layer, expected a neuron with one decay of the membrane, with "
                "which the rule sums the outputs of a layer. Give a decay: output_decay=0.9."
            )
        if decays_otherwise(above):
            raise TypeError(
                f"{name} got {type(above).__name__} as the next layer, whose membrane does not decay by its membrane_decay, "
                "expected the factor of the membrane in its integrate. Define the property membrane_decay, or give a decay: "
                "output_decay=0.9."
            )

    def decay(self, layer: Layer, dtype: Any) -> Float[Array, ""]:
        """The decay of the leaky sum: the decay given to the rule, or the next layer's membrane decay."""
        is_given = self.output_decay is not None
        return jnp.asarray(self.output_decay if is_given or layer.above is None else layer.above.membrane_decay, dtype)

    def for_layers(self, layers: tuple[Layer, ...]) -> tuple[LayerRule, ...]:
        # No membrane above the last layer sums its outputs.
        return (*(self for _ in layers[:-1]), self.without_sum())

    def without_sum(self) -> LayerRule:
        """The rule without the leaky sum, which the last layer uses: R_t = eps_t is OSTL."""
        return OSTL(route=self.route)


def decays_otherwise(neuron: Neuron) -> bool:
    """Whether a neuron's membrane is known to decay by another number than its `membrane_decay`.

    The neurons of slax_neurons do not, and are not tried.
    """
    if type(neuron).__module__.startswith("slax_neurons.") or not neuron.has_split_step:
        return False
    graphdef, state = nnx.split(neuron)
    leaves, structure = jax.tree.flatten(state)
    return _decays_otherwise(graphdef, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@lru_cache(maxsize=64)
def _decays_otherwise(graphdef: nnx.GraphDef, structure: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> bool:
    """Whether the membrane of one unit has another derivative w.r.t. itself at all of three points, for some parameters.

    The other states are at rest. A neuron that cannot be run so is not known, and passes.
    """
    with jax.ensure_compile_time_eval():
        try:
            some = [jnp.full(shape, 0.5).astype(dtype) for shape, dtype in leaves]
            neuron = nnx.merge(graphdef, jax.tree.unflatten(structure, some))
            rest = neuron.initialize_carry((1, 1), nnx.Rngs(0))
            states = states_of(rest)

            def carry(states: States) -> Any:
                given = iter(states)
                return jax.tree.map(lambda leaf: next(given) if is_state(leaf) else leaf, rest)

            def slope(at: float) -> Array:
                point = tuple(state + at * part for state, part in zip(states, own, strict=True))
                current = jnp.zeros_like(states[0])
                return jax.jvp(lambda s: neuron.membrane(neuron.integrate(carry(s), current)), (point,), (own,))[1]

            own = jax.grad(lambda states: neuron.membrane(carry(states)).sum())(states)
            decay = jnp.asarray(neuron.membrane_decay)
            return not any(jnp.allclose(slope(at), decay, rtol=1e-2, atol=1e-6) for at in (0.0, 0.3, -0.7))
        except Exception:
            return False


@dataclasses.dataclass(frozen=True)
class SummedEligibilities(SummedRule):
    """The base of OTPE and e-prop, which have the traces of `summed_gradient`."""

    def default_window(self, size: StepSize) -> int:
        return eligibility_window(size)

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        return zero_eligibility(layer, inputs, (*states, states[0]))


class OTPETraces(NamedTuple):
    """The eligibility traces E, the leaky sum R of the eligibilities eps, and the leaky mean of psi."""

    sums: EligibilityTraces
    psi: "LeakyMean"


@dataclasses.dataclass(frozen=True)
class OTPE(SummedEligibilities):
    """Online training with postsynaptic estimates (OTPE): eligibilities, summed as the next layer's membrane sums spikes.

        R_t = k R_{t-1} + eps_t        gradient  sum_t delta_t R_t
        w_t = k w_{t-1} + 1            g_t = (k w_{t-1} g_{t-1} + psi_t) / w_t        signal below  delta_t g_t W^T

    with the eligibilities eps of `OSTL` and the decay k of the next layer's membrane. R is the part of a weight's past effect
    that this membrane still holds. g is the mean of psi over the same time, and w its weight. The last layer has no next layer
    and uses OSTL.

    Args:
        output_decay: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        ValueError: an output_decay outside [0, 1].
        TypeError: no output_decay for the last layer, or for a layer below a layer whose decay is not a single number. In a
            list of rules, which gives each layer its own, `OSTL()` is the rule of the last layer.

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

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> OTPETraces:
        return OTPETraces(super().initialize_traces(layer, inputs, states), init_leaky_mean(states[0]))

    def window(
        self, layer: Layer, window: LayerWindow, traces: OTPETraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, OTPETraces]:
        k = self.decay(layer, signal.dtype)
        gradient, sums = summed_gradient(layer, window, traces.sums, signal, k)  # sum_t delta_t R_t
        psi = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points)
        mean, g = leaky_means(traces.psi, psi, k)
        below = signal * g
        if window.penalty is not None:  # of the outputs themselves, not of their sum
            below = below + window.penalty * psi
        return gradient._replace(current_cotangent=below), OTPETraces(sums, mean)


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

    def step(before: LeakyMean, value: Any) -> tuple[LeakyMean, Any]:
        weight = decay * before.weight
        mean = jax.tree.map(lambda g, new: (weight * g + new) / (weight + 1), before.mean, value)
        return LeakyMean(mean, weight + 1), mean

    axes = range(1, jax.tree.leaves(values)[0].ndim - 1)
    (mean, weight), means = scan_steps(step, before._replace(weight=jnp.expand_dims(before.weight, axes)), values)
    return LeakyMean(mean, weight.reshape(-1)), means
