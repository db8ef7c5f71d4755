"""Texts that hide each other are found, and texts that do not are left alone."""

import pytest
from matplotlib import pyplot as plt

from experiments.common.labels import cut_off_labels, hidden_labels, overlapping_labels
from slax_viz import style


@pytest.fixture
def axes():
    with style():
        figure, axes = plt.subplots(figsize=(4, 3))
        yield axes
        plt.close(figure)


def test_plain_axes_have_no_overlap(axes):
    axes.plot([0, 1], [0, 1], label="a line")
    axes.set(xlabel="x", ylabel="y", title="two\nlines")
    axes.legend()
    assert overlapping_labels(axes.figure) == []


def test_texts_at_one_place_overlap(axes):
    axes.text(0.5, 0.5, "one")
    axes.text(0.5, 0.5, "other")
    assert overlapping_labels(axes.figure) == [("one", "other")]


@pytest.mark.parametrize("apart", [0.0, 0.9])
def test_only_what_is_shared_counts(axes, apart):
    axes.text(0.1, 0.5, "text", fontsize=10)
    axes.text(0.1, 0.5 + apart / 4, "other", fontsize=10)
    assert bool(overlapping_labels(axes.figure)) == (apart == 0.0)


def test_hidden_and_empty_texts_and_labels_beyond_the_limits_do_not_count(axes):
    axes.text(0.5, 0.5, "one")
    axes.text(0.5, 0.5, "hidden", visible=False)
    axes.text(0.5, 0.5, " ")
    axes.set_xticks([0, 0.5, 1, 1.001, 1.002])
    axes.set_xlim(0, 1.0005)
    assert overlapping_labels(axes.figure) == []


def test_crowded_ticks_overlap(axes):
    axes.set_xlim(0, 1)
    axes.set_xticks([0.50, 0.51], ["a long label", "another label"])
    assert overlapping_labels(axes.figure) == [("a long label", "another label")]
    axes.set_axis_off()
    assert overlapping_labels(axes.figure) == []


def test_labels_of_three_dimensions_are_found():
    figure, axes = plt.subplots(subplot_kw={"projection": "3d"}, figsize=(1.2, 1.2))
    axes.set(xlabel="a long label of the axis x", ylabel="a long label of the axis y", zlabel="z")
    assert overlapping_labels(figure)
    plt.close(figure)


@pytest.mark.parametrize(
    ("place", "cut"), [((0.5, 0.5), False), ((0.98, 0.5), True), ((0.5, -0.05), True), ((-0.1, 0.5), True)]
)
def test_texts_that_the_edge_of_the_figure_cuts_off_are_found(axes, place, cut):
    axes.figure.text(*place, "a text")
    assert cut_off_labels(axes.figure) == (["a text"] if cut else [])
    assert hidden_labels(axes.figure) == (["the edge of the figure cuts off 'a text'"] if cut else [])


def test_pairs_are_told_in_words(axes):
    axes.text(0.5, 0.5, "one")
    axes.text(0.5, 0.5, "other")
    assert hidden_labels(axes.figure) == ["the texts 'one' and 'other' hide each other"]
