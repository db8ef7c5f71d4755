"""The tables of docs/rules.md are those of the packages, and its numbers hold; those against the oracle in test_local_rules."""

import pytest

from docs.rules_page import REFERENCES, references, rules_table, section
from rules.ledger import CASES, COMPARISONS, FOREIGN, deviation_from_library, printed, printed_bounds
from slax_rules import RULES, LayerRule


def test_the_page_has_the_table_of_rules():
    assert section("rules") == rules_table(), "python docs/rules_page.py"
    assert section("references", REFERENCES) == references(), "python docs/rules_page.py"


def test_every_rule_for_layers_is_compared_with_the_oracle():
    layerwise = {name for name, entry in RULES.items() if issubclass(entry.rule, LayerRule)}
    assert layerwise <= {comparison.rule for comparison in COMPARISONS.values()}


def test_the_page_has_a_number_for_each_comparison():
    assert set(printed_bounds()) == set(CASES), "PYTHONPATH=tests:. python -m rules.ledger"
    assert max(printed_bounds().values()) < 1e-9
    assert [line[2].strip("`") for line in printed("libraries")] == [one.file for one in FOREIGN]


@pytest.mark.parametrize("index", range(len(FOREIGN)), ids=[one.file for one in FOREIGN])
def test_gradient_is_that_of_the_library(index, x64):
    limit = float(printed("libraries")[index][-1])
    assert limit < 1e-9
    assert deviation_from_library(FOREIGN[index]) < limit
