"""Random changes of spike trains that leave their class as it is, which give more samples for training."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, Shaped


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Moves, stretches, delays and thins out spike trains, each sample by its own random amounts.

    For sounds encoded by a cochlea, moving the channels corresponds to another pitch of the voice, and stretching to another
    speed.

    Args:
        channels: the largest shift in channels, up or down; channels that nothing is shifted into are silent.
        delay: the largest delay of the start, in steps; spikes that move past the end are lost.
        stretch: the largest relative change of speed, in [0, 1); a slower sample repeats some steps, a faster one skips some.
        drop: probability that a spike is removed, in [0, 1).

    Raises:
        ValueError: a number outside its range.

    References:
        Cramer, Stradmann, Schemmel, Zenke: The Heidelberg spiking data sets for the systematic evaluation of spiking neural
        networks, 2022, doi 10.1109/TNNLS.2020.3044364, for shifts of channels.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import Augmentation
        >>> augment = Augmentation(channels=1)
        >>> spikes = jnp.zeros((3, 4, 5)).at[:, :, 2].set(1.0)  # four samples, each with one active channel
        >>> moved = augment(jax.random.key(0), spikes)
        >>> moved[0].argmax(axis=-1).tolist()
        [3, 2, 1, 1]
    """

    channels: int = 0
    delay: float = 0.0
    stretch: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.channels < 0 or self.delay < 0 or not 0 <= self.stretch < 1 or not 0 <= self.drop < 1:
            raise ValueError(f"Got {self}, expected channels >= 0, delay >= 0, and stretch and drop in [0, 1).")

    def __call__(self, key: PRNGKeyArray, spikes: Shaped[Array, "T B N"]) -> Shaped[Array, "T B N"]:
        """Return changed spike trains in the same dtype; the same key makes the same changes."""
        stretch_key, delay_key, channel_key, drop_key = jax.random.split(key, 4)
        steps, batch, units = spikes.shape
        speed = 1 + self.stretch * jax.random.uniform(stretch_key, (1, batch), jnp.float32, -1, 1)
        late = self.delay * jax.random.uniform(delay_key, (1, batch), jnp.float32)
        time = jnp.floor((jnp.arange(steps, dtype=jnp.float32)[:, None] - late) * speed + 0.5).astype(jnp.int32)
        move = jax.random.randint(channel_key, (batch, 1), -self.channels, self.channels + 1)
        unit = jnp.arange(units, dtype=jnp.int32)[None] + move
        # Sample b of the result has at (t, n) what it had at (time[t, b], unit[b, n]).
        spikes = _taken(spikes, time[:, :, None], axis=0)
        spikes = _taken(spikes, unit[None], axis=2)
        if not self.drop:
            return spikes
        kept = jax.random.bernoulli(drop_key, 1 - self.drop, spikes.shape)
        return jnp.where(kept, spikes, jnp.zeros((), spikes.dtype))


def _taken(spikes: Array, source: Array, *, axis: int) -> Array:
    """Entries of an axis by index, zero where the index is outside."""
    inside = (source >= 0) & (source < spikes.shape[axis])
    found = jnp.take_along_axis(spikes, jnp.clip(source, 0, spikes.shape[axis] - 1), axis=axis)
    return jnp.where(inside, found, jnp.zeros((), spikes.dtype))
