"""The base of every layer of neurons, with its spikes, its membrane, and copies with other attributes."""

from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.options import explain_options
from slax_neurons.parameter import Parameter


class NeuronCell(nnx.RNNCellBase):
    """A recurrent cell that is a layer of neurons: the base of `Neuron`, and of LTC, whose units interact.

    A subclass whose outputs are spikes sets `spikes = True` and keeps its spike function in the attribute `spike_fn`. A
    subclass whose membrane is neither the carry nor its field `u` defines `membrane`, and one whose membrane decays by a single
    number per step defines `membrane_decay`. A constructor given an unknown option raises an error that lists the valid ones.

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
    param_dtype: np.dtype

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = explain_options(cls.__init__)  # type: ignore[method-assign]

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
        if "param_dtype" in attributes:
            raise ValueError(
                f"{name}.replace got param_dtype, which is already fixed by the parameters that it keeps. Make a new one: "
                f"{name}(param_dtype=...)."
            )
        copy = nnx.clone(self)
        for attribute, value in attributes.items():
            old = vars(self)[attribute]
            if isinstance(old, Parameter) and not isinstance(value, Parameter):
                value = Parameter(old.name, value, old.domain, self.param_dtype)
            setattr(copy, attribute, value)
        return copy
