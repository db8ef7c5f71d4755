"""What the pipeline notices: sources and files that were changed whatever their times are, and shipped results."""

import base64
import json
import os
import shutil
import time

import pytest
from test_workflow import GALLERY, MANIFEST, PLOT, RUNS, SPIKES, with_certificates

from covering import EVERY

pytestmark = pytest.mark.slow

RUN = "experiments/gradient_similarity/run.py"
RESULT = "results/quick/gradient_similarity/randman_shallow.json"
FIGURE = "figures/quick/gradient_similarity.png"
FULL = "results/full/gradient_similarity/randman_shallow"
FULL_FILES = {f"{FULL}.json", f"{FULL}.record.json"}
ALL_FULL = ["snakemake", "figures/all", "--config", "scale=full"]


def change_byte(path, place=-20):
    times, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_was_just_made_verifies(built):
    assert "all files are as they were made, from the present sources" in built.output_of(
        "python", "-m", "experiments.verify"
    )


def test_times_of_files_run_nothing(tree):
    for number, path in enumerate(
        sorted(path for path in tree.path.rglob("*") if path.is_file() and ".git" not in path.parts)
    ):
        moment = time.time() + (-1e8, 1e6, 0)[number % 3]
        os.utime(path, (moment, moment))
    assert tree.pending() == set()
    assert "Nothing to be done" in tree.output_of("snakemake", "figures/all")


@pytest.mark.parametrize("results_from", [-1e6, 2e5] if EVERY else [-1e6])
def test_edited_source_with_an_old_time_is_seen(tree, results_from):
    """Results dated in the past, and in `make test-all` in the future."""
    tree.edit(RUN, "def compute", "EDITED = True\n\n\ndef compute")
    os.utime(tree.path / RUN, (1.5e9, 1.5e9))
    for name in tree.made():
        os.utime(tree.path / name, (time.time() + results_from,) * 2)
    assert tree.pending() == with_certificates(RUNS | PLOT | GALLERY | MANIFEST)
    told = tree.output_of("snakemake", "figures/all")
    assert f"gradient_similarity randman_shallow: {RUN} changed" in told
    assert tree.pending() == set()
    assert "up to date" in tree.output_of("dvc", "status", "dvc.yaml")


def test_edit_that_cannot_change_a_result_makes_none_again(tree):
    tree.edit(RUN, '"""', '"""Edited. ')
    with (tree.path / "packages/slax-rules/src/slax_rules/bptt.py").open("a") as source:
        source.write("\n\n# a comment\n")
    assert tree.pending() == with_certificates(MANIFEST)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (FIGURE, PLOT | GALLERY | MANIFEST),
        (RESULT, {RESULT} | PLOT | GALLERY | MANIFEST),
        ("data/processed/japanese_vowels.npz", SPIKES | MANIFEST),
        ("figures/index.html", GALLERY),
        ("figures/all", MANIFEST),
    ],
)
def test_changed_byte_is_seen_and_made_again(tree, file, expected):
    before = (tree.path / file).read_bytes()
    change_byte(tree.path / file)
    done = tree.run("python", "-m", "experiments.verify")
    assert done.returncode == 1 and f"{file} differs from its certificate" in done.stdout and "1 damaged" in done.stdout
    made = with_certificates(expected)
    assert tree.pending() >= made - GALLERY - MANIFEST
    told = tree.output_of("snakemake", "figures/all")
    assert f"{file} differs from its certificate" in told
    if file not in GALLERY:
        assert (tree.path / file).read_bytes() == before
    tree.output_of("python", "-m", "experiments.verify")
    assert tree.pending() == set()


def test_damaged_result_is_refused_by_hand(tree):
    change_byte(tree.path / RESULT)
    for command in (
        ["python", "-m", "experiments.plot", "gradient_similarity"],
        [
            "python",
            "-m",
            "gallery",
            "--scale",
            "quick",
            "--results",
            RESULT,
            "--page",
            "page.html",
            "--text",
            "text.md",
        ],
        ["python", "-m", "experiments.manifest", RESULT, "--output", "list"],
    ):
        done = tree.run(*command)
        assert done.returncode != 0
        assert f"{RESULT} differs from its certificate: something changed it after it was made" in done.stderr
    assert not (tree.path / "list").exists() and not (tree.path / "page.html").exists()


def test_verify_tells_what_is_out_of_date(tree):
    tree.edit(RUN, "def compute", "EDITED = True\n\n\ndef compute")
    (tree.path / "results/quick/gradient_similarity/stray.json").write_text("{}")
    done = tree.run("python", "-m", "experiments.verify")
    assert done.returncode == 1 and "damaged" not in done.stdout
    assert f"out of date: {RESULT.replace('.json', '.record.json')}: made at commit" in done.stdout
    assert f"changed since: {RUN}" in done.stdout
    assert "without a certificate: results/quick/gradient_similarity/stray.json" in done.stdout
    assert "2 out of date, 1 without a certificate" in done.stdout


def test_what_was_made_by_hand_is_not_made_again(tree):
    tree.edit(RUN, "def compute", "EDITED = True\n\n\ndef compute")
    tree.output_of("python", "-m", "experiments.run", "gradient_similarity")
    assert tree.pending() == with_certificates(PLOT | GALLERY | MANIFEST)


def test_whole_result_that_was_left_marked_as_incomplete_keeps_nothing_from_being_made(tree):
    """As after a kill of Snakemake alone, or a full disk: Snakemake would make the result again, and no figure of it."""
    result, figure = "results/quick/gradient_similarity/randman_shallow.json", "figures/quick/gradient_similarity.csv"
    assert (tree.path / result).exists()
    (tree.path / figure).unlink()
    marker = tree.path / ".snakemake/incomplete" / base64.b64encode(result.encode()).decode()
    marker.parent.mkdir(exist_ok=True)
    marker.touch()
    assert figure in tree.pending() and result not in tree.pending()


def test_key_given_twice_stops_before_any_job(tree):
    with tree.config.open("a") as config:
        config.write("scales: {}\n")
    done = tree.run("snakemake", "figures/all")
    assert done.returncode != 0 and "the key 'scales' is given twice, in lines 1 and" in done.stderr
    done = tree.run("python", "-m", "experiments.run", "gradient_similarity")
    assert done.returncode != 0 and "the key 'scales' is given twice" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def packed(built, tmp_path_factory):
    """A tree whose repository has the results of the scale full, as a clone has them: in the store alone, and no spikes."""
    tree = built.copy(tmp_path_factory.mktemp("packed") / "tree")
    tree.output_of("snakemake", "results", "--config", "scale=full")
    tree.output_of("python", "-m", "experiments.shipped", "pack")
    tree.output_of("dvc", "add", "-q", "shipped/full.tar.xz")
    tree.output_of("dvc", "push", "-q", "shipped/full.tar.xz.dvc")
    shutil.rmtree(tree.path / "results")
    shutil.rmtree(tree.path / "figures")
    shutil.rmtree(tree.path / "data/processed")
    (tree.path / "shipped/full.tar.xz").unlink()
    shutil.rmtree(tree.path / ".dvc/cache", ignore_errors=True)
    return tree


@pytest.fixture
def shipped(packed, tmp_path):
    return packed.copy(tmp_path / "shipped")


def test_shipped_results_are_unpacked_and_drawn_and_not_computed(shipped):
    told = shipped.output_of(*ALL_FULL)
    assert "the results of 2 jobs" in told and "gradient_similarity_run" not in told
    assert (shipped.path / "data/processed/japanese_vowels.npz").exists()  # which one of the jobs has read
    assert (shipped.path / "figures/full/gradient_similarity.png").exists()
    assert "Nothing to be done" in shipped.output_of(*ALL_FULL)
    shipped.output_of("python", "-m", "experiments.verify")
    assert "up to date" in shipped.output_of("dvc", "status", "shipped/dvc.yaml")


def test_shipped_results_are_kept_and_said_to_be_older_than_the_sources(shipped):
    shipped.edit(RUN, "def compute", "EDITED = True\n\n\ndef compute")
    told = shipped.output_of(*ALL_FULL)
    assert f"gradient_similarity, 2 jobs: {RUN} changed since" in told and "gradient_similarity_run" not in told
    for file in GALLERY:
        text = (shipped.path / file).read_text().replace("\\", "")
        assert "2 of 2 jobs are older than the sources" in text and f"changed since: {RUN}" in text
    assert not (shipped.path / "shipped/dvc.lock").exists()  # which would say that they are of the present sources
    certificate = json.loads((shipped.path / f"{FULL}.record.json").read_text())
    assert "Nothing to be done" in shipped.output_of(*ALL_FULL)
    assert "2 older than the sources, and kept" in shipped.output_of("python", "-m", "experiments.verify")
    assert json.loads((shipped.path / f"{FULL}.record.json").read_text()) == certificate
    plan = shipped.output_of(*ALL_FULL, "outdated=remake", "--dry-run", "--quiet", "host")
    assert "rule gradient_similarity_run:" in plan


def test_shipped_results_of_other_settings_are_not_used(shipped):
    config = shipped.config.read_text()
    assert config.count("batch_size: 4") >= 2
    shipped.config.write_text(config.replace("batch_size: 4", "batch_size: 5"))
    plan = shipped.output_of(*ALL_FULL, "--dry-run", "--quiet", "host")
    assert "rule gradient_similarity_run:" in plan and "other settings: batch_size" in plan


def test_damaged_shipped_result_is_unpacked_again(shipped):
    shipped.output_of("snakemake", "results", "--config", "scale=full")
    before = {file: (shipped.path / file).read_bytes() for file in FULL_FILES}
    change_byte(shipped.path / f"{FULL}.json")
    assert "the results of 1 jobs" in shipped.output_of("snakemake", "results", "--config", "scale=full")
    assert {file: (shipped.path / file).read_bytes() for file in FULL_FILES} == before


def test_plain_repro_leaves_the_scale_full_alone(tree):
    told = tree.output_of("dvc", "repro", "--dry")
    assert "'figures'" in told and "shipped" not in told
