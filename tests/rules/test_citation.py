"""The sources of rules as BibTeX, and the page that lists them with those of neurons and data sets."""

import dataclasses
import re
from pathlib import Path

import pytest
from flax import nnx

from slax_data import DATASETS
from slax_neurons import LIF, NEURONS, connect
from slax_rules import OSTL, OTPE, RULES, STLLR, TBPTT, Direct, Random, cite

PAGE = (Path(__file__).parents[2] / "docs" / "references.md").read_text()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_cited_as_its_name_is(name):
    """FPTT is in the optimizer, and HYPR is another name of a rule, so that their rules do not tell them."""
    assert cite(name) == RULES[name].bibtex
    rngs = nnx.Rngs(0)
    rule = RULES[name].make(rngs=rngs, model=connect([nnx.Linear(2, 2, rngs=rngs), LIF()]))
    same = {"fptt": "bptt", "hypr": "ostl"}.get(name, name)
    assert cite(rule) == RULES[same].bibtex


def test_other_options_of_a_rule_have_its_source():
    assert cite(TBPTT(steps=3)) == RULES["tbptt"].bibtex


def test_a_combination_without_a_name_is_cited_by_its_parts():
    assert cite(OSTL(route=Direct(rngs=nnx.Rngs(0)))) == f"{RULES['ostl'].bibtex}\n\n{RULES['dfa'].bibtex}"
    assert cite(STLLR(route=Random(rngs=nnx.Rngs(0)))) == f"{RULES['s_tllr'].bibtex}\n\n{RULES['e_prop'].bibtex}"


@dataclasses.dataclass(frozen=True)
class Mine(OTPE):
    """A rule that is not in the registry."""


def test_a_rule_of_a_user_is_refused():
    with pytest.raises(TypeError, match="got a Mine, expected a name in RULES"):
        cite(Mine())
    with pytest.raises(KeyError, match="Did you mean 'otpe'"):
        cite("opte")


@pytest.mark.parametrize("name", [*RULES, *NEURONS, *DATASETS])
def test_the_page_has_a_section_for_each_name(name):
    assert re.search(rf"^### (.*, )?{name}(,.*)?$", PAGE, flags=re.MULTILINE)


def test_no_key_is_on_the_page_twice_for_different_publications():
    entries = re.findall(r"^(@\w+\{(\w+),.*?^\})$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len({text for text, _ in entries}) == len({key for _, key in entries}) > 30
    assert all(text.count("{") == text.count("}") for text, _ in entries)
