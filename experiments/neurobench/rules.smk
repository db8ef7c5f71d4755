neurobench_config = experiment_config("neurobench")


def neurobench_task(wildcards):
    """The values that one task depends on, so that a change of any other value does not rerun it."""
    settings = neurobench_config[wildcards.scale]
    return {**settings, "tasks": settings["tasks"][wildcards.task]}


def neurobench_results(scale):
    return expand("results/{scale}/neurobench/{task}.json", scale=scale, task=neurobench_config[scale]["tasks"])


RESULTS += neurobench_results(SCALE)
FIGURES += expand("figures/{scale}/neurobench.{suffix}", scale=SCALE, suffix=["csv", "png", "svg"])


rule neurobench_run:
    input:
        "requirements.lock",
        code("experiments/neurobench/run.py"),
    output:
        "results/{scale}/neurobench/{task}.json",
    log:
        "logs/{scale}/neurobench/{task}.log",
    params:
        settings=neurobench_task,
    shell:
        "workflow/logged {log} python -m experiments.neurobench.run"
        " --scale {wildcards.scale} --task {wildcards.task} --output {output}"


rule neurobench_plot:
    input:
        "requirements.lock",
        code("experiments/neurobench/plot.py"),
        results=lambda wildcards: neurobench_results(wildcards.scale),
    output:
        figure("neurobench"),
    log:
        "logs/{scale}/neurobench/plot.log",
    params:
        stem="figures/{scale}/neurobench",
    shell:
        "workflow/logged {log} python -m experiments.neurobench.plot"
        " --results {input.results} --output {params.stem}"
