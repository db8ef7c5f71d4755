"""One rule of each kind, for laws of how rules are run: under jit, over windows, behind a mask, as a stream.

The other rules for layers fill the same traces with other numbers, which the oracle checks (rules/test_local_rules.py and
contract/test_every_cell_of_the_grid.py), or are one of these along another route, under another name, or with another
optimizer.
"""

from covering import EVERY
from slax_rules import RULES


def first_of_each(key):
    """The first line of the registry with each value of a key."""
    return list({key(entry): name for name, entry in reversed(RULES.items())}.values())


OF_EACH_CLASS = first_of_each(lambda entry: (entry.rule, "recurrence" in entry.options))
OF_EACH_CLASS_AND_ROUTE = sorted({*OF_EACH_CLASS, *first_of_each(lambda entry: entry.route)})


# Autodiff over all steps and over some; for layers, eligibilities of parameters, traces of inputs, those of outputs below as
# well, products that are filtered once more, losses of their own; influences of the whole network, in part, by draws.
KINDS = ("bptt", "tbptt", "ostl", "ottt", "otpe", "e_prop", "decolle", "rtrl", "snap", "uoro")


def of_each_kind(names=RULES):
    """Of the names of rules one of each kind, in the same order, or with EVERY_COMBINATION=1 all."""
    return [name for name in names if EVERY or name in KINDS]
