"""Files of settings: keys that are given twice are refused, names are the keys of the packages' tables, and pages have them."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from experiments.pipeline.config import library, mistakes, read_yaml
from experiments.pipeline.job import scales_of
from slax_data import DATASETS, ENCODERS
from slax_neurons import NEURONS
from slax_rules import RULES


def test_key_given_twice_is_refused_and_a_merged_one_may_be_overridden(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(yaml.YAMLError, match="'a' is given twice, in lines 1 and 3"):
        read_yaml(path)
    path.write_text("base: &base {x: 1, y: 2}\nmore: {<<: *base, x: 3}\n1: a\n'1': b\n")
    assert read_yaml(path) == {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}, 1: "a", "1": "b"}


def test_names_are_those_of_the_tables():
    literal = "write each entry into the dictionary itself, in the file of `TABLES` in experiments/pipeline/config.py"
    assert [*library("rule")] == list(RULES), literal
    for name, entry in RULES.items():
        told = f"of {name} in slax_rules/registry.py"  # what the page of rules shows
        shown = entry.requires, str(entry.exact), entry.omits, entry.memory, entry.time, entry.cites
        assert all(shown), f"fill in requires, exact, omits, memory, time and cites {told}"
        is_refused = any(mistakes(name, {"$ref": "urn:slax:gradient"}, "rule"))
        assert is_refused == (entry.optimizer is not None), f"write optimizer= {told} itself"
    assert [*library("data set")] == [*DATASETS] and [*library("code")] == [*ENCODERS], literal
    assert [*library("neuron")] == [*NEURONS], literal


PAGE = (Path(__file__).parents[2] / "docs/neurons.md").read_text()


def test_every_neuron_is_in_the_configuration():
    # Four join when the full scale is made again. Of the others, one spikes between steps, and two have two currents and no
    # threshold, which is not what the figure shows.
    left_out = {"izhikevich", "adex", "leaky_rate", "sliding_psn", "event_cuba_lif", "lru", "rtu"}
    assert all({*scale["neurons"]} == {*NEURONS} - left_out for scale in scales_of("step_response").values())


@pytest.mark.parametrize("kind", NEURONS.values())
def test_page_has_defaults_and_docstring_has_equations_of_every_neuron(kind):
    (row,) = re.findall(rf"^\| `{kind.__name__}` \|.*$", PAGE, re.MULTILINE)
    for argument in inspect.signature(vars(kind).get("__init__", lambda: None)).parameters.values():
        if isinstance(argument.default, int | float):
            assert f"`{argument.name}={argument.default:.4g}`" in row
    assert re.search(r"^    u_t = .*$", inspect.getdoc(kind), re.MULTILINE)
