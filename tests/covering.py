"""Combinations of settings that tests run: each pair of values of two settings, or with EVERY_COMBINATION=1 all of them.

A defect that shows only when three settings meet is rare: of the faults that Kuhn, Wallace and Gallo (2004, "Software fault
interactions and implications for software testing", IEEE Transactions on Software Engineering 30:418) looked at, 70 to 97 %
were triggered by one setting or two. So `make test` runs a covering array of strength two, in which each value meets each value
of every other setting in at least one combination, and `make test-all` runs the product. Where two settings have nothing to do
with each other, each value once is enough: strength one.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

EVERY = os.environ.get("EVERY_COMBINATION", "0") != "0"


def combinations(
    *settings: Iterable[Any],
    valid: Callable[..., bool] = lambda *_: True,
    strength: int = 2,
    every: bool = EVERY,
) -> list[tuple]:
    """Combinations of a value of each setting, among them every pair that a valid combination has, or all valid ones.

    They are the same each time: the next one has the most new pairs, of those the pairs and values that were used least, and of
    those it is the first in the order of the product.

    Args:
        settings: the values of each.
        valid: whether values, one of each setting, can be run together.
        strength: the number of settings whose values meet: 2, or 1 for each value at least once.
        every: run all valid combinations.
    """
    strength = min(strength, len(settings))
    numbered = itertools.product(*(list(enumerate(values)) for values in settings))
    product = [row for row in numbered if valid(*(value for _, value in row))]
    chosen = range(len(product))
    if not every:
        places = [[(at, number) for at, (number, _) in enumerate(row)] for row in product]
        groups = [set(itertools.combinations(row, strength)) for row in places]
        missing, chosen, used = set().union(*groups), set(), Counter()
        while missing:
            new = [len(group & missing) for group in groups]
            top = max(new)
            most = [index for index, count in enumerate(new) if count == top]
            best = min(most, key=lambda index: [sum(used[part] for part in of[index]) for of in (groups, places)])
            missing -= groups[best]
            used.update([*groups[best], *places[best]])
            chosen.add(best)
    return [tuple(value for _, value in product[index]) for index in sorted(chosen)]
