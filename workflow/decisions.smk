"""What is made again: it follows from certificates, and the times of files have no part in it.

Each job has one small input file, `.snakemake/decisions/...`, which is newer than its outputs if the job is to run, and as old
as can be if not. The main process, which alone decides, writes these files when Snakemake asks for the first of them. The
profiles turn off Snakemake's other reasons to run a job.
"""

import os
import sys
import time

from experiments.common.provenance import listed
from experiments.common.result_files import atomic_write

DECISIONS = ".snakemake/decisions"
SHOWN = 10  # reasons
STARTED = time.time()


def decision(*names):
    """The path of the file by which Snakemake learns whether to run a job."""
    return "/".join([DECISIONS, *names]) + ".txt"


def needs(files, *names, scale=SCALE):
    """The input function of a job: the files that it reads, and the file with the decision on it.

    What it reads is `ancient`, unless the job is to run, and the file to be made before: Snakemake does not look at the
    decision on a job that has only `ancient` files of another job that runs. A file that is not there is left out if the job
    is not to run, as where its result came with the repository: Snakemake would make the file and then run the job.

    Args:
        files: the paths, or a function of the wildcards.
        names: of the decision, with wildcards.
        scale: of the decision, with wildcards.
    """

    def inputs(wildcards):
        path = decision(*names).format(**wildcards)
        read = files(wildcards) if callable(files) else files
        made = plan(scale.format(**wildcards)) if workflow.is_main_process else ()
        for file in map(Path, read if made else ()):
            date_back(file)
        there = {file for file in read if Path(file).exists()}
        if path not in made:
            return [path, *(ancient(file) for file in read if file in there)]
        return [path, *(ancient(file) if file in there and file not in made else file for file in read)]

    return inputs


def write_decision(path, products, reason):
    """Make Snakemake run the job that makes these products, if there is a reason.

    The content differs each time: Snakemake takes an input of the same content for unchanged.
    """
    path, now = Path(path), time.time()
    if reason or not path.exists():
        with atomic_write(path) as aside:
            aside.write_text(f"{reason}\n{time.time_ns()}\n", encoding="utf-8")
    os.utime(path, (now, now) if reason else (0, 0))
    for product in products if reason else ():
        for file in (product.certificate, *product.files):
            date_back(file)


def date_back(file):
    """Take a file out of the future: Snakemake would take old outputs for new, and refuse new outputs of it as too old."""
    if file.exists() and file.stat().st_mtime >= STARTED:
        os.utime(file, (STARTED - 1, STARTED - 1))


def tell(decisions):
    """Print why products that were made before are made again, and which are used although they are older than the sources."""
    again = [f"{label}: {it.reason}" for label, it in decisions if it.reason and it.state.kind != "missing"]
    changed = {}
    for label, it in decisions:
        if it.older:
            changed.setdefault(label.partition(" ")[0], []).append(it.state.changed)
    older = [
        f"{experiment}, {len(jobs)} jobs: {listed(sorted(set().union(*jobs)))} changed since"
        for experiment, jobs in changed.items()
    ]
    if again:
        print("To be made again:", *again[:SHOWN], sep="\n  ", file=sys.stderr)
    if len(again) > SHOWN:
        print(f"  and {len(again) - SHOWN} more", file=sys.stderr)
    if older:
        print("Older than the sources, and used as they are:", *older, sep="\n  ", file=sys.stderr)
