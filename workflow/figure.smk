"""The results and figures of all experiments. Each experiment is a folder with a jobs.py; no other file has to name it."""

import json
import math
import re
from functools import partial

from experiments.common.job import TIMES, settings_of

NEEDS = read_yaml("workflow/resources.yaml")
ASKED = {  # what a job asks of a cluster, for what the most costly one of its kind needed
    "runtime": ("seconds", lambda seconds: 4 * seconds / 60 + 5),  # minutes
    "mem_mb": ("megabytes", lambda megabytes: 1.5 * megabytes + 500),
}


def asked_resource(resource, name, wildcards, attempt):
    """What a job asks for, twice as much at each attempt.

    If it was not measured, it is the default of the profile, or 0, which asks for nothing, if that has none.
    """
    fact, ask = ASKED[resource]
    needed = NEEDS.get(name, {}).get(SCALE, {}).get(fact)
    if needed is not None:
        return math.ceil(ask(needed)) * 2 ** (attempt - 1)
    default = (workflow.resource_settings.default_resources or {}).get(resource)
    return getattr(default, "value", default) or 0


def changes_of(name):
    """The options by which a command has the settings that --config changes, with the results in the usual place."""
    usual = settings_of(name, SCALE)
    changes = [
        f"--set {key}={json.dumps(value)}" for key, value in PIPELINE.settings[name].items() if value != usual[key]
    ]
    return ["--results results", *changes] if changes else []


def made_before(name, wildcards):
    """What a job reads and is not there: spikes, arrays of other jobs, environments."""
    job = PIPELINE.jobs[name][wildcards.job]
    spikes = [PIPELINE.spikes[job.spikes]] if job.spikes in PIPELINE.spikes else []
    files = [file for file in job.files if not Path(file).exists()]
    return [*files, *to_make([*spikes, *(PIPELINE.results[name, other] for other in job.reads)])]


for name in PIPELINE.figures:
    kinds = {}  # the names of jobs, by the endings of their files
    for job in PIPELINE.jobs[name].values():
        kinds.setdefault(job.endings, []).append(job.name)
    for number, (endings, keys) in enumerate(kinds.items(), start=1):

        # A job that measures times runs alone on the machine and gets all cores; on Slurm, on a node of its own, which says
        # how many cores it has.
        rule:
            name:
                f"{name}_run" if number == 1 else f"{name}_run_{number}"
            input:
                partial(made_before, name),
            output:
                multiext(f"results/{SCALE}/{name}/{{job}}", *endings, MADE_RECORD),
            log:
                f"logs/{SCALE}/{name}/{{job}}{endings[0]}.log",
            wildcard_constraints:
                job="|".join(map(re.escape, sorted(keys))),
            threads: lambda wildcards, name=name: workflow.cores if PIPELINE.jobs[name][wildcards.job].is_exclusive else 1
            resources:
                runtime=lambda wildcards, attempt, name=name: asked_resource("runtime", name, wildcards, attempt),
                mem_mb=lambda wildcards, attempt, name=name: asked_resource("mem_mb", name, wildcards, attempt),
                slurm_extra="--exclusive" if TIMES in endings else "",
                cpus_per_task=-1 if TIMES in endings else 1,
            params:
                experiment=name,
                scale=SCALE,
                changes=changes_of(name),
                made_from=lambda wildcards, name=name: PIPELINE.results[name, wildcards.job].digest(),
            shell:
                "workflow/logged {log} python -m experiments.run {params.experiment} {wildcards.job}"
                " --scale {params.scale} {params.changes}"

    rule:
        name:
            f"{name}_figures"
        input:
            to_make(PIPELINE.results[name, job] for job in PIPELINE.jobs[name]),
        output:
            [
                report(str(file), category=name) if str(file).endswith(".png") else str(file)
                for product in PIPELINE.figures[name]
                for file in (*product.files, made_record(product))
            ],
        log:
            f"logs/{SCALE}/{name}/plot.log",
        params:
            experiment=name,
            scale=SCALE,
            jobs=list(PIPELINE.jobs[name]),
            changes=changes_of(name),
            keep="--outdated keep" if PIPELINE.keep else "",
            made_from=lambda wildcards, name=name: [product.digest() for product in PIPELINE.figures[name]],
        shell:
            "workflow/logged {log} python -m experiments.plot {params.experiment} --scale {params.scale}"
            " --jobs {params.jobs} --output figures {params.keep} {params.changes}"
