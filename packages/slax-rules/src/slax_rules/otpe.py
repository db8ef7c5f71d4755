"""Online training with postsynaptic estimates."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_rules.blocks import States, linearise
from slax_rules.eligibility import Eligibility, follow_sums, zero_sums
from slax_rules.engine import Ruled
from slax_rules.ostl import OSTL
from slax_rules.running_mean import Mean, running_mean, zero_mean
from slax_rules.window import Block, Pullback, Window, check_decay_above, decay_above


def otpe(model: nnx.RNNCellBase, *, decay_post: float | None = None) -> Ruled:
    """Puts a stack under online training with postsynaptic estimates (OTPE).

        R_t = k R_{t-1} + eps_t        gradient  sum_t delta_t R_t
        w_t = k w_{t-1} + 1            g_t = (k w_{t-1} g_{t-1} + psi_t) / w_t        signal below  delta_t g_t W^T

    with the eligibilities eps of `ostl` and the decay k of the next layer's membrane: R is what that membrane keeps of all
    that a weight did to its input, and g the mean of psi over the same time. The last layer is under OSTL.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`.
        decay_post: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that OTPE cannot treat.

    References:
        Summe, Schaefer, Joshi: Estimating post-synaptic effects for online training of feed-forward SNNs, 2023,
        arXiv 2311.16151.

    Note:
        The authors and Slax 0.0.1 take the layer's own decay for k. Slax 0.0.1 also moves its traces twice per step and
        weighs the signal below with psi and g both; neither is in the paper or in the authors' code.
    """
    return Ruled(model, OTPE(decay_post))


class OTPETraces(NamedTuple):
    """E and R, and the mean of psi."""

    sums: Eligibility
    psi: Mean


@dataclasses.dataclass(frozen=True)
class OTPE:
    """The rule of `otpe`, a window at a time."""

    decay_post: float | None = None

    default_window: ClassVar[int] = 128

    def check(self, block: Block, above: Neuron | None) -> None:
        check_decay_above("OTPE", above, self.decay_post, "decay_post")

    def initialize_traces(
        self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]
    ) -> OTPETraces | Eligibility:
        if block.is_last:
            return OSTL().initialize_traces(block, inputs, states)
        return OTPETraces(zero_sums(block, inputs, states), zero_mean(states[0]))

    def follow(
        self,
        block: Block,
        window: Window,
        traces: OTPETraces | Eligibility,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, OTPETraces | Eligibility]:
        if isinstance(traces, Eligibility):
            return OSTL().follow(block, window, traces, signal, end)
        decay = decay_above(window, self.decay_post, signal.dtype)
        pullback, sums = follow_sums(block, window, traces.sums, signal, end, decay)
        psi = jax.vmap(lambda moment: linearise(block.neuron, moment).psi)(window.moments)
        mean, means = running_mean(traces.psi, psi, decay)
        return pullback._replace(current=means * signal), OTPETraces(sums, mean)
