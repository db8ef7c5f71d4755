"""Neurons whose state is a complex number that turns and shrinks: the linear recurrent unit and the recurrent trace unit."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import POSITIVE, UNIT_INTERVAL, Parameter, ParameterValue, Trainable


class LRUState(NamedTuple):
    """The real and imaginary parts of the state."""

    u: Float[Array, "*B N"]
    v: Float[Array, "*B N"]


class LRU(Neuron):
    """Linear recurrent unit: a complex state that turns by an angle and shrinks by a factor in each step, without spikes.

        h_t = lambda h_{t-1} + gamma (p_t + i q_t)    # lambda = r exp(i theta), gamma = sqrt(1 - r^2)
        u_t = r cos(theta) u_{t-1} - r sin(theta) v_{t-1} + gamma p_t
        v_t = r sin(theta) u_{t-1} + r cos(theta) v_{t-1} + gamma q_t

    The last two lines are the first one in real numbers, h = u + i v. A unit has two currents and two outputs: the current
    [B, 2 N] is all p, then all q, and the output [B, 2 N] is all u, then all v. So the complex input matrix of the paper,
    B = P + i Q, is one Linear from I inputs to 2 N currents, whose kernel is P and Q side by side. Its read-out, the real part
    of C h for a complex matrix C, is one Linear from 2 N outputs, with the real part of C above minus its imaginary part. The
    carry is `LRUState(u, v)`, each [B, N].

    As all neurons, it is a layer that rules such as OSTL differentiate through its own time only. If everything above it is
    without memory, this is the whole gradient, BPTT's. In a stack of several such layers, OSTL leaves out how an output changes
    the later states of the layers above, so only the last layer with a memory has its exact gradient.

    Args:
        r: size of lambda, in (0, 1); a number, an array [N], or `Trainable` of either.
        theta: angle of lambda in radians per step, > 0; same types.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a parameter outside its range; an odd number of currents.

    References:
        Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De: Resurrecting recurrent neural networks for long sequences, 2023,
        arXiv 2303.06349. Under online rules: Zucchet, Meier, Schug, Mujika, Sacramento: Online learning of long-range
        dependencies, 2023, arXiv 2305.15947.

    Note:
        The papers train the logarithms of -log r, of theta, and of gamma, which starts at sqrt(1 - r^2) and is then free. Here
        gamma follows r, as in the recurrent trace unit, and its freedom is in the weights before the neuron; r and theta pass
        through a sigmoid and a softplus, which are nearly the same maps for r near 1 and theta near 0. The skip from the
        input to the output, D, is an edge of `connect`, or left out.

    Example:
        A unit that turns by a quarter in each step: the real part of an impulse becomes imaginary, then negative.

        >>> import math
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LRU, unroll
        >>> neuron = LRU(r=0.5, theta=math.pi / 2)
        >>> currents = jnp.zeros((4, 1, 2)).at[0, 0, 0].set(1 / math.sqrt(0.75))  # p of the first step
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 2)), currents)
        >>> jnp.abs(outputs[:, 0].round(3)).tolist()
        [[1.0, 0.0], [0.0, 0.5], [0.25, 0.0], [0.0, 0.125]]
    """

    carry_type = LRUState
    currents_per_unit = 2
    linear = True

    def __init__(
        self,
        *,
        r: ParameterValue | Trainable = 0.9,
        theta: ParameterValue | Trainable = 0.5,
        param_dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(param_dtype=param_dtype)
        name = type(self).__name__
        self.r = Parameter(f"{name} r", r, UNIT_INTERVAL, param_dtype)
        self.theta = Parameter(f"{name} theta", theta, POSITIVE, param_dtype)

    @classmethod
    def on_ring(
        cls,
        units: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> Any:
        """A layer with a trainable lambda for each unit, drawn evenly from the ring r_min < |lambda| < r_max, as in the papers.

        Args:
            units: their number, N; the Linear before them has 2 N outputs.
            r_min: the inner radius.
            r_max: the outer radius.
            max_phase: theta is drawn from (0, max_phase).
            rngs: random streams, of which `params` is used.
            **options: of the constructor, such as `param_dtype`.

        Raises:
            ValueError: no ring within the unit circle, or no phase.

        Example:
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> from slax_neurons import LRU, connect, unroll
            >>> rngs = nnx.Rngs(0)
            >>> neuron = LRU.on_ring(16, r_min=0.9, rngs=rngs)
            >>> model = connect([nnx.Linear(8, 32, rngs=rngs), neuron, nnx.Linear(32, 3, rngs=rngs)])
            >>> unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))[1].shape
            (20, 2, 3)
        """
        if not (0 <= r_min < r_max <= 1 and max_phase > 0):
            raise ValueError(
                f"{cls.__name__}.on_ring got r_min={r_min}, r_max={r_max} and max_phase={max_phase}, expected "
                "0 <= r_min < r_max <= 1 and max_phase > 0."
            )
        area, turn = jax.random.uniform(rngs.params(), (2, units), jnp.float32, 1e-6, 1 - 1e-6)
        r = jnp.sqrt(r_min**2 + area * (r_max**2 - r_min**2))
        neuron = cls(r=Trainable(np.full(units, 0.5)), theta=Trainable(np.ones(units)), **options)
        drawn = {neuron.r: jnp.log(r) - jnp.log1p(-r), neuron.theta: jnp.log(jnp.expm1(max_phase * turn))}
        for parameter, value in drawn.items():  # which may be traced: a network may be made inside a compiled function
            parameter.unconstrained[...] = value.astype(parameter.unconstrained.dtype)
        return neuron

    def integrate(self, carry: LRUState, inputs: Float[Array, "*B M"]) -> LRUState:
        u, v = carry
        p, q = jnp.split(inputs, 2, axis=-1)
        r, theta = self.r(u), self.theta(u)
        real, imaginary = r * jnp.cos(theta), r * jnp.sin(theta)
        least = jnp.finfo(jnp.result_type(r)).eps  # so that gamma has a slope where r rounds to 1
        gamma = jnp.sqrt(jnp.maximum((1 - r) * (1 + r), least))
        return LRUState(u=real * u - imaginary * v + gamma * p, v=imaginary * u + real * v + gamma * q)

    def fire(self, membrane: LRUState) -> tuple[LRUState, Float[Array, "*B M"]]:
        return membrane, jnp.concatenate(membrane, axis=-1)


class RTU(LRU):
    """Recurrent trace unit, nonlinear: an `LRU` whose two states each pass through a function in every step.

        u_t = f(r cos(theta) u_{t-1} - r sin(theta) v_{t-1} + gamma p_t)    # gamma = sqrt(1 - r^2)
        v_t = f(r sin(theta) u_{t-1} + r cos(theta) v_{t-1} + gamma q_t)

    The paper's linear variant applies f to the outputs alone: `connect([linear, LRU.on_ring(16, rngs=rngs), f])`. Currents,
    outputs and the carry are as in `LRU`.

    Args:
        f: an element-wise function of JAX.
        **options: `r`, `theta` and `param_dtype`, see `LRU`.

    Raises:
        ValueError: a parameter outside its range; an odd number of currents.

    References:
        Elelimy, White, Bowling, White: Real-time recurrent learning using trace units in reinforcement learning, 2024,
        arXiv 2409.01449.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import RTU, unroll
        >>> neuron = RTU(r=0.5, theta=3.141593)  # half a turn: each step changes the sign
        >>> currents = jnp.zeros((3, 1, 2)).at[0, 0, 0].set(1.0)
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 2)), currents)
        >>> [round(u, 3) for u in outputs[:, 0, 0].tolist()]
        [0.699, -0.336, 0.166]
    """

    def __init__(self, *, f: Callable[[Array], Array] = jnp.tanh, **options: Any):
        super().__init__(**options)
        self.f = f

    def integrate(self, carry: LRUState, inputs: Float[Array, "*B M"]) -> LRUState:
        return jax.tree.map(self.f, super().integrate(carry, inputs))
