"""Validators of configurations. Their schemas name learning rules by reference, so that a rule is listed only in `RULES`.

items: {$ref: "urn:slax:rule"}        # the name of any rule
items: {$ref: "urn:slax:gradient"}    # the name of a rule that makes a gradient, which an optimizer such as FPTT does not
"""

import ast
from pathlib import Path
from typing import Any

import jsonschema
import referencing
import referencing.jsonschema

REGISTRY = Path(__file__).parents[2] / "packages" / "slax-rules" / "src" / "slax_rules" / "registry.py"


def rule_names(*, gradients_alone: bool = False) -> list[str]:
    """The keys of `slax_rules.RULES`, read from its source: an import would add two seconds to each call of Snakemake."""
    calls = [node for node in ast.walk(ast.parse(REGISTRY.read_text())) if isinstance(node, ast.Call)]
    (registry,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Rules"]
    entries = {entry.arg: entry.value for entry in registry.keywords}
    return [
        str(name)
        for name, entry in entries.items()
        if not (
            gradients_alone and isinstance(entry, ast.Call) and "optimizer" in {word.arg for word in entry.keywords}
        )
    ]


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """The validator of a schema that may refer to the names of rules."""
    schemas = {
        "urn:slax:rule": {"enum": rule_names()},
        "urn:slax:gradient": {"enum": rule_names(gradients_alone=True)},
    }
    resources = [
        (name, referencing.Resource.from_contents(content, referencing.jsonschema.DRAFT202012))
        for name, content in schemas.items()
    ]
    return jsonschema.Draft202012Validator(schema, registry=referencing.Registry().with_resources(resources))
