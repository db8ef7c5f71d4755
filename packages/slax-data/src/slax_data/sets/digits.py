"""The digits that ship with scikit-learn: 1,797 scanned images of 8 x 8 pixels, real data that needs no download."""

from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from slax_data.checks import check_choice
from slax_data.extras import import_extra
from slax_data.sets.images import check_image_code, image_task, stratified_split
from slax_data.task import SPLITS, Task

N_CLASSES = 10


def digits(*, split: str = "train") -> tuple[Float32[Array, "B 64"], Int32[Array, " B"]]:
    """Load the images of one split.

    Every fifth image of each class, in file order, belongs to the test split: 355 images, with 1,442 left for training. The
    file is ordered by writer, so both splits contain digits of all 13 writers.

    Args:
        split: "train" or "test".

    Returns:
        Intensities of shape [B, 64], in [0, 1], in sixteenths, and labels of shape [B], in 0..9.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: an unknown split.

    References:
        E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998,
        doi:10.24432/C50P49, of which scikit-learn includes the part that UCI calls the test set.

    Example:
        >>> from slax_data import digits
        >>> images, labels = digits(split="train")
        >>> images.shape, labels[:10]
        ((1442, 64), Array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], dtype=int32))
    """
    check_choice("split", split, SPLITS)
    pixels, labels = import_extra("sklearn.datasets", extra="digits").load_digits(return_X_y=True)
    return stratified_split(pixels / 16, labels, split)


def digits_task(key: PRNGKeyArray, *, n_steps: int = 50, code: str = "latency") -> Task:
    """Digits as a `Task`, one unit per pixel.

    Args:
        key: random key for the spikes of an entire split, in a code that draws them; the other codes do not use it.
        n_steps: time steps T, as the code allows: at least 2 for "latency".
        code: a name in `ENCODERS`, such as "latency" or "rate" (redrawn for each batch).

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: an unknown code, or too few steps.

    Example:
        >>> import jax
        >>> from slax_data import digits_task
        >>> task = digits_task(jax.random.key(0), n_steps=20, code="rate")
        >>> spikes, labels = task.sample(jax.random.key(1), batch_size=32)
        >>> spikes.shape
        (20, 32, 64)
    """
    check_image_code(code, n_steps)
    images = {split: digits(split=split) for split in SPLITS}
    return image_task(key, images, n_classes=N_CLASSES, n_steps=n_steps, code=code)
