"""A neuron's parameter: fixed or trainable, one for the layer or one per neuron, kept inside its domain."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

ParameterValue = float | Sequence[float] | np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """A marker for the initial value of a parameter that is to be trained: `LIF(decay=Trainable(0.9))`.

    Args:
        value: one number for the layer, or an array of the shape of its features for one per neuron.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Trainable
        >>> neuron = LIF(decay=Trainable(0.9), threshold=Trainable([1.0, 1.5, 2.0]))
        >>> round(float(neuron.membrane_decay), 3)
        0.9
        >>> jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(neuron, nnx.Param)))
        {'decay': {'unconstrained': ()}, 'threshold': {'unconstrained': (3,)}}
    """

    value: ParameterValue


def time_constant(tau: Any, *, dt: float) -> Any:
    """Convert a time constant to the decay per step, exp(-dt / tau): `LIF(decay=time_constant(20e-3, dt=1e-3))`.

    Args:
        tau: time constant, > 0, in the unit of `dt`; a number, or an array with one per neuron.
        dt: length of a step, > 0.

    Returns:
        A decay in (0, 1), a number or a float64 array. To train it, wrap it: `Trainable(time_constant(...))`.

    Raises:
        ValueError: a time constant or a step that is not positive, or whose ratio makes the decay round to 0 or 1.

    Warns:
        UserWarning: a step longer than five time constants, or shorter than a 10,000th of one: most often seconds and
            milliseconds in one call.

    Example:
        >>> from slax_neurons import LIF, time_constant
        >>> neuron = LIF(decay=time_constant(20e-3, dt=1e-3))
        >>> round(neuron.membrane_decay, 4)
        0.9512
        >>> time_constant([10e-3, 20e-3], dt=1e-3).round(4).tolist()
        [0.9048, 0.9512]
    """
    times = np.asarray(tau, np.float64)
    decay = np.asarray(np.exp(-dt / times) if dt > 0 and np.all(times > 0) else 0.0)
    if decay not in UNIT_INTERVAL:
        raise ValueError(f"time_constant got tau={tau} and dt={dt}, expected positive numbers with a decay in (0, 1).")
    if np.any(dt > 5 * times) or np.any(times > 10_000 * dt):
        odd = "a step longer than five time constants, or shorter than a 10,000th of one"
        warnings.warn(f"time_constant got tau={tau} and dt={dt}: {odd}. Give both in the same unit.", stacklevel=2)
    return decay if decay.ndim else float(decay)


@dataclasses.dataclass(frozen=True)
class Domain:
    """An open interval, and the map from the real numbers onto it through which a parameter is trained.

    The map is a scaled sigmoid for a bounded interval, a softplus for one with a lower bound only, and none for all numbers.
    """

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: np.ndarray) -> bool:
        return bool(np.all((value > self.low) & (value < self.high)))

    def __str__(self) -> str:
        return f"({self.low}, {self.high})"

    def constrain(self, x: Array) -> Array:
        if self.high < math.inf:
            return self.low + (self.high - self.low) * jax.nn.sigmoid(x)
        if self.low > -math.inf:
            return self.low + jax.nn.softplus(x)
        return x

    def unconstrain(self, value: np.ndarray) -> Any:
        if self.high < math.inf:
            return np.log(value - self.low) - np.log(self.high - value)
        if self.low > -math.inf:
            return value - self.low + np.log(-np.expm1(self.low - value))
        return value


class ClosedInterval(Domain):
    """A closed interval, into which a parameter is clipped at each use.

    Its bounds can be reached, and a number inside it is stored as it is. The derivative is 1 everywhere, as if nothing were
    clipped, so that a parameter that an optimizer moved beyond a bound comes back when its gradient changes sign.
    """

    def __contains__(self, value: np.ndarray) -> bool:
        return bool(np.all((value >= self.low) & (value <= self.high)))

    def __str__(self) -> str:
        return f"[{self.low}, {self.high}]"

    def constrain(self, x: Array) -> Array:
        constant = jax.lax.stop_gradient(x)
        return jnp.clip(constant, self.low, self.high) + (x - constant)

    def unconstrain(self, value: np.ndarray) -> Any:
        return value


def check_rngs(name: str, rngs: Any) -> None:
    """Raise TypeError for a random key or a number in place of random streams; `name` is what got it."""
    if not (rngs is None or isinstance(rngs, nnx.Rngs | nnx.RngStream)):
        raise TypeError(f"{name} got {type(rngs).__name__} as rngs, expected random streams: rngs=nnx.Rngs(0).")


def positive(owner: str, name: str, value: float) -> float:
    """Return `value`, or raise ValueError unless it is above zero."""
    if not value > 0:
        raise ValueError(f"{owner} got {name}={value}, expected a number > 0.")
    return value


def one_of(owner: str, name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value`, or raise ValueError unless it is among the choices."""
    if value not in choices:
        raise ValueError(f"{owner} got {name}={value!r}, expected one of {', '.join(map(repr, choices))}.")
    return value


UNIT_INTERVAL = Domain(0.0, 1.0)
"""The open interval from 0 to 1, as for decays."""
POSITIVE = Domain(low=0.0)
"""All numbers above zero, as for thresholds."""
REAL = Domain()
"""All numbers."""


class Constant(nnx.Variable):
    """An array that belongs to a model and is not trained."""


class Parameter(nnx.Module):
    """A named parameter of a neuron inside a domain: fixed or trainable, one number for the layer or one per neuron.

    A trainable one is stored as an `nnx.Param`, `unconstrained`, whose value is mapped into the domain at each use, so that no
    optimizer step can leave it, although rounding can reach a bound. A fixed number is part of the program, a fixed array a
    `Constant`.

    Args:
        name: its name in error messages, such as "LIF decay".
        value: a number or an array, or `Trainable` of one.
        domain: the interval in which the value must lie: `UNIT_INTERVAL`, `POSITIVE`, `REAL` or a `ClosedInterval`.
        param_dtype: dtype of a trainable or fixed array.

    Raises:
        TypeError: text.
        ValueError: a value outside the domain.

    Example:
        A neuron whose current passes through a trainable gain that stays positive. When called with a state, a parameter
        returns its value in the dtype of the state, in a shape that broadcasts to it.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import POSITIVE, Parameter, SpikingNeuron, Trainable, unroll
        >>> class Gain(SpikingNeuron):
        ...     def __init__(self, *, gain=Trainable(0.5), **spike_options):
        ...         super().__init__(**spike_options)
        ...         self.gain = Parameter("Gain gain", gain, POSITIVE, self.param_dtype)
        ...
        ...     def integrate(self, carry, inputs):
        ...         return 0.9 * carry + self.gain(carry) * inputs
        ...
        ...     def fire(self, membrane):
        ...         return self.spike(membrane)
        >>> neuron, inputs = Gain(), jnp.ones((5, 2, 3))
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((2, 3)), inputs)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 1.0]
        >>> jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(neuron, nnx.Param)))
        {'gain': {'unconstrained': ()}}
        >>> Gain(gain=-1.0)
        Traceback (most recent call last):
        ValueError: Gain gain got -1., expected numbers inside (0.0, inf).
    """

    def __init__(self, name: str, value: ParameterValue | Trainable, domain: Domain, param_dtype: DTypeLike):
        trainable = isinstance(value, Trainable)
        given = value.value if isinstance(value, Trainable) else value
        if np.asarray(given).dtype.kind in "US":
            raise TypeError(f"{name} got the text {given!r}, expected a number or an array of numbers.")
        initial = np.asarray(given, np.float64)
        if initial not in domain:
            raise ValueError(f"{name} got {np.array2string(initial, threshold=6)}, expected numbers inside {domain}.")
        with jax.ensure_compile_time_eval():  # a neuron may be made inside a traced function
            stored = jnp.asarray(domain.unconstrain(initial) if trainable else initial, param_dtype)
            used = np.asarray(domain.constrain(stored) if trainable else stored, np.float64)
        if used not in domain:
            form = " in the form that is trained" if trainable else ""
            which = f"which {stored.dtype} rounds to a bound of {domain}{form}. Use a wider param_dtype."
            raise ValueError(f"{name} got {np.array2string(initial, threshold=6)}, {which}")
        self.name = name
        self.domain = domain
        if trainable:
            self.unconstrained = nnx.Param(stored)
        elif initial.ndim:
            self.constant = Constant(stored)
        else:
            self.number = float(initial)

    @property
    def value(self) -> Any:
        """The value, inside the domain: a number if it is a fixed number, else an array of its own shape and dtype."""
        if hasattr(self, "number"):
            return self.number
        return self.constant[...] if hasattr(self, "constant") else self.domain.constrain(self.unconstrained[...])

    @property
    def scalar(self) -> float | Float[Array, ""] | None:
        """The value if it is one number for the layer, else None. A trainable value is an array of its own dtype."""
        value = self.value
        return None if np.ndim(value) else value

    def __call__(self, state: Array) -> Array | float:
        """Return the value in the dtype of `state` [..., features], in a shape that broadcasts to it."""
        value = self.value
        if not isinstance(value, jax.Array):
            return value
        if value.ndim and value.shape != state.shape[state.ndim - value.ndim :]:
            raise ValueError(f"{self.name} has shape {value.shape}, expected one number, or {state.shape[1:]}.")
        return value.astype(state.dtype).reshape((1,) * (state.ndim - value.ndim) + value.shape)

    def check_axes(self, input_shape: tuple[int, ...]) -> None:
        """Raise ValueError if the value has an axis for samples, where a step has inputs of `input_shape`, [B, features...]."""
        shape = np.shape(self.value)
        if len(shape) >= max(2, len(input_shape)):
            expected = f"one number, or one per neuron, {tuple(input_shape[1:])}, the same for all samples"
            raise ValueError(f"{self.name} has shape {shape} for inputs {input_shape} per step, expected {expected}.")
