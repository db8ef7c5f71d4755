step_response_config = experiment_config("step_response")


def step_response_cell(wildcards):
    """The values that one neuron depends on, so that a change of any other value does not rerun it."""
    settings = step_response_config[wildcards.scale]
    return {**settings, "neurons": settings["neurons"][wildcards.neuron]}


def step_response_results(scale):
    return expand(
        "results/{scale}/step_response/{neuron}.json",
        scale=scale,
        neuron=step_response_config[scale]["neurons"],
    )


RESULTS += step_response_results(SCALE)
FIGURES += expand("figures/{scale}/step_response.{suffix}", scale=SCALE, suffix=["csv", "png", "svg"])


rule step_response_run:
    input:
        "requirements.lock",
        code("experiments/step_response/run.py"),
    output:
        "results/{scale}/step_response/{neuron}.json",
    log:
        "logs/{scale}/step_response/{neuron}.log",
    params:
        settings=step_response_cell,
    shell:
        "workflow/logged {log} python -m experiments.step_response.run"
        " --scale {wildcards.scale} --neuron {wildcards.neuron} --output {output}"


rule step_response_plot:
    input:
        "requirements.lock",
        code("experiments/step_response/plot.py"),
        results=lambda wildcards: step_response_results(wildcards.scale),
    output:
        figure("step_response"),
    log:
        "logs/{scale}/step_response/plot.log",
    params:
        stem="figures/{scale}/step_response",
    shell:
        "workflow/logged {log} python -m experiments.step_response.plot"
        " --results {input.results} --output {params.stem}"
