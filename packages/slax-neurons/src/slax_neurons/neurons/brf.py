"""The balanced resonate-and-fire neuron."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import POSITIVE, REAL, UNIT_INTERVAL, Domain, Parameter, ParameterValue, Trainable, positive
from slax_neurons.surrogates import SpikeFunction, fast_sigmoid, spike_function


class BRFState(NamedTuple):
    """The real and imaginary parts of the membrane, and the refractory variable."""

    u: Float[Array, "*B N"]
    v: Float[Array, "*B N"]
    q: Float[Array, "*B N"]


class BRF(Neuron):
    """Balanced resonate-and-fire: damp, rotate, fire, become refractory, all within one step; there is no reset.

        b_t = p - b_offset - q_{t-1},  p = (sqrt(1 - (dt omega)^2) - 1) / dt
        u_t = u_{t-1} + dt (b_t u_{t-1} - omega v_{t-1} + I_t)
        v_t = v_{t-1} + dt (omega u_{t-1} + b_t v_{t-1})
        s_t = H(u_t - threshold - q_{t-1}),  H(0) = 1         # output: spikes, 0 or 1
        q_t = refractory_decay q_{t-1} + s_t

    p is the largest damping with which the discrete oscillator does not diverge. The carry is `BRFState(u, v, q)`,
    each [B, N]. In the backward pass, ds/du is the derivative of `spike_fn`; nothing is detached.

    Args:
        omega: angular frequency in radians per unit of time, in (0, 1 / dt); a number, an array [N], or `Trainable` of
            either.
        b_offset: damping beyond p, > 0; same types.
        threshold: any number; same types.
        refractory_decay: decay of q per step, in (0, 1); same types.
        dt: length of a step in units of time, > 0.
        spike_fn: maps u - threshold - q to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a parameter outside its range.

    References:
        Higuchi, Kairat, Bohte, Otte: Balanced resonate-and-fire neurons, ICML 2024, arXiv 2402.14603.

    Note:
        The authors draw omega from (5, 10) and b_offset from (0, 3) per neuron, train |omega| and |b_offset|, fire at > 0,
        and use the surrogate gamma [(1 + h) N(x; 0, w) - 2 h N(x; 0, s w)].

    Example:
        Of three sine currents with the angular frequencies 5, 10 and 20, only the one at the neuron's frequency makes it fire.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import BRF, unroll
        >>> times = 0.01 * jnp.arange(400)
        >>> currents = 5 * jnp.sin(jnp.outer(times, jnp.array([5.0, 10.0, 20.0])))[:, None]
        >>> neuron = BRF(omega=10.0, dt=0.01)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 3)), currents)
        >>> spikes.any(axis=(0, 1)).tolist()
        [False, True, False]
    """

    carry_type = BRFState
    fixed = Neuron.fixed | {"dt": "on which the range of omega depends"}
    spikes = True

    def __init__(
        self,
        *,
        omega: ParameterValue | Trainable = 10.0,
        b_offset: ParameterValue | Trainable = 1.0,
        threshold: ParameterValue | Trainable = 1.0,
        refractory_decay: ParameterValue | Trainable = 0.9,
        dt: float = 0.01,
        spike_fn: SpikeFunction | str = fast_sigmoid(),
        param_dtype: DTypeLike = jnp.float32,
    ):
        self.dt = positive("BRF", "dt", dt)
        super().__init__(param_dtype=param_dtype)
        self.omega = Parameter("BRF omega", omega, Domain(0.0, 1 / dt), param_dtype)
        self.b_offset = Parameter("BRF b_offset", b_offset, POSITIVE, param_dtype)
        self.threshold = Parameter("BRF threshold", threshold, REAL, param_dtype)
        self.refractory_decay = Parameter("BRF refractory_decay", refractory_decay, UNIT_INTERVAL, param_dtype)
        self.spike_fn = spike_function("BRF", spike_fn)

    def integrate(self, carry: BRFState, inputs: Float[Array, "*B N"]) -> BRFState:
        u, v, q = carry
        dt, omega = self.dt, self.omega(u)
        turn = (dt * omega) ** 2
        # p without a difference of numbers near 1, and with a finite derivative where dt omega has been rounded to 1.
        boundary = -turn / (1 + jnp.sqrt(jnp.maximum(1 - turn, jnp.finfo(u.dtype).tiny))) / dt
        b = boundary - self.b_offset(u) - q
        return BRFState(u=u + dt * (b * u - omega * v + inputs), v=v + dt * (omega * u + b * v), q=q)

    def fire(self, membrane: BRFState) -> tuple[BRFState, Float[Array, "*B N"]]:
        u, v, q = membrane
        spikes = self.spike_fn(u - self.threshold(u) - q)
        return BRFState(u=u, v=v, q=self.refractory_decay(q) * q + spikes), spikes
