"""Raw data, and the spikes that are made from it before any experiment."""

SPIKES_SCHEMA = read_yaml("workflow/data.schema.yaml")
SETS = read_yaml("data/config.yaml")

check(SETS, SPIKES_SCHEMA, "data/config.yaml")
SETS = SETS["sets"]


def stored(raw):
    """The file in this repository's store to which a DVC pointer refers, if it is there."""
    pointer = Path(f"data/raw/{raw}.dvc")
    md5 = read_yaml(pointer)["outs"][0]["md5"] if pointer.exists() else "none"
    file = Path("data/store/files/md5", md5[:2], md5[2:])
    return file if file.is_file() else None


SHIPPED = sorted({raw for settings in SETS.values() for raw in settings["raw"] if stored(raw)})
ABSENT = {
    name: [raw for raw in settings["raw"] if raw not in SHIPPED and not Path("data/raw", raw).exists()]
    for name, settings in SETS.items()
}
MISSING = {name: files for name, files in ABSENT.items() if files}
SPIKES = [f"data/processed/{name}.npz" for name in SETS if name not in MISSING]


def told_of_spikes():
    """A line for each set whose raw files are not there."""
    for name, files in MISSING.items():
        raw = " and ".join(f"data/raw/{file}" for file in files)
        reads = "what reads it and has no result" if keeps(SCALE) else "all that reads it"
        yield f"Left out, with {reads}: {name}, without {raw}. See docs/data.md."


rule raw_data:
    output:
        "data/raw/{raw}",
    log:
        "logs/data/{raw}.log",
    wildcard_constraints:
        raw="|".join(re.escape(raw) for raw in SHIPPED) or "none",
    params:  # no input: its name is the digest of its content, and its time says nothing
        stored=lambda wildcards: str(stored(wildcards.raw)),
    shell:
        "(cp {params.stored:q} {output:q}.part && mv {output:q}.part {output:q}) 2> {log:q}"


def raw_of(wildcards):
    return [f"data/raw/{raw}" for raw in SETS[wildcards.set]["raw"]]


rule spikes:
    input:
        needs(raw_of, "spikes", "{set}"),
    output:
        "data/processed/{set}.npz",
        "data/processed/{set}" + CERTIFICATE,
    log:
        "logs/data/{set}.log",
    params:
        raw=raw_of,
    shell:
        "workflow/logged {log} python -m experiments.spikes {wildcards.set} --raw {params.raw:q}"
