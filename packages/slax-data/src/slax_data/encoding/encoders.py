"""The table of codes that turn intensities in [0, 1] into spikes. A new code needs a file, and a line here; image sets then
accept its name as `code`.

`delta_encode` takes signals instead.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from slax_data.encoding.latency_code import latency_encode
from slax_data.encoding.rate_code import rate_encode
from slax_data.named import Named


class Encoder(NamedTuple):
    """A code for intensities.

    encode: `encode(intensities [B, ...], *, n_steps) -> spikes [T, B, ...]`, with a key before the intensities if `random`.
    random: True if spikes are drawn at random.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import ENCODERS
        >>> code = ENCODERS["latency"]
        >>> spikes = code.encode(jnp.array([[0.0, 0.5, 1.0]]), n_steps=5)
        >>> spikes.shape, code.random
        ((5, 1, 3), False)
    """

    encode: Callable[..., Float[Array, "T B ..."]]
    random: bool


ENCODERS: Named[Encoder] = Named({
    "latency": Encoder(latency_encode, random=False),
    "rate": Encoder(rate_encode, random=True),
})  # fmt: skip
"""The codes for intensities by name, each with its encoder."""
