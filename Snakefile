"""Everything that the project makes, as one graph.

    snakemake figures/all                         all figures at the quick scale (minutes on two cores)
    snakemake figures/all --config scale=paper    the same at the publication's sizes, meant for a GPU

An experiment is a folder under experiments/ with a jobs.py. workflow/figure.smk finds it; no other file has to name it.
"""

import fcntl
import os
import shutil
import time
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/common.smk"
include: "workflow/data.smk"
include: "workflow/environments.smk"
include: "workflow/figure.smk"
include: "workflow/gallery.smk"


# Snakemake's own lock outlives a run that is killed, and would stop the next one. This one ends with its process: who gets it
# knows that no other run is at work here. It is held, without being read, as long as `ALONE` is there.
Path(".snakemake").mkdir(exist_ok=True)
ALONE = Path(".snakemake/alone").open("w")
try:
    fcntl.flock(ALONE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(".snakemake/locks", ignore_errors=True)
except BlockingIOError:
    pass  # Snakemake's lock then says so, where it matters


localrules:
    data,
    gallery,
    manifest,
    raw_data,
    results,


# One checksum per artefact: `sha256sum -c figures/all` verifies them. The gallery, in which are dates and run times, has none.
# The sources are here for DVC, which looks at whole folders: any change in them runs this job and with it the hook below, even
# where it changes no figure.
rule manifest:
    default_target: True
    input:
        artefacts=SPIKES + RESULTS + FIGURES,
        sources=dvc_sources(),
        gallery=GALLERY,
    output:
        "figures/all",
    log:
        "logs/manifest.log",
    shell:
        "sha256sum {input.artefacts} > {output} 2> {log}"


rule data:
    input:
        SPIKES,


rule results:
    input:
        RESULTS,


STARTED = time.time()


# DVC's record (dvc.lock) follows each run that made the manifest: after a partial target it would be half a truth.
# Inside `dvc repro`, which sets DVC_ROOT, DVC records by itself. dvc.yaml tracks the quick scale.
onsuccess:
    manifest = Path("figures/all")
    made = manifest.exists() and manifest.stat().st_mtime >= STARTED
    if made and SCALE == "quick" and "DVC_ROOT" not in os.environ:
        if Path(".git").exists():
            shell("dvc commit --quiet --force dvc.yaml")
        else:
            print("This is not a git checkout: everything is made, but DVC keeps no record of it.")
