"""The appearance of each rule in every figure.

Colors of Okabe and Ito, and of Tol's scheme "muted", designed for all kinds of color vision. Rules of one family share a hue;
markers distinguish them, and all rules where there is no color.
"""

from pathlib import Path
from typing import NamedTuple

import yaml


class Style(NamedTuple):
    """The appearance of a rule.

    Args:
        color: color of its lines and bars.
        marker, line: matplotlib's names of marker and line style.
    """

    color: str
    marker: str
    line: str


class Styles(dict[str, Style]):
    """The styles by rule; a rule without an entry is gray."""

    def __missing__(self, rule: str) -> Style:
        return Style("0.5", "o", "-")


_READ = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
STYLES = Styles({rule: Style(*look) for rule, look in _READ.items()})
# The rules of line plots, in which more could not be told apart: the others are in the tables.
LINE_RULES = ("bptt", "tbptt", "otpe", "approximate_otpe", "e_prop", "ottt", "ostl", "sltt")
