"""The Santa Fe laser, a measured chaotic series: to predict its next value."""

import numpy as np
from jaxtyping import Float64, PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.extras import import_extra
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
        Where reservoirpy is installed, `laser()` begins with 86, 141, 95.
    """
    return np.asarray(import_extra("reservoirpy.datasets", extra="laser").santafe_laser(), float).reshape(-1)


def laser_task(key: PRNGKeyArray, *, n_steps: int = 100, code: str = "value") -> Task:
    """The laser as a `Task`: at each step, the next value is to be predicted from one input, the present value.

    Sequences come one after the other from the first half of the series for training, from the second for testing. Inputs and
    targets are in units of the training inputs: their mean is 0, their standard deviation 1.

    Args:
        key: not used; nothing is drawn.
        n_steps: T.
        code: "value", a real number.

    Returns:
        A task with batches (inputs [T, B, 1], targets [T, B, 1]).

    Raises:
        ImportError: reservoirpy is missing.
        ValueError: an unknown code, or sequences of no steps or longer than half of the series.

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
    series = laser().astype(np.float32)
    half = (len(series) - 1) // 2
    places = np.arange(half // n_steps * n_steps).reshape(-1, n_steps, 1)
    pairs = {
        split: (series[start + places], series[start + places + 1])
        for split, start in zip(SPLITS, (0, half), strict=True)
    }
    mean, deviation = pairs["train"][0].mean(), pairs["train"][0].std()
    scaled = {split: tuple((part - mean) / deviation for part in pair) for split, pair in pairs.items()}
    return stored_task(scaled, per_step=True)
