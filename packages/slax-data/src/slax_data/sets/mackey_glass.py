"""The Mackey-Glass task: to forecast a chaotic series, the solution of a delay differential equation.

It is integrated here, so there is nothing to download.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from slax_data.checks import check_size

POINTS_PER_LYAPUNOV_TIME = 75
STEPS_PER_DELAY = 500  # of the solver
BETA, GAMMA, EXPONENT = 0.2, 0.1, 10.0  # of the equation
# NeuroBench's series of tau = 17: its history, and its Lyapunov time, over which errors grow by a factor e.
HISTORY, LYAPUNOV_TIME = 0.7206597, 197


def mackey_glass(
    n_points: int,
    *,
    tau: float | int = 17.0,
    history: float | int = HISTORY,
    interval: float | int = LYAPUNOV_TIME / POINTS_PER_LYAPUNOV_TIME,
    start: float | int | None = None,
) -> Float64[np.ndarray, " T"]:
    """Solve the Mackey-Glass equation from a constant history, and sample the solution at regular times.

        dx/dt = (0.2 x(t - tau)) / (1 + x(t - tau)^10) - 0.1 x(t)    # x is `history` until time 0

    The method is the classical Runge-Kutta method of order 4 in float64, with steps that divide the delay: the kinks of the
    solution, at multiples of tau, then lie between steps, and delayed values are known at steps or, from a cubic in value and
    slope, halfway between them. Points of the series come from the same cubic. The error shrinks with the fourth power of the
    step, and grows over time as any error does in a chaotic system. Over five Lyapunov times the default series is within 3e-8
    of jitcdde's.

    Args:
        n_points: points T, at least 1.
        tau: delay, > 0.
        history: x until time 0, >= 0.
        interval: time between two points, > 0. By default 75 points are one Lyapunov time of tau=17, and the series, with
            its history, is that of NeuroBench.
        start: time of the first point, >= 0; tau by default, as in NeuroBench's files.

    Returns:
        x at start, start + interval, ...

    Raises:
        ValueError: a number out of range.

    References:
        M. C. Mackey, L. Glass, "Oscillation and chaos in physiological control systems", Science 197, 1977,
        doi:10.1126/science.267326. J. Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms
        and systems", 2025, doi:10.1038/s41467-025-56739-4, for the forecasting task.

    Example:
        >>> from slax_data import mackey_glass
        >>> series = mackey_glass(75)
        >>> series.shape
        (75,)
        >>> series[:3].round(3)
        array([1.267, 1.303, 1.282])
    """
    start = tau if start is None else start
    check_size("n_points", n_points)
    if not (min(tau, interval) > 0 and min(history, start) >= 0):
        got = f"tau={tau}, interval={interval}, history={history} and start={start}"
        raise ValueError(f"mackey_glass got {got}, expected numbers > 0, and history and start >= 0.")
    step = tau / STEPS_PER_DELAY
    times = start + interval * np.arange(n_points)
    n_steps = int(times[-1] / step) + 1
    x, slope = _solved(n_steps, step, history)
    index = np.minimum((times / step).astype(int), n_steps - 1)
    part = times / step - index
    return _cubic(part, step, x[index], slope[index], x[index + 1], slope[index + 1])


def _produced(delayed: float) -> float:
    return BETA * delayed / (1 + delayed**EXPONENT)


def _solved(n_steps: int, step: float, history: float) -> tuple[Float64[np.ndarray, " S"], Float64[np.ndarray, " S"]]:
    """The solution and its slope at the times 0, step, 2 step, ...."""
    past = _produced(history)
    x, slope = [float(history)], [past - GAMMA * history]

    def source(n: int, part: float) -> float:
        """What is produced at a fraction of step n after the history."""
        return past if n < 0 else _produced(_cubic(part, step, x[n], slope[n], x[n + 1], slope[n + 1]))

    for now in range(n_steps):
        begin, middle, end = (source(now - STEPS_PER_DELAY, part) for part in (0.0, 0.5, 1.0))
        first = begin - GAMMA * x[now]
        second = middle - GAMMA * (x[now] + step / 2 * first)
        third = middle - GAMMA * (x[now] + step / 2 * second)
        fourth = end - GAMMA * (x[now] + step * third)
        x.append(x[now] + step / 6 * (first + 2 * second + 2 * third + fourth))
        slope.append(end - GAMMA * x[now + 1])
    return np.array(x), np.array(slope)


def _cubic(part: Any, step: float, left: Any, slope_left: Any, right: Any, slope_right: Any) -> Any:
    """The cubic with these values and slopes at the ends of a step, evaluated at the fraction `part` of the step, in [0, 1]."""
    rest = 1 - part
    values = rest**2 * (1 + 2 * part) * left + part**2 * (1 + 2 * rest) * right
    return values + step * part * rest * (rest * slope_left - part * slope_right)
