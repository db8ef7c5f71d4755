"""The table of codes that turn intensities in [0, 1] into spikes. A new code takes a file, and a line here; image sets then
accept its name as `code`.

`delta_encode` takes signals instead.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from slax_data.encoding.latency_code import latency_decode, latency_encode
from slax_data.encoding.rate_code import rate_decode, rate_encode


class Encoder(NamedTuple):
    """A code and its inverse.

    encode: `encode(intensities [B, N], *, n_steps) -> spikes [T, B, N]`, with a key before the intensities if `random`.
    decode: `decode(spikes [T, B, N]) -> intensities [B, N]`, an estimate if `random`.
    random: True if spikes are drawn at random.

    Both functions take the same further options, except `threshold`, which only `latency_encode` has.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import ENCODERS
        >>> code = ENCODERS["latency"]
        >>> spikes = code.encode(jnp.array([[0.0, 0.5, 1.0]]), n_steps=5)
        >>> code.decode(spikes)
        Array([[0. , 0.5, 1. ]], dtype=float32)
        >>> code.random
        False
    """

    encode: Callable[..., Float[Array, "T B N"]]
    decode: Callable[..., Float[Array, "B N"]]
    random: bool


ENCODERS: dict[str, Encoder] = {
    "latency": Encoder(latency_encode, latency_decode, random=False),
    "rate": Encoder(rate_encode, rate_decode, random=True),
}
"""The codes for intensities by name, each with its encoder and its decoder."""
