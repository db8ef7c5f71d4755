"""The pipeline on a toy: edited, damaged and stale files are never used or certified; times play no part; no job runs twice."""

import base64
import os
import shutil
import signal
import sys
import time

import pytest
from toy_pipeline import Tree, jobs

pytestmark = pytest.mark.slow

A = "results/tiny/toy/a.json"
FIGURE, PAGE, ALL = "figures/tiny/toy.png", "figures/index.html", "figures/all"
SPIKES = "data/processed/japanese_vowels.npz"
DRAWN = {"figure toy", "page of figures"}
RESULTS = {"toy a", "toy b", "toy total"}
NOTHING = "Nothing to be done"
DRY, LOUD = ("--dry-run",), ("--quiet", "host")
NOT_LISTED = "not listed"

# What is not as it would be made if one file after the other were edited, and whether the manifest would still list it.
# Digests of sources are kept as long as a process.
EDITED = """
import os, sys
from pathlib import Path

from experiments.pipeline.plan import Plan

scale, *files = sys.argv[1:]
for file in map(Path, files):
    content = file.read_bytes()
    file.write_bytes(content + (b"edited = 1\\n" if file.suffix == ".py" else b"# edited\\n"))
    if not (child := os.fork()):
        plan = Plan(scale)
        for label in plan.stale:
            print(f"{file}: {label}")
        if plan.manifest_is_stale:
            print(f"{file}: not listed")
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    file.write_bytes(content)
"""


def edited(tree, *files, scale="tiny"):
    """The files with what is not as it would be made if they were edited."""
    code, said = tree.call(sys.executable, "-c", EDITED, scale, *files)
    assert code == 0, said
    return {tuple(line.split(": ")) for line in said.splitlines()}


def pending(tree, scale="tiny"):
    """What is not as it would be made now."""
    return {label for _, label in edited(tree, os.devnull, scale=scale)} - {NOT_LISTED}


def change_byte(path, place=-20):
    """Change one bit of a file, but neither its size nor its time."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def contents(tree):
    folders = ("data/processed", "results", "figures")
    files = [path for folder in folders for path in (tree.path / folder).rglob("*") if path.is_file()]
    return {path.relative_to(tree.path).as_posix(): path.read_bytes() for path in files}


def test_everything_is_made_listed_and_sound_and_a_second_run_does_nothing(built):
    listed = {line.split()[1] for line in (built.path / ALL).read_text().splitlines()}
    results = {f"results/tiny/toy/{name}" for name in ("a.json", "a.npz", "b.json", "b.npz", "total.json")}
    assert listed == {SPIKES, *results, *(f"figures/tiny/toy.{form}" for form in ("csv", "png", "svg"))}
    assert built.call("sha256sum", "--check", "--strict", ALL)[0] == 0
    code, said = built.python("experiments.pipeline", "verify")
    assert code == 0 and "No other files are there." in said
    before = contents(built)
    assert built.run(ALL) == 0 and NOTHING in built.said()
    assert contents(built) == before
    assert (built.path / "figures/tiny/toy.csv").read_text() == "square\n0\n1\n1\n"


def test_without_times_and_snakemakes_memory_what_is_current_is_used_and_what_is_stale_made_again(tree):
    """As in a clone with results from elsewhere, or under a wrong clock. Snakemake alone compares with what it remembers."""
    shutil.rmtree(tree.path / ".snakemake")
    for number, path in enumerate(path for path in sorted(tree.path.rglob("*")) if path.is_file()):
        os.utime(path, (time.time() + (-1e8, 1e8, 0)[number % 3],) * 2)
    assert tree.run(ALL) == 0 and NOTHING in tree.said()
    before = contents(tree)
    tree.edit("experiments/toy/run.py")
    (tree.path / FIGURE).write_text("damaged")
    assert tree.run(ALL, options=DRY) == 0 and "toy a is out of date: made from other sources" in tree.said()
    assert tree.ran() == {"toy_run", "toy_run_2", "toy_figures", "gallery", "manifest"}
    (tree.path / FIGURE).write_bytes(before[FIGURE])
    tree.edit("experiments/toy/run.py", "edited = 1\n", "")
    assert contents(tree) == before  # the dry run has renamed and deleted nothing
    tree.edit("experiments/toy/plot.py", '"o"', '"x"')
    os.utime(tree.path / "experiments/toy/plot.py", (1e9, 1e9))
    changed = jobs(a=0, b=0)
    changed["b"]["number"] = 5
    tree.set(changed, total=True)
    assert tree.run(ALL) == 0 and "toy b is out of date: made with other settings: number" in tree.said(), tree.said()
    assert tree.ran() == {"toy_run", "toy_run_2", "toy_figures", "gallery", "manifest"} and "toy a" not in tree.said()
    assert (tree.path / "figures/tiny/toy.csv").read_text() == "square\n0\n5\n25\n"


EDITS = {
    "experiments/toy/run.py": RESULTS | DRAWN,
    "experiments/toy/total.py": RESULTS | DRAWN,  # all modules of a folder count for all of its results
    "experiments/toy/plot.py": DRAWN,
    "experiments/pipeline/spikes.py": {"spikes japanese_vowels"},
    "packages/slax-data/src/slax_data/storage/packed.py": {"spikes japanese_vowels"} | RESULTS | DRAWN,
    "packages/slax-viz/src/slax_viz/__init__.py": DRAWN,
    "requirements.lock": {"spikes japanese_vowels"} | RESULTS | DRAWN,
    "gallery/page.css": {"page of figures"},
    "experiments/toy/claims.yaml": {"page of figures"},
    "experiments/toy/jobs.py": set(),
    **{A.replace("json", ending): {"toy a", "toy total"} | DRAWN for ending in ("json", "record.json", "npz")},
    FIGURE: DRAWN,
    SPIKES: {"spikes japanese_vowels"},
    PAGE: {"page of figures"},
}


def test_an_edit_makes_stale_what_it_can_reach_and_what_is_stale_is_not_listed(built):
    reached = {(file, label) for file, labels in EDITS.items() for label in labels and labels | {NOT_LISTED}}
    assert edited(built, *EDITS) == reached


def test_a_run_says_what_is_damaged_and_replaces_it(tree):
    before = contents(tree)
    for file in (A, FIGURE, SPIKES, PAGE, ALL):
        change_byte(tree.path / file)
    told = tree.python("experiments.pipeline", "verify")[1]
    assert all(f"{file}: " in told for file in (A, FIGURE, SPIKES, PAGE, ALL))
    assert tree.run(ALL) == 0, tree.said()
    assert f"toy a is out of date: {A} differs from its record" in tree.said()
    after = contents(tree)
    timed = (".record.json", "index.html", "RESULTS.md")  # with the run time of the jobs that were made again
    same = {name for name in before if not name.endswith(timed)}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_sources_that_are_edited_during_the_run_are_not_certified(tree):
    tree.set(jobs(a=0, b=4), total=True)  # b alone is made again
    at_work = tree.path / "started"
    at_work.unlink()
    run = tree.start(ALL)
    tree.wait_for(at_work, run)
    tree.edit("experiments/toy/run.py")
    assert run.wait() != 0 and not (tree.path / ALL).exists()
    assert "made from other sources than the present ones" in tree.said()
    assert pending(tree) == RESULTS | DRAWN


def test_a_run_that_is_killed_goes_on_and_two_runs_at_once_are_refused(tree):
    shutil.rmtree(tree.path / "results")
    tree.set(jobs(a=0, b=600))
    # On two cores, both jobs begin: which one is first is not said.
    run = tree.start("results", options=("--cores", "2"), start_new_session=True)
    record = tree.path / "results/tiny/toy/a.record.json"
    try:
        tree.wait_for(record, run)
        made, second = record.read_bytes(), Tree(tree.path, tree.path.with_name("second"))
        tree.edit("experiments/toy/run.py")
        assert second.run("results") != 0 and "Another run is at work in this folder" in second.said()
        assert record.read_bytes() == made  # although it would not be used now
        tree.edit("experiments/toy/run.py", "edited = 1\n", "")
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    tree.set(jobs(a=0, b=0))
    assert tree.run("results") == 0, tree.said()
    assert record.read_bytes() == made
    assert pending(tree) == DRAWN


def test_the_log_of_a_failed_job_is_shown_and_it_alone_runs_again(tree):
    bad = {"number": -1, "seconds": 0, "alone": False}
    tree.set(jobs(a=0, b=0) | {"bad": bad})
    assert tree.run(ALL, options=LOUD) != 0 and "the number -1 is negative" in tree.said()
    # A whole result is marked as incomplete after a kill of Snakemake alone. A job that measures times is alone.
    marker = tree.path / ".snakemake/incomplete" / base64.b64encode(A.encode()).decode()
    marker.parent.mkdir(exist_ok=True)
    marker.touch()
    tree.set(jobs(a=0, b=0) | {"bad": bad | {"number": 5}, "timed": bad | {"alone": True}})
    assert tree.run(ALL, options=(*DRY, *LOUD)) == 0
    assert tree.ran() == {"toy_run", "toy_run_2", "toy_figures", "gallery", "manifest"}
    assert "toy_run 1 toy_run_2 1" in " ".join(tree.said().split())
    assert f"threads: {len(os.sched_getaffinity(0))}" in tree.said()
    assert "slurm_extra=--exclusive" in tree.said() and "cpus_per_task=-1" in tree.said()


def test_the_scale_full_is_drawn_from_shipped_results(tree):
    """The archive alone is there, as in a clone: its results are kept although sources change, but not with other settings."""
    full = {"config": ("scale=full",)}
    assert tree.python("experiments.run", "toy", "--scale", "full")[0] == 0
    assert tree.python("experiments.pipeline", "pack", "toy")[0] == 0
    for made in ("results", "figures", ".snakemake"):
        shutil.rmtree(tree.path / made)
    tree.edit("experiments/toy/run.py")
    assert tree.run(ALL, **full) == 0 and "the results of 3 jobs" in tree.said(), tree.said()
    assert tree.ran() == {"toy_figures", "gallery", "manifest"} and "toy, 3 jobs" in tree.said()
    assert "3 jobs are older than the sources" in (tree.path / "figures/index.html").read_text()
    code, said = tree.python("experiments.pipeline", "verify")
    assert code == 0 and "3 results are older than the sources, and kept" in said
    file = tree.path / "results/full/toy/a.json"
    before = file.read_bytes()
    change_byte(file)
    assert tree.run("results", **full) == 0 and "the results of 1 jobs" in tree.said()
    assert file.read_bytes() == before
    tree.set(jobs(b=0, a=0), total=True)  # each has the number of the other one
    assert pending(tree, "full") == RESULTS | DRAWN
    tree.set(jobs(b=0, a=0, new=1))  # "draw" uses the two as they are, and computes neither them nor the new one
    (tree.path / "figures/all").unlink()
    assert tree.run(ALL, config=("scale=full", "outdated=draw")) == 0, tree.said()
    assert "toy_run" not in tree.ran() and "toy, 2 jobs" in tree.said()


def test_a_new_experiment_has_results_and_a_figure(tree):
    assert tree.python("experiments.new", "fano")[0] == 0
    assert tree.run("figures/tiny/fano.png", options=DRY) == 0 and tree.ran() == {"fano_run", "fano_figures"}
