"""The cells of a mean, its interval and its samples, and what is drawn where."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.drawing import figures
from experiments.drawing.figures import draw_interval
from experiments.drawing.statistics import interval, ratio_interval
from experiments.drawing.tables import SUMMARY, summary_columns
from experiments.pipeline.job import experiment_names
from experiments.plot import plots_of
from slax_viz import style


@pytest.fixture
def ax():
    with style():
        figure, ax = plt.subplots(figsize=(4, 3))
        yield ax
        plt.close(figure)


@pytest.mark.parametrize("experiment", experiment_names())
def test_every_interval_in_a_table_has_its_samples_beside_it(experiment):
    for plot in plots_of(experiment).values():
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
    for upright in (False, True):
        figures.draw_seeds(ax, 3, numbers, (0.0, 1.0), 0.25, 2, upright=upright, scale=100, color="red")
        dots = ax.lines[-2].get_xydata()[:, :: -1 if upright else 1]
        assert dots.ravel().tolist() == pytest.approx([10, 3.25, 20, 3.25, 60, 3.25])
        assert ax.lines[-1].get_xydata()[0].tolist() == pytest.approx([3, mean] if upright else [mean, 3])


def test_accuracies_are_compared_with_those_of_bptt_or_else_of_the_first_rule(ax):
    shares = {rule: {"offline": np.array([[share], [share]])} for rule, share in (("sltt", 0.45), ("bptt", 0.75))}
    shares["ottt"] = {"online": np.array([[0.7], [0.6]])}
    assert figures.gaps_of(shares)["ottt"]["online"].ravel().tolist() == pytest.approx([-0.05, -0.15])
    assert figures.plot_gaps(ax, ["bptt", "ottt", "sltt", "otpe"], shares) == "BPTT: 75.0 %"
    assert {text.get_text() for text in ax.texts} >= {"← •-30", "not run"}  # too low to be drawn; not there
    shares["otpe"] = {"offline": np.full((2, 1), 0.87), "online": np.full((2, 1), 0.82)}
    figures.plot_gaps(ax, ["otpe"], shares)
    assert ax.texts[-1].get_text() == "•+12 ◇+7 →" and ax.texts[-1].get_ha() == "right"
    with pytest.raises(SystemExit, match=r"as many seeds of each, got .*'BPTT, offline': 2, .*'OTPE, offline': 1"):
        figures.gaps_of(shares | {"otpe": {"offline": np.array([[0.87]])}})
    del shares["otpe"]
    del shares["bptt"]
    assert figures.plot_gaps(ax, ["ottt", "sltt"], shares) == "OTTT: 65.0 %"
