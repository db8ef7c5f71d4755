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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' is given twice, in lines 1 and 3"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_key_given_twice_is_refused_with_file_and_lines(tmp_path, text, told):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(yaml.YAMLError, match=rf"^{re.escape(str(path))} (.|\n)*{told}"):
        read_yaml(path)


def test_merged_mapping_may_be_overridden(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("base: &base {x: 1, y: 2}\nmore: {<<: *base, x: 3}\n1: a\n'1': b\n")
    assert read_yaml(path) == {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}, 1: "a", "1": "b"}


def test_names_are_those_of_the_tables():
    literal = "write each entry into the dictionary itself, in the file of `TABLES` in experiments/pipeline/config.py"
    assert [*library("rule")] == list(RULES), literal
    for entry in RULES.values():  # which the page of rules shows
        told = f"fill in requires, exact, omits, memory, time and cites of {entry.title} in slax_rules/registry.py"
        assert all((entry.requires, str(entry.exact), entry.omits, entry.memory, entry.time, entry.cites)), told
        name = next(name for name in RULES if RULES[name] is entry)
        is_refused = bool([*mistakes(name, {"$ref": "urn:slax:gradient"}, "rule")])
        assert is_refused == (entry.optimizer is not None), (
            f"write optimizer= in {name} of slax_rules/registry.py itself"
        )
    assert [*library("data set")] == [*DATASETS] and [*library("code")] == [*ENCODERS], literal
    assert [*library("neuron")] == [*NEURONS], literal


PAGE = (Path(__file__).parents[2] / "docs/neurons.md").read_text()


def test_every_neuron_is_in_the_configuration():
    # These join when the full scale is made again.
    drawn = set(NEURONS) - {"izhikevich", "adex", "leaky_rate", "sliding_psn"}
    drawn -= {"event_cuba_lif"}  # its spikes are between two steps
    drawn -= {"lru", "rtu"}  # two currents and no threshold: not what the figure shows
    assert all(set(scale["neurons"]) == drawn for scale in scales_of("step_response").values())


@pytest.mark.parametrize("kind", NEURONS.values())
def test_page_has_defaults_and_docstring_has_equations_of_every_neuron(kind):
    (row,) = re.findall(rf"^\| `{kind.__name__}` \|.*$", PAGE, re.MULTILINE)
    for argument in inspect.signature(vars(kind).get("__init__", lambda: None)).parameters.values():
        if isinstance(argument.default, int | float):
            assert f"`{argument.name}={argument.default:.4g}`" in row
    assert re.search(r"^    u_t = .*$", inspect.getdoc(kind), re.MULTILINE)
