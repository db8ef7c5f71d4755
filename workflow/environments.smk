"""One environment for each library that is timed next to ours; its file says what it needs."""


def told_of_peers():
    """A line for each experiment about the peers that are not run, since they are not asked for."""
    for name, jobs in PIPELINE.jobs.items():
        if PIPELINE.settings[name].get("own_environments") == "light":
            from experiments.throughput.jobs import CLOSEST, OURS

            peers = {contender.partition(":")[0] for job in jobs.values() for contender in job.config["contenders"]}
            not_run = sorted(peers - {*OURS, *CLOSEST})
            yield f"Not run in {name}, and drawn from the shipped results: {', '.join(not_run)}. To run them: --config peers=all"


# If an environment could not be made, the output says why. It is tried again once this file is deleted.
rule environment:
    output:
        "benchmarks/.envs/{peer}.json",
    log:
        "logs/environments/{peer}.log",
    wildcard_constraints:
        peer=r"\w+",
    shell:
        "workflow/logged {log} python -m benchmarks.side_by_side.environment benchmarks/peers/{wildcards.peer}.py"
        " {output}.part && mv {output}.part {output}"
