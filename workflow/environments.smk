"""One environment for each library that is timed next to ours; its file says what it needs."""

from benchmarks.side_by_side.contenders import needs_torch


def told_of_peers():
    """A line for each experiment about the peers that are not run, since they need PyTorch and are not asked for."""
    for name, jobs in PIPELINE.jobs.items():
        if PIPELINE.settings[name].get("own_environments") == "light":
            peers = {contender.partition(":")[0] for job in jobs.values() for contender in job.config["contenders"]}
            not_run = sorted(peer for peer in peers if needs_torch(peer))
            yield f"Not run in {name}, since they need PyTorch: {', '.join(not_run)}. With them: --config peers=all"


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
