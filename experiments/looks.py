"""How each rule looks in every figure: one colour, one mark, one hatch. Rules of one family have a hue in common."""

from typing import NamedTuple

from slax_rules import RULES


class Look(NamedTuple):
    """Of a rule: colour of its lines and bars, mark of its points, line style, hatch of its bars."""

    colour: str
    marker: str
    line: str
    hatch: str


# Colours of Okabe and Ito, and of Tol's scheme "muted", which are made for all kinds of colour vision; marks and hatches tell
# rules apart that share a hue, and all of them without any colour.
LOOKS: dict[str, Look] = {
    "bptt": Look("#4D4D4D", "o", "-", ""),
    "tbptt": Look("#A6A6A6", "s", "--", "//"),
    "rtrl": Look("#332288", "<", "-", "||"),
    "snap": Look("#8A7FC7", ">", "--", "--"),
    "uoro": Look("#B9AEDC", "d", ":", "++"),
    "ostl": Look("#0072B2", "^", "-", "\\\\"),
    "ostl_with_recurrence": Look("#56B4E9", "v", "--", "///"),
    "otpe": Look("#D55E00", "D", "-", "xx"),
    "approximate_otpe": Look("#E69F00", "h", "--", "\\\\\\"),
    "ottt": Look("#009E73", "P", "-", ".."),
    "sltt": Look("#8FD3BE", "X", "--", "oo"),
    "e_prop": Look("#CC79A7", "p", "-", "**"),
    "pp_prop": Look("#882255", "*", "--", "|||"),
    "decolle": Look("#C2A500", "H", "-", "OO"),
    "fptt": Look("#661100", "8", "--", "---"),
}


def colours_by_title(rules: list[str]) -> dict[str, str]:
    """The colours of rules by the titles that figures name them with."""
    return {RULES[rule].title: LOOKS[rule].colour for rule in rules}
