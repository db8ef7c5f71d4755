"""Neurons with the firing patterns of cortical ones, whose membranes are potentials in mV: Izhikevich's, and AdEx."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import POSITIVE, REAL, Domain, Parameter, ParameterValue, Trainable, positive
from slax_neurons.surrogates import SpikeFunction, spike_function, super_spike

REST = (-70.0, -14.0)  # of u and w, with b = 0.2


class IzhikevichState(NamedTuple):
    """The membrane after the reset, in mV, and the recovery variable, in mV per ms."""

    u: Float[Array, "*B N"]
    w: Float[Array, "*B N"]


class Izhikevich(Neuron):
    """Izhikevich's simple model of spiking neurons: integrate, fire, reset, all within one step.

        v_t = u_{t-1} + dt (0.04 u_{t-1}^2 + 5 u_{t-1} + 140 - w_{t-1}) + gain I_t      # membrane before the reset, in mV
        r_t = w_{t-1} + dt a (b u_{t-1} - w_{t-1})            # recovery variable before the spike, in mV per ms
        s_t = H(v_t - threshold),  H(0) = 1                   # output: spikes, 0 or 1
        u_t = (1 - s_t) v_t + s_t c
        w_t = r_t + s_t d

    A spike begins about 20 mV above rest, where the membrane rises by itself, and is counted at its peak, `threshold`. A
    current of 1 moves the membrane by `gain`, as if it all came at once, so weights made for an LIF of threshold 1 also make
    this neuron fire. A constant current J in the units of the reference is I = dt J / gain. The carry is
    `IzhikevichState(u, w)`, each [B, N]; it starts at u = -70 and w = -14, which is the rest for b = 0.2. In the backward pass,
    ds/dv is the derivative of `spike_fn`; nothing is detached.

    Args:
        a: rate of the recovery per ms, in (0, 1 / dt); a number, an array [N], or `Trainable` of either.
        b: strength with which the recovery follows the membrane, per ms; any number; same types.
        c: potential after a spike, in mV; same types.
        d: what a spike adds to the recovery variable, in mV per ms; same types.
        threshold: peak of a spike, in mV; same types.
        gain: mV per unit of current, > 0; a number, since the weights before the neuron scale it.
        dt: length of a step in ms, > 0.
        spike_fn: maps v - threshold, in mV, to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a parameter outside its range.

    References:
        Izhikevich: Simple model of spiking neurons, 2003, doi 10.1109/TNN.2003.820440, equations 1 to 3, where v and u are
        u and w here. The defaults are its regular spiking neuron.

    Note:
        The step is one of forward Euler. It does not diverge near u while 0.08 u + 5 > -2 / dt: above -112 mV for dt = 0.5,
        above -87 mV for dt = 1. Further down, a step overshoots, at most into a spike, whose reset bounds it. The reference
        makes two steps of 0.5 ms for the membrane for each of 1 ms for the recovery.

        Other (a, b, c, d) of the reference: intrinsically bursting (0.02, 0.2, -55, 4), chattering (0.02, 0.2, -50, 2), fast
        spiking (0.1, 0.2, -65, 2), low-threshold spiking (0.02, 0.25, -65, 2).

    Example:
        Under a constant current, spikes become rarer; these are the steps of 0.5 ms at which they occur.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import Izhikevich, unroll
        >>> neuron, currents = Izhikevich(), jnp.full((200, 1, 1), 0.5 * 10 / 20)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> jnp.flatnonzero(spikes).tolist()
        [8, 48, 140]
        >>> carry.u.shape, carry.w.shape
        ((1, 1), (1, 1))
    """

    carry_type = IzhikevichState
    fixed = Neuron.fixed | {"dt": "on which the range of a depends", "gain": "which the constructor checks"}
    spikes = True

    def __init__(
        self,
        *,
        a: ParameterValue | Trainable = 0.02,
        b: ParameterValue | Trainable = 0.2,
        c: ParameterValue | Trainable = -65.0,
        d: ParameterValue | Trainable = 8.0,
        threshold: ParameterValue | Trainable = 30.0,
        gain: float = 20.0,
        dt: float = 0.5,
        spike_fn: SpikeFunction | str = super_spike(0.05),
        param_dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(param_dtype=param_dtype)
        self.gain = positive("Izhikevich", "gain", gain)
        self.dt = positive("Izhikevich", "dt", dt)
        self.a = Parameter("Izhikevich a", a, Domain(0.0, 1 / dt), param_dtype)
        self.b = Parameter("Izhikevich b", b, REAL, param_dtype)
        self.c = Parameter("Izhikevich c", c, REAL, param_dtype)
        self.d = Parameter("Izhikevich d", d, REAL, param_dtype)
        self.threshold = Parameter("Izhikevich threshold", threshold, REAL, param_dtype)
        self.spike_fn = spike_function("Izhikevich", spike_fn)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """The state at rest for a current of `input_shape` [B, ...]."""
        return IzhikevichState(*(jnp.full(input_shape, state, self.param_dtype) for state in REST))

    def integrate(self, carry: IzhikevichState, inputs: Float[Array, "*B N"]) -> IzhikevichState:
        u, w = carry
        slope, rise = (0.04 * u + 5) * u + 140 - w, self.a(u) * (self.b(u) * u - w)
        return IzhikevichState(u=u + self.dt * slope + self.gain * inputs, w=w + self.dt * rise)

    def fire(self, membrane: IzhikevichState) -> tuple[IzhikevichState, Float[Array, "*B N"]]:
        v, w = membrane
        spikes = self.spike_fn(v - self.threshold(v))
        return IzhikevichState(u=(1 - spikes) * v + spikes * self.c(v), w=w + spikes * self.d(v)), spikes


LARGEST = 8.0  # exponent, with which the membrane rises by hundreds of mV per ms: finite in float16


class AdExState(NamedTuple):
    """The membrane after the reset, and the adaptation, both in mV."""

    u: Float[Array, "*B N"]
    w: Float[Array, "*B N"]


class AdEx(Neuron):
    """Adaptive exponential integrate-and-fire: integrate, fire, reset, all within one step.

        x_t = (u_{t-1} - v_onset) / slope_factor              # counts as 8 where it is larger
        v_t = u_{t-1} + (dt / tau) (v_rest - u_{t-1} + slope_factor exp(x_t) - w_{t-1}) + gain I_t
        r_t = w_{t-1} + (dt / tau_w) (a (u_{t-1} - v_rest) - w_{t-1})
        s_t = H(v_t - threshold),  H(0) = 1                   # output: spikes, 0 or 1
        u_t = (1 - s_t) v_t + s_t v_reset                     # membrane, in mV
        w_t = r_t + s_t b                                     # adaptation, in mV

    A spike begins at `v_onset`, where the exponential takes over, and is counted at its peak, `threshold`. A current of 1 moves
    the membrane by `gain`, as if it all came at once, so weights made for an LIF of threshold 1 also make this neuron fire. A
    constant current J in pA into a membrane of C in pF is I = dt J / (C gain). The carry is `AdExState(u, w)`, each [B, N];
    it starts at u = v_rest and w = 0. In the backward pass, ds/dv is the derivative of `spike_fn`; nothing is detached.

    Args:
        tau: time constant of the membrane, C / g_L in the reference, in ms, > dt; a number, an array [N], or `Trainable` of
            either.
        tau_w: time constant of the adaptation in ms, > dt; same types.
        a: strength with which the adaptation follows the membrane, a / g_L in the reference; any number; same types.
        b: what a spike adds to the adaptation in mV, b / g_L in the reference; same types.
        v_onset: potential at which a spike begins, V_T in the reference, in mV; same types.
        slope_factor: width of its beginning, Delta_T in the reference, in mV, > 0; same types.
        v_reset: potential after a spike in mV; same types.
        threshold: peak of a spike in mV; same types.
        v_rest: resting potential, E_L in the reference, in mV; a number, since only differences from it matter.
        gain: mV per unit of current, > 0; a number, since the weights before the neuron scale it.
        dt: length of a step in ms, > 0.
        spike_fn: maps v - threshold, in mV, to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a parameter outside its range.

    References:
        Brette, Gerstner: Adaptive exponential integrate-and-fire model as an effective description of neuronal activity, 2005,
        doi 10.1152/jn.00686.2005, equations 1 to 3, divided by g_L. The defaults are its values, with C = 281 pF and
        g_L = 30 nS.

    Note:
        The step is one of forward Euler. Below the onset the equations are linear, and the step is stable since dt is shorter
        than both time constants. A spike takes one or two steps of 1 ms from the onset to the peak, so spikes are early or late
        by about a step. The largest exponent bounds a step to 2,981 slope_factor dt / tau, and makes a spike 0.1 ms longer.

    Example:
        Under a constant current of 1 nA, spikes become rarer; these are the steps of 1 ms at which they occur.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import AdEx, unroll
        >>> neuron, currents = AdEx(), jnp.full((200, 1, 1), 1000 / (281 * 20))
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> jnp.flatnonzero(spikes).tolist()
        [13, 29, 47, 68, 92, 120, 151, 185]
        >>> carry.u.shape, carry.w.shape
        ((1, 1), (1, 1))
    """

    carry_type = AdExState
    fixed = Neuron.fixed | {"dt": "on which the ranges of tau and tau_w depend", "gain": "which the constructor checks"}
    spikes = True

    def __init__(
        self,
        *,
        tau: ParameterValue | Trainable = 281 / 30,
        tau_w: ParameterValue | Trainable = 144.0,
        a: ParameterValue | Trainable = 4 / 30,
        b: ParameterValue | Trainable = 80.5 / 30,
        v_onset: ParameterValue | Trainable = -50.4,
        slope_factor: ParameterValue | Trainable = 2.0,
        v_reset: ParameterValue | Trainable = -70.6,
        threshold: ParameterValue | Trainable = 20.0,
        v_rest: float = -70.6,
        gain: float = 20.0,
        dt: float = 1.0,
        spike_fn: SpikeFunction | str = super_spike(0.05),
        param_dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(param_dtype=param_dtype)
        self.v_rest = v_rest
        self.gain = positive("AdEx", "gain", gain)
        self.dt = positive("AdEx", "dt", dt)
        self.tau = Parameter("AdEx tau", tau, Domain(dt), param_dtype)
        self.tau_w = Parameter("AdEx tau_w", tau_w, Domain(dt), param_dtype)
        self.a = Parameter("AdEx a", a, REAL, param_dtype)
        self.b = Parameter("AdEx b", b, REAL, param_dtype)
        self.v_onset = Parameter("AdEx v_onset", v_onset, REAL, param_dtype)
        self.slope_factor = Parameter("AdEx slope_factor", slope_factor, POSITIVE, param_dtype)
        self.v_reset = Parameter("AdEx v_reset", v_reset, REAL, param_dtype)
        self.threshold = Parameter("AdEx threshold", threshold, REAL, param_dtype)
        self.spike_fn = spike_function("AdEx", spike_fn)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> AdExState:
        """The state at rest for a current of `input_shape` [B, ...]."""
        rest = jnp.full(input_shape, self.v_rest, self.param_dtype)
        return AdExState(u=rest, w=jnp.zeros_like(rest))

    def integrate(self, carry: AdExState, inputs: Float[Array, "*B N"]) -> AdExState:
        u, w = carry
        above_rest, width = u - self.v_rest, self.slope_factor(u)
        upswing = width * jnp.exp(jnp.minimum((u - self.v_onset(u)) / width, LARGEST))
        return AdExState(
            u=u + self.dt / self.tau(u) * (upswing - above_rest - w) + self.gain * inputs,
            w=w + self.dt / self.tau_w(u) * (self.a(u) * above_rest - w),
        )

    def fire(self, membrane: AdExState) -> tuple[AdExState, Float[Array, "*B N"]]:
        v, w = membrane
        spikes = self.spike_fn(v - self.threshold(v))
        return AdExState(u=(1 - spikes) * v + spikes * self.v_reset(v), w=w + spikes * self.b(v)), spikes
