"""The scale, checked configurations, and what of all products is there."""

import yaml
from snakemake.exceptions import WorkflowError

from experiments import shipped
from experiments.common import yaml_files
from experiments.common.job import SCALES, experiment_names
from experiments.common.policy import OUTDATED, PEERS
from experiments.common.products import MANIFEST, Pipeline, files_of, lacking, stored
from experiments.common.records import RECORD, settle, state_of
from experiments.common.schemas import validator


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


COMMAND_LINE_SCHEMA = {
    "properties": {
        "scale": {"enum": list(SCALES)},
        "outdated": {"enum": list(OUTDATED)},
        "peers": {"enum": list(PEERS)},
    },
    "additionalProperties": False,
}
check(config, COMMAND_LINE_SCHEMA, "--config")
check(read_yaml("data/config.yaml"), read_yaml("workflow/data.schema.yaml"), "data/config.yaml")
for name in experiment_names():
    path = f"experiments/{name}/config.yaml"
    content, schema = read_yaml(path), read_yaml(f"experiments/{name}/config.schema.yaml")
    check(content, read_yaml("workflow/config.schema.yaml"), path)
    for scale, settings in content["scales"].items():
        check(settings, schema, f"{path}: scales.{scale}")

SCALE, PEERS_ASKED, OUTDATED_ASKED = config.get("scale", "quick"), config.get("peers"), config.get("outdated")
ASKED_FOR = {"peers": PEERS_ASKED, "outdated": OUTDATED_ASKED}
OPTIONS = [f"--scale {SCALE}", *(f"--{name} {value}" for name, value in ASKED_FOR.items() if value)]

# The main process plans. Jobs on other machines read this file too, and see what is there while the run is at work.
if workflow.is_main_process:
    if SCALE == shipped.SCALE and OUTDATED_ASKED != "remake" and (number := shipped.unpack_what_is_lacking()):
        print(f"Unpacked from {shipped.archive()}: the results of {number} jobs.", file=sys.stderr)
    PIPELINE = Pipeline(SCALE, **ASKED_FOR, look=settle)
    for line in PIPELINE.told():
        print(line, file=sys.stderr)
    if PIPELINE.pending or (MANIFEST.exists() and MANIFEST.read_text(encoding="utf-8") != PIPELINE.manifest()):
        MANIFEST.unlink(missing_ok=True)
else:
    PIPELINE = Pipeline(SCALE, **ASKED_FOR)
