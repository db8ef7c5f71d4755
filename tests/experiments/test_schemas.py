"""The names of rules, data sets and codes in configurations are the keys of the packages' tables."""

import subprocess
import sys
from pathlib import Path

from experiments.common.schemas import rule_names, validator
from experiments.common.sources import library
from slax_data import DATASETS, ENCODERS
from slax_neurons import NEURONS
from slax_rules import RULES


def test_names_are_those_of_the_tables():
    assert rule_names() == list(RULES)
    for entry in RULES.values():  # which the page of rules shows
        assert all((entry.requires, str(entry.exact), entry.omits, entry.memory, entry.time, entry.cites)), entry.title
    assert rule_names(gradients_alone=True) == [name for name, rule in RULES.items() if rule.optimizer is None]
    assert [*library("data set")] == [*DATASETS] and [*library("code")] == [*ENCODERS]
    assert [*library("neuron")] == [*NEURONS]


def test_the_rule_of_the_template_is_known_to_experiments_that_import_it(monkeypatch):
    """In a process of its own, since the package adds to the table."""
    monkeypatch.setenv("SLAX_IMPORTS", "slax_my_rule")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "templates/slax-my-rule")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    program = """if True:
        from experiments.common import schemas, sources
        assert schemas.validator({"$ref": "urn:slax:gradient"}).is_valid("discounted")
        assert list(sources.own_entries({"rules": ["otpe", "discounted"]})) == ["rule discounted"]
    """
    subprocess.run([sys.executable, "-c", program], check=True)


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
