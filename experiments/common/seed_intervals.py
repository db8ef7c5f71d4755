"""A plot of the numbers of several seeds in rows, for experiments that compare rules along one axis."""

from collections.abc import Hashable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from experiments.common.results import interval
from slax_rules import RULES


def plot_seed_intervals(
    ax: Axes,
    rows: Mapping[Hashable, tuple[str, str]],
    numbers: Mapping[Hashable, Sequence[float]],
    bounds: tuple[float, float],
) -> None:
    """Draw a row for each key: the mean as the rule's mark, its 95 % interval as a line, and below it each seed as a dot.

    Args:
        rows: by key, the name of the rule and the name of the row, from top to bottom.
        numbers: by key, one number of each seed.
        bounds: bounds of each number.
    """
    for row, (key, (rule, _)) in enumerate(rows.items()):
        look = RULES[rule].style
        mean, low, high = interval(numbers[key], bounds)
        ax.plot(numbers[key], [row + 0.22] * len(numbers[key]), ".", color=look.color, markersize=7, alpha=0.7)
        ax.plot(mean, row, look.marker, color=look.color, markeredgecolor="black", markersize=8, zorder=3)
        if low is not None:
            ax.plot([low, high], [row, row], "-", color=look.color, linewidth=2)
    ax.set_yticks(range(len(rows)), [name for _, name in rows.values()])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
