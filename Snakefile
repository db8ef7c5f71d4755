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

import fcntl
import sys
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
        lacking([*PIPELINE.listed, PIPELINE.page]),
    output:
        str(MANIFEST),
    log:
        "logs/manifest.log",
    params:
        options=OPTIONS,
    shell:
        "workflow/logged {log} python -m experiments.manifest {params.options}"


rule data:
    input:
        [str(product.record) for product in PIPELINE.spikes.values()],


rule results:
    input:
        [str(product.record) for product in PIPELINE.results.values()],


# Only one run is at work at a time. The lock ends with its process, however that ends, unlike Snakemake's own (`nolock`).
onstart:
    global ALONE
    ALONE = Path(".snakemake/alone").open("w")
    try:
        fcntl.flock(ALONE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("Another run is at work in this folder. Wait for it, or end it.") from None
    except OSError as error:
        print(
            f"This file system has no locks ({error.strerror}): see that no other run is at work.", file=sys.stderr
        )
    for line in [*told_of_spikes(), *told_of_peers()]:
        print(line)
