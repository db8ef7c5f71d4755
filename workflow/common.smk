"""The scale, checked configurations, and what of all products is there."""

import fcntl
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from experiments import shipped
from experiments.common import yaml_files
from experiments.common.job import SCALES, experiment_names
from experiments.common.policy import OUTDATED, PEERS
from experiments.common.products import MANIFEST, RAW, Pipeline, lacking, stored
from experiments.common.records import RECORD, Forecast, settle
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
check(data_config := read_yaml("data/config.yaml"), read_yaml("workflow/data.schema.yaml"), "data/config.yaml")
SETS = data_config["sets"]
for name in experiment_names():
    path = f"experiments/{name}/config.yaml"
    content, schema = read_yaml(path), read_yaml(f"experiments/{name}/config.schema.yaml")
    check(content, read_yaml("workflow/config.schema.yaml"), path)
    for scale, settings in content["scales"].items():
        check(settings, schema, f"{path}: scales.{scale}")

SCALE, PEERS_ASKED, OUTDATED_ASKED = config.get("scale", "quick"), config.get("peers"), config.get("outdated")
ASKED_FOR = {"peers": PEERS_ASKED, "outdated": OUTDATED_ASKED}
OPTIONS = [f"--scale {SCALE}", *(f"--{name} {value}" for name, value in ASKED_FOR.items() if value)]

DRY = workflow.output_settings.dryrun  # nothing is renamed, written or deleted then
MADE_RECORD = ".record.planned" if DRY else RECORD  # in a dry run one that is not there, since the record may still be


def alone():
    """Lock this folder: only one run is at work at a time. The lock ends with its process, unlike Snakemake's (`nolock`)."""
    Path(".snakemake").mkdir(exist_ok=True)
    file = Path(".snakemake/alone").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("Another run is at work in this folder. Wait for it, or end it.") from None
    except OSError as error:
        print(f"This file system has no locks ({error.strerror}): see that no other run is at work.", file=sys.stderr)
    return file


def made_record(product):
    """The record of a product as the rule that makes it names it."""
    return str(product.record).removesuffix(RECORD) + MADE_RECORD


def to_make(products):
    """The records of the products that have to be made first."""
    if DRY:
        return [made_record(product) for product in products if product.label in PIPELINE.pending]
    return lacking(products)


def asked(products):
    """The records of products, whether they are there or have to be made."""
    if DRY:
        there = [product for product in products if product.label not in PIPELINE.pending and product.record.exists()]
        return [*to_make(products), *(str(product.record) for product in there)]
    return [str(product.record) for product in products]


def raw_of(wildcards):
    return [f"data/raw/{raw}" for raw in SETS[wildcards.set]["raw"]]


def told_of_spikes():
    """A line for each set whose raw files are not there."""
    for name, files in PIPELINE.missing.items():
        raw = " and ".join(f"data/raw/{file}" for file in files)
        reads = "what reads it and has no result" if PIPELINE.keep else "all that reads it"
        yield f"Left out, with {reads}: {name}, without {raw}. See docs/data.md."


def told_of_peers():
    """A line for each experiment about the peers that are not run, since they are not asked for."""
    for name, jobs in PIPELINE.jobs.items():
        if PIPELINE.settings[name].get("own_environments") == "light":
            from experiments.throughput.jobs import CLOSEST, OURS

            peers = {contender.partition(":")[0] for job in jobs.values() for contender in job.config["contenders"]}
            not_run = sorted(peers - {*OURS, *CLOSEST})
            yield f"Not run in {name}, and drawn from the shipped results: {', '.join(not_run)}. To run them: --config peers=all"


# The main process plans. Jobs on other machines read this file too, and see what is there while the run is at work.
MADE_MANIFEST = MANIFEST
if not workflow.is_main_process:
    PIPELINE = Pipeline(SCALE, **ASKED_FOR)
else:
    SHIPS, UNPACKED = SCALE == shipped.SCALE and OUTDATED_ASKED != "remake", {}
    if DRY:
        UNPACKED = shipped.settings_of_lacking() if SHIPS else {}
    else:
        ALONE = alone()  # before anything is renamed or written
        if SHIPS and (number := shipped.unpack_what_is_lacking()):
            print(f"Unpacked from {shipped.FOLDER}/: the results of {number} jobs.", file=sys.stderr)
    PIPELINE = Pipeline(SCALE, **ASKED_FOR, look=Forecast(UNPACKED) if DRY else settle)
    for line in PIPELINE.told():
        print(line, file=sys.stderr)
    there = MANIFEST.exists() and not UNPACKED  # what would be unpacked has no checksum yet
    if PIPELINE.pending or (there and MANIFEST.read_text(encoding="utf-8") != PIPELINE.manifest()):
        if DRY:
            MADE_MANIFEST = MANIFEST.with_name("all.planned")
        else:
            MANIFEST.unlink(missing_ok=True)
