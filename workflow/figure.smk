"""The results and figures of all experiments. Each experiment is a folder of four files; no other file has to name it."""

import json
import re
from functools import partial

from experiments.pipeline.job import TIMES, settings_of
from experiments.pipeline.results import RECORD


def changes_of(name):
    """The options by which a command has the settings that --config changes, with the results in the usual place."""
    usual = settings_of(name, SCALE)
    changes = [f"--set {key}={json.dumps(value)}" for key, value in PLAN.settings[name].items() if value != usual[key]]
    return ["--results results", *changes] if changes else []


def made_before(name, wildcards):
    """What a job reads and is not there: spikes, arrays of other jobs, environments."""
    job = PLAN.jobs[name][wildcards.job]
    spikes = [PLAN.spikes[job.spikes]] if job.spikes in PLAN.spikes else []
    read = [*spikes, *(PLAN.results[name, other] for other in job.reads)]
    found = stale_inputs(PLAN.results[name, wildcards.job], read)
    return found + [file for file in job.needs if found and not Path(file).exists()]


for name in PLAN.figures:
    kinds = {}  # the names of jobs, by the endings of their files
    for job in PLAN.jobs[name].values():
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
                multiext(f"results/{SCALE}/{name}/{{job}}", *endings, RECORD),
            log:
                f"logs/{SCALE}/{name}/{{job}}{endings[0]}.log",
            wildcard_constraints:
                job="|".join(map(re.escape, sorted(keys))),
            threads: lambda wildcards, name=name: workflow.cores if PLAN.jobs[name][wildcards.job].is_exclusive else 1
            resources:
                slurm_extra="--exclusive" if TIMES in endings else "",
                cpus_per_task=-1 if TIMES in endings else 1,
            params:
                experiment=name,
                scale=SCALE,
                changes=changes_of(name),
            shell:
                "workflow/logged {log} python -m experiments.run {params.experiment} {wildcards.job}"
                " --scale {params.scale} {params.changes}"

    rule:
        name:
            f"{name}_figures"
        input:
            lambda wildcards, name=name: [
                file
                for figure in PLAN.figures[name]
                for file in stale_inputs(figure, [PLAN.results[name, job] for job in PLAN.jobs[name]])
            ],
        output:
            [
                report(str(file), category=name) if file.suffix == ".png" else str(file)
                for figure in PLAN.figures[name]
                for file in (*figure.files, figure.record)
            ],
        log:
            f"logs/{SCALE}/{name}/plot.log",
        params:
            experiment=name,
            scale=SCALE,
            jobs=list(PLAN.jobs[name]),
            changes=changes_of(name),
            outdated=PLAN.outdated,
        shell:
            "workflow/logged {log} python -m experiments.plot {params.experiment} --scale {params.scale}"
            " --jobs {params.jobs} --output figures --outdated {params.outdated} {params.changes}"
