"""Validators of configurations. Their schemas refer to what several of them share, so that it is listed only once.

items: {$ref: "urn:slax:rule"}        # the name of any rule
items: {$ref: "urn:slax:gradient"}    # the name of a rule that makes a gradient, which an optimizer such as FPTT does not
dataset: {$ref: "urn:slax:dataset"}   # the name of a data set
code: {$ref: "urn:slax:code"}         # the name of a code for intensities
code: {$ref: "urn:slax:any_code"}     # or of one that belongs to a data set: time and rate of Randman
second_trials: {$ref: "urn:slax:second_trials"} # two values of each setting that rules try second, or null for no such trials

The names are read from the sources of the packages, since importing them would add seconds to each call of Snakemake, and are
those of `SLAX_IMPORTS` too.
"""

import functools
from typing import Any

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from experiments.pipeline.config import read_yaml
from experiments.pipeline.job import ROOT, added, library

SECOND_TRIALS = ROOT / "workflow/second_trials.schema.yaml"


def rule_names(*, gradients_alone: bool = False) -> list[str]:
    """The keys of `slax_rules.RULES`."""
    entries = library("rule")
    return [name for name, entry in entries.items() if not (gradients_alone and "optimizer=" in entry)]


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """The validator of a schema that may refer to the names of rules, data sets and codes."""
    return jsonschema.Draft202012Validator(schema, registry=names())


@functools.cache
def names() -> Registry:
    """The names of each kind as a schema."""
    codes, rules = [*library("code"), *added("code")], added("rule")
    known = {
        "urn:slax:rule": [*rule_names(), *rules],
        "urn:slax:gradient": [*rule_names(gradients_alone=True), *rules],
        "urn:slax:dataset": [*library("data set"), *added("data set")],
        "urn:slax:code": codes,
        "urn:slax:any_code": sorted({*codes, "time", "rate"}),
    }
    schemas: dict[str, Any] = {name: {"enum": listed} for name, listed in known.items()}
    schemas["urn:slax:second_trials"] = read_yaml(SECOND_TRIALS)
    return Registry().with_contents(schemas.items(), default_specification=DRAFT202012)
