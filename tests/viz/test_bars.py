"""What the bar plot shows, read back from the axes."""

import io

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.container import ErrorbarContainer

from slax_viz import PNG_METADATA, SVG_METADATA, mean_interval, plot_cosine_similarity, style


def example(n_rules=3, n_layers=3, n_seeds=5):
    rng = np.random.default_rng(0)
    means = rng.uniform(-0.2, 0.95, size=(n_rules, 1, n_layers))
    values = means + 0.05 * rng.normal(size=(n_rules, n_seeds, n_layers))
    return {f"rule {i}": value for i, value in enumerate(values)}


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def bars_of(ax):
    return [container for container in ax.containers if not isinstance(container, ErrorbarContainer)]


def error_bars_of(ax):
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def overlap(a, b):
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def test_bars_are_as_high_as_the_means(ax):
    table = example()
    assert plot_cosine_similarity(ax, table) is ax
    for container, (rule, cosines) in zip(bars_of(ax), table.items(), strict=True):
        assert container.get_label() == rule
        np.testing.assert_allclose([bar.get_height() for bar in container], cosines.mean(axis=0))


def test_error_bars_are_the_intervals(ax):
    table = example()
    plot_cosine_similarity(ax, table, level=0.8)
    for container, cosines in zip(error_bars_of(ax), table.values(), strict=True):
        segments = np.array(container.lines[2][0].get_segments())
        _, low, high = mean_interval(cosines, level=0.8)
        np.testing.assert_allclose(segments[:, 0, 1], low)
        np.testing.assert_allclose(segments[:, 1, 1], high)


def test_dots_are_the_seeds_and_stand_within_their_bar(ax):
    table = example()
    plot_cosine_similarity(ax, table)
    for dots, bars, cosines in zip(ax.collections[::2], bars_of(ax), table.values(), strict=True):
        x, y = np.asarray(dots.get_offsets()).reshape(*cosines.shape, 2).transpose(2, 0, 1)
        np.testing.assert_allclose(y, cosines)
        for layer, bar in enumerate(bars):
            assert np.all((x[:, layer] > bar.get_x()) & (x[:, layer] < bar.get_x() + bar.get_width()))


def test_bars_of_a_layer_stand_side_by_side_around_its_label(ax):
    plot_cosine_similarity(ax, example(4), layers=["a", "b", "c"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    edges = np.array([[(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars] for bars in bars_of(ax)])
    np.testing.assert_allclose(edges[1:, :, 0], edges[:-1, :, 1], atol=1e-12)
    np.testing.assert_allclose((edges[0, :, 0] + edges[-1, :, 1]) / 2, ax.get_xticks(), atol=1e-12)
    assert np.all(edges[-1, :-1, 1] < edges[0, 1:, 0])


def test_axes_say_what_is_shown(ax):
    plot_cosine_similarity(ax, example())
    assert ax.get_ylabel() == "cosine similarity to BPTT"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["layer 1", "layer 2", "layer 3"]
    assert {0.0, 1.0} <= {line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1}


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.3])
def test_everything_lies_within_the_axes(ax, shift):
    table = {rule: np.clip(cosines + shift, -1, 1) for rule, cosines in example(n_seeds=3).items()}
    plot_cosine_similarity(ax, table)
    bottom, top = ax.get_ylim()
    assert bottom <= 0 and top > 1
    for cosines in table.values():
        _, low, high = mean_interval(cosines, bounds=(-1.0, 1.0))
        assert bottom < min(low.min(), cosines.min()) or bottom == 0
        assert top > max(high.max(), cosines.max())


def test_bottom_is_zero_without_negative_values(ax):
    plot_cosine_similarity(ax, {"rule": np.full((3, 2), 0.5)})
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize("n_rules", [1, 3, 8])
def test_legend_covers_neither_bars_nor_labels(ax, n_rules):
    plot_cosine_similarity(ax, example(n_rules))
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(example(n_rules))
    others = [bar for bars in bars_of(ax) for bar in bars] + ax.get_xticklabels() + [ax.yaxis.label, *ax.lines]
    assert not any(overlap(legend, artist.get_window_extent()) for artist in others)
    assert ax.figure.bbox.containsx(legend.x0) and ax.figure.bbox.containsx(legend.x1)
    assert ax.figure.bbox.containsy(legend.y1)


def test_shared_axes_hold_what_is_in_each():
    with style():
        figure, axes = plt.subplots(1, 2, sharey=True)
        plot_cosine_similarity(axes[0], {"rule": np.array([[-0.8, 0.5], [-0.6, 0.5]])}, legend=False)
        plot_cosine_similarity(axes[1], {"rule": np.full((2, 2), 0.9)}, legend=False)
        assert axes[0].get_ylim() == axes[1].get_ylim()
        assert axes[0].get_ylim()[0] < -0.99
        plt.close(figure)


def test_one_legend_can_serve_several_axes():
    with style():
        figure, axes = plt.subplots(1, 2, sharey=True)
        for ax in axes:
            plot_cosine_similarity(ax, example(), legend=False)
            ax.set_title("a title")
            assert ax.get_legend() is None
        legend = figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        figure.canvas.draw()
        assert not any(overlap(legend.get_window_extent(), ax.title.get_window_extent()) for ax in axes)
        plt.close(figure)


def test_rules_differ_in_color_and_in_hatch(ax):
    plot_cosine_similarity(ax, example(8))
    first_bars = [bars[0] for bars in bars_of(ax)]
    assert len({bar.get_facecolor() for bar in first_bars}) == 8
    assert len({bar.get_hatch() for bar in first_bars}) == 8


def test_a_rule_can_have_its_own_look_and_then_there_can_be_more_of_them(ax):
    table = example(3) | {f"more {i}": np.full((2, 3), 0.5) for i in range(8)}
    own = {name: f"#{16 * i:02x}0000" for i, name in enumerate(table) if name.startswith("more")}
    plot_cosine_similarity(ax, table, colors=own, hatches={"more 0": "//"}, legend=False)
    bars = dict(zip(table, (bars[0] for bars in bars_of(ax)), strict=True))
    assert all(matplotlib.colors.to_hex(bars[name].get_facecolor()) == color for name, color in own.items())
    assert bars["more 0"].get_hatch() == "//"


def test_one_seed_has_a_bar_and_no_interval(ax):
    plot_cosine_similarity(ax, {"rule": jnp.array([[0.25, 0.5]])})
    assert [bar.get_height() for bar in bars_of(ax)[0]] == [0.25, 0.5]
    assert error_bars_of(ax) == []


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({}, {}, "expected at least one rule"),
        ({str(i): np.ones((2, 2)) for i in range(9)}, {}, "got 9"),
        ({"a": np.ones(3)}, {}, r"got shapes {'a': \(3,\)}"),
        ({"a": np.ones((2, 3)), "b": np.ones((2, 2))}, {}, "same layers for each rule"),
        ({"a": np.ones((0, 3))}, {}, r"got shapes {'a': \(0, 3\)}"),
        ({"a": np.ones((2, 3)), "b": np.full((2, 3), np.nan)}, {}, r"infinite ones for \['b'\]"),
        ({"a": np.ones((2, 3))}, {"layers": ["x"]}, "one label for each of 3 layers, got 1"),
    ],
)
def test_unusable_tables_are_refused(ax, table, options, message):
    with pytest.raises(ValueError, match=message):
        plot_cosine_similarity(ax, table, **options)


def rendered(format, metadata):
    with style():
        figure, ax = plt.subplots()
        plot_cosine_similarity(ax, example(8))
        buffer = io.BytesIO()
        figure.savefig(buffer, format=format, metadata=metadata)
        plt.close(figure)
    return buffer.getvalue()


@pytest.mark.parametrize(("format", "metadata"), [("svg", SVG_METADATA), ("png", PNG_METADATA)])
def test_the_same_numbers_give_the_same_bytes(format, metadata):
    first = rendered(format, metadata)
    # Neither the user's settings nor what was drawn before may show.
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        assert rendered(format, metadata) == first
    assert matplotlib.__version__.encode() not in first
    assert b"dc:date" not in first


def test_text_in_an_svg_needs_no_fonts():
    assert b"<text" not in rendered("svg", SVG_METADATA)


def test_style_restores_the_settings_before():
    with matplotlib.rc_context({"font.size": 33, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        with style():
            assert matplotlib.rcParams["svg.hashsalt"] == "slax"
            assert matplotlib.rcParams["backend"] == before["backend"]
        assert dict(matplotlib.rcParams) == before
        with pytest.raises(RuntimeError), style():
            raise RuntimeError
        assert dict(matplotlib.rcParams) == before
