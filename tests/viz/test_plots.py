"""What the plots show, read back from the axes."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

import slax_viz as viz

XS, YS = np.linspace(-2, 3, 6), np.linspace(-1, 2, 4)
LOSSES = 5 + XS + 2 * YS[:, None]  # from 1 to 12
GRID = {"xs": XS, "ys": YS}
PATHS = {"BPTT": np.array([[-1.5, 1.0], [0.0, 0.1]]), "OSTL": np.array([[-1.5, 1.0], [1.0, 1.5], [2.0, 0.5]])}
TABLE = {f"rule {i}": np.random.default_rng(i).uniform(-0.2, 0.9, (5, 3)) for i in range(8)}
TABLE["rule 7"] = np.array([[1.0] * 3] * 4 + [[-0.5] * 3])  # its interval is cut off at 1
MEMBRANES = np.array([[0.0, 0.5, 1.1, 0.4], [0.2, -0.3, 0.1, 1.5], [0.0, 0.0, 0.0, 0.0]]).T


@pytest.fixture
def ax():
    return Figure().add_subplot()


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_bars_have_the_means_their_intervals_and_the_seeds(ax):
    viz.plot_cosine_similarity(ax, TABLE | {"rule 0": TABLE["rule 0"][:1]})
    bars = [container for container in ax.containers if not isinstance(container, ErrorbarContainer)]
    errors = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    np.testing.assert_allclose([one.get_height() for one in bars[0]], TABLE["rule 0"][0])  # of one seed, no interval
    for bar, error, dots, cosines in zip(bars[1:], errors, ax.collections[1::2], list(TABLE.values())[1:], strict=True):
        np.testing.assert_allclose([one.get_height() for one in bar], cosines.mean(axis=0))
        _, low, high = viz.mean_interval(cosines, bounds=(-1.0, 1.0))
        np.testing.assert_allclose(np.array(error.lines[2][0].get_segments())[:, :, 1].T, (low, high))
        np.testing.assert_allclose(np.asarray(dots.get_offsets()).reshape(5, 3, 2)[..., 1], cosines)
    sides = np.array([[(one.get_x(), one.get_x() + one.get_width()) for one in bar] for bar in bars])
    np.testing.assert_allclose(sides[1:, :, 0], sides[:-1, :, 1], atol=1e-12)  # side by side
    np.testing.assert_allclose((sides[0, :, 0] + sides[-1, :, 1]) / 2, ax.get_xticks(), atol=1e-12)


def test_agreement_along_the_training_has_the_defined_numbers_of_each_group():
    """Records of evaluations, and of a gradient that is zero, have no mark."""
    records = [{"step": step, f"cosine/{name}": step / 10, f"norm_ratio/{name}": 2.0, "comparison/share": 0.25}
               for step in (1, 2) for name in "ab"]  # fmt: skip
    axes = viz.plot_agreement(Figure().subplots(3), [*records, {"step": 3, "loss": 1.0, "cosine/a": None}], groups="ab")
    for ax, values in zip(axes, ([0.1, 0.2], [2, 2], [25] * 4), strict=True):
        lines = lines_of(ax)
        assert list(lines) == (["a"] if len(values) == 4 else ["a", "b"])
        for line in lines.values():
            np.testing.assert_allclose(line.get_xydata(), np.transpose([np.repeat([1, 2], len(values) // 2), values]))


def test_landscape_has_the_losses_the_paths_and_their_ends(ax):
    losses = LOSSES.copy()
    losses[0, 5] = np.inf
    viz.plot_landscape(ax, losses, **GRID, trajectories=PATHS, explained=(0.8125, 0.1))
    filled, contours = ax.collections
    steps = np.linspace(1, 12, 17)
    np.testing.assert_allclose(contours.levels, steps, rtol=1e-6)
    np.testing.assert_allclose(filled.norm(steps), np.linspace(0, 1, 17), atol=1e-6)  # the colors
    for level, path in list(zip(contours.levels, contours.get_paths(), strict=True))[1:-1]:
        np.testing.assert_allclose(5 + path.vertices @ [1, 2], level, atol=1e-9)
    lines = lines_of(ax)
    assert list(lines) == ["not finite (1)", "BPTT", "OSTL", "start", "end"]
    np.testing.assert_array_equal(lines["not finite (1)"].get_xydata(), [[XS[5], YS[0]]])
    ends = [line for line in ax.lines if line.get_label() == "_"]
    for (rule, path), first, last in zip(PATHS.items(), ends[::2], ends[1::2], strict=True):
        np.testing.assert_array_equal(lines[rule].get_xydata(), path)
        np.testing.assert_array_equal([*first.get_xydata(), *last.get_xydata()], path[[0, -1]])
        assert first.get_markerfacecolor() == "white" and last.get_markerfacecolor() == lines[rule].get_color()
    assert ax.get_xlabel() == "direction 1 (explains 81.2 %)"


def test_membranes_are_in_lanes_of_one_scale_with_marks_above(ax):
    spikes = (MEMBRANES >= 1).astype(int)
    viz.plot_membranes(ax, MEMBRANES, threshold=1.0, spikes=spikes)
    lanes = ax.get_yticks()
    curves = [line for line in ax.lines if len(line.get_xdata()) == 4]
    marks = [line.get_xydata() for line in ax.lines if line.get_marker() == "|"]
    for unit, (curve, level, lane) in enumerate(zip(curves[::2], curves[1::2], lanes, strict=True)):
        np.testing.assert_allclose(curve.get_ydata() - lane, MEMBRANES[:, unit], atol=1e-12)
        np.testing.assert_allclose(level.get_ydata() - lane, 1.0)
        np.testing.assert_array_equal(marks[unit][:, 0], np.flatnonzero(spikes[:, unit]))
        assert np.all(marks[unit][:, 1] > max(curve.get_ydata().max(), lane + 1))
        assert unit == 2 or np.all(marks[unit][:, 1] < curves[2 * unit + 2].get_ydata().min())
    assert ax.get_legend_handles_labels()[1] == ["membrane", "threshold", "spike"]
    (bar,) = [line for line in ax.lines if line.get_label() == "_scale"]
    assert np.ptp(bar.get_ydata()) == pytest.approx(float(ax.texts[0].get_text())) == 0.5


def test_raster_has_one_mark_per_spike_and_layers_from_the_bottom(ax):
    first = (np.random.default_rng(0).random((6, 3)) < 0.4).astype(int)
    viz.plot_raster(ax, {"first": first, "silent": np.zeros((6, 4)), "": np.ones((6, 1))})
    marks = [np.array(collection.get_segments()).reshape(-1, 2, 2) for collection in ax.collections]
    np.testing.assert_allclose(marks[0].mean(axis=1), np.argwhere(first))
    np.testing.assert_allclose(marks[2].mean(axis=1), [[step, 7] for step in range(6)])
    assert len(marks[1]) == 0 and (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 5.5), (-0.5, 7.5))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first\n3 units", "silent\n4 units", "1 unit"]


@pytest.mark.parametrize(("form", "metadata"), [("svg", viz.SVG_METADATA), ("png", viz.PNG_METADATA)])
def test_the_same_numbers_give_the_same_bytes_whatever_the_users_settings(form, metadata):
    def rendered():
        with viz.style():
            figure, file = Figure(), io.BytesIO()
            viz.plot_cosine_similarity(figure.add_subplot(), TABLE)
            figure.savefig(file, format=form, metadata=metadata)
        return file.getvalue()

    first = rendered()
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert rendered() == first and dict(matplotlib.rcParams) == before
    assert matplotlib.__version__.encode() not in first and b"dc:date" not in first and b"<text" not in first
