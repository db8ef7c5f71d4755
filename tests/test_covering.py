"""Combinations that tests run have every pair of values, or every value, or every combination."""

import itertools
from collections import Counter

import pytest

from covering import EVERY, combinations
from kinds_of_rules import KINDS, of_each_kind
from slax_rules import RULES, SLTT, ApproximateOTPE

SETTINGS = [range(7), "abc", (False, True), (1, 2)]


def is_valid(number, letter, flag, last):
    """Some pairs are in no valid combination, and some in few."""
    return (number, letter) != (0, "a") and (number, letter, flag, last) != (1, "b", True, 1)


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_every_group_of_values_that_is_valid_occurs(strength):
    valid = [row for row in itertools.product(*SETTINGS) if is_valid(*row)]
    found = combinations(*SETTINGS, valid=is_valid, strength=strength, every=False)
    assert found == [row for row in valid if row in found]  # in the order of the product, none twice
    for places in itertools.combinations(range(len(SETTINGS)), strength):
        groups = [{tuple(row[place] for place in places) for row in rows} for rows in (found, valid)]
        assert groups[0] == groups[1]
    assert len(found) < {1: 8, 2: 26, 3: 60}[strength] < len(valid)


def test_every_combination_is_the_product():
    assert combinations(*SETTINGS, every=True) == list(itertools.product(*SETTINGS))


def test_one_setting_has_all_its_values():
    assert combinations("abc", every=False) == [("a",), ("b",), ("c",)]


def test_each_value_is_used_about_as_often_as_the_others():
    found = combinations("ab", range(6), strength=1, every=False)
    assert [letter for letter, _ in found].count("a") == 3


def test_settings_of_few_values_are_not_tied_to_each_other_by_one_of_many():
    found = combinations(range(20), "ab", (1, 2), every=False)
    pairs = Counter((letter, last) for _, letter, last in found)
    assert len(pairs) == 4 and max(pairs.values()) - min(pairs.values()) <= 1


def test_a_rule_of_each_class_is_tried_but_for_two_that_another_stands_for():
    """A rule of a new class is, too: workflow/test_toys.py adds one, and runs this test."""
    assert set(KINDS) <= set(of_each_kind())
    left_out = {entry.rule for entry in RULES.values()} - {RULES[name].rule for name in of_each_kind()}
    assert left_out == (set() if EVERY else {SLTT, ApproximateOTPE})
    assert of_each_kind([*RULES][::-1]) == of_each_kind()[::-1]
