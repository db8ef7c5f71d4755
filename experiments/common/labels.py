"""Texts of a figure that hide each other, or that its edge cuts off."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

ALLOWED = 0.1  # of the smaller of two boxes: the space between lines, which belongs to the boxes
MARGIN = 2  # pixels of a box that may be outside of the figure, for the same reason


def hidden_labels(figure: Figure) -> list[str]:
    """What is wrong with the texts of a figure, a sentence for each pair that hide each other, and for each that is cut off."""
    texts = drawn_texts(figure)
    inside = figure.bbox.padded(MARGIN)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    pairs = [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if overlap(a, b) > ALLOWED]
    cut_off = [text for text, box in boxes if Bbox.union([box, inside]).bounds != inside.bounds]
    return [
        *(f"the texts {one!r} and {other!r} hide each other" for one, other in dict.fromkeys(pairs)),
        *(f"the edge of the figure cuts off {text!r}" for text in cut_off),
    ]


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts that are seen in a figure: those that it draws, without oblique ones, whose boxes are larger than they are."""
    drawn: list[Text] = []
    with patch.object(Text, "draw", lambda text, renderer: drawn.append(text)):
        figure.canvas.draw()
    seen = [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text().strip()]
    return [text for text in seen if text.get_rotation() % 90 == 0]


def overlap(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share, relative to the smaller one."""
    shared = Bbox.intersection(one, other)
    if shared is None:
        return 0.0
    return shared.width * shared.height / max(1e-9, min(one.width * one.height, other.width * other.height))
