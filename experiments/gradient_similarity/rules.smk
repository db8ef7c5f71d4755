gradient_similarity_config = experiment_config("gradient_similarity")


def gradient_similarity_cell(wildcards):
    """The values that one task depends on, so that a change of any other value does not rerun it."""
    settings = gradient_similarity_config[wildcards.scale]
    task = settings["tasks"][wildcards.task]
    return {**settings, "tasks": None, **task}


def gradient_similarity_spikes(wildcards):
    name = gradient_similarity_config[wildcards.scale]["tasks"][wildcards.task].get("spikes")
    return [f"data/processed/{name}.npz"] if name else []


def gradient_similarity_results(scale):
    tasks = with_spikes(gradient_similarity_config[scale]["tasks"])
    return [f"results/{scale}/gradient_similarity/{task}.json" for task in tasks]


GRADIENT_SIMILARITY_FIGURES = [
    "gradient_similarity",
    "gradient_similarity_norms",
    "gradient_similarity_noise",
    "gradient_similarity_terms",
]

RESULTS += gradient_similarity_results(SCALE)
FIGURES += expand(
    "figures/{scale}/{stem}.{suffix}", scale=SCALE, stem=GRADIENT_SIMILARITY_FIGURES, suffix=["csv", "png", "svg"]
)


rule gradient_similarity_run:
    input:
        "requirements.lock",
        code("experiments/gradient_similarity/run.py"),
        spikes=gradient_similarity_spikes,
    output:
        "results/{scale}/gradient_similarity/{task}.json",
    log:
        "logs/{scale}/gradient_similarity/{task}.log",
    params:
        settings=gradient_similarity_cell,
        spikes=lambda wildcards, input: f"--spikes {input.spikes}" if input.spikes else "",
    shell:
        "workflow/logged {log} python -m experiments.gradient_similarity.run"
        " --scale {wildcards.scale} --task {wildcards.task} {params.spikes} --output {output}"


rule gradient_similarity_plot:
    input:
        "requirements.lock",
        code("experiments/gradient_similarity/plot.py"),
        results=lambda wildcards: gradient_similarity_results(wildcards.scale),
    output:
        [file for stem in GRADIENT_SIMILARITY_FIGURES for file in figure(stem)],
    log:
        "logs/{scale}/gradient_similarity/plot.log",
    params:
        stem="figures/{scale}/gradient_similarity",
    shell:
        "workflow/logged {log} python -m experiments.gradient_similarity.plot"
        " --results {input.results} --output {params.stem}"
