"""Times of compiled programs that take turns."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def least_times(calls: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """The least time of each call in milliseconds, in rounds in which all take turns."""
    times = {key: np.inf for key in calls}
    for repeat in range(repeats + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:  # the first call compiles
                times[key] = min(times[key], 1e3 * (time.perf_counter() - start))
    return times
