"""Laws of firing rates, and what the plots of activity show, read back from the axes."""

import io

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from slax_viz import firing_rates, mean_interval, plot_firing_rates, plot_membranes, plot_raster, style

RNG = np.random.default_rng(0)
SPIKES = (RNG.random((6, 4, 3)) < 0.4).astype(np.float32)
MEMBRANES = np.array([[0.0, 0.5, 1.1, 0.4], [0.2, -0.3, 0.1, 1.5], [0.0, 0.0, 0.0, 0.0]]).T
FIRED = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).T


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def segments(collection):
    return np.array(collection.get_segments()).reshape(-1, 2, 2)


def test_rates_are_the_means_over_the_other_axes():
    rates = firing_rates(jnp.asarray(SPIKES))
    assert rates.layer == pytest.approx(SPIKES.sum() / SPIKES.size)
    np.testing.assert_allclose(rates.units, [SPIKES[..., i].sum() / 24 for i in range(3)])
    np.testing.assert_allclose(rates.steps, [step.sum() / 12 for step in SPIKES])
    assert rates.units.mean() == pytest.approx(rates.layer)
    assert rates.steps.mean() == pytest.approx(rates.layer)


def test_rates_per_second_are_those_per_step_over_its_duration():
    rates = firing_rates(np.ones((10, 1, 2)), dt=1e-3)
    assert rates.layer == pytest.approx(1000)
    np.testing.assert_allclose(rates.steps, 1000)


def test_layers_and_maps_of_features_keep_their_names_and_shapes():
    images = RNG.integers(0, 4, (5, 2, 3, 4, 1))  # counts
    rates = firing_rates({"dense": SPIKES, "conv": images})
    assert list(rates) == ["dense", "conv"]
    assert rates["dense"].layer == firing_rates(SPIKES).layer
    np.testing.assert_allclose(rates["conv"].units, images.mean(axis=(0, 1)))


def test_padding_that_does_not_count_changes_no_rate():
    padded = np.concatenate([SPIKES, np.ones((5, 4, 3))])
    mask = np.broadcast_to(np.arange(11)[:, None] < 6, (11, 4))
    rates, alone = firing_rates(padded, mask=mask, dt=0.5), firing_rates(SPIKES, dt=0.5)
    assert rates.layer == alone.layer
    np.testing.assert_array_equal(rates.units, alone.units)
    np.testing.assert_allclose(rates.steps, [*alone.steps, *[np.nan] * 5])
    maps = {"dense": padded, "conv": padded[..., None] * np.ones(2)}
    assert [one.units.shape for one in firing_rates(maps, mask=jnp.asarray(mask)).values()] == [(3,), (3, 2)]


def test_rates_of_recordings_of_different_length_are_means_over_what_counts():
    lengths = np.array([6, 2, 0, 4])
    rates = firing_rates(SPIKES, mask=np.arange(6)[:, None] < lengths)
    counted = np.concatenate([SPIKES[:length, i] for i, length in enumerate(lengths)])  # [12, N]
    assert rates.layer == pytest.approx(counted.mean())
    np.testing.assert_allclose(rates.units, counted.mean(axis=0))
    np.testing.assert_allclose(rates.steps[[0, 3, 5]], [SPIKES[t][lengths > t].mean() for t in (0, 3, 5)])


@pytest.mark.parametrize(
    ("spikes", "options", "message"),
    [
        (np.ones((3, 2)), {}, r"spikes must have shape \[T, B, N\], time first, got \[3, 2\]"),
        ({"one": np.ones((3, 0, 2))}, {}, r"spikes of one must have shape"),
        (np.full((1, 1, 1), np.nan), {}, "spikes must be finite and not negative"),
        (np.full((1, 1, 1), -1.0), {}, "spikes must be finite and not negative"),
        (SPIKES, {"dt": 0.0}, "dt must be a positive duration, got 0.0"),
        (SPIKES, {"mask": np.ones((4, 6), bool)}, r"mask of spikes must be bool\[6, 4\], .* counts, got bool\[4, 6\]"),
        (
            SPIKES,
            {"mask": np.ones((6, 4))},
            r"bool\[6, 4\], one entry for each step and sample, .* got float64\[6, 4\]",
        ),
        ({"one": SPIKES}, {"mask": np.zeros((6, 4), bool)}, "mask of spikes of one must have a true entry, got none"),
    ],
)
def test_rates_of_unusable_numbers_are_refused(spikes, options, message):
    with pytest.raises(ValueError, match=message):
        firing_rates(spikes, **options)


def test_raster_has_one_mark_per_spike_at_its_step_and_unit(ax):
    assert plot_raster(ax, jnp.asarray(SPIKES[:, 0])) is ax
    (marks,) = ax.collections
    ends = segments(marks)
    steps, units = np.nonzero(SPIKES[:, 0])
    np.testing.assert_array_equal(ends[:, 0, 0], steps)
    np.testing.assert_array_equal(ends[:, 1, 0], steps)
    np.testing.assert_allclose(ends[:, :, 1].mean(axis=1), units)
    assert ax.get_xlim() == (-0.5, 5.5)
    assert ax.get_ylim() == (-0.5, 2.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "unit")


def test_layers_of_a_raster_are_stacked_from_the_bottom_and_named(ax):
    plot_raster(ax, {"first": np.ones((2, 3)), "silent": np.zeros((2, 4)), "last": np.ones((2, 1))})
    rows = [np.unique(segments(marks)[:, :, 1].mean(axis=1)) for marks in ax.collections]
    np.testing.assert_allclose(rows[0], [0, 1, 2])
    assert len(rows[1]) == 0
    np.testing.assert_allclose(rows[2], [7])
    assert [line.get_ydata()[0] for line in ax.lines] == [2.5, 6.5]
    np.testing.assert_allclose(ax.get_yticks(), [1, 4.5, 7])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first\n3 units", "silent\n4 units", "last\n1 unit"]
    colors = {tuple(marks.get_colors()[0]) for marks in (ax.collections[0], ax.collections[2])}
    assert len(colors) == 2


def test_rasterized_marks_make_a_vector_file_small(ax):
    sizes = []
    for rasterized in (False, True):
        ax.clear()
        plot_raster(ax, np.ones((100, 60)), rasterized=rasterized)
        file = io.BytesIO()
        ax.figure.savefig(file, format="svg")
        sizes.append(file.tell())
    assert sizes[1] < sizes[0] / 5


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (np.ones((3, 2, 2)), r"spikes must have shape \[T, N\], of one sample, got \[3, 2, 2\]"),
        ({"a": np.ones((3, 0))}, r"spikes of a must have shape"),
        (np.full((3, 2), 2), "spikes must be 0 or 1"),
        ({"a": np.full((3, 2), np.nan)}, "spikes of a must be 0 or 1"),
        ({"a": np.ones((3, 2)), "b": np.ones((4, 2))}, "the same steps, got {'a': 3, 'b': 4}"),
        ({}, "expected 1 to 8 layers, which can still be told apart, got 0"),
        ({str(i): np.ones((1, 1)) for i in range(9)}, "got 9. Draw more on several axes"),
    ],
)
def test_raster_of_unusable_spikes_is_refused(ax, spikes, message):
    with pytest.raises(ValueError, match=message):
        plot_raster(ax, spikes)


def test_membranes_are_in_lanes_of_one_scale(ax):
    assert plot_membranes(ax, jnp.asarray(MEMBRANES), threshold=1.0, spikes=FIRED) is ax
    lanes = ax.get_yticks()
    by_color = [line for line in ax.lines if len(line.get_xdata()) == 4]
    curves, levels = by_color[::2], by_color[1::2]
    for unit, (curve, level, lane) in enumerate(zip(curves, levels, lanes, strict=True)):
        np.testing.assert_allclose(curve.get_ydata() - lane, MEMBRANES[:, unit], atol=1e-6)
        np.testing.assert_allclose(level.get_ydata() - lane, 1.0, atol=1e-6)
    assert np.ptp(np.diff(lanes)) < 1e-9
    assert [label.get_text() for label in ax.get_yticklabels()] == ["unit 0", "unit 1", "unit 2"]


def test_lanes_do_not_overlap_with_marks_of_spikes_between_them(ax):
    plot_membranes(ax, np.tile([[-1.0], [2.0]], 3), spikes=np.tile([[0], [1]], 3))
    curves = [line.get_ydata() for line in ax.lines if line.get_marker() != "|" and len(line.get_xdata()) == 2]
    marks = [line for line in ax.lines if line.get_marker() == "|"]
    assert [list(mark.get_xdata()) for mark in marks] == [[1]] * 3
    for mark, above in zip(marks[:2], curves[1:3], strict=True):
        assert mark.get_ydata()[0] < above.min()


def test_labels_of_membranes_are_in_the_legend_once(ax):
    plot_membranes(ax, MEMBRANES, threshold=np.ones((4, 3)), spikes=FIRED, units=["a", "b", "c"])
    assert ax.get_legend_handles_labels()[1] == ["membrane", "threshold", "spike"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(("scale", "text"), [(1.0, "0.5"), (10.0, "5"), (2.5, "1"), (1e-3, "0.0005")])
def test_bar_of_the_scale_has_the_length_that_it_says(ax, scale, text):
    plot_membranes(ax, MEMBRANES * scale)
    (bar,) = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [annotation.get_text() for annotation in ax.texts] == [text]
    assert np.ptp(bar.get_ydata()) == pytest.approx(float(text))
    assert bar.get_xdata()[0] > 3


def test_resting_membranes_can_be_drawn(ax):
    plot_membranes(ax, np.zeros((3, 2)), spikes=np.zeros((3, 2)))
    assert len(set(ax.get_yticks())) == 2


@pytest.mark.parametrize(
    ("membranes", "options", "message"),
    [
        (np.zeros(3), {}, r"membranes must have shape \[T, N\], of one sample, got \[3\]"),
        (np.zeros((3, 0)), {}, r"membranes must have shape \[T, N\]"),
        (
            np.zeros((3, 2)),
            {"threshold": np.ones(2)},
            r"threshold must have shape \[3, 2\], as the membranes have, got \[2\]",
        ),
        (np.zeros((3, 2)), {"spikes": np.zeros((2, 3))}, r"spikes must have shape \[3, 2\]"),
        (np.zeros((3, 2)), {"spikes": np.full((3, 2), 0.5)}, "spikes must be 0 or 1"),
        (np.full((3, 2), np.nan), {}, "membranes must be finite"),
        (np.zeros((3, 2)), {"units": ["a"]}, "one label for each of 2 units, got 1"),
    ],
)
def test_unusable_membranes_are_refused(ax, membranes, options, message):
    with pytest.raises(ValueError, match=message):
        plot_membranes(ax, membranes, **options)


def test_rates_over_training_are_means_over_seeds_with_their_interval(ax):
    seeds = RNG.random((5, 3))
    assert plot_firing_rates(ax, [0, 10, 30], {"one": [0.1, 0.2, 0.3], "many": jnp.asarray(seeds)}) is ax
    one, many = ax.lines
    np.testing.assert_allclose(one.get_xydata(), [[0, 0.1], [10, 0.2], [30, 0.3]])
    np.testing.assert_allclose(many.get_ydata(), seeds.mean(axis=0), rtol=1e-6)
    assert one.get_color() != many.get_color()
    assert one.get_linestyle() != many.get_linestyle()
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    _, low, high = mean_interval(seeds)
    for x, bottom, top in zip([0, 10, 30], low, high, strict=True):
        ys = corners[corners[:, 0] == x, 1]
        np.testing.assert_allclose([ys.min(), ys.max()], [bottom, top], rtol=1e-6)
    assert ax.get_ylim()[0] == 0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "many"]


@pytest.mark.parametrize(
    ("steps", "rates", "message"),
    [
        ([0, 1], {}, "expected 1 to 8 layers"),
        ([0, 1], {"a": [0.1]}, r"rates of a must be \[2\] or \[seeds, 2\], one for each of `steps`, got \[1\]"),
        ([0, 1], {"a": np.ones((1, 1, 2))}, r"got \[1, 1, 2\]"),
        ([0, 1], {"a": [0.1, -0.1]}, "rates of a must be finite and not negative"),
        ([0, 0], {"a": [0.1, 0.1]}, r"steps must be \[K\], increasing"),
        ([], {"a": []}, r"steps must be \[K\], increasing"),
    ],
)
def test_unusable_rates_are_refused(ax, steps, rates, message):
    with pytest.raises(ValueError, match=message):
        plot_firing_rates(ax, steps, rates)
