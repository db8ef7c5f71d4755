curvature_config = experiment_config("curvature")

CURVATURE_FIGURES = ["curvature", "curvature_windows"]
CURVATURE_PARTS = ["solutions", "online", "windows"]


def curvature_settings(wildcards, part):
    """The values of one part, so that a change of another does not rerun it."""
    settings = curvature_config[wildcards.scale]
    apart = {other: None for other in CURVATURE_PARTS if other != part}
    return {
        **settings,
        **apart,
        part: {**settings[part], "rules": None if part != "windows" else settings[part]["rules"]},
    }


def curvature_of_rules(scale, part):
    return [f"results/{scale}/curvature/{part}/{rule}.json" for rule in curvature_config[scale][part]["rules"]]


def curvature_windows(scale):
    return [f"results/{scale}/curvature/windows.json", f"results/{scale}/curvature/windows.timing.json"]


RESULTS += curvature_of_rules(SCALE, "solutions") + curvature_of_rules(SCALE, "online") + curvature_windows(SCALE)
FIGURES += expand("figures/{scale}/{stem}.{suffix}", scale=SCALE, stem=CURVATURE_FIGURES, suffix=["csv", "png", "svg"])


rule curvature_run:
    input:
        "requirements.lock",
        code("experiments/curvature/run.py"),
    output:
        "results/{scale}/curvature/{part}/{rule}.json",
    log:
        "logs/{scale}/curvature/{part}/{rule}.log",
    wildcard_constraints:
        part="solutions|online",
    params:
        settings=lambda wildcards: curvature_settings(wildcards, wildcards.part),
    shell:
        "workflow/logged {log} python -m experiments.curvature.run --scale {wildcards.scale} --part {wildcards.part}"
        " --rule {wildcards.rule} --output {output}"


# Alone on the machine: all cores are its own.
rule curvature_windows:
    input:
        "requirements.lock",
        code("experiments/curvature/run.py"),
    output:
        "results/{scale}/curvature/windows.json",
        "results/{scale}/curvature/windows.timing.json",
    log:
        "logs/{scale}/curvature/windows.log",
    threads: workflow.cores
    params:
        settings=lambda wildcards: curvature_settings(wildcards, "windows"),
    shell:
        "workflow/logged {log} python -m experiments.curvature.run --scale {wildcards.scale} --part windows"
        " --output {output[0]}"


rule curvature_plot:
    input:
        "requirements.lock",
        code("experiments/curvature/plot.py"),
        solutions=lambda wildcards: curvature_of_rules(wildcards.scale, "solutions"),
        online=lambda wildcards: curvature_of_rules(wildcards.scale, "online"),
        windows=lambda wildcards: curvature_windows(wildcards.scale),
    output:
        [file for stem in CURVATURE_FIGURES for file in figure(stem)],
    log:
        "logs/{scale}/curvature/plot.log",
    params:
        stem="figures/{scale}/curvature",
    shell:
        "workflow/logged {log} python -m experiments.curvature.plot --results {input.solutions} --online {input.online}"
        " --windows {input.windows[0]} --costs {input.windows[1]} --output {params.stem}"
