"""Dropout as a cell, with its mask, or the key of its masks, in the carry."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from slax_neurons.parameter import one_of

PER = ("step", "sequence")


class DropoutState(NamedTuple):
    """The key of a sequence's masks, and the index of the next step."""

    key: Key[Array, ""]
    step: Int[Array, ""]


class Dropout(nnx.RNNCellBase):
    """Dropout of random units in training, with one mask per step or one for the entire sequence.

        y_t = m_t x_t / (1 - rate)    # per="step": m_t is 0 with probability rate, else 1
        y_t = m x_t / (1 - rate)      # per="sequence": m is drawn once per sample and unit

    It is a cell, so that masks do not depend on chunks and work inside a cycle: `initialize_carry` draws the mask or the key.
    The carry is `DropoutState`, or the mask [B, ...]. `model.eval()` switches it off and `model.train()` on, as in Flax.

    Args:
        rate: probability of a zero, in [0, 1).
        per: how long a mask is kept, "step" or "sequence". With "sequence", a unit stays silent for the entire sequence, the
            usual choice for spikes.
        deterministic: whether dropout is off.
        rngs: random streams; keys are drawn from the stream `dropout` when `initialize_carry` gets no `rngs`.

    Raises:
        ValueError: a rate outside [0, 1), an unknown `per`.

    References:
        Srivastava et al.: Dropout: a simple way to prevent neural networks from overfitting, 2014, JMLR 15(56). Gal,
        Ghahramani: A theoretically grounded application of dropout in recurrent neural networks, 2016, arXiv 1512.05287, for
        one mask per sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import Dropout, unroll
        >>> dropout, inputs = Dropout(0.5, rngs=nnx.Rngs(0)), jnp.ones((20, 2, 8))
        >>> carry, outputs = unroll(dropout, dropout.initialize_carry((2, 8)), inputs)
        >>> sorted(set(outputs.ravel().tolist())), bool(jnp.all(outputs == outputs[:1]))  # the same mask at each step
        ([0.0, 2.0], True)
        >>> dropout.eval()
        >>> bool(jnp.all(unroll(dropout, carry, inputs)[1] == inputs))
        True
    """

    num_feature_axes = 1
    mutates_state = False  # it draws when it makes a carry, not when it is called

    def __init__(
        self, rate: float, *, per: str = "sequence", deterministic: bool = False, rngs: nnx.Rngs | nnx.RngStream
    ):
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout got rate={rate}, expected a number in [0, 1).")
        self.rate = rate
        self.per = one_of("Dropout", "per", per, PER)
        self.deterministic = deterministic
        self.rngs = (rngs if isinstance(rngs, nnx.RngStream) else rngs.dropout).fork()

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: nnx.Rngs | nnx.RngStream | None = None, carry_init: Any = None
    ) -> Any:
        """Draw masks for a sequence of inputs of `input_shape` [B, ...], with `rngs` or with the module's own stream."""
        key = jax.random.key(0)  # where nothing is drawn, no stream advances
        if not self.deterministic:
            key = (self.rngs if rngs is None else rngs if isinstance(rngs, nnx.RngStream) else rngs.dropout)()
        if self.per == "sequence":
            return self._keep(key, input_shape)
        return DropoutState(key, jnp.zeros((), jnp.int32))

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, outputs[0]

    def unroll(self, carry: Any, inputs: Float[Array, "T *B N"]) -> tuple[Any, Float[Array, "T *B N"]]:
        """Apply the masks to all steps together."""
        if self.per == "sequence":
            keep = carry[None]
        else:
            steps = carry.step + jnp.arange(inputs.shape[0], dtype=jnp.int32)
            keep = jax.vmap(lambda step: self._keep(jax.random.fold_in(carry.key, step), inputs.shape[1:]))(steps)
            carry = carry._replace(step=carry.step + inputs.shape[0])
        if self.deterministic:
            return carry, inputs
        return carry, jnp.where(keep, inputs / (1 - self.rate), jnp.zeros((), inputs.dtype))

    def _keep(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Bool[Array, "..."]:
        return jax.random.bernoulli(key, 1 - self.rate, shape)
