"""Rows of seeds: what is drawn where, and in whose color."""

from matplotlib import pyplot as plt

from experiments.common.figures import interval, plot_seed_intervals
from slax_rules import RULES

ROWS = {"first": ("bptt", "BPTT"), "second": ("ottt", "OTTT online")}
NUMBERS = {"first": [1.0, 2.0, 6.0], "second": [4.0]}
REAL = (float("-inf"), float("inf"))


def test_each_row_has_its_seeds_mean_and_interval_in_the_color_of_its_rule():
    _, ax = plt.subplots()
    plot_seed_intervals(ax, ROWS, NUMBERS, REAL)
    drawn = [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]
    first, second = (RULES[rule].style.color for rule in ("bptt", "ottt"))
    _, low, high = interval(NUMBERS["first"], REAL)
    assert drawn == [
        (first, [1, 2, 6], [0.22] * 3),
        (first, [3], [0]),
        (first, [low, high], [0, 0]),
        (second, [4], [1.22]),
        (second, [4], [1]),
    ]
    assert [line.get_marker() for line in ax.lines[1::3]] == [RULES[rule].style.marker for rule in ("bptt", "ottt")]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["BPTT", "OTTT online"]
    assert ax.get_ylim() == (1.5, -0.5)  # from top to bottom
    plt.close("all")
