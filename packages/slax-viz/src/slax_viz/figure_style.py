"""A common style for all figures, which produces the same bytes on every machine with the same matplotlib.

The style consists of matplotlib's defaults, regardless of the user's files, plus sizes that are legible where a figure
8 inches wide is shown 800 pixels wide, colors for color-blind readers, text as outlines of the font that comes with
matplotlib, and a fixed salt for the names inside an SVG. The metadata constants omit date and versions, which would differ
from run to run:

    with style():
        figure, ax = plt.subplots()
        ...
        figure.savefig("figure.svg", metadata=SVG_METADATA)
        figure.savefig("figure.png", metadata=PNG_METADATA)

Save inside the `with` as well: the salt and the resolution are read at that point.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SVG_METADATA = {"Date": None, "Creator": None}
"""The metadata of an SVG file without the date, so that the same figure has the same bytes."""
PNG_METADATA = {"Software": None}
"""The metadata of a PNG file without the version of matplotlib."""

# The palette of Okabe and Ito (Color Universal Design, 2008), legible with the common kinds of color blindness, with gray
# in place of black, which would hide hatches, marks and intervals.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")

# These distinguish as many lines without color.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "oo", "++")


@contextmanager
def style() -> Iterator[None]:
    """Apply the settings of slax.mplstyle, and restore the earlier ones at the end.

    Example:
        >>> import io
        >>> from matplotlib import pyplot as plt
        >>> from slax_viz import SVG_METADATA, style
        >>> file = io.BytesIO()
        >>> with style():
        ...     fig, ax = plt.subplots()
        ...     fig.savefig(file, format="svg", metadata=SVG_METADATA)
        >>> fig.get_size_inches().tolist()
        [8.0, 4.0]
        >>> plt.close(fig)
    """
    import matplotlib.style

    with matplotlib.style.context(Path(__file__).with_name("slax.mplstyle"), after_reset=True):
        yield


def colors_of(names: Iterable[str], chosen: Mapping[str, str] | None) -> list[str]:
    """The color of each name: the chosen one, or else the next one of the palette."""
    given = dict(chosen or {})
    rest = iter(COLORS)
    return [given[name] if name in given else next(rest) for name in names]


def check_number(what: str, drawn: Sized) -> None:
    """Raise an error unless all that is drawn can be distinguished."""
    if not 1 <= len(drawn) <= len(COLORS):
        raise ValueError(f"Got {len(drawn)} {what}, expected 1 to {len(COLORS)}. Draw more of them on several axes.")


def legend_above(ax: "Axes", columns: int = 4) -> None:
    """Put a legend above the axes, in place of a title."""
    columns = min(len(ax.get_legend_handles_labels()[0]), columns)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
