"""The scale, checked configurations, and the plan: which products are stale."""

import fcntl
import os
import sys
import time
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from experiments.pipeline import config as configurations
from experiments.pipeline import shipped
from experiments.pipeline.job import SCALES, experiment_names, unfinished
from experiments.pipeline.plan import MANIFEST, PEERS, RAW, Plan, stored
from experiments.pipeline.results import OUTDATED


def read_yaml(path):
    try:
        return configurations.read_yaml(path)
    except yaml.YAMLError as error:
        raise WorkflowError(f"The configuration is not valid, no job was started.\n{error}") from None


def check(value, schema, where):
    """Stop the workflow before any job, with one line per mistake."""
    if mistakes := [*configurations.mistakes(value, schema, where)]:
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
SCALE = config.get("scale", "quick")
ASKED_FOR = {name: config.get(name) for name in ("peers", "outdated")}
OPTIONS = [f"--scale {SCALE}", *(f"--{name} {value}" for name, value in ASKED_FOR.items() if value)]

check(data_config := read_yaml("data/config.yaml"), read_yaml("workflow/data.schema.yaml"), "data/config.yaml")
SETS = data_config["sets"]
for name in experiment_names():
    path = f"experiments/{name}/config.yaml"
    check(content := read_yaml(path), read_yaml("workflow/config.schema.yaml"), path)
    schema = Path(f"experiments/{name}/config.schema.yaml")
    if SCALE in content["scales"] and schema.exists():
        check(content["scales"][SCALE], read_yaml(schema), f"{path}: scales.{SCALE}")

# An input of each job of a stale product. It is newer than the files that are there, so Snakemake runs the job.
STALE = Path(".snakemake/stale")


def alone():
    """Lock this folder: only one run is at work at a time. The lock ends with its process, unlike Snakemake's (`nolock`)."""
    file = Path(".snakemake/alone").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("Another run is at work in this folder. Wait for it, or end it.") from None
    except OSError as error:
        print(f"This file system has no locks ({error.strerror}): see that no other run is at work.", file=sys.stderr)
    return file


if workflow.is_main_process:
    STALE.parent.mkdir(exist_ok=True)
    if not workflow.output_settings.dryrun:
        ALONE = alone()
    if SCALE == shipped.SCALE and ASKED_FOR["outdated"] != "remake" and (number := shipped.unpack()):
        print(f"Unpacked from {shipped.FOLDER}/: the results of {number} jobs.", file=sys.stderr)
PLAN = Plan(SCALE, **ASKED_FOR)
for line in [*unfinished(), *PLAN.notes()] if workflow.is_main_process else []:
    print(line, file=sys.stderr)

if workflow.is_main_process:
    stale = [product for product in [*PLAN.listed, PLAN.page] if product.label in PLAN.stale]
    for file in (file for product in stale for file in (*product.files, product.record)):
        if file.exists() and file.stat().st_mtime > time.time() - 1:  # a clock was wrong
            os.utime(file, (1, 1))
    if PLAN.manifest_is_stale and not workflow.output_settings.dryrun:
        MANIFEST.unlink(missing_ok=True)
    STALE.write_text(str(time.time_ns()))  # another content than any that Snakemake remembers

EXPLAINED = set()  # the labels of products whose reason was printed


def stale_inputs(product, read):
    """The inputs of the job that makes a product: none if it is current, and else those of `read` that are made before it.

    This process says why a product is out of date. A job on another machine sees what is there while the run is at work.
    """
    if product.label not in PLAN.stale or not workflow.is_main_process:
        return []
    if product.label not in EXPLAINED and PLAN.stale[product.label] != "not made yet":
        EXPLAINED.add(product.label)
        print(f"{product.label} is out of date: {PLAN.stale[product.label]}.", file=sys.stderr)
    return [str(STALE), *records(one for one in read if one.label in PLAN.stale)]


def records(products):
    return [str(product.record) for product in products]


def raw_of(wildcards):
    return [f"data/raw/{raw}" for raw in SETS[wildcards.set]["raw"]]


def left_out():
    """A line for each set whose raw files are not there."""
    for name, files in PLAN.missing.items():
        raw = " and ".join(f"data/raw/{file}" for file in files)
        reads = "all that reads it" if PLAN.outdated == "remake" else "what reads it and has no result"
        yield f"Left out, with {reads}: {name}, without {raw}. See docs/data.md."


def peers_not_run():
    """A line for each experiment about the peers that are not run, since they are not asked for."""
    for name, jobs in PLAN.jobs.items():
        if PLAN.settings[name].get("own_environments") == "light":
            from experiments.throughput.jobs import CLOSEST, OURS

            peers = {contender.partition(":")[0] for job in jobs.values() for contender in job.config["contenders"]}
            not_run = sorted(peers - {*OURS, *CLOSEST})
            yield f"Not run in {name}: {', '.join(not_run)}. To run them: --config peers=all"
