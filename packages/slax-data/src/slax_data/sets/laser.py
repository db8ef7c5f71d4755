"""The Santa Fe laser, a measured chaotic series: to predict its next value."""

import jax
import numpy as np
from jaxtyping import Float64, PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.extras import import_extra
from slax_data.loading.batching import time_first
from slax_data.sets.mackey_glass import mackey_glass_windows
from slax_data.task import SPLITS, Task, stored_task


def laser() -> Float64[np.ndarray, " P"]:
    """The intensity of a far-infrared laser in a chaotic state: 10,093 integers from 0 to 255, as reservoirpy has them.

    Its pulses grow and collapse, at intervals that are hard to predict. The first 1,000 points are series A of the Santa Fe
    competition, the others its continuation.

    Raises:
        ImportError: reservoirpy is missing.

    References:
        U. Huebner, N. B. Abraham, C. O. Weiss, "Dimensions and entropies of chaotic intensity pulsations in a single-mode
        far-infrared NH3 laser", 1989, doi:10.1103/PhysRevA.40.6354. reservoirpy, MIT license, has it from J. McNames.

    Example:
        Where reservoirpy is installed, `laser()` begins with 86, 141, 95, and `mackey_glass_windows(laser(), n_steps=100)` has
        50 sequences.
    """
    return np.asarray(import_extra("reservoirpy.datasets", extra="laser").santafe_laser(), float).reshape(-1)


def laser_task(
    key: PRNGKeyArray, *, n_steps: int = 100, code: str = "value", horizon: int = 1, stride: int | None = None
) -> Task:
    """The laser as a `Task`: at each step, the next value is to be predicted from one input, the present value.

    Sequences come from the first half of the series for training, from the second for testing (`mackey_glass_windows`). Inputs
    and targets are in units of the training inputs: their mean is 0, their standard deviation 1.

    Args:
        key: not used; nothing is drawn.
        n_steps: T.
        code: "value", a real number.
        horizon, stride: how many points ahead the target is, and points between two sequences; see `mackey_glass_windows`.

    Returns:
        A task with batches (inputs [T, B, 1], targets [T, B, 1]).

    Raises:
        ImportError: reservoirpy is missing.
        ValueError: an unknown code, a size below 1, or sequences longer than half of the series.

    Example:
        Where reservoirpy is installed, `laser_task(key)` has 50 sequences of 100 steps in each split. Codes are checked first:
        >>> import jax
        >>> from slax_data import laser_task
        >>> laser_task(jax.random.key(0), code="delta")
        Traceback (most recent call last):
            ...
        ValueError: code got 'delta', expected one of: 'value'.
    """
    check_choice("code", code, ["value"])
    check_size("n_steps", n_steps)
    series, windows = laser(), {}
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        for split in SPLITS:
            pair = mackey_glass_windows(series, n_steps=n_steps, split=split, horizon=horizon, stride=stride)
            windows[split] = [np.asarray(time_first(part)) for part in pair]
    mean, deviation = windows["train"][0].mean(), windows["train"][0].std()
    scaled = {split: tuple((part - mean) / deviation for part in pair) for split, pair in windows.items()}
    return stored_task(scaled, per_step=True)
