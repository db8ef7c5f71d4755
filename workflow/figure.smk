"""The results and figures of all experiments. Each experiment is a folder with a jobs.py; no other file has to name it."""

from functools import partial

from experiments.common.job import experiment_names, jobs_of

EXPERIMENTS = {name: experiment_config(name) for name in experiment_names()}
STEMS = {
    name: [figure["stem"] for figure in read_yaml(f"experiments/{name}/claims.yaml")["figures"]] for name in EXPERIMENTS
}

# The jobs of each scale and experiment by name, except for jobs whose spikes cannot be made.
JOBS = {
    (scale, name): {key: job for key, job in jobs_of(name, scale, settings).items() if job.spikes not in MISSING}
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


def job_of(name, wildcards):
    return JOBS[wildcards.scale, name][wildcards.job]


def files_of(scale, name):
    """The files of all results of an experiment."""
    return [f"results/{scale}/{name}/{output}" for job in JOBS[scale, name].values() for output in job.outputs]


def inputs_of(name, wildcards):
    """What a job reads: the sources of its module, spikes, arrays of other jobs, and other files.

    The command itself, experiments/run.py, and jobs.py are not among them: what they do shows in `config`.
    """
    job = job_of(name, wildcards)
    scripts = [file for file in job.files if file.endswith(".py")]
    return [
        *code("experiments/common/record.py", f"experiments/{name}/{job.module}.py", *scripts),
        *([f"data/processed/{job.spikes}.npz"] if job.spikes else []),
        *(f"results/{wildcards.scale}/{name}/{other}.npz" for other in job.reads),
        *(file for file in job.files if file not in scripts),
    ]


RESULTS = [file for name in EXPERIMENTS for file in files_of(SCALE, name)]
FIGURES = [
    f"figures/{SCALE}/{stem}.{suffix}"
    for name in EXPERIMENTS
    if JOBS[SCALE, name]
    for stem in STEMS[name]
    for suffix in ("csv", "png", "svg")
]


for name in EXPERIMENTS:
    for number, (endings, keys) in enumerate(kinds_of(name).items()):

        # A job that measures times runs alone on the machine and gets all cores.
        rule:
            name:
                f"{name}_run" if number == 0 else f"{name}_run_{number + 1}"
            input:
                "requirements.lock",
                partial(inputs_of, name),
            output:
                multiext(f"results/{{scale}}/{name}/{{job}}", *endings),
            log:
                f"logs/{{scale}}/{name}/{{job}}{endings[0]}.log",
            wildcard_constraints:
                job="|".join(map(re.escape, sorted(keys))),
            threads: lambda wildcards, name=name: workflow.cores if job_of(name, wildcards).is_exclusive else 1
            params:
                experiment=name,
                config=lambda wildcards, name=name: job_of(name, wildcards).config,
            shell:
                "workflow/logged {log} python -m experiments.run {params.experiment} {wildcards.job}"
                " --scale {wildcards.scale}"

    rule:
        name:
            f"{name}_figures"
        input:
            "requirements.lock",
            code("experiments/common/figures.py", f"experiments/{name}/plot.py"),
            sorted(str(file) for file in Path("experiments", name).glob("*.csv")),
            results=lambda wildcards, name=name: files_of(wildcards.scale, name),
        output:
            [file for stem in STEMS[name] for file in figure(stem)],
        log:
            f"logs/{{scale}}/{name}/plot.log",
        params:
            experiment=name,
            jobs=lambda wildcards, name=name: list(JOBS[wildcards.scale, name]),
        shell:
            "workflow/logged {log} python -m experiments.plot {params.experiment} --scale {wildcards.scale}"
            " --jobs {params.jobs} --output figures"
