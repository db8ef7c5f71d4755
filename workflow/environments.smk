"""One environment for each library that is timed beside ours, which says in its file what it needs."""


# Why an environment could not be made, if so, is in the output.
rule environment:
    input:
        "benchmarks/peers/{peer}.py",
    output:
        "benchmarks/.envs/{peer}.json",
    log:
        "logs/environments/{peer}.log",
    wildcard_constraints:
        peer=r"\w+",
    shell:
        "workflow/logged {log} python benchmarks/side_by_side/environment.py {input} {output}"
