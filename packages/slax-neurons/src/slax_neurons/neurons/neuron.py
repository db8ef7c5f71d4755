"""The bases of layers of neurons: a cell with a membrane, and an element-wise neuron, unrolled by a scan or in a kernel."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.kernels import is_fused, scan_steps, steps_in_iteration
from slax_neurons.neurons.fused import fused_integrate_and_fire, has_kernel
from slax_neurons.neurons.states import fire, fire_steps, integrate_and_fire, rematerialize
from slax_neurons.parameter import Parameter
from slax_neurons.surrogates import spike_function


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
    fixed: ClassVar[dict[str, str]] = {"param_dtype": "which is already fixed by the parameters that it keeps"}
    num_feature_axes = 1
    param_dtype: np.dtype

    def membrane(self, carry: Any) -> Float[Array, "..."]:
        """The membrane potential in a carry, after the reset: the carry itself if it is an array, else its field `u`.

        Raises:
            TypeError: a carry with neither.
        """
        match carry:
            case jax.Array():
                return carry
            case object(u=jax.Array() as membrane):
                return membrane
        raise TypeError(
            f"Got a {type(self).__name__} whose carry is a {type(carry).__name__}, expected an array or a NamedTuple with a "
            f"field u: its membrane. Define {type(self).__name__}.membrane(carry), which returns it."
        )

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
        for attribute in attributes:
            if attribute not in own:
                raise TypeError(
                    f"{name}.replace got {attribute}, which {name} does not have, expected {', '.join(own)}."
                )
        copy = nnx.clone(self)
        for attribute, value in attributes.items():
            setattr(copy, attribute, value)
        return copy

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Set an attribute, or in a neuron that has it, replace it in place; see `replace` for what may be given."""
        old, name = vars(self).get(attribute), type(self).__name__
        if attribute in self.fixed and attribute in vars(self):
            raise ValueError(
                f"{name} got another {attribute}, {self.fixed[attribute]}, expected another attribute. Make a new one: "
                f"{name}({attribute}=...)."
            )
        is_made = (
            value is None or callable(value) or isinstance(value, nnx.Variable | nnx.Module)
        )  # by a class of one's own
        if isinstance(old, Parameter) and not is_made:
            value = Parameter(old.name, value, old.domain, self.param_dtype)
        if attribute == "spike_fn" and value is not None:
            value = spike_function(name, value)
        super().__setattr__(attribute, value)


class Neuron(NeuronCell):
    """A layer of neurons that do not interact: a cell `(carry, current) -> (carry, output)` made of two functions.

        m_t = integrate(h_{t-1}, I_t)          the state before the neuron fires
        h_t, s_t = fire(m_t)                   the state after it, which is the carry, and the output

    The state and output of each unit depend on the state and current of this unit alone, so a neuron takes no size: its
    carry has the shape of its input. Subclasses define `integrate` and `fire`, and, if they have more than one state,
    `carry_type`, a NamedTuple with one array of that same shape per state; or `__call__` alone, where the two do not fit.
    The layer's connections, including its recurrent ones, are not part of the neuron (see `connect`).

    Over time, only m_t is stored for the reverse pass, one array per state; the rest is recomputed from m_t. Short sequences on
    a CPU are an exception: see `loop` in `unroll`. `unroll`, `pre_reset_states` and `outputs` follow from the step. A class
    that replaces one of them is refused inside cycles and by rules for layers, which know the step alone.

    A subclass declares its properties: `spikes = True` if its outputs are spikes made by its `spike_fn`, as in `SpikingNeuron`,
    and `linear = True` if `integrate` and `fire` are linear in states and current except for these spikes; some learning
    rules require linearity, and check it. `membrane` and `membrane_decay` give the membrane and its decay.

    Args:
        param_dtype: dtype of the state and of the parameters.

    Raises:
        TypeError: a class without `integrate` and `fire`, and without `__call__`; when it runs, one that reads several states
            and has no `carry_type`.

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
    linear: ClassVar[bool] = False

    def __init__(self, *, param_dtype: DTypeLike = jnp.float32):
        own, name = type(self), type(self).__name__
        missing = [step for step in ("integrate", "fire") if getattr(own, step) is getattr(Neuron, step)]
        if missing and self.has_split_step:
            raise TypeError(
                f"Got a neuron {name} without {' and '.join(missing)}, expected integrate(self, carry, inputs), which returns "
                "the membrane, and fire(self, membrane), which returns the carry and the output. Define both, or __call__ "
                "alone."
            )
        self.param_dtype = jnp.dtype(param_dtype)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """The state at rest: zeros of `input_shape` [B, ...]. `rngs` and `carry_init` are Flax's arguments and unused.

        Raises:
            ValueError: a parameter that has a value for each sample.
        """
        for attribute in vars(self).values():
            if isinstance(attribute, Parameter):
                attribute.check_axes(input_shape)
        rest = jnp.zeros(input_shape, self.param_dtype)
        if self.carry_type is None:
            return rest
        return self.carry_type(*[rest] * len(self.carry_type._fields))

    def integrate(self, carry: Any, inputs: Float[Array, "*B N"]) -> Any:
        """Compute m_t from h_{t-1} and I_t."""
        raise NotImplementedError

    def fire(self, membrane: Any) -> tuple[Any, Float[Array, "*B N"]]:
        """Compute h_t and s_t from m_t."""
        raise NotImplementedError

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        with self._missing_states_explained():
            return fire(self, carry, self.integrate(carry, inputs))

    def unroll(self, carry: Any, inputs: Float[Array, "T *B N"]) -> tuple[Any, Float[Array, "T *B N"]]:
        """Run all steps in one pass: a scan over element-wise work."""
        carry, membranes = self.pre_reset_states(carry, inputs)
        return carry, rematerialize(lambda membranes: self.outputs(membranes))(membranes)

    def pre_reset_states(self, carry: Any, inputs: Float[Array, "T *B N"], loop: str = "auto") -> tuple[Any, Any]:
        """The last carry, and m_t of all steps, from which `outputs` computes the outputs of the neuron.

        `loop` is that of `unroll`.

        If a subclass defines `__call__` alone, the second value is the outputs themselves.
        """
        if not self.has_split_step:
            return scan_cell(self, carry, inputs)
        return self.states_and_outputs(carry, inputs, loop)[:2]

    def states_and_outputs(
        self, carry: Any, inputs: Float[Array, "T *B N"], loop: str = "auto"
    ) -> tuple[Any, Any, Any]:
        """The last carry and m_t, and the outputs if a kernel makes them with the states, or else None."""
        self.check_carry(carry, inputs[0])
        graphdef, state = nnx.split(self)
        with self._missing_states_explained():
            if is_fused(loop) and has_kernel(type(self).__name__, graphdef, state, carry, inputs, loop):
                return fused_integrate_and_fire(graphdef, state, carry, inputs)
            return *integrate_and_fire(graphdef, state, carry, inputs, steps_in_iteration.value), None

    def outputs(self, membranes: Any) -> Float[Array, "T *B N"]:
        """Compute s_t from m_t for all steps."""
        return fire_steps(self, membranes)[1] if self.has_split_step else membranes

    @property
    def has_split_step(self) -> bool:
        """True if the neuron defines `integrate` and `fire`, and not only `__call__`."""
        return type(self).__call__ is Neuron.__call__

    def check_carry(self, carry: Any, inputs: Array) -> None:
        """Raise ValueError unless each state has the shape and dtype of the current of one step, [B, N].

        A neuron that defines `__call__` alone may also have random keys and counts in its carry.
        """
        for state in jax.tree.leaves(carry):
            if not (self.has_split_step or jnp.issubdtype(state.dtype, jnp.inexact)):
                continue
            if state.shape != inputs.shape or state.dtype != inputs.dtype:
                if not jnp.issubdtype(inputs.dtype, jnp.inexact):
                    raise ValueError(
                        f"{type(self).__name__} got a current of {inputs.dtype}, expected floating-point numbers. Cast the "
                        f"inputs: inputs.astype({state.dtype.name!r})."
                    )
                raise ValueError(
                    f"{type(self).__name__} got a carry of {state.dtype}{list(state.shape)} for a current of {inputs.dtype}"
                    f"{list(inputs.shape)} per step, expected the same of both. Make it with "
                    f"initialize_carry({inputs.shape}), and, if the dtypes differ, the neuron with "
                    f"param_dtype={inputs.dtype.name}."
                )

    @contextlib.contextmanager
    def _missing_states_explained(self) -> Iterator[None]:
        """Explain the remedy if a step reads a state by name, and the carry is one array for lack of a `carry_type`."""
        try:
            yield
        except AttributeError as error:
            own_carry = self.carry_type is not None or type(self).initialize_carry is not Neuron.initialize_carry
            if own_carry or not isinstance(error.obj, jax.Array):
                raise
            name = type(self).__name__
            raise TypeError(
                f"Got a neuron {name} whose step reads {error.name!r} of an array, expected a carry_type with its states: "
                "without one, the carry is one array. Put carry_type = ... into the class, a NamedTuple with a field for each."
            ) from error


def scan_cell(cell: nnx.RNNCellBase, carry: Any, inputs: Float[Array, "T ..."]) -> tuple[Any, Any]:
    """Run a cell step by step."""
    # Not the cell itself: JAX caches traces by function, and would keep this cell's parameters alive.
    return scan_steps(lambda carry, inputs: cell(carry, inputs), carry, inputs)
