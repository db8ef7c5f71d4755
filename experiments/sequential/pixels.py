"""Images as sequences of one pixel a step, drawn in epochs: each image is seen once before any is seen again."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.samples import Samples
from slax_data import digits
from slax_data.sets.images import stratified_holdout_mask
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays

ORDER_SEED = 92916  # of the permutation that papers on permuted sequential MNIST use, where they name one


class Pixels:
    """The samples of one seed, [T, B, 1] with intensities in [0, 1], the same for all rules, ways of updating and rates."""

    has_common_test = True

    def __init__(self, config: dict[str, Any], splits: dict[str, Samples], seed: int):
        self._config, self._seed, self._train = config, seed, splits["train"]
        self.validation = in_time(*(part[: config["validation_size"]] for part in splits["validation"]))
        self.test = in_time(*(part[: config["test_size"]] for part in splits["test"]))

    def batches(self) -> Iterator[Samples]:
        """The batches to train on, in the same order each time."""
        rng, size = np.random.default_rng(self._seed), self._config["batch_size"]
        rows = np.array([], int)
        for _ in range(self._config["steps"]):
            if len(rows) < size:
                rows = rng.permutation(len(self._train[1]))
            yield in_time(*(part[rows[:size]] for part in self._train))
            rows = rows[size:]


def in_time(pixels: np.ndarray, labels: np.ndarray) -> Samples:
    """Pixels [B, T], bytes or intensities, as inputs [T, B, 1], and their labels."""
    intensities = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    return np.ascontiguousarray(intensities.T)[..., None], labels


def splits_of(config: dict[str, Any], path: Path | None) -> dict[str, Samples]:
    """Pixels [D, T] and labels [D] of "train", "validation" and "test": MNIST from a file, or scikit-learn's digits."""
    if path:
        sets = sets_of_arrays(load_arrays(path))
        splits = {name: (np.asarray(one.packed)[..., 0], one.labels) for name, one in sets.items()}
    else:
        train, test = (tuple(map(np.asarray, digits(split=split))) for split in ("train", "test"))
        held = stratified_holdout_mask(train[1])
        splits = {
            "train": (train[0][~held], train[1][~held]),
            "validation": (train[0][held], train[1][held]),
            "test": test,
        }
    order = np.random.RandomState(ORDER_SEED).permutation(config["n_steps"])
    order = order if config["permuted"] else np.arange(config["n_steps"])
    return {name: (pixels[:, order], np.asarray(labels)) for name, (pixels, labels) in splits.items()}


def make_sampler(config: dict[str, Any], path: Path | None) -> Callable[[int], Any]:
    """A function that maps a seed to its samples, each time the same object."""
    splits = splits_of(config, path)
    return cache(lambda seed: Pixels(config, splits, seed))
