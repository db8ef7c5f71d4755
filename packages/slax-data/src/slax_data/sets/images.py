"""Images as a task, with one unit per pixel."""

import math
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray, Shaped

from slax_data.checks import check_choice, check_classes, check_intensities
from slax_data.encoding.encoders import ENCODERS
from slax_data.loading import take_batch
from slax_data.task import SPLITS, Batch, Task, check_splits

Images = tuple[Float32[Array, "_ *_"], Int32[Array, " _"]]  # intensities [D, ...] and labels [D]


def image_task(
    key: PRNGKeyArray, images: dict[str, Images], *, n_classes: int, n_steps: int = 50, code: str = "latency"
) -> Task:
    """Images as a `Task` with one unit per pixel. For a row of pixels at each step, see `indexed_task`.

    Args:
        key: random key for the spikes of an entire split, in a code that draws them; the other codes do not use it.
        images: intensities in [0, 1], [D, N] or [D, H, W, C], and labels [D], of "train" and of any further splits, such as
            "test".
        n_classes: number of classes.
        n_steps: time steps T, as the code allows: at least 2 for "latency".
        code: a name in `ENCODERS`, such as "latency" or "rate" (redrawn for each batch).

    Raises:
        ValueError: an unknown code, a number of steps that the code rejects, intensities outside [0, 1], splits of different
            sizes, labels outside 0..n_classes-1, or a class that is in no split.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import image_task
        >>> diagonals = jnp.stack([jnp.eye(3), jnp.eye(3)[::-1]]).reshape(2, 9)
        >>> images = {"train": (diagonals, jnp.array([0, 1])), "test": (diagonals, jnp.array([0, 1]))}
        >>> task = image_task(jax.random.key(0), images, n_classes=2, n_steps=3)
        >>> spikes, labels = task.full_split("test")
        >>> spikes[0]  # a bright pixel fires at once
        Array([[1., 0., 0., 0., 1., 0., 0., 0., 1.],
               [0., 0., 1., 0., 1., 0., 1., 0., 0.]], dtype=float32)
    """
    check_image_code(code, n_steps)
    check_splits("images", {split: {"pixels": one.shape[1:]} for split, (one, _) in images.items()})
    for intensities, _ in images.values():
        check_intensities(intensities)
    check_classes({split: labels for split, (_, labels) in images.items()}, n_classes=n_classes)
    sizes = {"n_units": math.prod(images["train"][0].shape[1:]), "n_classes": n_classes, "n_steps": n_steps}
    return encoded_task(key, images, partial(encoded, code, n_steps), **sizes)


def encoded_task(
    key: PRNGKeyArray,
    images: dict[str, tuple[Shaped[Array, "_ *_"], Int32[Array, " _"]]],
    encode: Callable[[PRNGKeyArray, Shaped[Array, "B ..."]], Float[Array, "T B ..."]],
    **sizes: int,
) -> Task:
    """Images as a `Task` whose batches are `encode(key, images [B, ...])`; see `image_task`, and for the sizes `Task`."""
    names = [*SPLITS, *sorted(set(images) - set(SPLITS))]

    def sample(key: PRNGKeyArray, *, batch_size: int, split: str = "train") -> Batch:
        check_choice("split", split, names)
        batch_key, spike_key = random.split(key)
        intensities, labels = take_batch(batch_key, *images[split], batch_size=batch_size)
        return encode(spike_key, intensities), labels

    def full_split(split: str) -> Batch:
        check_choice("split", split, names)
        intensities, labels = images[split]
        return encode(random.fold_in(key, names.index(split)), intensities), labels

    return Task(sample=sample, full_split=full_split, **sizes)


def check_image_code(code: str, n_steps: int) -> None:
    """Raise an error unless a code can encode images in this number of steps."""
    check_choice("code", code, ENCODERS)
    encoded(code, n_steps, random.key(0), jnp.zeros((1, 1)))  # raises the encoder's error for these steps


def encoded(code: str, n_steps: int, key: PRNGKeyArray, intensities: Float[Array, "B ..."]) -> Float[Array, "T B ..."]:
    """Intensities in a code of `ENCODERS`, with the key if it draws."""
    encoder = ENCODERS[code]
    drawn = (key,) if encoder.random else ()
    return encoder.encode(*drawn, intensities, n_steps=n_steps)


def stratified_holdout_mask(labels: Int[np.ndarray, " B"]) -> Bool[np.ndarray, " B"]:
    """A mask of the fifth, tenth, ... sample of each class, in the order of the labels: a test split without keys."""
    return position_in_class(labels) % 5 == 4


def position_in_class(labels: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """How many samples of its class precede each sample."""
    position = np.empty(len(labels), int)
    for label in np.unique(labels):
        of_class = labels == label
        position[of_class] = np.arange(of_class.sum())
    return position


def stratified_split(intensities: Float[np.ndarray, "B N"], labels: Int[np.ndarray, " B"], split: str) -> Images:
    """The images of "train" or "test"; see `stratified_holdout_mask`."""
    chosen = stratified_holdout_mask(labels) == (split == "test")
    return jnp.asarray(intensities[chosen], jnp.float32), jnp.asarray(labels[chosen], jnp.int32)
