"""The Mackey-Glass task: to forecast a chaotic series, the solution of a delay differential equation.

It is integrated here, so there is nothing to download.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64

from slax_data.checks import check_choice, check_size
from slax_data.task import SPLITS

POINTS_PER_LYAPUNOV_TIME = 75
STEPS_PER_DELAY = 500  # of the solver
BETA, GAMMA, EXPONENT = 0.2, 0.1, 10.0  # of the equation


class ChaoticSeries(NamedTuple):
    """One of NeuroBench's series: its Lyapunov time, over which errors grow by a factor e, and its constant history."""

    lyapunov_time: int
    history: float

    @property
    def interval(self) -> float:
        """The time between two consecutive points."""
        return self.lyapunov_time / POINTS_PER_LYAPUNOV_TIME


# NeuroBench's 14 series by tau. The values for 17 are the defaults of its class; the others come from the list that
# accompanies its data, obtained secondhand: the files themselves were not available for comparison.
NEUROBENCH_SERIES = {tau: ChaoticSeries(*numbers) for tau, numbers in enumerate([
    (197, 0.7206597), (138, 0.7744313), (315, 0.7783468), (131, 0.9225991), (191, 0.9479431),
    (119, 0.5455960), (106, 0.8622247), (97, 0.3259660), (98, 0.8297825), (104, 1.0033490),
    (112, 0.6491406), (119, 1.0957495), (131, 0.9256179), (139, 0.2713639),
], start=17)}  # fmt: skip


def mackey_glass(
    n_points: int,
    *,
    tau: float | int = 17.0,
    history: float | int = NEUROBENCH_SERIES[17].history,
    interval: float | int = NEUROBENCH_SERIES[17].interval,
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
        interval: time between two points, > 0. By default 75 points are one Lyapunov time of tau=17; for another series of
            NeuroBench, take history and interval from `NEUROBENCH_SERIES[tau]`.
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
    for name, value in (("tau", tau), ("interval", interval)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} got {value!r}, expected a number > 0.")
    for name, value in (("history", history), ("start", start)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} got {value!r}, expected a number >= 0.")
    step = tau / STEPS_PER_DELAY
    times = start + interval * np.arange(n_points)
    n_steps = int(times[-1] / step) + 1
    x, slope = _solved(n_steps, step, history)
    index = np.minimum((times / step).astype(int), n_steps - 1)
    part = times / step - index
    return _cubic(part, step, x[index], slope[index], x[index + 1], slope[index + 1])


def mackey_glass_windows(
    series: Float[np.ndarray, " P"] | Float[Array, " P"],
    *,
    n_steps: int,
    split: str = "train",
    horizon: int = 1,
    stride: int | None = None,
) -> tuple[Float32[Array, "T B 1"], Float32[Array, "T B 1"]]:
    """Cut a series into sequences to learn from; the target of each step is the value `horizon` points later.

    The points that have a target are halved: the first half are the inputs for training, the second half the inputs for
    testing. For horizon=1, these are NeuroBench's windows. The last `horizon` targets of the first half lie in the second.

    Args:
        series: P points.
        n_steps: steps T of a sequence, at least 1.
        split: "train" or "test".
        horizon: how many points ahead the target is, at least 1.
        stride: points between the starts of two sequences; n_steps by default, so that sequences do not overlap.

    Returns:
        Inputs and targets, [T, B, 1], in temporal order.

    Raises:
        ValueError: an unknown split, a size below 1, a series that is not [P], or one too short for one sequence.

    Example:
        >>> import numpy as np
        >>> from slax_data import mackey_glass_windows
        >>> inputs, targets = mackey_glass_windows(np.arange(13.0), n_steps=3, split="train")
        >>> inputs.shape
        (3, 2, 1)
        >>> inputs[:, 0, 0], targets[:, 0, 0]
        (Array([0., 1., 2.], dtype=float32), Array([1., 2., 3.], dtype=float32))
    """
    check_choice("split", split, SPLITS)
    stride = n_steps if stride is None else stride
    for name, size in (("n_steps", n_steps), ("horizon", horizon), ("stride", stride)):
        check_size(name, size)
    if series.ndim != 1:
        raise ValueError(f"Got a series of shape {list(series.shape)}, expected [P]. Take one series at a time.")
    half = (len(series) - horizon) // 2
    if half < n_steps:
        raise ValueError(
            f"Got a series of {len(series)} points, expected at least {2 * n_steps + horizon} for one sequence of "
            f"n_steps={n_steps} in each half and horizon={horizon}. Give a longer series, or cut shorter sequences."
        )
    points = jnp.asarray(series, jnp.float32)
    starts = SPLITS.index(split) * half + np.arange(0, half - n_steps + 1, stride)
    inputs = starts + np.arange(n_steps)[:, None]
    return points[inputs][..., None], points[inputs + horizon][..., None]


def smape(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, ""]:
    """The symmetric mean absolute percentage error, in 0..200, as NeuroBench defines it.

        200 mean(|p - y| / (|p| + |y|))

    Args:
        predictions: p, of any shape.
        targets: y, of the same shape.

    Returns:
        The error in percent; 200, the worst value, if it is not a number, as for p = y = 0.

    Raises:
        ValueError: different shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import smape
        >>> round(float(smape(jnp.array([1.1, 0.9]), jnp.array([1.0, 1.0]))), 1)
        10.0
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"smape got predictions of shape {list(predictions.shape)} for targets of shape {list(targets.shape)}, expected "
            "the same shape."
        )
    error = 200 * jnp.mean(jnp.abs(predictions - targets) / (jnp.abs(predictions) + jnp.abs(targets)))
    return jnp.where(jnp.isnan(error), jnp.full_like(error, 200), error)


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
