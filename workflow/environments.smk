"""One environment for each library that is timed next to ours; its file says what it needs."""


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
