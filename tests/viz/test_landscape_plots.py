"""What the plots of landscapes show, read back from the axes."""

import io

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from slax_viz import SVG_METADATA, plot_interpolation, plot_landscape, plot_landscape_3d, style

XS, YS = np.linspace(-2, 3, 6), np.linspace(-1, 2, 4)  # with 0 among them: the lowest loss is 1
LOSSES = 1 + np.square(XS) + 2 * np.square(YS)[:, None]
PATHS = {
    "BPTT": np.array([[-1.5, 1.0], [-0.5, 0.4], [0.0, 0.1]]),
    "OSTL": np.array([[-1.5, 1.0], [1.0, 1.5], [2.0, 0.5]]),
}
TS = np.linspace(-0.5, 1.5, 9)
HILLS = {"BPTT to OSTL": 1 + 2 * TS + 3 * TS * (1 - TS), "BPTT to OTTT": 2 - TS}


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


@pytest.fixture
def space():
    with style():
        figure, ax = plt.subplots(subplot_kw={"projection": "3d"}, figsize=(8, 6))
        yield ax
        plt.close(figure)


def in_space(path):
    return np.column_stack([path, 1 + np.square(path[:, 0]) + 2 * np.square(path[:, 1])])


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def overlap(a, b):
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def bar_of(ax):
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    return bar


@pytest.mark.parametrize("log", [False, True])
def test_contours_span_the_losses_in_equal_differences_or_ratios(ax, log):
    assert plot_landscape(ax, jnp.asarray(LOSSES), xs=XS, ys=YS, log=log, levels=10) is ax
    filled, contours = ax.collections
    steps = np.geomspace(1, 18, 11) if log else np.linspace(1, 18, 11)
    for collection in (filled, contours):
        np.testing.assert_allclose(collection.levels, steps, rtol=1e-6)
    np.testing.assert_allclose(filled.norm(steps), np.linspace(0, 1, 11), atol=1e-6)  # the colors
    assert bar_of(ax).get_ylabel() == "loss"
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 3), (-1, 2))


def test_contours_lie_where_the_losses_are(ax):
    xs, ys = np.linspace(-2, 3, 101), np.linspace(-1, 2, 101)
    plot_landscape(ax, 1 + np.square(xs) + 2 * np.square(ys)[:, None], xs=xs, ys=ys)
    contours = ax.collections[1]
    for level, path in list(zip(contours.levels, contours.get_paths(), strict=True))[2:-2]:
        x, y = path.vertices.T
        np.testing.assert_allclose(1 + x**2 + 2 * y**2, level, atol=0.01)


@pytest.mark.parametrize("log", [False, True])
def test_paths_are_the_coordinates_and_their_ends_are_marked(ax, log):
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, trajectories=PATHS, log=log)
    lines = lines_of(ax)
    assert list(lines) == ["BPTT", "OSTL", "start", "end"]
    ends = [line for line in ax.lines if line.get_label() == "_"]
    for (rule, path), (first, last) in zip(PATHS.items(), zip(ends[::2], ends[1::2], strict=True), strict=True):
        np.testing.assert_array_equal(lines[rule].get_xydata(), path)
        np.testing.assert_array_equal(first.get_xydata(), path[:1])
        np.testing.assert_array_equal(last.get_xydata(), path[-1:])
        assert first.get_markerfacecolor() == "white"
        assert last.get_markerfacecolor() == lines[rule].get_color() == first.get_markeredgecolor()


def test_rules_differ_in_color_and_in_mark_or_dash(ax):
    paths = {f"rule {i}": PATHS["BPTT"] + i / 10 for i in range(8)}
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, trajectories=paths)
    lines = [lines_of(ax)[rule] for rule in paths]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 8
    with style():
        figure, other = plt.subplots()
        plot_interpolation(other, {f"pair {i}": HILLS["BPTT to OTTT"] for i in range(8)}, ts=TS)
        lines = lines_of(other).values()
        assert len({line.get_color() for line in lines}) == 8
        assert len({str(line._unscaled_dash_pattern) for line in lines}) == 8
        plt.close(figure)


def test_a_rule_has_the_color_it_is_given(ax):
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, trajectories=PATHS, colors={"OSTL": "#123456"})
    lines = lines_of(ax)
    assert lines["OSTL"].get_color() == "#123456" and lines["BPTT"].get_color() == "#0072B2"


def test_axes_say_how_much_the_plane_explains(ax):
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, explained=(0.8125, 0.1), label="cross entropy (nats)")
    assert ax.get_xlabel() == "direction 1 (explains 81.2 %)" and ax.get_ylabel() == "direction 2 (explains 10.0 %)"
    assert bar_of(ax).get_ylabel() == "cross entropy (nats)"
    assert ax.get_legend() is None


def test_losses_that_are_not_finite_are_holes_with_crosses_and_counted(ax):
    losses = LOSSES.copy()
    losses[1, 2], losses[3, 4] = np.nan, np.inf
    plot_landscape(ax, losses, xs=XS, ys=YS, log=True)
    np.testing.assert_array_equal(lines_of(ax)["not finite (2)"].get_xydata(), [[XS[2], YS[1]], [XS[4], YS[3]]])
    assert not any(path.contains_point((XS[2], YS[1])) for path in ax.collections[0].get_paths())


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("level", [0.0, 2.5])
def test_a_flat_surface_can_be_drawn(ax, log, level):
    if log and not level:
        with pytest.raises(ValueError, match="above 0, got 0"):
            plot_landscape(ax, np.full((4, 6), level), xs=XS, ys=YS, log=log)
    else:
        plot_landscape(ax, np.full((4, 6), level), xs=XS, ys=YS, log=log)
        assert ax.collections[0].levels[0] < level < ax.collections[0].levels[-1]


def test_a_path_beyond_the_grid_is_in_sight(ax):
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, trajectories={"far": np.array([[0.0, 0.0], [6.0, 1.0]])})
    assert ax.get_xlim()[1] > 6


@pytest.mark.parametrize("n_rules", [1, 8])
def test_nothing_covers_anything(ax, n_rules):
    paths = {f"rule {i}": PATHS["BPTT"] + i / 10 for i in range(n_rules)}
    plot_landscape(ax, LOSSES, xs=XS, ys=YS, trajectories=paths, explained=(0.8, 0.1), log=True)
    ax.figure.canvas.draw()
    bar = bar_of(ax)
    boxes = [ax.get_legend(), ax.xaxis.label, ax.yaxis.label, bar.yaxis.label, bar, ax]
    boxes += [tick for axes in (ax, bar) for tick in axes.get_yticklabels() if axes is ax or tick.get_text()]
    extents = [artist.get_window_extent() for artist in boxes]
    for i, a in enumerate(extents):
        assert a.x0 >= 0 and a.y0 >= 0 and a.x1 <= ax.figure.bbox.x1 and a.y1 <= ax.figure.bbox.y1, boxes[i]
        assert not [boxes[j] for j, b in enumerate(extents) if i != j and overlap(a, b)], boxes[i]


@pytest.mark.parametrize("log", [False, True])
def test_surface_in_space_is_as_high_as_the_losses(space, log):
    paths = {rule: in_space(path) for rule, path in PATHS.items()}
    assert plot_landscape_3d(space, LOSSES, xs=XS, ys=YS, trajectories=paths, log=log, explained=(0.8, 0.1)) is space
    height = np.log10 if log else np.asarray
    (surface,) = space.collections
    corners = np.asarray(surface._faces).reshape(-1, 3)
    expected = {(x, y): height(LOSSES[j, i]) for i, x in enumerate(XS) for j, y in enumerate(YS)}
    assert len(corners) == 5 * 3 * 4
    for x, y, z in corners:
        nearest = min(expected, key=lambda point, x=x, y=y: abs(point[0] - x) + abs(point[1] - y))
        np.testing.assert_allclose([x, y, z], [*nearest, expected[nearest]], atol=1e-6)
    for rule, path in paths.items():
        np.testing.assert_allclose(lines_of(space)[rule].get_data_3d(), [path[:, 0], path[:, 1], height(path[:, 2])])
    assert space.get_zlabel() == ("log10 of loss" if log else "loss")
    assert space.get_xlabel() == "direction 1 (explains 80.0 %)"
    assert [text.get_text() for text in space.get_legend().get_texts()] == ["BPTT", "OSTL", "start", "end"]


def test_surface_in_space_has_holes(space):
    losses = LOSSES.copy()
    losses[0, 0], losses[3, 5] = np.nan, np.inf
    plot_landscape_3d(space, losses, xs=XS, ys=YS)
    space.figure.canvas.draw()
    surface = space.collections[0]
    vertices = surface._faces[~surface._invalid_vertices]  # without what pads triangles
    corners = {(round(x), round(y)) for x, y, _ in vertices}
    assert corners == {(round(x), round(y)) for x in XS for y in YS} - {(-2, -1), (3, 2)}


def test_line_between_solutions_has_what_lies_straight_between_and_its_barrier(ax):
    assert plot_interpolation(ax, HILLS, ts=TS, ends=("BPTT", "the other")) is ax
    lines = lines_of(ax)
    assert list(lines) == ["BPTT to OSTL, barrier 0.75", "BPTT to OTTT, barrier 0"]
    np.testing.assert_allclose(
        lines["BPTT to OSTL, barrier 0.75"].get_xydata(), np.stack([TS, HILLS["BPTT to OSTL"]], axis=1)
    )
    straight = [line for line in ax.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(straight[0].get_ydata(), np.linspace(1, 3, 51))
    assert ax.get_xlabel() == "t, from BPTT (0) to the other (1)"
    ax.figure.canvas.draw()
    assert not overlap(ax.get_legend().get_window_extent(), ax.get_window_extent())


def test_line_between_solutions_has_gaps_and_a_logarithmic_axis(ax):
    losses = np.where(TS == 0.5, np.inf, HILLS["BPTT to OTTT"])
    plot_interpolation(ax, {"pair": losses}, ts=TS, log=True, legend=False)
    (line,) = lines_of(ax).values()
    assert line.get_label() == "pair, barrier inf" and np.isnan(line.get_ydata()[4])
    assert ax.get_yscale() == "log" and ax.get_legend() is None


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        (LOSSES.T, {}, r"got losses of shape \[6, 4\], xs of \[6\] and ys of \[4\]"),
        (LOSSES, {"xs": XS[::-1]}, "two increasing xs"),
        (LOSSES[:1], {"ys": YS[:1]}, "at least two increasing"),
        (np.full((4, 6), np.nan), {}, "all losses are NaN or infinite"),
        (LOSSES - 1.2, {"log": True}, "must be above 0, got -0.2"),
        (
            LOSSES,
            {"trajectories": {"a": np.ones((2, 4))}},
            r"expected trajectories \[n, [23]\], got shapes {'a': \[2, 4\]}",
        ),
        (LOSSES, {"trajectories": {"a": np.full((2, 2), np.nan)}}, r"for \['a'\]|expected trajectories"),
        (LOSSES, {"trajectories": {str(i): np.ones((2, 2)) for i in range(9)}}, "expected 1 to 8 lines"),
    ],
)
@pytest.mark.parametrize("plot", [plot_landscape, plot_landscape_3d])
def test_unusable_surfaces_are_refused(ax, space, plot, losses, options, message):
    with pytest.raises(ValueError, match=message):
        plot(ax if plot is plot_landscape else space, losses, **({"xs": XS, "ys": YS} | options))


def test_what_cannot_be_drawn_in_space_is_refused(ax, space):
    with pytest.raises(ValueError, match="losses of trajectories must be above 0"):
        plot_landscape_3d(space, LOSSES, xs=XS, ys=YS, log=True, trajectories={"a": np.zeros((1, 3))})
    with pytest.raises(Exception, match=r"projection|Axes3D"):
        plot_landscape_3d(ax, LOSSES, xs=XS, ys=YS)


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        ({}, {}, "expected 1 to 8 lines"),
        ({"a": np.ones(3)}, {}, "expected one loss for each t"),
        ({"a": TS}, {"log": True}, "above 0, got others for 'a'"),
    ],
)
def test_unusable_lines_are_refused(ax, losses, options, message):
    with pytest.raises(ValueError, match=message):
        plot_interpolation(ax, losses, ts=TS, **options)


def rendered():
    with style():
        figure = plt.figure(figsize=(8, 10))
        plot_landscape(figure.add_subplot(2, 1, 1), LOSSES, xs=XS, ys=YS, trajectories=PATHS)
        space = figure.add_subplot(2, 1, 2, projection="3d")
        plot_landscape_3d(space, LOSSES, xs=XS, ys=YS, trajectories={"a": in_space(PATHS["BPTT"])})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata=SVG_METADATA)
        plt.close(figure)
    return buffer.getvalue()


def test_the_same_numbers_give_the_same_bytes():
    assert rendered() == rendered()
