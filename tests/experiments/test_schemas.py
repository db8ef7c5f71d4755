"""The names of rules in configurations are the keys of the registry."""

import pytest

from experiments.common.schemas import rule_names, validator
from slax_rules import RULES


def test_names_are_those_of_the_registry():
    assert rule_names() == list(RULES)
    assert rule_names(gradients_alone=True) == [name for name, rule in RULES.items() if rule.optimizer is None]


@pytest.mark.parametrize(("kind", "name", "is_valid"), [("rule", "fptt", 1), ("gradient", "fptt", 0), ("rule", "x", 0)])
def test_a_schema_may_refer_to_them(kind, name, is_valid):
    errors = list(validator({"$ref": f"urn:slax:{kind}"}).iter_errors(name))
    assert bool(errors) != bool(is_valid)
    if errors:
        assert f"'{name}' is not one of ['bptt', 'tbptt', 'rtrl'" in errors[0].message
