"""What is made again: it follows from certificates, and the times of files have no part in it.

Each job has one small input file, `.snakemake/decisions/...`, which is newer than its outputs if the job is to run, and as old
as can be if not. All its other inputs are `ancient`. The main process writes these files when Snakemake asks for the first of
them; the profiles turn off Snakemake's other reasons to run a job.
"""

import os
import sys
import time

from experiments.common.result_files import atomic_write

DECISIONS = ".snakemake/decisions"
SHOWN = 10  # reasons


def decision(*names):
    """The path of the file by which Snakemake learns whether to run a job."""
    return "/".join([DECISIONS, *names]) + ".txt"


def decided(*names):
    """The input function of a rule whose decision belongs to the chosen scale."""

    def written(wildcards):
        plan_in_main_process(SCALE)
        return decision(*names).format(**wildcards)

    return written


def write_decision(path, products, decisions):
    """Make Snakemake run the job that makes these products, if any of them is pending.

    The content differs each time: Snakemake takes an input of the same content for unchanged. The file is newer than outputs
    even if these are dated in the future.
    """
    path = Path(path)
    reason = next((it.reason for it in decisions if it.is_pending), "")
    if reason or not path.exists():
        with atomic_write(path) as aside:
            aside.write_text(f"{reason}\n{time.time_ns()}\n")
    files = [file for product in products for file in (product.certificate, *product.files) if file.exists()]
    newest = max([time.time(), *(file.stat().st_mtime + 1 for file in files)])
    os.utime(path, (newest, newest) if reason else (0, 0))


def tell(decisions):
    """Print why products that were made before are made again, and which are used although they are older than the sources."""
    again = [f"{label}: {it.reason}" for label, it in decisions if it.reason and it.state.kind != "missing"]
    older = [f"{label}: {', '.join(it.state.changed)} changed since" for label, it in decisions if it.older]
    for title, lines in (("To be made again", again), ("Older than the sources, and used as they are", older)):
        if lines:
            print(f"{title}:", *lines[:SHOWN], sep="\n  ", file=sys.stderr)
        if len(lines) > SHOWN:
            print(f"  and {len(lines) - SHOWN} more", file=sys.stderr)
