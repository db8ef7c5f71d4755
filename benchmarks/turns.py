"""Times of compiled programs that take turns."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

LEAST = 3  # rounds, also if they take longer than asked for


def times_of(calls: dict[Any, Callable[[], Any]], repeats: int, seconds: float = math.inf) -> dict[Any, list[float]]:
    """The times of each call in milliseconds, in rounds in which all take turns, until these have taken so many seconds."""
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for repeat in range(repeats + 1):
        if repeat == 1:  # the round before compiles
            end = time.perf_counter() + seconds
        elif repeat > LEAST and time.perf_counter() > end:
            break
        for key, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:
                times[key].append(1e3 * (time.perf_counter() - start))
    return times


def least_times(calls: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """The least time of each call in milliseconds, in rounds in which all take turns."""
    return {key: min(times) for key, times in times_of(calls, repeats).items()}
