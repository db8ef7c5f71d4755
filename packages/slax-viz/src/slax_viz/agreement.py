"""How wrong a gradient was during training, and what it cost to know."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {
    "cosine/{}": ("cosine to the reference", 1.0, 1.0),
    "norm_ratio/{}": ("length / reference", 1.0, 1.0),
    "comparison/share": ("cost of knowing it\n(% of the time)", 100.0, None),
}


def plot_agreement(
    axes: Sequence["Axes"], records: Iterable[Mapping[str, Any]], *, groups: Sequence[str] = ("all",)
) -> Sequence["Axes"]:
    """Draw the records of `slax_rules.GradientAgreement` along the training.

    The panels have the cosine of the gradient to the reference, its length divided by the reference's, each with a dashed line
    at the reference itself, and the share of the time of training that the comparison took, whose first record contains the
    compilation.

    Args:
        axes: three axes to draw on.
        records: `history.records`; records of evaluations and of other callbacks are left out.
        groups: the arrays or groups to draw a line for, such as "0 Linear/kernel"; by default the entire gradient.

    Returns:
        `axes`.

    Raises:
        ValueError: other than three axes, or records without these groups.

    Example:
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import plot_agreement
        >>> numbers = {"cosine/all": 0.9, "norm_ratio/all": 0.5, "comparison/share": 0.1}
        >>> records = [{"step": 10, "epoch": 0, **numbers}, {"step": 20, "epoch": 0, **numbers}]
        >>> figure, axes = plt.subplots(3, sharex=True)
        >>> axes = plot_agreement(axes, records)
        >>> axes[2].lines[0].get_ydata().tolist()
        [10.0, 10.0]
        >>> plt.close(figure)
    """
    records = list(records)
    for ax, (name, (label, scale, reference)) in zip(axes, _PANELS.items(), strict=True):
        for group in groups if "{}" in name else groups[:1]:
            key = name.format(group)
            found = [(record["step"], record[key]) for record in records if record.get(key) is not None]
            if not found:
                raise ValueError(f"plot_agreement got no record of {key!r}, expected the records of GradientAgreement.")
            steps, values = zip(*found, strict=True)
            ax.plot(steps, [scale * value for value in values], marker=".", label=group)
        if reference is not None:
            ax.axhline(reference, color="0.5", linewidth=0.8, linestyle="--", zorder=1)
        ax.set_ylabel(label)
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    if len(groups) > 1:
        axes[0].legend()
    axes[-1].set_xlabel("step")
    return axes
