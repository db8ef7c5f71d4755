"""The appearance of each rule in every figure.

Colors of Okabe and Ito, and of Tol's scheme "muted", designed for all kinds of color vision. Rules of one family share a hue;
markers distinguish them, and all rules where there is no color.
"""

from typing import NamedTuple


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


STYLES = Styles(
    bptt=Style("#4D4D4D", "o", "-"),
    tbptt=Style("#A6A6A6", "s", "--"),
    rtrl=Style("#332288", "<", "-"),
    snap=Style("#8A7FC7", ">", "--"),
    sketched_rtrl=Style("#5B4FA3", "$s$", "-"),
    uoro=Style("#B9AEDC", "d", ":"),
    forward_gradient=Style("#6F4E37", "$f$", ":"),
    node_perturbation=Style("#A67B5B", "$n$", "-."),
    kf_rtrl=Style("#6A51A3", "$k$", ":"),
    ostl=Style("#0072B2", "^", "-"),
    ostl_with_recurrence=Style("#56B4E9", "v", "--"),
    otpe=Style("#D55E00", "D", "-"),
    approximate_otpe=Style("#E69F00", "h", "--"),
    ottt=Style("#009E73", "P", "-"),
    sltt=Style("#8FD3BE", "X", "--"),
    e_prop=Style("#CC79A7", "p", "-"),
    e_prop_random=Style("#D99BBD", "$r$", "--"),
    e_prop_adaptive=Style("#A85A8A", "$a$", "-."),
    e_prop_direct=Style("#E8C4DA", "$d$", ":"),
    pp_prop=Style("#882255", "*", "--"),
    opzo=Style("#B35806", "$z$", "-"),
    decolle=Style("#C2A500", "H", "-"),
    hypr=Style("#3A9BDC", "$h$", "-."),
    s_tllr=Style("#44AA99", "1", "-"),
    tess=Style("#88CCBB", "2", "--"),
    osttp=Style("#999933", "3", "-"),
    rflo=Style("#666633", "$o$", "-."),
    etlp=Style("#CCCC77", "4", "--"),
    dfa=Style("#117733", "x", ":"),
    drtp=Style("#77AA88", "+", ":"),
    fptt=Style("#661100", "8", "--"),
)

# The rules of line plots, in which more could not be told apart: the others are in the tables.
LINE_RULES = ("bptt", "tbptt", "otpe", "approximate_otpe", "e_prop", "ottt", "ostl", "sltt")
