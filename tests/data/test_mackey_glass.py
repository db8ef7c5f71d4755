"""The series solves its equation and is that of another solver; windows and the error are NeuroBench's."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from slax_data.sets.mackey_glass import mackey_glass, mackey_glass_windows, smape

# x at tau + k * 197 / 75 by jitcdde 1.8.3 (doi 10.1063/1.5019320) with numpy 2.4.6, from the constant past 0.7206597, with
# step_on_discontinuities, atol = rtol = 1e-11, max_step = 0.2. It starts at tau, as the series that NeuroBench made with it.
JITCDDE = {1: 1.3034007827224134, 75: 1.2043420656470103, 225: 1.0092707372121783, 375: 0.971133133294008}


def test_series_is_that_of_another_solver():
    """Whose own error is 1e-10 after one Lyapunov time, 75 points, and grows by e in each."""
    series = mackey_glass(376)
    for point, expected in JITCDDE.items():
        assert series[point] == pytest.approx(expected, abs=2e-10 * np.exp(point / 75))


def test_solution_of_the_first_two_delays_is_that_of_the_ordinary_equations():
    """There the delayed value is the history, and then the exponential that follows from it."""
    beta, gamma, tau, exponent, history = 0.2, 0.1, 5.0, 10.0, 0.6
    source = beta * history / (1 + history**exponent)

    def first(t):
        return source / gamma + (history - source / gamma) * np.exp(-gamma * t)

    def slope(t, x):
        return beta * first(t - tau) / (1 + first(t - tau) ** exponent) - gamma * x

    times = np.linspace(0, 2 * tau, 31)
    later = times[times > tau]
    second = solve_ivp(slope, (tau, 2 * tau), [first(tau)], t_eval=later, rtol=1e-12, atol=1e-13).y[0]
    expected = np.concatenate([first(times[times <= tau]), second])
    found = mackey_glass(31, tau=tau, history=history, interval=times[1], start=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("horizon", "stride", "starts"), [(1, None, [0, 4, 8]), (3, 3, [0, 3, 6]), (2, 1, range(9))])
def test_windows_are_cut_within_a_half_with_targets_ahead(horizon, stride, starts):
    for split, first in (("train", 0), ("test", 12)):
        series = np.arange(24.0 + horizon)
        found = mackey_glass_windows(series, n_steps=4, split=split, horizon=horizon, stride=stride)
        expected = first + np.arange(4)[:, None, None] + np.array(starts)[None, :, None]
        np.testing.assert_array_equal(found, (expected, expected + horizon))


def test_error_is_the_mean_of_relative_differences_in_percent_or_the_worst():
    targets = jnp.asarray([1.0, -2.0, 0.5])
    for predictions, percent in (
        (targets, 0),
        (-targets, 200),
        (3 * targets, 100),
        (jnp.asarray([1.5, -3.0, 0.0]), 200 * np.mean([0.5 / 2.5, 1 / 5, 1])),
        (targets.at[0].set(jnp.nan), 200),
        (targets.at[0].set(jnp.inf), 200),
    ):
        assert float(smape(predictions, targets)) == pytest.approx(percent)
