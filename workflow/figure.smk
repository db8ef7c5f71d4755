"""The results and figures of all experiments. Each experiment is a folder with a jobs.py; no other file has to name it."""

import json
import math
import sys
from functools import cache, partial

from experiments import shipped
from experiments.common.job import experiment_names, jobs_of
from experiments.common.products import (
    certificate_of,
    figure_product,
    manifest_product,
    page_product,
    result_product,
    spikes_product,
)
from experiments.common.provenance import decide, older_results, state_of

CONFIGURED = {name: experiment_config(name) for name in experiment_names()}
EXPERIMENTS = {
    name: {scale: with_peers(settings, config.get("peers")) for scale, settings in scales.items()}
    for name, scales in CONFIGURED.items()
}
STEMS = {
    name: [figure["stem"] for figure in read_yaml(f"experiments/{name}/claims.yaml")["figures"]] for name in EXPERIMENTS
}


def obtainable(scale, name, job):
    """True if the spikes of a job are there or can be made, or if its result is used as it is."""
    return job.spikes not in MISSING or (
        keeps(scale) and state_of(result_product(name, scale, job, SOURCES), SOURCES).is_usable
    )


# Shipped results, where there are none. A job, which reads this file too, has them then.
if workflow.is_main_process and SCALE == shipped.SCALE and (ARCHIVE := shipped.archive()):
    unpacked = shipped.unpack(shipped.products_of_scale(SOURCES), Sources(), ARCHIVE)
    if unpacked:
        print(f"Unpacked from {ARCHIVE}: the results of {len(unpacked)} jobs.", file=sys.stderr)

# The jobs of each scale and experiment by name, except for jobs whose spikes cannot be made.
JOBS = {
    (scale, name): {key: job for key, job in jobs_of(name, scale, settings).items() if obtainable(scale, name, job)}
    for name, scales in EXPERIMENTS.items()
    for scale, settings in scales.items()
}


def kinds_of(name):
    """The names of an experiment's jobs at all scales, by the endings of their files."""
    kinds = {}
    for (_, other), jobs in JOBS.items():
        for key, job in jobs.items() if other == name else ():
            kinds.setdefault(job.endings, set()).add(key)
    return kinds


def options_of(name, wildcards):
    """The options by which a command has the settings that --config changes, with the results in the usual place."""
    usual, asked = CONFIGURED[name][wildcards.scale], EXPERIMENTS[name][wildcards.scale]
    changes = [f"--set {key}={json.dumps(value)}" for key, value in asked.items() if value != usual[key]]
    return ["--results results", *changes] if changes else []


def job_of(name, wildcards):
    return JOBS[wildcards.scale, name][wildcards.job]


def files_of(scale, name):
    """The files of all results of an experiment."""
    return [f"results/{scale}/{name}/{output}" for job in JOBS[scale, name].values() for output in job.outputs]


def read_by_job(name, wildcards):
    """What a job reads that other jobs make."""
    job = job_of(name, wildcards)
    return [
        *([f"data/processed/{job.spikes}.npz"] if job.spikes and job.spikes not in MISSING else []),
        *(f"results/{wildcards.scale}/{name}/{other}.npz" for other in job.reads),
        *(file for file in job.files if not file.endswith(".py")),
    ]


def read_by_figures(name, wildcards):
    """The results that figures are drawn from, with their certificates."""
    jobs = JOBS[wildcards.scale, name].values()
    certificates = [f"results/{wildcards.scale}/{name}/{job.certificate}" for job in jobs]
    return [*files_of(wildcards.scale, name), *certificates]


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
    needed = NEEDS.get(name, {}).get(wildcards.scale, {}).get(fact)
    if needed is not None:
        return math.ceil(ask(needed)) * 2 ** (attempt - 1)
    default = (workflow.resource_settings.default_resources or {}).get(resource)
    return getattr(default, "value", default) or 0


RESULTS = [file for name in EXPERIMENTS if (SCALE, name) in JOBS for file in files_of(SCALE, name)]
FIGURES = [
    f"figures/{SCALE}/{stem}.{suffix}"
    for name in EXPERIMENTS
    if JOBS.get((SCALE, name))
    for stem in STEMS[name]
    for suffix in ("csv", "png", "svg")
]


for name in EXPERIMENTS:
    for number, (endings, keys) in enumerate(kinds_of(name).items(), start=1):

        # A job that measures times runs alone on the machine and gets all cores; on Slurm, on a node of its own, which says
        # how many cores it has.
        rule:
            name:
                f"{name}_run" if number == 1 else f"{name}_run_{number}"
            input:
                needs(partial(read_by_job, name), "results", "{scale}", name, "{job}", scale="{scale}"),
            output:
                multiext(f"results/{{scale}}/{name}/{{job}}", *endings, CERTIFICATE),
            log:
                f"logs/{{scale}}/{name}/{{job}}{endings[0]}.log",
            wildcard_constraints:
                job="|".join(map(re.escape, sorted(keys))),
            threads: lambda wildcards, name=name: workflow.cores if job_of(name, wildcards).is_exclusive else 1
            resources:
                runtime=lambda wildcards, attempt, name=name: asked_resource("runtime", name, wildcards, attempt),
                mem_mb=lambda wildcards, attempt, name=name: asked_resource("mem_mb", name, wildcards, attempt),
                slurm_extra=lambda wildcards, name=name: "--exclusive" if job_of(name, wildcards).is_exclusive else "",
                cpus_per_task=lambda wildcards, name=name: -1 if job_of(name, wildcards).is_exclusive else 1,
            params:
                experiment=name,
                options=partial(options_of, name),
            shell:
                "workflow/logged {log} python -m experiments.run {params.experiment} {wildcards.job}"
                " --scale {wildcards.scale} {params.options}"

    rule:
        name:
            f"{name}_figures"
        input:
            needs(partial(read_by_figures, name), "figures", "{scale}", name, scale="{scale}"),
        output:
            [file for stem in STEMS[name] for file in figure(stem)],
        log:
            f"logs/{{scale}}/{name}/plot.log",
        params:
            experiment=name,
            jobs=lambda wildcards, name=name: list(JOBS[wildcards.scale, name]),
            options=partial(options_of, name),
        shell:
            "workflow/logged {log} python -m experiments.plot {params.experiment} --scale {wildcards.scale}"
            " --jobs {params.jobs} --output figures {params.options}"


@cache
def plan(scale):
    """Decide what is made at a scale, tell Snakemake and the user, and return the decisions to make something, and the files."""
    jobs = {name: JOBS[scale, name] for name in EXPERIMENTS if JOBS.get((scale, name))}
    products = {
        decision("spikes", name): [spikes_product(name, SETS[name], SOURCES)] for name in SETS if name not in MISSING
    }
    results = {
        decision("results", scale, name, key): [result_product(name, scale, job, SOURCES)]
        for name in jobs
        for key, job in jobs[name].items()
    }
    products |= results
    products |= {
        decision("figures", scale, name): [
            figure_product(name, stem, scale, jobs[name].values(), SOURCES) for stem in STEMS[name]
        ]
        for name in jobs
    }
    if scale == SCALE:
        products |= {decision("gallery"): [page()], decision("manifest"): [manifest_of(SOURCES)]}
    decisions = decide(
        [product for made in products.values() for product in made],
        SOURCES,
        keep={product.certificate for made in results.values() for product in made} if keeps(scale) else (),
        forced=asked_for(products),
    )
    reasons = {
        path: next((it.reason for product in made if (it := decisions[product.certificate]).is_pending), "")
        for path, made in products.items()
    }
    for path, made in products.items():
        write_decision(path, made, reasons[path])
    tell([(product.label, decisions[product.certificate]) for made in products.values() for product in made])
    SOURCES.remember()
    pending = {path: products[path] for path, reason in reasons.items() if reason}
    files = {file for made in pending.values() for product in made for file in (product.certificate, *product.files)}
    return pending.keys() | set(map(str, files)) | asked_environments()


def asked_for(products):
    """The files that --forcerun makes, which it has by their names or by a rule: what depends on them is made again too."""
    asked = workflow.dag_settings.forcerun
    forced = {SOURCES.root / file for file in asked_environments()}
    for path, made in products.items():
        kind, *names = path.removeprefix(f"{DECISIONS}/").removesuffix(".txt").split("/")
        named = {"results": r"{1}_run(_\d+)?", "figures": "{1}_figures"}.get(kind, kind).format(*names)
        by_rule = any(re.fullmatch(named, name) for name in asked)
        forced |= {file for product in made for file in product.files if by_rule or str(file) in asked}
    return forced


def asked_environments():
    """The records of environments that --forcerun makes."""
    asked = workflow.dag_settings.forcerun
    files = {file for jobs in JOBS.values() for job in jobs.values() for file in job.files if ".envs" in file}
    return {file for file in files if "environment" in asked or file in asked}
