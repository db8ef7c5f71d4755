"""The pipeline on a Slurm of three nodes on this machine: `pytest -m cluster tests/nightly` (Debian's slurm-wlm, munge)."""

import os

import pytest
import yaml
from slurm_cluster import cluster, missing_programs, wait_for

from toy_pipeline import Tree, ended, jobs, results

SLURM = ("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
]


@pytest.fixture(scope="module")
def slurm():
    with cluster(nodes=3) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def begun(slurm, tmp_path_factory):
    """Two runs that wait for minutes, whatever a test does: they go on while the other tests run, and are looked at at last."""
    slow = Tree.new(tmp_path_factory.mktemp("slow") / "tree", jobs(short=0, long=600))
    refused = Tree.new(tmp_path_factory.mktemp("refused") / "tree", jobs(first=0, second=0))
    minute = ("--default-resources", "runtime=1", "mem_mb=1000")
    with cluster(nodes=1, most_jobs=2) as full:
        runs = {
            "slow": (slow, slow.start(*results("short", "long"), options=(*SLURM, *minute), base=slurm.environment)),
            "refused": (refused, refused.start(*results("first", "second"), options=SLURM, base=full.environment)),
        }
        yield runs
        for _, run in runs.values():
            run.kill()
            run.wait()


def test_results_are_those_of_a_local_run_bit_for_bit(slurm, tmp_path):
    targets = [f"results/tiny/step_response/{name}.json" for name in ("lif", "alif", "ltc")]
    there, here = (Tree.new(tmp_path / place / "tree", jobs(a=0), "step_response") for place in ("there", "here"))
    assert there.run(*targets, options=SLURM, base=slurm.environment) == 0, there.said()
    assert here.run(*targets) == 0, here.said()
    assert len(here.made()) == 3 and there.made() == here.made()
    assert len(slurm.jobs(there.path)) == 3  # which are these


def test_a_job_that_fails_is_told_with_its_reason_and_alone_made_again(slurm, tmp_path):
    good = jobs(zero=0, one=0)
    bad = {"number": -1, "seconds": 0, "alone": False}
    tree = Tree.new(tmp_path / "tree", good | {"bad": bad})
    targets = results("zero", "bad", "one")
    assert tree.run(*targets, options=SLURM, base=slurm.environment) != 0
    assert "the number -1 is negative" in tree.said() and sorted(tree.made()) == sorted(results("zero", "one"))
    times = {path: (tree.path / path).stat().st_mtime_ns for path in tree.made()}
    tree.set(good | {"bad": bad | {"number": 5}})
    assert tree.run(*targets, options=SLURM, base=slurm.environment) == 0, tree.said()
    assert len(tree.made()) == 3
    assert {path: (tree.path / path).stat().st_mtime_ns for path in times} == times


def test_a_node_that_dies_loses_no_result(slurm, tmp_path):
    tree = Tree.new(tmp_path / "tree", jobs(a=8, b=8, c=8, d=8))
    run = tree.start(*results("a", "b", "c", "d"), options=SLURM, base=slurm.environment)
    wait_for((tree.path / "ran-on-n2").exists, "job at work on n2", slurm.log, 120)
    lost = {job["JobId"] for job in slurm.jobs(tree.path) if job["NodeList"] == "n2"}
    slurm.kill_node("n2")
    code = ended(run)
    again = {job["JobId"] for job in slurm.jobs(tree.path) if job["Restarts"] != "0"}
    slurm.start_node("n2")
    if code:  # what was lost with the node is made by the same command
        code = tree.run(*results("a", "b", "c", "d"), options=SLURM, base=slurm.environment)
    assert code == 0, tree.said()
    assert lost and again == lost
    assert [yaml.safe_load(content)["square"] for content in tree.made().values()] == [0, 1, 4, 9]


def test_a_cancelled_job_is_told(slurm, tmp_path):
    tree = Tree.new(tmp_path / "tree", jobs(long=600))
    run = tree.start(*results("long"), options=SLURM, base=slurm.environment)
    wait_for(lambda: [job["JobState"] for job in slurm.jobs(tree.path)] == ["RUNNING"], "running job", slurm.log, 120)
    slurm.ask("scancel", slurm.jobs(tree.path)[0]["JobId"])
    assert ended(run) != 0 and "CANCELLED" in tree.said() and not tree.made()


def test_a_job_that_measures_times_has_a_node_with_all_its_cores_and_every_job_the_time_and_memory_of_the_table(
    slurm, tmp_path
):
    tree = Tree.new(tmp_path / "tree", jobs(alone=("measured",), measured=0, other=0))
    (tree.path / "workflow/resources.yaml").write_text("toy: {tiny: {seconds: 61, megabytes: 100}}\n")
    targets = ("results/tiny/toy/measured.timing.json", *results("other"))
    assert tree.run(*targets, options=(*SLURM, "--cores", "1"), base=slurm.environment) == 0, tree.said()
    found = {job["Comment"]: job for job in slurm.jobs(tree.path)}
    assert len(found) == 2
    for comment, job in found.items():
        assert (
            job["TimeLimit"] == "00:10:00" and job["MinMemoryNode"] == "650M"
        )  # 4 times 61 s and 5 minutes, in whole minutes
        is_alone = "measured" in comment
        assert (job["OverSubscribe"], job["NumCPUs"]) == (("NO", "2") if is_alone else ("OK", "1"))
    threads = yaml.safe_load(tree.made()["results/tiny/toy/measured.timing.json"])["threads"]
    assert threads == len(os.sched_getaffinity(0))  # not the one core of the main process


def test_a_sweep_is_a_job_for_each_entry_on_several_nodes(slurm, tmp_path):
    """Rules and rates of an experiment of the project; it takes lines of config.yaml, and none of code."""
    tree = Tree.new(tmp_path / "tree", jobs(a=0), "accuracy")
    file = tree.path / "experiments/accuracy/config.yaml"
    tiny = yaml.safe_load(file.read_text())["scales"]["tiny"]
    randman = tiny["tasks"]["randman"] | {"layers": [64, 8, 10], "n_steps": 5}
    swept = {f"rate_{number}": randman | {"learning_rates": [rate]} for number, rate in enumerate((0.01, 0.03))}
    tiny |= {"tasks": swept, "steps": 2, "validation_size": 10, "test_size": 10}
    file.write_text(yaml.safe_dump({"scales": dict.fromkeys(("tiny", "quick", "full", "paper"), tiny)}))
    targets = [f"results/tiny/accuracy/{task}/{rule}.json" for task in swept for rule in tiny["rules"]]
    assert len(targets) == 4
    assert tree.run(*targets, options=SLURM, base=slurm.environment) == 0, tree.said()
    assert sorted(tree.made()) == sorted(targets)
    found = slurm.jobs(tree.path)
    assert len(found) == 4 and len({job["NodeList"] for job in found}) > 1


def test_a_job_over_its_time_is_told(begun):
    tree, run = begun["slow"]
    assert ended(run) != 0 and list(tree.made()) == results("short")
    assert "TIMEOUT" in tree.said()


def test_a_queue_that_stays_full_is_told(begun):
    """Slurm's own sbatch tries for two minutes."""
    tree, run = begun["refused"]
    assert ended(run) != 0 and len(tree.made()) == 1
    assert "SLURM sbatch failed" in tree.said() and "temporarily unable to accept job" in tree.said()
