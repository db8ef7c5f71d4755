"""The results and figures of all experiments. Each is a folder with a jobs.py, which no other file has to name."""

from functools import partial

from experiments.common.job import experiments, figures_of, jobs_of

# The jobs of each scale and experiment by name, except for those whose spikes cannot be made.
JOBS = {}
for name in experiments():
    for scale, settings in experiment_config(name).items():
        found = jobs_of(name, scale, settings)
        JOBS[scale, name] = {key: job for key, job in found.items() if job.spikes not in MISSING}


def job_of(name, wildcards):
    return JOBS[wildcards.scale, name][wildcards.job]


def endings_of(name):
    """The endings of the files of an experiment's jobs, which are the same for all of them."""
    (endings,) = {job.endings for (_, other), jobs in JOBS.items() if other == name for job in jobs.values()}
    return endings


def files_of(scale, name):
    """The files of all results of an experiment."""
    return [f"results/{scale}/{name}/{key}{end}" for key, job in JOBS[scale, name].items() for end in job.endings]


def inputs_of(name, wildcards):
    """What a job reads: its own sources, spikes, arrays of other jobs, and other files."""
    job = job_of(name, wildcards)
    scripts = [file for file in job.needs if file.endswith(".py")]
    return [
        *code("experiments/run.py", f"experiments/{name}/{job.module}.py", *scripts),
        *([f"data/processed/{job.spikes}.npz"] if job.spikes else []),
        *(f"results/{wildcards.scale}/{name}/{other}.npz" for other in job.after),
        *(file for file in job.needs if file not in scripts),
    ]


RESULTS = [file for name in experiments() for file in files_of(SCALE, name)]
FIGURES = [
    f"figures/{SCALE}/{stem}.{suffix}"
    for name in experiments()
    for stem in figures_of(name)
    for suffix in ("csv", "png", "svg")
]


for name in experiments():

    # A job that is alone on the machine has all cores.
    rule:
        name:
            f"{name}_run"
        input:
            "requirements.lock",
            partial(inputs_of, name),
        output:
            multiext(f"results/{{scale}}/{name}/{{job}}", *endings_of(name)),
        log:
            f"logs/{{scale}}/{name}/{{job}}.log",
        wildcard_constraints:
            job="|".join(sorted({re.escape(key) for (_, other), jobs in JOBS.items() if other == name for key in jobs})),
        threads: lambda wildcards, name=name: workflow.cores if job_of(name, wildcards).alone else 1
        params:
            experiment=name,
            config=lambda wildcards, name=name: job_of(name, wildcards).config,
        shell:
            "workflow/logged {log} python -m experiments.run {params.experiment} {wildcards.job} --scale {wildcards.scale}"

    rule:
        name:
            f"{name}_figures"
        input:
            "requirements.lock",
            code("experiments/plot.py", f"experiments/{name}/plot.py"),
            sorted(str(file) for file in Path("experiments", name).glob("*.csv")),
            results=lambda wildcards, name=name: files_of(wildcards.scale, name),
        output:
            [file for stem in figures_of(name) for file in figure(stem)],
        log:
            f"logs/{{scale}}/{name}/plot.log",
        params:
            experiment=name,
            jobs=lambda wildcards, name=name: list(JOBS[wildcards.scale, name]),
        shell:
            "workflow/logged {log} python -m experiments.plot {params.experiment} --scale {wildcards.scale}"
            " --jobs {params.jobs}"
