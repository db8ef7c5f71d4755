"""Configurations: YAML files, their schemas, and the names of rules, data sets and codes that schemas refer to.

Schemas of experiments are optional. They refer to names that several of them share:

    items: {$ref: "urn:slax:rule"}        # the name of any rule
    items: {$ref: "urn:slax:gradient"}    # the name of a rule that makes a gradient, which an optimizer such as FPTT does not
    dataset: {$ref: "urn:slax:dataset"}   # the name of a data set
    code: {$ref: "urn:slax:code"}         # the name of a code for intensities
    code: {$ref: "urn:slax:any_code"}     # or of one that belongs to a data set: time and rate of Randman
    second_trials: {$ref: "urn:slax:second_trials"} # two values of each setting that rules try second, or null for none

The names are read from the sources of the packages, since importing these would add seconds to each call of Snakemake, and from
the tables themselves in a process that has imported them: `SLAX_IMPORTS` adds to them.
"""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

# The tables to which a script or a package (`SLAX_IMPORTS`) adds: the module and the name.
TABLES = {
    "rule": ("slax_rules.registry", "RULES"),
    "neuron": ("slax_neurons", "NEURONS"),
    "data set": ("slax_data.datasets", "DATASETS"),
    "code": ("slax_data.encoding.encoders", "ENCODERS"),
}


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError: the file is not YAML, or a mapping in it has a key twice, of which PyYAML alone would take the last one
            silently. The message has the file and, for keys, the lines.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(f"{path} is not valid YAML: {error}") from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, where PyYAML has it: it takes a tenth of the time
    def __init__(self, stream: Any):
        super().__init__(stream)
        self._flat: dict[int, yaml.MappingNode] = {}

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys of `<<` into a mapping, whose own keys are looked at before: they may be given there, too."""
        if id(node) not in self._flat:
            self._flat[id(node)] = node
            seen: dict[tuple[str, str], yaml.Node] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    first = seen.setdefault((key.tag, key.value), key)
                    if first is not key:
                        lines = " and ".join(str(mark.line + 1) for mark in (first.start_mark, key.start_mark))
                        raise yaml.YAMLError(
                            f"the key {key.value!r} is given twice, in lines {lines}: keep one of them."
                        )
        super().flatten_mapping(node)


def mistakes(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """A line for each mistake in a configuration: where it is, what was given, and what is known."""
    import jsonschema  # takes a third of a second
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    registry = Registry().with_contents(_names().items(), default_specification=DRAFT202012)
    for error in jsonschema.Draft202012Validator(schema, registry=registry).iter_errors(value):
        place = ": ".join([where, ".".join(map(str, error.absolute_path))]).removesuffix(": ")
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            unknown = ", ".join(repr(key) for key in error.instance if key not in known)
            yield f"{place}: unknown key {unknown}; known keys: {', '.join(known)}"
        else:
            yield f"{place}: {error.message}"


@functools.cache
def _names() -> dict[str, Any]:
    """The names of each kind as a schema."""
    rules = library("rule")
    gradients = [name for name, entry in rules.items() if "optimizer=" not in entry]
    codes, added = [*library("code"), *own("code")], list(own("rule"))
    known = {
        "urn:slax:rule": [*rules, *added],
        "urn:slax:gradient": [*gradients, *added],
        "urn:slax:dataset": [*library("data set"), *own("data set")],
        "urn:slax:code": codes,
        "urn:slax:any_code": sorted({*codes, "time", "rate"}),
    }
    trials = read_yaml(ROOT / "workflow/second_trials.schema.yaml")
    return {name: {"enum": listed} for name, listed in known.items()} | {"urn:slax:second_trials": trials}


@functools.cache
def library(kind: str) -> dict[str, str]:
    """The entries, as text, that a table of the library has in its source, `TABLE: Named[...] = Named({"key": ...})`."""
    module, table = TABLES[kind]
    path = ROOT.joinpath("packages", module.partition(".")[0].replace("_", "-"), "src", *module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    statements = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.AnnAssign)]
    (made,) = [node for node in statements if isinstance(node.target, ast.Name) and node.target.id == table]
    entries = next(node for node in ast.walk(made) if isinstance(node, ast.Dict))
    pairs = zip(entries.keys, entries.values, strict=True)
    return {str(key.value): ast.unparse(value) for key, value in pairs if isinstance(key, ast.Constant)}


def own(kind: str) -> dict[str, Any]:
    """The entries that were added to a table of the library in this process."""
    module, table = TABLES[kind]
    entries = getattr(sys.modules[module], table) if module in sys.modules else {}
    return {name: entry for name, entry in entries.items() if name not in library(kind)}
