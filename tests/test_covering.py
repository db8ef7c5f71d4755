"""Combinations that tests run have every pair of values, or every value, or every combination."""

import itertools

import pytest

from covering import combinations
from kinds_of_rules import KINDS, OF_EACH_CLASS, of_each_kind
from slax_rules import RULES

SETTINGS = [range(7), "abc", (False, True), (1, 2)]


def odd(number, letter, *_):
    """Whether a combination is valid: some pairs have none, and some have few."""
    return (number, letter) != (0, "a") and not (number == 1 and letter == "b" and _ == (True, 1))


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_every_group_of_values_that_is_valid_occurs(strength):
    valid = [row for row in itertools.product(*SETTINGS) if odd(*row)]
    found = combinations(*SETTINGS, valid=odd, strength=strength, every=False)
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


def test_each_rule_has_the_class_of_one_that_is_tried():
    kinds = {(RULES[name].rule, "recurrence" in RULES[name].options) for name in OF_EACH_CLASS}
    assert kinds == {(entry.rule, "recurrence" in entry.options) for entry in RULES.values()}
    assert set(KINDS) < set(OF_EACH_CLASS)
    assert of_each_kind([*RULES][::-1])[-1] == "bptt"
