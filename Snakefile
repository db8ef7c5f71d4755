"""Everything that the project makes, as one graph.

    snakemake figures/all                         all figures at the quick scale (minutes on two cores)
    snakemake figures/all --config scale=paper    the same at the publication's sizes, meant for a GPU

An experiment is a folder under experiments/ with a jobs.py. workflow/figure.smk finds it; no other file has to name it.

What is made again follows from content. Snakemake runs a rule whose `made_from`, the digest of settings, sources and inputs, is
another one than when it made the files. It does not look into files, and knows only what it made itself: so before it plans,
the record of each product that is damaged or made from something else is set aside, and what has no record is made. A job's
inputs are the records of what has to be made before it, and no others: Snakemake compares the times of files that it knows.
docs/data.md says more.
"""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/common.smk"
include: "workflow/data.smk"
include: "workflow/environments.smk"
include: "workflow/figure.smk"
include: "workflow/gallery.smk"


localrules:
    data,
    gallery,
    manifest,
    raw_data,
    results,


# One checksum per artefact: `sha256sum -c figures/all` verifies them. The gallery, in which are dates and run times, has none.
rule manifest:
    default_target: True
    input:
        to_make([*PIPELINE.listed, PIPELINE.page]),
    output:
        str(MADE_MANIFEST),
    log:
        "logs/manifest.log",
    params:
        options=OPTIONS,
    shell:
        "workflow/logged {log} python -m experiments.manifest {params.options}"


# In a dry run, an untrue manifest is still there, and Snakemake would plan nothing for its sake. A rule takes its name.
if MADE_MANIFEST != MANIFEST:

    rule:
        name:
            str(MANIFEST)
        input:
            str(MADE_MANIFEST),


rule data:
    input:
        asked(PIPELINE.spikes.values()),


rule results:
    input:
        asked(PIPELINE.results.values()),


onstart:
    for line in [*told_of_spikes(), *told_of_peers()]:
        print(line)
