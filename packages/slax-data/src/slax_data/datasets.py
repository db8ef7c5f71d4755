"""The table of data sets. A new data set needs a file that makes a `Task`, and a line here."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import PRNGKeyArray

from slax_data.checks import check_choice
from slax_data.sets.chorales import bach_task
from slax_data.sets.digits import digits_task, mnist_5k_task
from slax_data.sets.heidelberg import shd_task, ssc_task
from slax_data.sets.idx_images import fashion_mnist_task, mnist_task
from slax_data.sets.japanese_vowels import japanese_vowels_task
from slax_data.sets.laser import laser_task
from slax_data.sets.randman import randman_task
from slax_data.sets.spoken_digits import spoken_digits_task
from slax_data.sets.spoken_digits_mfcc import spoken_digits_mfcc_task
from slax_data.task import Task

# Each makes a Task that its key determines. All take `n_steps` and `code`; further options differ.
DATASETS: dict[str, Callable[..., Task]] = {
    "bach": bach_task,
    "digits": digits_task,
    "fashion_mnist": fashion_mnist_task,
    "japanese_vowels": japanese_vowels_task,
    "laser": laser_task,
    "mnist": mnist_task,
    "mnist_5k": mnist_5k_task,
    "randman": randman_task,
    "shd": shd_task,
    "spoken_digits": spoken_digits_task,
    "spoken_digits_mfcc": spoken_digits_mfcc_task,
    "ssc": ssc_task,
}
"""The functions that make a `Task`, by the names that `make_task` takes."""


def make_task(name: str, /, key: PRNGKeyArray, **options: Any) -> Task:
    """Make the `Task` of a data set from its name, as given in a configuration file.

    Args:
        name: a name in `DATASETS`.
        key: random key that determines the task: the same key and options give the same task.
        options: options of `DATASETS[name]`, such as `n_steps=20, code="time"`.

    Raises:
        ValueError: an unknown name or option, or a value that the data set rejects.

    Example:
        >>> import jax
        >>> from slax_data import make_task
        >>> task = make_task("digits", jax.random.key(0), n_steps=20, code="latency")
        >>> spikes, labels = task.sample(jax.random.key(1), batch_size=32)
        >>> spikes.shape, labels.shape
        ((20, 32, 64), (32,))
        >>> spikes, labels = task.full_split("test")
        >>> spikes.shape, labels.shape
        ((20, 355, 64), (355,))
    """
    check_choice("data set", name, DATASETS)
    known = [option for option in inspect.signature(DATASETS[name]).parameters if option != "key"]
    for option in options:
        check_choice(f"option of data set {name!r}", option, known)
    return DATASETS[name](key, **options)
