"""The cells of a mean, its interval and its samples, and what is drawn where."""

import importlib

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.common.figures import SMALLEST, draw_interval, draw_lines, label_lines, plot_seed_intervals
from experiments.common.intervals import SHARE, interval, ratio_interval
from experiments.common.job import experiment_names, jobs_of, scales_of
from experiments.common.names import TASKS
from experiments.common.styles import STYLES
from experiments.common.tables import SUMMARY, summary_columns
from slax_rules import RULES
from slax_viz import style

REAL = (float("-inf"), float("inf"))


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots(figsize=(4, 3))
        yield ax
        plt.close(figure)


@pytest.mark.parametrize("experiment", experiment_names())
def test_every_interval_in_a_table_has_its_samples_beside_it(experiment):
    for plot in importlib.import_module(f"experiments.{experiment}.plot").FIGURES.values():
        for index in [index for index, name in enumerate(plot.columns) if name == "low" or name.endswith("_low")]:
            prefix = plot.columns[index].removesuffix("low").removesuffix("_")
            expected = summary_columns(prefix) if prefix else [*SUMMARY]
            assert list(plot.columns[index - 1 : index + 3]) == expected


def test_interval_is_drawn_about_the_mean_in_a_row_or_a_column(ax):
    numbers = [0.1, 0.2, None, 0.6]
    for upright in (False, True):
        draw_interval(ax, 3, numbers, (0.0, 1.0), scale=100, upright=upright)
    draw_interval(ax, 3, [0.5, 2.0], geometric=True)
    assert draw_interval(ax, 3, [None]) is None
    mean, *ends = (100 * number for number in interval(numbers, (0.0, 1.0)))
    row, column, geometric = (container.lines for container in ax.containers)
    assert (row[0].get_xydata() == [[mean, 3]]).all() and (column[0].get_xydata() == [[3, mean]]).all()
    drawn = [line[2][0].get_segments()[0] for line in (row, column, geometric)]
    assert [*drawn[0][:, 0], *drawn[1][:, 1]] == pytest.approx([*ends, *ends])
    assert list(drawn[2][:, 0]) == pytest.approx(ratio_interval([0.5, 2.0])[1:])


def test_lines_go_through_the_means_between_the_ends_of_the_intervals(ax):
    places = {1.0: [0.1, 0.2, 0.6], 2.0: [None], 4.0: [0.3, 0.5, 0.4]}
    draw_lines(ax, {"otpe": places}, SHARE, scale=100)
    (line,), (band,) = ax.lines, ax.collections
    expected = np.array([[at, *interval(places[at], SHARE)] for at in (1.0, 4.0)], float) * [1, 100, 100, 100]
    np.testing.assert_allclose(line.get_xydata(), expected[:, :2])
    corners = {(x, y) for x, y in band.get_paths()[0].vertices.round(9).tolist()}
    assert corners == {(at, end) for at, _, low, high in expected.round(9).tolist() for end in (low, high)}


def test_rows_are_drawn_from_top_to_bottom_with_a_dot_for_each_seed(ax):
    rows = [("otpe", "first", [0.1, 0.2, 0.6]), ("bptt", "second", [0.3, 0.5, 0.4])]
    plot_seed_intervals(ax, rows, SHARE)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"] and ax.yaxis_inverted()
    dots = [line for line in ax.lines if line.get_marker() == "."]
    for row, ((rule, _, numbers), (mark, _, _), of_row) in enumerate(zip(rows, ax.containers, dots, strict=True)):
        look = STYLES[rule]
        assert mark.get_xydata().tolist() == [[interval(numbers, SHARE)[0], row]]
        assert [*of_row.get_xdata()] == numbers and all(row < y < row + 0.5 for y in of_row.get_ydata())
        assert {mark.get_color(), of_row.get_color()} == {look.color} and mark.get_marker() == look.marker


def test_every_rule_has_a_look_of_its_own():
    assert STYLES.keys() == RULES.keys()
    for part in (0, 1):
        assert len({look[part] for look in STYLES.values()}) == len(STYLES)


def test_lines_of_the_seven_rules_are_named_at_their_ends_without_overlap(ax):
    ends = {"bptt": 0.9, "otpe": 0.905, "e_prop": 0.91, "ottt": 0.2, "sltt": 0.2, "dfa": 0.5}
    starts = {"ottt": 0.6}  # it ends where SLTT does, and is above it before
    draw_lines(
        ax, {rule: {0.0: 2 * [starts.get(rule, 0.2)], 7.0: [end, end]} for rule, end in ends.items()}, SHARE, scale=100
    )
    ax.set(xlim=(0, 7), ylim=(0, 100))
    label_lines([ax])
    assert {str(line.get_label()) for line in ax.lines} == {RULES[rule].title for rule in ends if rule != "dfa"}
    texts = sorted(ax.texts, key=lambda text: text.get_position()[1])
    heights = ax.figure.get_figheight() * 72 * ax.get_position().height * np.diff([t.get_position()[1] for t in texts])
    assert (heights >= SMALLEST).all() and max(text.get_position()[1] for text in texts) < 1.1
    assert [text.get_text() for text in texts] == ["SLTT", "OTTT", "BPTT", "OTPE", "e-prop"]


def test_readers_see_a_name_and_no_key_for_each_task():
    jobs = [
        job
        for name in experiment_names()
        for scale in scales_of(name).items()
        for job in jobs_of(name, *scale).values()
    ]
    keys = {job.settings.get("task") for job in jobs} - {None}
    assert keys and keys <= TASKS.keys() and not any("_" in name for name in TASKS.values())
