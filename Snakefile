"""Everything that the project makes, as one graph.

    snakemake figures/all                         all figures at the quick scale (minutes on two cores)
    snakemake figures/all --config scale=paper    the same at the publication's sizes, meant for a GPU

An experiment is a folder under experiments/ with a jobs.py. workflow/figure.smk finds it; no other file has to name it.
"""

import fcntl
import os
import re
import shutil
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/common.smk"
include: "workflow/decisions.smk"
include: "workflow/data.smk"
include: "workflow/environments.smk"
include: "workflow/figure.smk"
include: "workflow/gallery.smk"


# Snakemake's own lock outlives a run that is killed, and would stop the next one. This one ends with its process: who gets it
# knows that no other run is at work here. It is held, without being read, as long as `ALONE` is there. Jobs read this file too,
# and leave both locks to the run that started them.
Path(".snakemake").mkdir(exist_ok=True)
ALONE = Path(".snakemake/alone").open("w") if workflow.is_main_process else None
try:
    if ALONE is not None:
        fcntl.flock(ALONE, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
except OSError:
    pass  # another run is at work, or the file system has no such locks: Snakemake's own lock is then the only one


localrules:
    data,
    gallery,
    manifest,
    raw_data,
    results,


ARTEFACTS = SPIKES + RESULTS + FIGURES


def manifest_of(sources):
    return manifest_product(Path("figures/all"), map(Path, ARTEFACTS), sources)


# One checksum per artefact: `sha256sum -c figures/all` verifies them. The gallery, in which are dates and run times, has none.
# It is made again when any of DVC's sources changes, and with it runs the hook below, even where that changes no figure.
rule manifest:
    default_target: True
    input:
        needs([*ARTEFACTS, *GALLERY], "manifest"),
    output:
        "figures/all",
        "figures/all" + CERTIFICATE,
    log:
        "logs/manifest.log",
    params:
        artefacts=ARTEFACTS,
    shell:
        "workflow/logged {log} python -m experiments.manifest {params.artefacts}"


rule data:
    input:
        SPIKES,


rule results:
    input:
        RESULTS,


onstart:
    for line in [*told_of_spikes(), *told_of_peers()]:
        print(line)


# A job on this machine shows the end of its log if it fails; one on a cluster cannot.
onerror:
    if not workflow.local_exec:
        said = "".join(Path(file).read_text(encoding="utf-8") for file in log)
        named = {
            file
            for files in re.findall(r"^ +log: (.*?)(?: \(check|$)", said, re.MULTILINE)
            for file in files.split(", ")
        }
        for file in sorted(file for file in named if Path(file).is_file()):
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
            print(f"The last lines of {file}:", *(f"    {line}" for line in lines), sep="\n", file=sys.stderr)


# DVC's record follows each run that made the manifest, for which all files were found to match their certificates: after a
# partial target it would be half a truth, and so it would be after one that used results older than the sources. Inside
# `dvc repro`, which sets DVC_ROOT, DVC records by itself.
onsuccess:
    stages = {"quick": "dvc.yaml", shipped.SCALE: "shipped/dvc.yaml"}
    now = Sources()
    if (
        SCALE in stages
        and decision("manifest") in plan(SCALE)
        and "DVC_ROOT" not in os.environ
        and state_of(manifest_of(now), now).kind == "current"
        and not older_results(map(certificate_of, map(Path, RESULTS)), now)
    ):
        if Path(".git").exists():
            shell(f"dvc commit --quiet --force {stages[SCALE]}")
        else:
            print("This is not a git checkout: everything is made, but DVC keeps no record of it.")
