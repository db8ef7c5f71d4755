"""The names of rules, data sets and codes in configurations are the keys of the packages' tables."""

from experiments.common.schemas import rule_names
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
