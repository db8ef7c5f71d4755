rules_table_config = experiment_config("rules_table")


def rules_table_task(wildcards):
    """The values that a task's rules share, so that a change of any other value does not rerun them."""
    settings = rules_table_config[wildcards.scale]
    apart = {name: None for name in ("rules", "cost_tasks", "cost_repeats")}
    task = {name: value for name, value in settings["tasks"][wildcards.task].items() if name != "without"}
    return {**settings, **apart, "tasks": task}


def rules_table_rules(scale, task):
    settings = rules_table_config[scale]
    return [rule for rule in settings["rules"] if rule not in settings["tasks"][task].get("without", [])]


def rules_table_results(scale):
    return [
        f"results/{scale}/rules_table/{task}/{rule}.json"
        for task in rules_table_config[scale]["tasks"]
        for rule in rules_table_rules(scale, task)
    ]


def rules_table_costs(scale):
    return expand(
        "results/{scale}/rules_table/{task}.timing.json", scale=scale, task=rules_table_config[scale]["cost_tasks"]
    )


RESULTS += rules_table_results(SCALE) + rules_table_costs(SCALE)
FIGURES += expand(
    "figures/{scale}/{figure}.{suffix}",
    scale=SCALE,
    figure=["rules_table", "rules_table_cost"],
    suffix=["csv", "png", "svg"],
)


rule rules_table_run:
    input:
        "requirements.lock",
        code("experiments/rules_table/run.py"),
    output:
        "results/{scale}/rules_table/{task}/{rule}.json",
    log:
        "logs/{scale}/rules_table/{task}/{rule}.log",
    params:
        settings=rules_table_task,
    shell:
        "workflow/logged {log} python -m experiments.rules_table.run"
        " --scale {wildcards.scale} --task {wildcards.task} --rule {wildcards.rule} --output {output}"


# Alone on the machine: all cores are its own.
rule rules_table_cost:
    input:
        "requirements.lock",
        code("experiments/rules_table/cost.py"),
    output:
        "results/{scale}/rules_table/{task}.timing.json",
    log:
        "logs/{scale}/rules_table/{task}.timing.log",
    threads: workflow.cores
    params:
        settings=rules_table_task,
        rules=lambda wildcards: rules_table_rules(wildcards.scale, wildcards.task),
        repeats=lambda wildcards: rules_table_config[wildcards.scale]["cost_repeats"],
    shell:
        "workflow/logged {log} python -m experiments.rules_table.cost"
        " --scale {wildcards.scale} --task {wildcards.task} --output {output}"


rule rules_table_plot:
    input:
        "requirements.lock",
        code("experiments/rules_table/plot.py"),
        results=lambda wildcards: rules_table_results(wildcards.scale),
        costs=lambda wildcards: rules_table_costs(wildcards.scale),
    output:
        figure("rules_table"),
        figure("rules_table_cost"),
    log:
        "logs/{scale}/rules_table/plot.log",
    params:
        stem="figures/{scale}/rules_table",
    shell:
        "workflow/logged {log} python -m experiments.rules_table.plot"
        " --results {input.results} --costs {input.costs} --output {params.stem}"
