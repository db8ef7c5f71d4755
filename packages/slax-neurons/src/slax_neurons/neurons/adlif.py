"""The adaptive leaky integrate-and-fire neuron whose recovery current also follows the membrane."""

from typing import NamedTuple, Unpack

from jaxtyping import Array, Float

from slax_neurons.neurons.neuron import SpikeOptions, SpikingNeuron, decay_of_membrane
from slax_neurons.parameter import REAL, UNIT_INTERVAL, Parameter, ParameterValue, Trainable, one_of, positive

FORMS = ("additive", "symplectic")
DEFAULT_Q = 120.0  # of Baronig et al.


class AdLIFState(NamedTuple):
    """The membrane after the reset, and the recovery current of the next step."""

    u: Float[Array, "*B N"]
    w: Float[Array, "*B N"]


class AdLIF(SpikingNeuron):
    """Adaptive LIF with two coupled states: integrate, fire, reset, adapt, all within one step.

        v_t = decay u_{t-1} + (1 - decay) (I_t - w_{t-1})     # membrane before the reset; the current is weighted
        s_t = H(v_t - threshold),  H(0) = 1                   # output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                                 # see `SpikingNeuron`
        w_t = adaptation_decay w_{t-1} + k                    # recovery current
        k = a v_t + b s_t                                     # form="additive"
        k = (1 - adaptation_decay) q (a u_t + b s_t)          # form="symplectic"

    The carry is `AdLIFState(u, w)`, each [B, N]. The forms differ in the membrane that the recovery current follows, before or
    after the reset, and in their strength, which in the symplectic form depends on how fast w decays. Without spikes they are
    the same two linear equations, with c = a or c = (1 - adaptation_decay) q a as the strength: at rest they return to zero if
    c lies between -(1 - adaptation_decay) and (1 + decay) (1 + adaptation_decay) / (1 - decay), and where they ring, they lose
    a factor of sqrt(decay adaptation_decay) per step, whatever c is.

    Args:
        decay: membrane decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        adaptation_decay: decay of the recovery current per step; same domain and types.
        a: strength with which the recovery current follows the membrane; a number, an array [N], or `Trainable` of either.
        b: amount that a spike adds to the recovery current, times (1 - adaptation_decay) q in the symplectic form; same types
            as `a`.
        form: "additive", the adLIF of Bittar and Garner, or "symplectic", the SE-adLIF of Baronig et al.
        q: factor of a and b in the symplectic form, > 0, by default 120, so that a and b are of the order of 1 where
            adaptation_decay is near 1; the additive form has none.
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset or form, a q that is not positive or that the form does not have.

    References:
        Bittar, Garner: A surrogate gradient spiking baseline for speech command recognition, 2022,
        doi 10.3389/fnins.2022.865897, the adLIF model. Baronig, Ferrand, Sabathiel, Legenstein: Advancing spatio-temporal
        processing through adaptation in spiking neural networks, 2025, doi 10.1038/s41467-025-60878-z, equation 6.

    Note:
        The current is weighted by 1 - decay, and the recovery current opposes it: with the default parameters, neurons fire
        under a constant current of 10, but not under a current of 1. Behind a Linear with Flax's weights they are silent;
        `fluctuation_driven(AdLIF(), rate=...)` makes weights with which they fire. The authors normalize the currents by their
        variance over a batch.

        Bittar and Garner reset at the start of the next step and update w there, from the membrane before the reset, which
        gives the same states one step later. They draw decay from (0.819, 0.961), adaptation_decay from (0.967, 0.992), a from
        (-1, 1) and b from (0, 2), clip them there during training, start from random states, and use a boxcar surrogate; the
        defaults are inside these ranges.

        Baronig et al. draw, per neuron, membrane time constants from (5, 25) steps, time constants of the recovery current from
        (60, 300), a from (0, 1) and b from (0, 2), and clip them there; the default `adaptation_decay` forgets a little faster.
        They fire above the threshold, reset to zero, `reset="zero"`, with `stop_reset_gradient=True`, and have the surrogate
        exp(-5 |v - threshold|). In the Euler-forward form that they compare with, w_t follows u_{t-1} and s_{t-1}; it diverges
        for a part of these parameters, and is not offered here. The additive form is not that form.

    Example:
        A neuron that responds to the onset of a current and is then silenced by its recovery current.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import AdLIF, unroll
        >>> neuron, currents = AdLIF(decay=0.5, adaptation_decay=0.875, a=0.5), jnp.full((6, 1, 1), 4.0)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        >>> carry.u.shape, carry.w.shape
        ((1, 1), (1, 1))

        The symplectic form with the same strengths, since (1 - 0.875) 8 = 1: its recovery current follows the membrane after
        the reset, and silences the neuron one step later.

        >>> neuron = AdLIF(decay=0.5, adaptation_decay=0.875, a=0.5, form="symplectic", q=8.0)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """

    carry_type = AdLIFState
    fixed = SpikingNeuron.fixed | dict.fromkeys(("form", "q"), "on which the meaning of a and b depends")
    linear = True

    def __init__(
        self,
        *,
        decay: ParameterValue | Trainable = 0.9,
        adaptation_decay: ParameterValue | Trainable = 0.98,
        a: ParameterValue | Trainable = 0.5,
        b: ParameterValue | Trainable = 1.0,
        form: str = "additive",
        q: float | None = None,
        **spike_options: Unpack[SpikeOptions],
    ):
        if q is not None and form != "symplectic":
            raise ValueError(f"AdLIF got q={q}, expected none for form={form!r}, or form='symplectic'.")
        super().__init__(**spike_options)
        self.decay = Parameter("AdLIF decay", decay, UNIT_INTERVAL, self.param_dtype)
        self.adaptation_decay = Parameter("AdLIF adaptation_decay", adaptation_decay, UNIT_INTERVAL, self.param_dtype)
        self.a = Parameter("AdLIF a", a, REAL, self.param_dtype)
        self.b = Parameter("AdLIF b", b, REAL, self.param_dtype)
        self.form = one_of("AdLIF", "form", form, FORMS)
        default = DEFAULT_Q if form == "symplectic" else None
        self.q = default if q is None else positive("AdLIF", "q", q)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: AdLIFState, inputs: Float[Array, "*B N"]) -> AdLIFState:
        decay = self.decay(carry.u)
        return AdLIFState(u=decay * carry.u + (1 - decay) * (inputs - carry.w), w=carry.w)

    def fire(self, membrane: AdLIFState) -> tuple[AdLIFState, Float[Array, "*B N"]]:
        v, w = membrane
        u, spikes = self.spike(v)
        decay = self.adaptation_decay(w)
        if self.q is None:
            w = decay * w + self.a(v) * v + self.b(v) * spikes
        else:
            w = decay * w + (1 - decay) * self.q * (self.a(v) * u + self.b(v) * spikes)
        return AdLIFState(u=u, w=w), spikes
