activity_config = experiment_config("activity")


def activity_results(scale):
    return [f"results/{scale}/activity/{name}.json" for name in activity_config[scale]["rules"]]


ACTIVITY_FIGURES = ["activity", "activity_raster", "activity_membranes"]

RESULTS += activity_results(SCALE)
FIGURES += expand("figures/{scale}/{stem}.{suffix}", scale=SCALE, stem=ACTIVITY_FIGURES, suffix=["csv", "png", "svg"])


rule activity_run:
    input:
        "requirements.lock",
        code("experiments/activity/run.py"),
    output:
        "results/{scale}/activity/{rule}.json",
    log:
        "logs/{scale}/activity/{rule}.log",
    params:
        settings=lambda wildcards: {**activity_config[wildcards.scale], "rules": None},
    shell:
        "workflow/logged {log} python -m experiments.activity.run"
        " --scale {wildcards.scale} --rule {wildcards.rule} --output {output}"


rule activity_plot:
    input:
        "requirements.lock",
        code("experiments/activity/plot.py"),
        results=lambda wildcards: activity_results(wildcards.scale),
    output:
        [file for stem in ACTIVITY_FIGURES for file in figure(stem)],
    log:
        "logs/{scale}/activity/plot.log",
    params:
        stem="figures/{scale}/activity",
    shell:
        "workflow/logged {log} python -m experiments.activity.plot --results {input.results} --output {params.stem}"
