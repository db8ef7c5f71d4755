"""Run `pytest` in this folder."""

import slax_my_rule  # noqa: F401  adds the rule

from slax_rules import RULES
from slax_rules.testing import check_rule


def test_the_rule_obeys_the_laws_of_all_rules():
    check_rule(RULES["discounted"])
