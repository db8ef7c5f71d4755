"""Bar plots that compare rules layer by layer."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array, Float

from slax_viz.figure_style import COLORS
from slax_viz.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# These distinguish the bars without color.
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "oo", "++")

_GROUP_WIDTH = 0.8
_LEGEND_COLUMNS = 4


def plot_cosine_similarity(
    ax: "Axes",
    table: Mapping[str, np.ndarray | Array],
    *,
    layers: Sequence[str] | None = None,
    level: float = 0.95,
    ylabel: str = "cosine similarity to BPTT",
    colors: Mapping[str, str] | None = None,
    hatches: Mapping[str, str] | None = None,
    legend: bool = True,
) -> "Axes":
    """Draw grouped bars: layers along the x axis, and in each group one bar per rule, as high as the mean over seeds.

    Error bars are the intervals of `mean_interval`, and dots are the individual seeds, in order from left to right. With one
    seed there is no interval.

    Args:
        ax: axes to draw on.
        table: for each rule its cosines, [seeds, layers], at most 8 rules without a color in `colors`. The number of seeds
            may differ.
        layers: one label per layer; "layer 1", "layer 2", ... by default.
        level: probability of the intervals, in (0, 1).
        ylabel: label of the y axis.
        colors: colors of some or all rules, so that a rule looks the same in each figure; assigned in order otherwise.
        hatches: matplotlib's hatch patterns, such as "//", of some or all rules; assigned in order otherwise.
        legend: True to put a legend above the axes, in place of a title. For several axes with one legend, pass
            False and call `figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center")`.

    Returns:
        `ax`.

    Example:
        >>> import numpy as np
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_cosine_similarity
        >>> table = {"OSTL": np.array([[0.5, 0.9], [0.6, 0.8]]), "OTTT": np.array([[0.4, 0.7], [0.5, 0.7]])}
        >>> fig, ax = plt.subplots()
        >>> ax = plot_cosine_similarity(ax, table, layers=["hidden", "output"])
        >>> [text.get_text() for text in ax.get_legend().get_texts()], len(ax.patches)  # a bar for each rule and layer
        (['OSTL', 'OTTT'], 4)
        >>> plt.close(fig)
    """
    values = _checked(table)
    unnamed = (rule for rule in values if rule not in (colors or {}))
    color_of = {**dict(zip(unnamed, COLORS, strict=False)), **(colors or {})}
    hatch_of = {**dict(zip(values, itertools.cycle(_HATCHES), strict=False)), **(hatches or {})}
    if len(set(values) - set(color_of)):
        raise ValueError(
            f"expected at most {len(COLORS)} rules without a color of their own, which can still be told apart, got "
            f"{len(set(values) - set(colors or {}))}. Name their colors, or draw them on several axes."
        )
    n_layers = next(iter(values.values())).shape[1]
    labels = [f"layer {i + 1}" for i in range(n_layers)] if layers is None else list(layers)
    if len(labels) != n_layers:
        raise ValueError(f"expected one label for each of {n_layers} layers, got {len(labels)}: {labels}.")

    width = _GROUP_WIDTH / len(values)
    for i, (rule, cosines) in enumerate(values.items()):
        centres = np.arange(n_layers) + (i - (len(values) - 1) / 2) * width
        ax.bar(
            centres,
            cosines.mean(axis=0),
            width,
            label=rule,
            color=color_of[rule],
            hatch=hatch_of[rule],
            edgecolor="black",
            linewidth=0.8,
            zorder=2,
        )
        offsets = _spread(len(cosines)) * width
        ax.scatter(
            (centres + offsets[:, None]).ravel(),
            cosines.ravel(),
            s=9,
            color="white",
            edgecolor="black",
            linewidth=0.6,
            alpha=0.6,
            zorder=3,
        )
        if len(cosines) > 1:
            mean, low, high = mean_interval(cosines, level=level, bounds=(-1.0, 1.0))
            ax.errorbar(
                centres,
                mean,
                (mean - low, high - mean),
                fmt="none",
                ecolor="black",
                elinewidth=1.6,
                capsize=4,
                zorder=4,
            )

    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.axhline(1, color="0.5", linewidth=0.8, linestyle="--", zorder=1)
    ax.set_ylabel(ylabel)
    ax.set_xticks(np.arange(n_layers), labels)
    ax.tick_params(axis="x", length=0)
    if legend:
        columns = min(len(values), _LEGEND_COLUMNS)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
    return ax


def _checked(table: Mapping[str, np.ndarray | Array]) -> dict[str, Float[np.ndarray, "seeds layers"]]:
    if not table:
        raise ValueError("expected at least one rule, got none.")
    values = {rule: np.asarray(cosines, dtype=np.float64) for rule, cosines in table.items()}
    shapes = {rule: cosines.shape for rule, cosines in values.items()}
    if any(len(shape) != 2 or 0 in shape for shape in shapes.values()) or len({s[1] for s in shapes.values()}) != 1:
        raise ValueError(f"expected arrays [seeds, layers] with the same layers for each rule, got shapes {shapes}.")
    broken = [rule for rule, cosines in values.items() if not np.isfinite(cosines).all()]
    if broken:
        raise ValueError(
            f"cosines must be finite, got NaN or infinite ones for {broken}. "
            "Look at `Cosine.defined`, and leave out the seeds or layers without a gradient."
        )
    return values


def _spread(n: int) -> Float[np.ndarray, " n"]:
    """Positions across a bar of width 1, symmetric about its middle."""
    return (np.arange(n) - (n - 1) / 2) * (0.7 / max(n, 2))
