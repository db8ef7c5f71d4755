"""Run `pytest` in this folder."""

from slax_my_rule import DISCOUNTED

from slax_rules.testing import check_rule


def test_the_rule_obeys_the_laws_of_all_rules():
    check_rule(DISCOUNTED)
