landscapes_config = experiment_config("landscapes")

LANDSCAPES_FIGURES = ["landscapes", "landscapes_3d", "landscapes_random", "landscapes_interpolation"]
# What the training under one rule does not depend on, and the surfaces do.
LANDSCAPES_OF_SURFACES = ["grid", "random", "line_points", "batch"]
LANDSCAPES_OF_PLANES = ["planes", "origin", "random_planes"]


def landscapes_training(wildcards):
    settings = landscapes_config[wildcards.scale]
    task = settings["tasks"][wildcards.task]
    apart = {"rules": {wildcards.rule: task["rules"][wildcards.rule]}, **dict.fromkeys(LANDSCAPES_OF_PLANES)}
    return {**settings, **dict.fromkeys(LANDSCAPES_OF_SURFACES), "tasks": {**task, **apart}}


def landscapes_trained(scale, task, suffix):
    return [
        f"results/{scale}/landscapes/{task}/{rule}.{suffix}"
        for rule in landscapes_config[scale]["tasks"][task]["rules"]
    ]


def landscapes_results(scale):
    return [file for task in landscapes_config[scale]["tasks"] for file in landscapes_trained(scale, task, "json")]


def landscapes_surfaces(scale, suffix):
    return [f"results/{scale}/landscapes/{task}.{suffix}" for task in landscapes_config[scale]["tasks"]]


RESULTS += landscapes_results(SCALE) + landscapes_surfaces(SCALE, "json") + landscapes_surfaces(SCALE, "npz")
RESULTS += [file for task in landscapes_config[SCALE]["tasks"] for file in landscapes_trained(SCALE, task, "npz")]
FIGURES += expand("figures/{scale}/{stem}.{suffix}", scale=SCALE, stem=LANDSCAPES_FIGURES, suffix=["csv", "png", "svg"])


rule landscapes_train:
    input:
        "requirements.lock",
        code("experiments/landscapes/run.py"),
    output:
        multiext("results/{scale}/landscapes/{task}/{rule}", ".json", ".npz"),
    log:
        "logs/{scale}/landscapes/{task}/{rule}.log",
    params:
        settings=landscapes_training,
    shell:
        "workflow/logged {log} python -m experiments.landscapes.run --scale {wildcards.scale} --task {wildcards.task}"
        " --rule {wildcards.rule} --output {output[0]}"


rule landscapes_surfaces:
    input:
        "requirements.lock",
        code("experiments/landscapes/run.py"),
        checkpoints=lambda wildcards: landscapes_trained(wildcards.scale, wildcards.task, "npz"),
    output:
        multiext("results/{scale}/landscapes/{task}", ".json", ".npz"),
    log:
        "logs/{scale}/landscapes/{task}.log",
    wildcard_constraints:
        task="[a-z0-9_]+",
    params:
        settings=lambda wildcards: {
            **landscapes_config[wildcards.scale],
            "tasks": landscapes_config[wildcards.scale]["tasks"][wildcards.task],
        },
    shell:
        "workflow/logged {log} python -m experiments.landscapes.run --scale {wildcards.scale} --task {wildcards.task}"
        " --checkpoints {input.checkpoints} --output {output[0]}"


rule landscapes_plot:
    input:
        "requirements.lock",
        code("experiments/landscapes/plot.py"),
        lambda wildcards: landscapes_surfaces(wildcards.scale, "npz"),
        results=lambda wildcards: landscapes_results(wildcards.scale),
        surfaces=lambda wildcards: landscapes_surfaces(wildcards.scale, "json"),
    output:
        [file for stem in LANDSCAPES_FIGURES for file in figure(stem)],
    log:
        "logs/{scale}/landscapes/plot.log",
    params:
        stem="figures/{scale}/landscapes",
    shell:
        "workflow/logged {log} python -m experiments.landscapes.plot"
        " --results {input.results} --surfaces {input.surfaces} --output {params.stem}"
