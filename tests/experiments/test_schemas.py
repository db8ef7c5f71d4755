"""The names of rules, data sets and codes in configurations are the keys of the packages' tables."""

from experiments.common.schemas import DATASETS as DATASETS_FILE
from experiments.common.schemas import ENCODERS as ENCODERS_FILE
from experiments.common.schemas import rule_names, table_entries, validator
from slax_data import DATASETS, ENCODERS
from slax_rules import RULES


def test_names_are_those_of_the_tables():
    assert rule_names() == list(RULES)
    for entry in RULES.values():  # which the page of rules shows
        assert all((entry.requires, str(entry.exact), entry.omits, entry.memory, entry.time, entry.cites)), entry.title
    assert rule_names(gradients_alone=True) == [name for name, rule in RULES.items() if rule.optimizer is None]
    assert list(table_entries(DATASETS_FILE, "DATASETS")) == list(DATASETS)
    assert list(table_entries(ENCODERS_FILE, "ENCODERS")) == list(ENCODERS)


def test_a_schema_may_refer_to_them():
    for kind, good, bad in (
        ("rule", "fptt", "x"),
        ("gradient", "ottt", "fptt"),
        ("dataset", "randman", "x"),
        ("code", "latency", "time"),
        ("any_code", "time", "x"),
    ):
        check = validator({"$ref": f"urn:slax:{kind}"})
        (error,) = check.iter_errors(bad)
        assert check.is_valid(good) and f"'{bad}' is not one of [" in error.message
