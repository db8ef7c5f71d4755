"""Images as a task: one unit per pixel, or one row of the image per step."""

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray

from slax_data.checks import check_all_classes, check_choice, check_intensities, check_size
from slax_data.encoding.encoders import ENCODERS
from slax_data.loading.batching import take_batch, time_first
from slax_data.task import SPLITS, Batch, Task, check_splits

ROW_CODES = (*ENCODERS, "rows")
BRIGHT = 0.5  # a pixel must exceed this to be a spike in its row

Images = tuple[Float32[Array, "_ _"], Int32[Array, " _"]]  # intensities [D, N] and labels [D]


def image_task(
    key: PRNGKeyArray,
    images: dict[str, Images],
    *,
    n_classes: int,
    n_steps: int = 50,
    code: str = "latency",
    height: int | None = None,
) -> Task:
    """Images as a `Task`.

    Args:
        key: random key for the spikes of an entire split, in a code that draws them; the other codes do not use it.
        images: intensities [D, N] in [0, 1] and labels [D] of "train" and "test", and perhaps of further splits; an image is
            its rows, one after another.
        n_classes: number of classes.
        n_steps: time steps T, as the code allows; the height for rows.
        code: a name in `ENCODERS`, for one unit per pixel, such as "latency" or "rate" (redrawn for each batch), or "rows": at
            step t, the pixels of row t that are brighter than 1/2 spike, so the units are the columns.
        height: number of rows of an image, needed only for the code "rows".

    Raises:
        ValueError: an unknown code, a number of steps that the code rejects, intensities outside [0, 1], splits of different
            sizes, or labels that are not all of 0..n_classes-1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import image_task
        >>> diagonals = jnp.stack([jnp.eye(3), jnp.eye(3)[::-1]]).reshape(2, 9)
        >>> images = {"train": (diagonals, jnp.array([0, 1])), "test": (diagonals, jnp.array([0, 1]))}
        >>> task = image_task(jax.random.key(0), images, n_classes=2, n_steps=3, code="rows", height=3)
        >>> spikes, labels = task.full_split("test")
        >>> spikes[:, 1]
        Array([[0., 0., 1.],
               [0., 1., 0.],
               [1., 0., 0.]], dtype=float32)
    """
    check_image_code(code, n_steps, height=height)
    n_pixels = _check_images(images, n_classes, height)

    def encode(key: PRNGKeyArray, intensities: Float[Array, "B N"]) -> Float[Array, "T B U"]:
        if code in ENCODERS:
            return _encode(code, key, intensities, n_steps)
        rows = intensities.reshape(len(intensities), n_steps, -1)
        return time_first((rows > BRIGHT).astype(intensities.dtype))

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

    n_units = n_pixels // n_steps if code == "rows" else n_pixels
    return Task(n_units=n_units, n_classes=n_classes, n_steps=n_steps, sample=sample, full_split=full_split)


def check_image_code(code: str, n_steps: int, *, height: int | None = None) -> None:
    """Raise an error unless a code can encode images in this number of steps; the code "rows" needs a height."""
    check_choice("code", code, ROW_CODES if height else ENCODERS)
    check_size("n_steps", n_steps)
    if code in ENCODERS:
        _encode(code, random.key(0), jnp.zeros((1, 1)), n_steps)  # raises the encoder's error for these steps
    elif n_steps != height:
        raise ValueError(
            f"n_steps got {n_steps}, expected {height} for the code 'rows': a step for each row of the images."
        )


def _encode(code: str, key: PRNGKeyArray, intensities: Float[Array, "B N"], n_steps: int) -> Float[Array, "T B N"]:
    encoder = ENCODERS[code]
    drawn = (key,) if encoder.random else ()
    return encoder.encode(*drawn, intensities, n_steps=n_steps)


def stratified_holdout_mask(labels: Int[np.ndarray, " B"]) -> Bool[np.ndarray, " B"]:
    """A mask of the fifth, tenth, ... sample of each class, in the order of the labels: a test split without keys."""
    position = np.empty(len(labels), int)
    for label in np.unique(labels):
        of_class = labels == label
        position[of_class] = np.arange(of_class.sum())
    return position % 5 == 4


def _check_images(images: dict[str, Images], n_classes: int, height: int | None) -> int:
    check_splits("images", {split: {"pixels": one.shape[-1]} for split, (one, _) in images.items()})
    for split, (intensities, labels) in images.items():
        check_intensities(intensities)
        if len(labels) != len(intensities):
            raise ValueError(f"The split {split!r} has {len(intensities)} images and {len(labels)} labels.")
        check_all_classes(split, labels, n_classes=n_classes)
    n_pixels = images["train"][0].shape[1]
    if n_pixels % (height or 1):
        raise ValueError(f"images must have the same pixels in each of {height} rows, got {n_pixels} in all.")
    return n_pixels
