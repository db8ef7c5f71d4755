"""Bar plots that compare rules layer by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array

from slax_viz.arrays import finite
from slax_viz.figure_style import COLORS, HATCHES, check_number, legend_above
from slax_viz.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUP_WIDTH = 0.8


def plot_cosine_similarity(
    ax: "Axes", table: Mapping[str, np.ndarray | Array], *, layers: Sequence[str] | None = None
) -> "Axes":
    """Draw grouped bars: layers along the x axis, and in each group one bar per rule, as high as the mean over seeds.

    Error bars are the intervals of `mean_interval`, and dots are the individual seeds, in order from left to right. With one
    seed there is no interval.

    Args:
        ax: axes to draw on.
        table: for each rule, at most 8, its cosines to BPTT, [seeds, layers]. The number of seeds may differ.
        layers: one label per layer; "layer 1", "layer 2", ... by default.

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
    check_number("rules", table)
    first = np.shape(next(iter(table.values())))
    shape = ["seeds", first[-1] if first else "layers"]
    hint = "the same layers for each rule; leave out seeds and layers without a gradient, which have no cosine"
    values = {rule: finite(f"cosines of {rule}", cosines, shape, hint) for rule, cosines in table.items()}
    n_layers = next(iter(values.values())).shape[1]
    labels = [f"layer {i + 1}" for i in range(n_layers)] if layers is None else list(layers)
    if len(labels) != n_layers:
        raise ValueError(f"Got {len(labels)} labels, {labels}, expected one for each of {n_layers} layers.")

    width = _GROUP_WIDTH / len(values)
    edge: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.8}
    dots: dict[str, Any] = {"s": 9, "color": "white", "edgecolor": "black", "linewidth": 0.6, "alpha": 0.6, "zorder": 3}
    line: dict[str, Any] = {"fmt": "none", "ecolor": "black", "elinewidth": 1.6, "capsize": 4, "zorder": 4}
    for i, ((rule, cosines), color, hatch) in enumerate(zip(values.items(), COLORS, HATCHES, strict=False)):
        centres = np.arange(n_layers) + (i - (len(values) - 1) / 2) * width
        ax.bar(centres, cosines.mean(axis=0), width, zorder=2, color=color, hatch=hatch, label=rule, **edge)
        n = len(cosines)
        places = centres + (np.arange(n)[:, None] - (n - 1) / 2) * (0.7 / max(n, 2)) * width
        ax.scatter(places.ravel(), cosines.ravel(), **dots)
        if len(cosines) > 1:
            mean, low, high = mean_interval(cosines, bounds=(-1.0, 1.0))
            ax.errorbar(centres, mean, (mean - low, high - mean), **line)

    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.axhline(1, color="0.5", linewidth=0.8, linestyle="--", zorder=1)
    ax.set_ylabel("cosine similarity to BPTT")
    ax.set_xticks(np.arange(n_layers), labels)
    ax.tick_params(axis="x", length=0)
    legend_above(ax)
    return ax
