"""The cells of a mean, its interval and its samples; and rows of seeds: what is drawn where, and in whose color."""

import importlib
import re
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from experiments.common.figures import SUMMARY, count, in_full, interval, plot_seed_intervals, summary, summary_columns
from experiments.common.job import experiment_names
from experiments.common.styles import STYLES

ROWS = {"first": ("bptt", "BPTT"), "second": ("ottt", "OTTT online")}
NUMBERS = {"first": [1.0, 2.0, 6.0], "second": [4.0]}
REAL = (float("-inf"), float("inf"))


@pytest.mark.parametrize(
    "numbers, cells",
    [
        ([], [None, None, None, ""]),
        ([0.5], [0.5, None, None, "0.5"]),
        ([None, 0.5], [0.5, None, None, "None 0.5"]),
        ([None, None], [None, None, None, "None None"]),
        ([1.0, 1.0, None], [1.0, 1.0, 1.0, "1 1 None"]),
    ],
)
def test_summary_has_the_numbers_in_their_places(numbers, cells):
    assert summary(numbers, REAL) == cells


def test_summary_has_the_interval_of_the_numbers_that_are_there():
    mean, low, high, values = summary([1.0, None, 2.0, 6.0], (0.0, 7.0))
    assert [mean, low, high] == list(interval([1.0, 2.0, 6.0], (0.0, 7.0))) and mean == 3.0
    assert values == "1 None 2 6" and count([1.0, None, 0.0]) == 2


@pytest.mark.parametrize(
    "number, text",
    [
        (1 / 3, "0.3333333"),
        (-2.5e-9, "-2.5e-09"),
        (0.99999994, "0.9999999"),
        (123456789.0, "123456789"),
        (3, "3"),
        (None, "None"),
    ],
)
def test_number_of_a_seed_has_seven_digits_and_a_whole_one_has_all(number, text):
    assert in_full(number) == text


def test_columns_of_a_summary_are_named_by_their_quantity():
    assert summary_columns("ratio", "x")[:5] == ["ratio", "ratio_low", "ratio_high", "ratio_values", "x"]
    assert SUMMARY == ("mean", "low", "high", "values")


@pytest.mark.parametrize("experiment", experiment_names())
def test_every_interval_in_a_table_has_its_samples_beside_it(experiment):
    for stem, plot in importlib.import_module(f"experiments.{experiment}.plot").FIGURES.items():
        ends = [index for index, name in enumerate(plot.columns) if name == "low" or name.endswith("_low")]
        for index in ends:
            prefix = plot.columns[index].removesuffix("low")
            beside = [prefix.removesuffix("_") or "mean", *(prefix + end for end in SUMMARY[1:])]
            assert list(plot.columns[index - 1 : index + 3]) == beside, stem


def test_each_row_has_its_seeds_mean_and_interval_in_the_color_of_its_rule():
    _, ax = plt.subplots()
    plot_seed_intervals(ax, ROWS, NUMBERS, REAL)
    drawn = [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]
    first, second = (STYLES[rule].color for rule in ("bptt", "ottt"))
    _, low, high = interval(NUMBERS["first"], REAL)
    assert drawn == [
        (first, [1, 2, 6], [0.22] * 3),
        (first, [3], [0]),
        (first, [low, high], [0, 0]),
        (second, [4], [1.22]),
        (second, [4], [1]),
    ]
    assert [line.get_marker() for line in ax.lines[1::3]] == [STYLES[rule].marker for rule in ("bptt", "ottt")]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["BPTT", "OTTT online"]
    assert ax.get_ylim() == (1.5, -0.5)  # from top to bottom
    plt.close("all")


def test_texts_of_all_figures_have_the_sizes_of_the_style_or_one_of_two_smaller_ones():
    root = Path(__file__).parents[2]
    files = [
        *root.glob("experiments/*/plot.py"),
        *root.glob("experiments/common/*.py"),
        *root.glob("packages/slax-viz/src/**/*.py"),
    ]
    sizes = [
        size.strip('"')
        for file in files
        if file.name != "figure_style.py"
        for size in re.findall(r"(?:font|label)_?size\W{1,3}([^,)}\s]+)", file.read_text())
    ]
    assert len(sizes) > 20 and set(sizes) == {"small", "x-small"}
