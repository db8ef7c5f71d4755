"""The series solves its equation and is that of another solver."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from slax_data.sets.mackey_glass import mackey_glass

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
