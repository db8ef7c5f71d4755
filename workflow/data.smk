"""Raw data, and the spikes that are made from it before any experiment."""

import re

from experiments.pipeline.results import RECORD

SHIPPED = sorted({raw for settings in SETS.values() for raw in settings["raw"] if stored(RAW / f"{raw}.dvc")})


rule raw_data:
    output:
        "data/raw/{raw}",
    log:
        "logs/data/{raw}.log",
    wildcard_constraints:
        raw="|".join(re.escape(raw) for raw in SHIPPED) or "none",
    params:  # its name is the digest of its content
        stored=lambda wildcards: str(stored(RAW / f"{wildcards.raw}.dvc")),
    shell:
        "(cp {params.stored:q} {output:q}.part && mv {output:q}.part {output:q}) 2> {log:q}"


rule spikes:
    input:
        lambda wildcards: stale_inputs(PLAN.spikes[wildcards.set], []),
        lambda wildcards: [raw for raw in raw_of(wildcards) if not Path(raw).exists()],
    output:
        multiext("data/processed/{set}", ".npz", RECORD),
    log:
        "logs/data/{set}.log",
    wildcard_constraints:
        set="|".join(PLAN.spikes) or "none",
    params:
        raw=raw_of,
    shell:
        "workflow/logged {log} python -m experiments.pipeline spikes {wildcards.set} --raw {params.raw:q}"
