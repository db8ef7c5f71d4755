"""The real workflow on a tiny configuration: what it makes, what it makes again, and what it refuses."""

import os
import re
import shutil
import signal
import time

import pytest
import yaml
from tree import STEMS, new_tree

pytestmark = pytest.mark.slow

TASKS = ("randman_shallow", "digits_shallow")
RUNS = {f"results/quick/gradient_similarity/{task}.json" for task in TASKS}
PLOT = {f"figures/quick/{stem}.{suffix}" for stem in STEMS for suffix in ("csv", "png", "svg")}
SPIKES = {"data/processed/japanese_vowels.npz"}
GALLERY = {"figures/index.html", "figures/RESULTS.md"}  # of any figure
MANIFEST = {"figures/all"}


def with_certificates(files):
    """Files with their certificates: of one result, one figure in three forms, one set of spikes, of page and text together."""
    stems = {re.sub(r"\.(json|npz|timing\.json|csv|png|svg)$", "", file) for file in files - GALLERY}
    page = {"figures/index"} if files & GALLERY else set()
    return files | {f"{stem}.record.json" for stem in stems | page}


def edit_config(tree, scale, **values):
    config = yaml.safe_load(tree.config.read_text())
    config["scales"][scale] |= values
    tree.config.write_text(yaml.safe_dump(config))


def test_manifest_has_a_checksum_of_every_artefact(built):
    built.output_of("sha256sum", "--check", "--strict", "figures/all")
    listed = {line.split()[1] for line in (built.path / "figures/all").read_text().splitlines()}
    assert listed == SPIKES | RUNS | PLOT
    assert built.made().keys() == with_certificates(listed | GALLERY | MANIFEST)


def test_nothing_is_left_to_do_after_one_run(tree):
    made = tree.made()
    assert "Nothing to be done" in tree.output_of("snakemake", "figures/all")
    assert "up to date" in tree.output_of("dvc", "status", "dvc.yaml")
    assert "Running stage" not in tree.output_of("dvc", "repro")
    assert tree.made() == made


def test_two_runs_from_scratch_are_bit_identical(built, tmp_path):
    other = new_tree(tmp_path / "other")
    other.output_of("dvc", "repro")
    for name in [*SPIKES, *RUNS, *PLOT, *MANIFEST]:
        assert (other.path / name).read_bytes() == (built.path / name).read_bytes(), name


def test_changed_value_of_a_task_reruns_that_task(tree):
    before = tree.made()
    config = yaml.safe_load(tree.config.read_text())
    config["scales"]["quick"]["tasks"]["digits_shallow"]["n_steps"] = 15
    tree.config.write_text(yaml.safe_dump(config))
    tree.output_of("snakemake", "figures/all")
    cell = "results/quick/gradient_similarity/digits_shallow"
    after = tree.made()
    assert {name for name in after if after[name] != before[name]} == with_certificates(
        {f"{cell}.json"} | PLOT | GALLERY | MANIFEST
    )
    assert "up to date" in tree.output_of("dvc", "status", "dvc.yaml")
    assert tree.pending() == set()


def test_changed_values_of_a_scale_rerun_what_depends_on_them(tree):
    edit_config(tree, "paper", batch_size=7)
    assert tree.pending() == with_certificates(MANIFEST)
    edit_config(tree, "quick", batch_size=7)
    assert tree.pending() == with_certificates(RUNS | PLOT | GALLERY | MANIFEST)


@pytest.mark.parametrize(
    "file, expected",
    [
        ("packages/slax-rules/src/slax_rules/layerwise/ostl.py", RUNS | PLOT | GALLERY | MANIFEST),
        ("experiments/common/result_files.py", RUNS | PLOT | GALLERY | MANIFEST),
        ("experiments/gradient_similarity/run.py", RUNS | PLOT | GALLERY | MANIFEST),
        ("experiments/gradient_similarity/jobs.py", MANIFEST),
        ("experiments/common/job.py", MANIFEST),
        ("experiments/run.py", MANIFEST),
        ("experiments/common/figures.py", PLOT | GALLERY | MANIFEST),
        ("experiments/gradient_similarity/plot.py", PLOT | GALLERY | MANIFEST),
        ("requirements.lock", SPIKES | RUNS | PLOT | GALLERY | MANIFEST),
        ("packages/slax-data/src/slax_data/storage/packed.py", SPIKES | RUNS | PLOT | GALLERY | MANIFEST),
        ("experiments/common/make_spikes.py", SPIKES | MANIFEST),
        ("experiments/common/provenance.py", MANIFEST),
        ("packages/slax-rules/README.md", set()),
    ],
)
def test_edited_source_reruns_what_uses_it(tree, file, expected):
    with (tree.path / file).open("a") as source:
        source.write("EDITED = True\n")
    assert tree.pending() == with_certificates(expected)


def test_dvc_follows_an_edit_that_changes_no_result(tree):
    before = tree.made()
    with tree.config.open("a") as config:
        config.write("# an edit\n")
    assert "modified" in tree.output_of("dvc", "status", "dvc.yaml")
    tree.output_of("snakemake", "figures/all")
    after = tree.made()
    assert {name for name in after if after[name] != before[name]} == with_certificates(MANIFEST)
    assert "up to date" in tree.output_of("dvc", "status", "dvc.yaml")


def test_dvc_does_not_follow_a_partial_run(tree):
    tree.edit("experiments/gradient_similarity/plot.py", "def prepare", "EDITED = True\n\n\ndef prepare")
    tree.output_of("snakemake", sorted(PLOT)[0])
    assert "modified" in tree.output_of("dvc", "status", "dvc.yaml")


NEW_EXPERIMENT = {
    "jobs.py": """
from experiments.common.job import ARRAYS, NUMBERS, TIMES, Job

def jobs(settings):
    squares = [f"square/{number}" for number in settings["numbers"]]
    yield Job("total", {}, module="total", endings=(NUMBERS, TIMES), reads=tuple(squares))
    for square, number in zip(squares, settings["numbers"]):
        yield Job(square, {"number": number}, endings=(NUMBERS, ARRAYS))
""",
    "run.py": """
import numpy as np

def compute(config):
    return {"square": config["number"] ** 2}, {"number": np.asarray(config["number"])}
""",
    "total.py": """
import numpy as np

def compute(config, *files):
    return {"total": sum(int(np.load(file)["number"]) for file in files)}, {"seconds": 0.5}
""",
    "plot.py": """
from matplotlib import pyplot as plt

from experiments.common.figures import Plot

def prepare(results):
    total, *squares = results
    rows = [(result["config"]["number"], result["square"]) for result in squares]
    return [*rows, (total["total"], total["times"]["seconds"])]

def draw(data):
    figure, ax = plt.subplots()
    ax.plot(*zip(*data))
    return figure

FIGURES = {"other": Plot(["number", "square"], iter, draw)}
""",
    "config.yaml": "scales: {quick: {numbers: [2, 3]}, tiny: {numbers: [2]}, full: {numbers: [2]}, paper: {numbers: [2, 4]}}",
    "config.schema.yaml": "properties: {numbers: {type: array}}",
    "claims.yaml": "figures: [{stem: other, title: Squares, shows: Squares, alt: A line, published: not at all, claims: []}]",
}


def test_new_experiment_is_one_folder(tree):
    folder = tree.path / "experiments/other"
    folder.mkdir()
    for name, text in NEW_EXPERIMENT.items():
        (folder / name).write_text(text)
    results = {f"results/quick/other/square/{number}{ending}" for number in (2, 3) for ending in (".json", ".npz")}
    total = {"results/quick/other/total.json", "results/quick/other/total.timing.json"}
    figures = {f"figures/quick/other.{suffix}" for suffix in ("csv", "png", "svg")}
    assert tree.pending() == with_certificates(results | total | figures | GALLERY | MANIFEST)
    tree.output_of("snakemake", "figures/all")
    assert (tree.path / "figures/quick/other.csv").read_text() == "number,square\n2,4\n3,9\n5,0.5\n"
    assert "figures/quick/other.svg" in (tree.path / "figures/all").read_text()
    assert '<article id="other"' in (tree.path / "figures/index.html").read_text()
    tree.edit("experiments/other/config.yaml", "numbers: [2, 3]", "numbers: [2, 5]")
    square = {"results/quick/other/square/5.json", "results/quick/other/square/5.npz"}
    assert tree.pending() == with_certificates(square | total | figures | GALLERY | MANIFEST)


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("batch_size:", "batchsize:", ["scales", "unknown key 'batchsize'", "known keys: seeds,", "batch_size"]),
        ("seeds: 1\n", "seeds: one\n", ["scales.full: seeds: 'one' is not of type 'integer'"]),
        ("code: latency", "code: time", ["tasks.digits_shallow.code", "['latency', 'phase', 'poisson', 'rate']"]),
        ("scales:", "scales: [", ["is not valid YAML"]),
    ],
)
def test_wrong_config_stops_before_any_job(tree, old, new, told):
    before = tree.made()
    tree.edit("experiments/gradient_similarity/config.yaml", old, new)
    done = tree.run("snakemake", "figures/all")
    assert done.returncode != 0
    for text in ["experiments/gradient_similarity/config.yaml", "no job was started", *told]:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert tree.made() == before


def test_name_of_a_raw_file_that_a_shell_would_run_stops_before_any_job(tree):
    tree.edit("data/config.yaml", "japanese_vowels.npz:", "x$(id>made).npz:")
    done = tree.run("snakemake", "data")
    assert done.returncode != 0 and "'x$(id>made).npz' does not match" in done.stderr
    assert not (tree.path / "made").exists()


@pytest.mark.parametrize(
    "option, told",
    [
        ("scale=papr", "'papr' is not one of ['tiny', 'quick', 'full', 'paper']"),
        ("scal=paper", "unknown key 'scal'; known keys: scale, outdated"),
    ],
)
def test_wrong_scale_stops_before_any_job(tree, option, told):
    done = tree.run("snakemake", "figures/all", "--config", option)
    assert done.returncode != 0
    assert told in done.stderr


def test_failed_job_shows_the_end_of_its_log(tree):
    edit_config(tree, "quick", measure_at=[3, 0])
    done = tree.run("snakemake", "figures/all")
    assert done.returncode != 0
    assert "measure_at is [3, 0], expected steps in increasing order" in done.stderr


def test_unpacked_archive_works_without_dvc(tree):
    shutil.rmtree(tree.path / ".git")
    (tree.path / "figures/all").unlink()
    assert "not a git checkout" in tree.output_of("snakemake", "figures/all")
    tree.output_of("sha256sum", "--check", "--strict", "figures/all")


def test_spikes_are_made_of_what_is_at_hand(tree):
    """The store has the vowels; the spoken digits are left out, and said to be."""
    told = tree.output_of("snakemake", "data", "--forceall")
    assert (
        "Left out, with all that reads it: spoken_digits, without data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz"
        in told
    )
    assert tree.made().keys() >= SPIKES
    (tree.path / "data/raw/japanese_vowels.npz.dvc").unlink()
    (tree.path / "data/raw/japanese_vowels.npz").unlink()
    assert "Left out, with all that reads it: japanese_vowels" in tree.output_of("snakemake", "data")


def test_spikes_of_another_raw_file_are_not_made(tree):
    raw = tree.path / "data/raw/japanese_vowels.npz"
    raw.write_bytes(raw.read_bytes() + b" ")
    done = tree.run("snakemake", "data", "--forcerun", "spikes")
    assert done.returncode != 0
    assert "is not the file that was expected, or damaged: its sha256 is" in done.stdout + done.stderr


def test_dvc_pulls_what_the_store_has(tree):
    (tree.path / "data/raw/japanese_vowels.npz").unlink()
    shutil.rmtree(tree.path / ".dvc/cache", ignore_errors=True)
    tree.output_of("dvc", "pull", "data/raw/japanese_vowels.npz.dvc")
    assert (tree.path / "data/raw/japanese_vowels.npz").stat().st_size == 897556


def test_run_that_was_killed_goes_on(tmp_path):
    """Without a step by hand, without making again what was whole, and without keeping what was half."""
    tree = new_tree(tmp_path / "tree")
    run = tree.start("snakemake", "figures/all", "--cores", "1")
    while not (whole := {name for name in RUNS if with_certificates({name}) <= tree.made().keys()}):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    time.sleep(2.0)  # the next job is at work
    certificates = {name: (tree.path / name).read_text() for name in with_certificates(whole) - whole}
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert not (tree.path / "figures/all").exists()
    tree.output_of("snakemake", "figures/all")
    for name, content in certificates.items():
        assert (tree.path / name).read_text() == content
    tree.output_of("sha256sum", "--check", "--strict", "figures/all")


def test_two_runs_at_once_are_refused(tree):
    tree.edit("experiments/gradient_similarity/plot.py", "def prepare", "EDITED = True\n\n\ndef prepare")
    run = tree.start("snakemake", "figures/all")
    try:
        while not list((tree.path / ".snakemake/locks").glob("*")):
            assert run.poll() is None
            time.sleep(0.05)
        assert "Directory cannot be locked" in tree.run("snakemake", "figures/all").stderr
    finally:
        run.communicate()
