throughput_config = experiment_config("throughput")


def throughput_cell(wildcards):
    """The values that one workload depends on, so that a change of any other value does not rerun it."""
    settings = throughput_config[wildcards.scale]
    own = settings["workloads"][wildcards.workload]
    return {**settings, "workloads": own, "contenders": settings["contenders"][own["benchmark"]]}


def throughput_peers(wildcards):
    cell = throughput_cell(wildcards)
    size = cell["workloads"]["size"]
    names = {name.split(":")[0] for name in cell["contenders"]}
    return [
        (cell["workloads"]["benchmark"], name) for name in sorted(names) if size <= cell["left_out"].get(name, size)
    ]


def throughput_results(scale):
    return [f"results/{scale}/throughput/{name}.timing.json" for name in throughput_config[scale]["workloads"]]


THROUGHPUT_FIGURES = ["throughput", "throughput_speedup", "throughput_rules"]
SIDE_BY_SIDE = sorted(str(file) for file in Path("benchmarks/side_by_side").glob("*.py"))

RESULTS += throughput_results(SCALE)
FIGURES += expand("figures/{scale}/{stem}.{suffix}", scale=SCALE, stem=THROUGHPUT_FIGURES, suffix=["csv", "png", "svg"])


# One environment for each peer, which says in its file what it needs; why it could not be made, if so, is in the output.
rule throughput_environment:
    input:
        "benchmarks/{benchmark}/peers/{peer}.py",
    output:
        "benchmarks/.envs/{benchmark}/{peer}.json",
    log:
        "logs/environments/{benchmark}/{peer}.log",
    wildcard_constraints:
        benchmark="bptt|rules",
        peer=r"\w+",
    shell:
        "workflow/logged {log} python benchmarks/side_by_side/environment.py {input} {output}"


# Alone on the machine: all cores are its own.
rule throughput_run:
    input:
        "requirements.lock",
        code("experiments/throughput/run.py"),
        SIDE_BY_SIDE,
        peers=lambda wildcards: [
            file for b, peer in throughput_peers(wildcards) for file in code(f"benchmarks/{b}/peers/{peer}.py")
        ],
        environments=lambda wildcards: [f"benchmarks/.envs/{b}/{peer}.json" for b, peer in throughput_peers(wildcards)],
    output:
        "results/{scale}/throughput/{workload}.timing.json",
    log:
        "logs/{scale}/throughput/{workload}.log",
    threads: workflow.cores
    params:
        settings=throughput_cell,
    shell:
        "workflow/logged {log} python -m experiments.throughput.run"
        " --scale {wildcards.scale} --workload {wildcards.workload} --output {output}"


rule throughput_plot:
    input:
        "requirements.lock",
        code("experiments/throughput/plot.py"),
        "experiments/throughput/published.csv",
        results=lambda wildcards: throughput_results(wildcards.scale),
    output:
        [file for stem in THROUGHPUT_FIGURES for file in figure(stem)],
    log:
        "logs/{scale}/throughput/plot.log",
    params:
        stem="figures/{scale}/throughput",
    shell:
        "workflow/logged {log} python -m experiments.throughput.plot --results {input.results} --output {params.stem}"
