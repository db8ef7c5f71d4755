"""Time and memory that a job asks a cluster for: from workflow/resources.yaml, or else from the profile."""

import re

import pytest
import yaml
from tree import Tree

pytestmark = pytest.mark.slow

JOB = "results/quick/gradient_similarity/randman_shallow.json"
DEFAULTS = ("--default-resources", "runtime=77", "mem_mb=1234")


def asked(told: str) -> list[tuple[int, ...]]:
    """Minutes and megabytes of each start of a job."""
    lines = re.findall(r"^ +resources: (.*)$", told, re.MULTILINE)
    return [tuple(int(re.search(rf"\b{name}=(\d+)", line)[1]) for name in ("runtime", "mem_mb")) for line in lines]


def plan(tree: Tree, *options: str) -> list[tuple[int, ...]]:
    forced = ("--forcerun", "gradient_similarity_run", "--dry-run", "--quiet", "host")
    return asked(tree.output_of("snakemake", JOB, *forced, *options))


def test_what_was_measured_is_asked_for_with_room_and_the_rest_is_the_profiles(tree):
    table = tree.path / "workflow/resources.yaml"
    table.write_text("gradient_similarity: {quick: {seconds: 90, megabytes: 1001}}\n")
    assert plan(tree, *DEFAULTS) == [(11, 2002)]  # 4 times 1.5 minutes and 5; 1.5 times 1001 MB and 500
    table.write_text("gradient_similarity: {quick: {megabytes: 1001}, tiny: {seconds: 1}}\n")
    assert plan(tree, *DEFAULTS) == [(77, 2002)]
    table.write_text("{}\n")
    assert plan(tree, *DEFAULTS, "--set-resources", "gradient_similarity_run:runtime=500") == [(500, 1234)]
    assert plan(tree) == [(0, 0)]  # on one machine, nothing is asked for


def test_a_job_that_is_tried_again_gets_twice_as_much(tree):
    (tree.path / "workflow/resources.yaml").write_text("gradient_similarity: {quick: {seconds: 90, megabytes: 1001}}\n")
    content = yaml.safe_load(tree.config.read_text())
    content["scales"]["quick"]["measure_at"] = [3, 0]  # which fails
    tree.config.write_text(yaml.safe_dump(content))
    done = tree.run("snakemake", JOB, "--retries", "1", "--quiet", "host")
    assert done.returncode != 0
    assert asked(done.stdout + done.stderr) == [(11, 2002), (22, 4004)]
