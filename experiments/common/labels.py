"""Texts of a figure that hide each other, or that its edge cuts off."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

ALLOWED = 0.1  # of the smaller of two boxes: the space between lines, which belongs to the boxes
MARGIN = 2  # pixels of a box that may be outside of the figure, for the same reason


def hidden_labels(figure: Figure) -> list[str]:
    """What is wrong with the texts of a figure, a sentence for each pair that hide each other, and for each that is cut off."""
    figure.canvas.draw()
    inside = figure.bbox.padded(MARGIN)
    boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    pairs = [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if overlap(a, b) > ALLOWED]
    cut_off = [text for text, box in boxes if Bbox.union([box, inside]).bounds != inside.bounds]
    return [
        *(f"the texts {one!r} and {other!r} hide each other" for one, other in dict.fromkeys(pairs)),
        *(f"the edge of the figure cuts off {text!r}" for text in cut_off),
    ]


def drawn_texts(figure: Figure) -> Iterator[Text]:
    """The texts of a figure that are seen: of an axis, the labels of the ticks within its limits."""
    unseen = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        rounding = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (axis.axes.axison and low - rounding <= tick.get_loc() <= high + rounding):
                unseen |= {tick.label1, tick.label2}
    for text in dict.fromkeys(figure.findobj(Text)):
        axes = text.axes
        if (
            text.get_visible()
            and (axes is None or axes.get_visible())
            and text.get_text().strip()
            and text not in unseen
        ):
            yield text


def overlap(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share, relative to the smaller one."""
    shared = Bbox.intersection(one, other)
    if shared is None:
        return 0.0
    return shared.width * shared.height / max(1e-9, min(one.width * one.height, other.width * other.height))
