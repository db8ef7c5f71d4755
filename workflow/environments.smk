"""One environment for each library that is timed next to ours; its file says what it needs."""


# If an environment could not be made, the output says why. It is tried again on request alone: --forcerun environment.
rule environment:
    input:
        ancient("benchmarks/peers/{peer}.py"),
    output:
        "benchmarks/.envs/{peer}.json",
    log:
        "logs/environments/{peer}.log",
    wildcard_constraints:
        peer=r"\w+",
    shell:
        "workflow/logged {log} python -m benchmarks.side_by_side.environment {input} {output}.part"
        " && mv {output}.part {output}"
