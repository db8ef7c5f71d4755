"""The table of data sets: a new one is a file that makes a `Task`, and a line here."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import PRNGKeyArray

from slax_data.checks import check_choice
from slax_data.digits import digits_task
from slax_data.randman import randman_task
from slax_data.task import Task

# Each makes a Task from a key that fixes it. All take `n_steps` and `code`; the rest is their own.
DATASETS: dict[str, Callable[..., Task]] = {
    "digits": digits_task,
    "randman": randman_task,
}


def make_task(name: str, key: PRNGKeyArray, **options: Any) -> Task:
    """Makes the `Task` of a data set by its name, as a configuration file has it.

    Args:
        name: a name in `DATASETS`.
        key: fixes the task: the same key and options give the same one.
        options: of `DATASETS[name]`, as `n_steps=20, code="time"`.

    Raises:
        ValueError: an unknown name or option, or a value that the data set refuses.
    """
    check_choice("data set", name, DATASETS)
    known = [option for option in inspect.signature(DATASETS[name]).parameters if option != "key"]
    for option in options:
        check_choice(f"option of data set {name!r}", option, known)
    return DATASETS[name](key, **options)
