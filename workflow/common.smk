"""The scale, and checked configurations."""

import re
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from experiments.common import yaml_files
from experiments.common.job import CERTIFICATE, SCALES
from experiments.common.policy import OUTDATED, PEERS, is_kept, with_peers
from experiments.common.schemas import validator
from experiments.common.sources import Sources


def read_yaml(path):
    try:
        return yaml_files.read_yaml(path)
    except yaml.YAMLError as error:
        raise WorkflowError(f"The configuration is not valid, no job was started.\n{error}") from None


def check(value, schema, where):
    """Stop the workflow before any job, with one line per mistake: where it is, what was given, and what is known."""
    mistakes = []
    for error in validator(schema).iter_errors(value):
        place = ": ".join([where, ".".join(map(str, error.absolute_path))]).removesuffix(": ")
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            unknown = ", ".join(repr(key) for key in error.instance if key not in known)
            mistakes.append(f"{place}: unknown key {unknown}; known keys: {', '.join(known)}")
        else:
            mistakes.append(f"{place}: {error.message}")
    if mistakes:
        raise WorkflowError("\n".join(["The configuration is not valid, no job was started.", *mistakes]))


SCALES_SCHEMA = read_yaml("workflow/config.schema.yaml")
COMMAND_LINE_SCHEMA = {
    "properties": {
        "scale": {"enum": list(SCALES)},
        "outdated": {"enum": list(OUTDATED)},
        "peers": {"enum": list(PEERS)},
    },
    "additionalProperties": False,
}

check(config, COMMAND_LINE_SCHEMA, "--config")
SCALE = config.get("scale", "quick")
SOURCES = Sources()


def keeps(scale):
    """True if intact results of a scale are used although they are older than the sources."""
    return is_kept(scale, config.get("outdated"))


wildcard_constraints:
    scale="|".join(SCALES),


def experiment_config(name):
    """An experiment's settings by scale, checked against the common schema and the experiment's own."""
    path = f"experiments/{name}/config.yaml"
    content = read_yaml(path)
    check(content, SCALES_SCHEMA, path)
    schema = read_yaml(f"experiments/{name}/config.schema.yaml")
    for scale, settings in content["scales"].items():
        check(settings, schema, f"{path}: scales.{scale}")
    return content["scales"]


def figure(stem):
    """The files of a figure, as outputs of the rule that plots it. Table and pictures are also in Snakemake's own report."""
    marks = {"caption": str(Path("workflow/figure.rst").resolve()), "category": stem}
    paths = {suffix: f"figures/{{scale}}/{stem}.{suffix}" for suffix in ("csv", "png", "svg")}
    shown = [report(path, labels={"file": suffix}, **marks) for suffix, path in paths.items()]
    return [*shown, f"figures/{{scale}}/{stem}{CERTIFICATE}"]
