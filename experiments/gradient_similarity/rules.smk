gradient_similarity_config = experiment_config("gradient_similarity")


def gradient_similarity_cell(wildcards):
    """The values that one cell depends on, so that a change of any other value does not rerun it."""
    settings = gradient_similarity_config[wildcards.scale]
    return {**settings, "tasks": settings["tasks"][wildcards.task], "seeds": None}


def gradient_similarity_results(scale):
    settings = gradient_similarity_config[scale]
    return expand(
        "results/{scale}/gradient_similarity/{task}/seed{seed}.json",
        scale=scale,
        task=settings["tasks"],
        seed=range(settings["seeds"]),
    )


RESULTS += gradient_similarity_results(SCALE)
FIGURES += expand("figures/{scale}/gradient_similarity.{suffix}", scale=SCALE, suffix=["csv", "png", "svg"])


rule gradient_similarity_run:
    input:
        "requirements.lock",
        code("experiments/gradient_similarity/run.py"),
    output:
        "results/{scale}/gradient_similarity/{task}/seed{seed}.json",
    log:
        "logs/{scale}/gradient_similarity/{task}/seed{seed}.log",
    params:
        settings=gradient_similarity_cell,
    shell:
        "workflow/logged {log} python -m experiments.gradient_similarity.run"
        " --scale {wildcards.scale} --task {wildcards.task} --seed {wildcards.seed} --output {output}"


rule gradient_similarity_plot:
    input:
        "requirements.lock",
        code("experiments/gradient_similarity/plot.py"),
        results=lambda wildcards: gradient_similarity_results(wildcards.scale),
    output:
        multiext("figures/{scale}/gradient_similarity", ".csv", ".png", ".svg"),
    log:
        "logs/{scale}/gradient_similarity/plot.log",
    params:
        stem="figures/{scale}/gradient_similarity",
    shell:
        "workflow/logged {log} python -m experiments.gradient_similarity.plot"
        " --results {input.results} --output {params.stem}"
