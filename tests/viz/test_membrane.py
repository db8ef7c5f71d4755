"""What the plot of a membrane shows, read back from the axes."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from slax_viz import plot_membrane, style

MEMBRANE = np.array([0.0, 0.5, 1.1, 0.4, 1.3, -0.2])
SPIKES = np.array([0, 0, 1, 0, 1, 0])


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def lines_of(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_lines_are_the_numbers_over_the_steps(ax):
    raised = np.linspace(1, 1.2, 6)
    assert plot_membrane(ax, jnp.asarray(MEMBRANE), threshold=raised, spikes=SPIKES) is ax
    lines = lines_of(ax)
    assert set(lines) == {"membrane", "threshold", "spike"}
    np.testing.assert_allclose(lines["membrane"], np.stack([np.arange(6), MEMBRANE], axis=1), rtol=1e-6)
    np.testing.assert_allclose(lines["threshold"][:, 1], raised)


def test_threshold_that_is_a_number_is_there_at_every_step(ax):
    plot_membrane(ax, MEMBRANE, threshold=1.0)
    np.testing.assert_array_equal(lines_of(ax)["threshold"], np.stack([np.arange(6), np.ones(6)], axis=1))


def test_each_spike_has_a_mark_above_all_curves(ax):
    plot_membrane(ax, MEMBRANE, threshold=np.full(6, 2.0), spikes=SPIKES)
    marks = lines_of(ax)["spike"]
    np.testing.assert_array_equal(marks[:, 0], [2, 4])
    assert np.all(marks[:, 1] > 2.0)
    assert np.all(marks[:, 1] < ax.get_ylim()[1])


def test_what_is_not_given_is_not_drawn(ax):
    plot_membrane(ax, MEMBRANE)
    assert set(lines_of(ax)) == {"membrane"}


def test_silent_and_constant_membrane_can_be_drawn(ax):
    plot_membrane(ax, np.zeros(3), spikes=np.zeros(3))
    assert len(lines_of(ax)["spike"]) == 0


@pytest.mark.parametrize(
    ("membrane", "options", "message"),
    [
        (np.zeros((3, 2)), {}, r"membrane must have shape \[T\], of one neuron, got \[3, 2\]"),
        (np.zeros(0), {}, r"membrane must have shape \[T\]"),
        (np.zeros(3), {"threshold": np.ones(2)}, r"threshold must have shape \[3\], as the membrane has, got \[2\]"),
        (np.zeros(3), {"spikes": np.zeros(4)}, r"spikes must have shape \[3\]"),
        (np.zeros(3), {"spikes": np.full(3, 0.5)}, "spikes must be 0 or 1"),
        (np.array([0, np.nan]), {}, "membrane must be finite"),
        (np.zeros(3), {"threshold": np.inf}, "threshold must be finite"),
    ],
)
def test_unusable_numbers_are_refused(ax, membrane, options, message):
    with pytest.raises(ValueError, match=message):
        plot_membrane(ax, membrane, **options)
