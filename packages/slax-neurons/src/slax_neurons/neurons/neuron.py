"""The bases of layers of neurons.

`NeuronCell` is a cell with a membrane, `Neuron` an element-wise one made of two functions, `integrate` and `fire`, and
`SpikingNeuron` one with a threshold and a reset. Their loops over time are in steps.py.
"""

import math
import warnings
from typing import Any, ClassVar, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.steps import integrate_and_fire
from slax_neurons.parameter import REAL, Parameter, ParameterValue, Trainable, one_of
from slax_neurons.surrogates import SpikeFunction, fast_sigmoid, spike_function

RESETS = ("subtract", "zero", "none")

# Names of options in other libraries.
ELSEWHERE = {
    "beta": "decay",
    "tau": "decay=time_constant(tau, dt=dt)",
    "v_threshold": "threshold",
    "spike_grad": "spike_fn",
}


class NeuronCell(nnx.RNNCellBase):
    """A recurrent cell that is a layer of neurons: the base of `Neuron`, and of LTC, whose units interact.

    A subclass whose outputs are spikes sets `spikes = True` and keeps its spike function in the attribute `spike_fn`. A
    subclass whose membrane is neither the carry nor its field `u` defines `membrane`, and one whose membrane decays by a single
    number per step defines `membrane_decay`. `fixed` names the attributes that `replace` refuses, each with the reason.

    Example:
        Leaky integrators that interact: the mean of the layer is subtracted from each.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import NeuronCell, unroll
        >>> class Competing(NeuronCell):
        ...     def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        ...         return jnp.zeros(input_shape)
        ...
        ...     def __call__(self, carry, inputs):
        ...         state = 0.5 * carry + inputs
        ...         state = state - state.mean(axis=-1, keepdims=True)
        ...         return state, state
        >>> cell, currents = Competing(), jnp.tile(jnp.array([0.0, 1.0, 2.0]), (3, 1, 1))
        >>> carry, outputs = unroll(cell, cell.initialize_carry((1, 3)), currents)
        >>> outputs[:, 0].tolist()
        [[-1.0, 0.0, 1.0], [-1.5, 0.0, 1.5], [-1.75, 0.0, 1.75]]
    """

    spikes: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    fixed: ClassVar[dict[str, str]] = {"param_dtype": "which is already fixed by the parameters that it keeps"}
    num_feature_axes = 1
    param_dtype: np.dtype

    def __init_subclass__(cls, **options: Any):
        """A class with a step of its own does not inherit what another class says of its step."""
        super().__init_subclass__(**options)
        place = {name: index for index, base in reversed([*enumerate(cls.__mro__)]) for name in vars(base)}
        own_decay = min(place["__call__"], place.get("integrate", math.inf))
        if own_decay < place["membrane_decay"]:
            setattr(cls, "membrane_decay", None)  # noqa: B010  # a property in the base
        if min(own_decay, place.get("fire", math.inf)) < place["linear"]:
            cls.linear = False

    def membrane(self, carry: Any) -> Float[Array, "..."]:
        """The membrane potential in a carry, after the reset: the carry itself if it is an array, else its field `u`.

        Raises:
            TypeError: a carry with neither.
        """
        membrane = carry if isinstance(carry, jax.Array) else getattr(carry, "u", None)
        if membrane is None:
            raise TypeError(f"Got a carry without a field u. Define {type(self).__name__}.membrane(carry).")
        return membrane

    @property
    def membrane_decay(self) -> float | Float[Array, ""] | None:
        """The factor by which the membrane decays per step, if it is one number for the layer, or else None.

        If it is trainable, it is a scalar array of the neuron's dtype.
        """
        return None

    def replace(self, **attributes: Any) -> Any:
        """Return a copy of the neuron with some of its attributes replaced: `neuron.replace(spike_fn=arctan())`.

        The copy has variables of its own. For a `Parameter`, pass a number, an array or `Trainable` of either, as to the
        constructor; its domain stays the same.

        Raises:
            TypeError: an attribute that the neuron does not have.
            ValueError: a value that the neuron cannot have, or another `param_dtype`.

        Example:
            >>> from slax_neurons import LIF, Trainable
            >>> neuron = LIF(decay=Trainable(0.9))
            >>> other = neuron.replace(threshold=0.5, reset="none")
            >>> other.reset, other.threshold.number, neuron.threshold.number
            ('none', 0.5, 1.0)
        """
        name, own = type(self).__name__, [attribute for attribute in vars(self) if not attribute.startswith("_")]
        copy = nnx.clone(self)
        for attribute, value in attributes.items():
            if attribute not in own:
                raise TypeError(f"{name} got {attribute}, which it does not have, expected {', '.join(own)}.")
            setattr(copy, attribute, value)
        return copy

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Set an attribute, or in a neuron that has it, replace it in place; see `replace` for what may be given."""
        old, name = vars(self).get(attribute), type(self).__name__
        if attribute in self.fixed and attribute in vars(self):
            raise ValueError(f"{name} got another {attribute}, {self.fixed[attribute]}. Make one: {name}(...).")
        # A user's class may put a variable, a module or a function in a parameter's place.
        is_made = value is None or callable(value) or isinstance(value, nnx.Variable | nnx.Module)
        if isinstance(old, Parameter) and not is_made:
            value = Parameter(old.name, value, old.domain, self.param_dtype)
        if attribute == "spike_fn" and value is not None:
            value = spike_function(name, value)
        if attribute == "reset":
            one_of(name, "reset", value, RESETS)
        super().__setattr__(attribute, value)


class Neuron(NeuronCell):
    """A layer of neurons that do not interact: a cell `(carry, current) -> (carry, output)` made of two functions.

        m_t = integrate(h_{t-1}, I_t)          # the state before the neuron fires
        h_t, s_t = fire(m_t)                   # the state after it, which is the carry, and the output

    The state and output of each unit depend on the state and current of this unit alone, so a neuron takes no size: its
    carry has the shape of its input. Subclasses define `integrate` and `fire`, and, if they have more than one state,
    `carry_type`, a NamedTuple with one array of that same shape per state; or `__call__` alone, where the two do not fit.
    The layer's connections, including its recurrent ones, are not part of the neuron (see `connect`).

    Over time, only m_t is stored for the reverse pass, one array per state; the rest is recomputed from m_t. (JAX's own reverse
    pass runs short sequences on a CPU, since it is faster there.)

    A subclass promises what learning rules build on, and what `slax_neurons.testing.check_neuron` checks: each unit of each
    sample is by itself; `spikes = True` if its outputs are spikes, 0 or 1, made by its `spike_fn`; `linear = True` if
    `integrate` and `fire` are linear in states and current except for these spikes; `membrane` and `membrane_decay` are its
    membrane and its decay. A subclass with a step of its own does not inherit what describes the step of another:
    `membrane_decay` under its own `__call__` or `integrate`, `linear` under these or its own `fire`.

    A unit may have several currents and as many outputs: with `currents_per_unit = 2`, states [B, N] belong to currents
    [B, 2 N], the first currents of all units before the second ones, and `fire` returns outputs [B, 2 N]. Within a step, an
    output depends on the current at its own place alone. `LRU` is an example, which OSTL and SLTT take, and all rules that are
    not for layers.

    Args:
        param_dtype: dtype of the state and of the parameters.

    Example:
        A leaky integrator that outputs the positive part of its state.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import Neuron, unroll
        >>> class Rectified(Neuron):
        ...     def integrate(self, carry, inputs):
        ...         return 0.5 * carry + inputs
        ...
        ...     def fire(self, membrane):
        ...         return membrane, jax.nn.relu(membrane)
        >>> neuron, currents = Rectified(), jnp.array([1.0, 0.0, -1.0, 2.0]).reshape(4, 1, 1)
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> outputs[:, 0, 0].tolist()
        [1.0, 0.5, 0.0, 1.625]
    """

    carry_type: ClassVar[Any] = None
    currents_per_unit: ClassVar[int] = 1

    def __init__(self, *, param_dtype: DTypeLike = jnp.float32):
        self.param_dtype = jnp.dtype(param_dtype)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """The state at rest: zeros, for inputs of `input_shape` [B, ...]. `rngs` and `carry_init` are Flax's, and unused.

        Raises:
            ValueError: a parameter that has a value for each sample, or currents that do not divide among the units.
        """
        shape = self._state_shape(input_shape)
        for attribute in vars(self).values():
            if isinstance(attribute, Parameter):
                attribute.check_axes(shape)
        rest = jnp.zeros(shape, self.param_dtype)
        if self.carry_type is None:
            return rest
        return self.carry_type(*[rest] * len(self.carry_type._fields))

    def _state_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        units, rest = divmod(input_shape[-1], self.currents_per_unit)
        if rest:
            of_each = f"{self.currents_per_unit} for each unit: nnx.Linear(inputs, {self.currents_per_unit} * units)"
            raise ValueError(f"{type(self).__name__} got {input_shape[-1]} currents, expected {of_each} before it.")
        return (*input_shape[:-1], units)

    def integrate(self, carry: Any, inputs: Float[Array, "*B N"]) -> Any:
        """Compute m_t from h_{t-1} and I_t."""
        raise NotImplementedError(f"Define {type(self).__name__}.integrate(carry, inputs), which returns the membrane.")

    def fire(self, membrane: Any) -> tuple[Any, Float[Array, "*B N"]]:
        """Compute h_t and s_t from m_t."""
        raise NotImplementedError(f"Define {type(self).__name__}.fire(membrane), which returns (carry, output).")

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        return self.fire(self.integrate(carry, inputs))

    def pre_reset_states(self, carry: Any, inputs: Float[Array, "T *B N"]) -> tuple[Any, Any]:
        """The last carry, and m_t of all steps, of which `fire` makes the outputs."""
        self.check_carry(carry, inputs[0])
        return integrate_and_fire(*nnx.split(self), carry, inputs)

    @property
    def has_split_step(self) -> bool:
        """True if the neuron defines `integrate` and `fire`, and not only `__call__`."""
        return type(self).__call__ is Neuron.__call__

    def check_carry(self, carry: Any, inputs: Array) -> None:
        """Raise ValueError unless each state has the dtype of the current of one step and its shape, [B, N], per unit.

        A neuron that defines `__call__` alone may also have random keys and counts in its carry.
        """
        for state in jax.tree.leaves(carry):
            is_state = self.has_split_step or jnp.issubdtype(state.dtype, jnp.inexact)
            if is_state and (state.shape, state.dtype) != (self._state_shape(inputs.shape), inputs.dtype):
                carry_of, current = (f"{one.dtype}{list(one.shape)}" for one in (state, inputs))
                raise ValueError(
                    f"{type(self).__name__} got a carry of {carry_of} for a current of {current} per step, expected the same "
                    f"of both: initialize_carry({inputs.shape}), param_dtype={inputs.dtype.name}. Call unroll for "
                    "sequences [T, B, ...]. Counts in the carry need a neuron that defines __call__ alone."
                )


@property  # type: ignore[misc]
def decay_of_membrane(self: Any) -> float | Float[Array, ""] | None:
    """The property `membrane_decay` of a neuron whose parameter `decay` is the factor of its membrane in a step."""
    return self.decay.scalar


class SpikeOptions(TypedDict, total=False):
    """The options that every `SpikingNeuron` has."""

    threshold: ParameterValue | Trainable
    reset: str
    stop_reset_gradient: bool
    spike_fn: SpikeFunction | str
    param_dtype: DTypeLike


class SpikingNeuron(Neuron):
    """A neuron that fires where its membrane reaches the threshold, and is then reset, within one step:

        s_t = H(v_t - threshold),  H(0) = 1      # output: spikes, 0 or 1
        u_t = v_t - threshold s_t                # reset="subtract"
        u_t = v_t (1 - s_t)                      # reset="zero"
        u_t = v_t                                # reset="none"

    v is the membrane before the reset and u the membrane after it. In the backward pass, ds/dv is the derivative of `spike_fn`,
    and du/dv passes through the reset unless `stop_reset_gradient` is set.

    Args:
        threshold: a number, an array of the shape of the features, or `Trainable` of either.
        reset: effect of a spike on the membrane: "subtract", "zero" or "none".
        stop_reset_gradient: treat the spike in the reset as a constant.
        spike_fn: maps v - threshold to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        TypeError: an option that the neuron does not have.
        ValueError: an unknown reset.

    Example:
        A quadratic integrate-and-fire neuron, which has all options of a `SpikingNeuron`.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import SpikingNeuron, unroll
        >>> class QIF(SpikingNeuron):
        ...     def integrate(self, carry, inputs):
        ...         return carry + 0.5 * carry**2 + inputs
        ...
        ...     def fire(self, membrane):
        ...         return self.spike(membrane)
        >>> neuron, currents = QIF(threshold=2.0, reset="zero"), jnp.full((6, 1, 1), 0.5)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    spikes = True

    def __init__(
        self,
        *,
        threshold: ParameterValue | Trainable = 1.0,
        reset: str = "subtract",
        stop_reset_gradient: bool = False,
        spike_fn: SpikeFunction | str = fast_sigmoid(),
        param_dtype: DTypeLike = jnp.float32,
        **unknown: Any,
    ):
        name = type(self).__name__
        if unknown:
            here = (f" {one} of other libraries is {ELSEWHERE[one]} here." for one in unknown if one in ELSEWHERE)
            raise TypeError(f"{name} got {', '.join(unknown)}, which it does not take.{''.join(here)}")
        super().__init__(param_dtype=param_dtype)
        self.threshold = Parameter(f"{name} threshold", threshold, REAL, param_dtype)
        number = threshold.value if isinstance(threshold, Trainable) else threshold
        is_known = not isinstance(number, jax.core.Tracer) and type(self).initialize_carry is Neuron.initialize_carry
        if is_known and np.all(np.asarray(number) <= 0):
            at_rest = "whose units at rest, at 0, fire in each step"
            warnings.warn(f"{name} got threshold={number}, {at_rest}, expected numbers above 0.", stacklevel=2)
        self.reset = reset
        self.stop_reset_gradient = stop_reset_gradient
        self.spike_fn: SpikeFunction = spike_fn  # type: ignore[assignment]  # a name becomes a function

    def spike(
        self, v: Float[Array, "*B N"], threshold_offset: Float[Array, "*B N"] | float = 0.0
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        """Return the membrane u after the reset, and the spikes at a threshold raised by `threshold_offset` in this step."""
        threshold = self.threshold(v)
        spikes = self.spike_fn(v - (threshold + threshold_offset))
        reset_spikes = jax.lax.stop_gradient(spikes) if self.stop_reset_gradient else spikes
        if self.reset == "none":
            return v, spikes
        return (v - threshold * reset_spikes if self.reset == "subtract" else v * (1 - reset_spikes)), spikes
