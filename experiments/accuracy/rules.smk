accuracy_config = experiment_config("accuracy")


def accuracy_cell(wildcards):
    """The values that a task's rules share, so that a change of any other value does not rerun them."""
    settings = accuracy_config[wildcards.scale]
    task = {key: value for key, value in settings["tasks"][wildcards.task].items() if key not in ("rules", "without")}
    return {**settings, "rules": None, "tasks": task}


def accuracy_spikes(wildcards):
    name = accuracy_config[wildcards.scale]["tasks"][wildcards.task].get("spikes")
    return [f"data/processed/{name}.npz"] if name else []


def accuracy_results(scale):
    settings = accuracy_config[scale]
    return [
        f"results/{scale}/accuracy/{task}/{name}.json"
        for task, own in with_spikes(settings["tasks"]).items()
        for name in own.get("rules", settings["rules"])
        if name not in own.get("without", [])
    ]


RESULTS += accuracy_results(SCALE)
FIGURES += expand("figures/{scale}/accuracy.{suffix}", scale=SCALE, suffix=["csv", "png", "svg"])


rule accuracy_run:
    input:
        "requirements.lock",
        code("experiments/accuracy/run.py"),
        spikes=accuracy_spikes,
    output:
        "results/{scale}/accuracy/{task}/{rule}.json",
    log:
        "logs/{scale}/accuracy/{task}/{rule}.log",
    params:
        settings=accuracy_cell,
        spikes=lambda wildcards, input: f"--spikes {input.spikes}" if input.spikes else "",
    shell:
        "workflow/logged {log} python -m experiments.accuracy.run"
        " --scale {wildcards.scale} --task {wildcards.task} --rule {wildcards.rule} {params.spikes} --output {output}"


rule accuracy_plot:
    input:
        "requirements.lock",
        code("experiments/accuracy/plot.py"),
        "experiments/accuracy/published.csv",
        results=lambda wildcards: accuracy_results(wildcards.scale),
    output:
        figure("accuracy"),
    log:
        "logs/{scale}/accuracy/plot.log",
    params:
        stem="figures/{scale}/accuracy",
    shell:
        "workflow/logged {log} python -m experiments.accuracy.plot" " --results {input.results} --output {params.stem}"
