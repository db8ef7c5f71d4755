"""Raw data, and the spikes that are made from it before any experiment."""

import re

SETS = read_yaml("data/config.yaml")["sets"]
SHIPPED = sorted({raw for settings in SETS.values() for raw in settings["raw"] if stored(RAW / f"{raw}.dvc")})


def told_of_spikes():
    """A line for each set whose raw files are not there."""
    for name, files in PIPELINE.missing.items():
        raw = " and ".join(f"data/raw/{file}" for file in files)
        reads = "what reads it and has no result" if PIPELINE.keep else "all that reads it"
        yield f"Left out, with {reads}: {name}, without {raw}. See docs/data.md."


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


def raw_of(wildcards):
    return [f"data/raw/{raw}" for raw in SETS[wildcards.set]["raw"]]


rule spikes:
    input:
        lambda wildcards: [raw for raw in raw_of(wildcards) if not Path(raw).exists()],
    output:
        multiext("data/processed/{set}", ".npz", MADE_RECORD),
    log:
        "logs/data/{set}.log",
    wildcard_constraints:
        set="|".join(PIPELINE.spikes) or "none",
    params:
        raw=raw_of,
        made_from=lambda wildcards: PIPELINE.spikes[wildcards.set].digest(),
    shell:
        "workflow/logged {log} python -m experiments.spikes {wildcards.set} --raw {params.raw:q}"
