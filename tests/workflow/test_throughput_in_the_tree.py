"""The experiment throughput in the workflow, as far as a plan tells: no peer is installed and nothing is timed."""

import os
import re
import shutil

import pytest
from tree import ROOT, new_tree

from experiments.common.job import settings_of

pytestmark = pytest.mark.slow

RESULT = "results/tiny/throughput/rules_n32.timing.json"

CERTIFY = """
from experiments.common.job import jobs_of, settings_of
from experiments.common.products import result_product
from experiments.common.provenance import certify
from experiments.common.sources import Sources

job = jobs_of("throughput", "tiny", settings_of("throughput", "tiny"))["rules_n32"]
product = result_product("throughput", "tiny", job, Sources())
certify(product, product.digests(Sources()))
"""


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A tree in which one workload counts as timed."""
    tree = new_tree(tmp_path_factory.mktemp("timed") / "tree")
    shutil.copytree(ROOT / "experiments/throughput", tree.path / "experiments/throughput")
    for made in ("benchmarks/.envs/slax.json", RESULT):
        (tree.path / made).parent.mkdir(parents=True)
        (tree.path / made).write_text("{}")
    tree.output_of("python", "-c", CERTIFY)
    return tree


def plan(tree):
    """The rules whose jobs would run."""
    told = tree.output_of("snakemake", RESULT, "--dry-run", "--quiet", "host")
    return set(re.findall(r"^(?:local)?rule (\w+):", told, re.MULTILINE))


@pytest.mark.parametrize(
    "file, expected",
    [
        ("benchmarks/rules/table.py", set()),
        ("packages/slax-data/src/slax_data/sets/digits.py", set()),
        ("packages/slax-neurons/src/slax_neurons/engine.py", {"throughput_run"}),
        ("packages/slax-rules/src/slax_rules/layerwise/ostl.py", {"throughput_run"}),
        ("benchmarks/side_by_side/worker.py", {"throughput_run"}),
        ("experiments/__init__.py", {"throughput_run"}),
    ],
)
def test_edit_of_what_is_timed_times_it_again(timed, tmp_path, file, expected):
    tree = timed.copy(tmp_path / "tree")
    assert plan(tree) == set()
    (tree.path / file).parent.mkdir(parents=True, exist_ok=True)
    with (tree.path / file).open("a") as source:
        source.write("EDITED = True\n")
    assert plan(tree) == expected


def test_peers_that_need_torch_are_installed_if_they_are_asked_for(timed):
    """The settings reach the jobs, and what is drawn is what was computed."""
    plain, light, everything = (
        timed.output_of("snakemake", "figures/all", "--dry-run", "--printshellcmds", "--quiet", "host", *options)
        for options in ((), ("--config", "peers=light"), ("--config", "peers=all"))
    )
    norse = "benchmarks/.envs/norse.json"
    assert norse not in plain + light and norse in everything
    assert "experiments.run throughput n128 --scale quick" in plain and "own_environments" not in plain + light
    asked = "--results results --set own_environments=true"
    assert f"experiments.run throughput n128 --scale quick {asked}" in everything
    assert re.search(rf"experiments.plot throughput --scale quick --jobs [\w ]+ --output figures {asked}\n", everything)
    assert everything.count("own_environments") == len(settings_of("throughput", "quick")["workloads"]) + 1


def test_results_of_the_peers_that_were_asked_for_are_verified_with_them(timed, tmp_path):
    tree = timed.copy(tmp_path / "tree")
    result = RESULT.replace("tiny", "quick").replace("n32", "n128")
    (tree.path / result).parent.mkdir(parents=True)
    (tree.path / result).write_text("{}")
    asked = (
        CERTIFY.replace("tiny", "quick")
        .replace("n32", "n128")
        .replace('"quick"))', '"quick") | {"own_environments": True})')
    )
    tree.output_of("python", "-c", asked)
    assert "all files are as they were made" in tree.output_of("python", "-m", "experiments.verify", "--peers", "all")
    plain = tree.run("python", "-m", "experiments.verify")
    assert plain.returncode == 1 and "other settings: own_environments" in plain.stdout


def test_on_slurm_a_job_that_is_alone_has_a_node_of_its_own(timed):
    """`make cluster` runs such a job."""
    told = timed.output_of("snakemake", RESULT, "--forcerun", "throughput_run", "--dry-run", "--quiet", "host")
    (resources,) = (line for line in told.splitlines() if line.strip().startswith("resources:") and "slurm" in line)
    assert "slurm_extra=--exclusive" in resources and "cpus_per_task=-1" in resources


def test_job_that_is_alone_has_all_cores_of_the_machine(timed):
    told = timed.output_of("snakemake", RESULT, "--forcerun", "throughput_run", "--dry-run", "--quiet", "host")
    assert f"threads: {len(os.sched_getaffinity(0))}" in told
