"""The pipeline on a real Slurm of three nodes on this machine: `make cluster` (minutes; Debian's slurm-wlm and munge)."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cluster import cluster, missing_programs, wait_for

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "dvc.yaml",
    "workflow",
    "gallery",
    "profiles",
    "requirements.lock",
    "packages",
    "data/config.yaml",
    "data/raw",
    "data/store",
    "shipped",
    "experiments/common",
    "experiments/step_response",
    "benchmarks/__init__.py",
    "benchmarks/side_by_side",
    *(str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("experiments/*.py"))),
)
# An experiment whose jobs do what a test wants: wait, or fail.
TOY = {
    "jobs.py": '''"""A job for each entry."""

from experiments.common.job import Job


def jobs(settings):
    for name, own in settings["jobs"].items():
        yield Job(name, own)
''',
    "run.py": '''"""Wait, and fail or square a number."""

import time


def compute(config):
    time.sleep(config["seconds"])
    if config["number"] < 0:
        raise SystemExit(f"the number {config['number']} is negative")
    return {"square": config["number"] ** 2}
''',
    "plot.py": '''"""Draw squares."""

from matplotlib import pyplot as plt

from experiments.common.figures import Plot


def prepare(results):
    return sorted(result["square"] for result in results)


def rows(squares):
    return ([square] for square in squares)


def draw(squares):
    figure, ax = plt.subplots()
    ax.plot(squares, "o")
    return figure


FIGURES = {"toy": Plot(["square"], rows, draw)}
''',
    "claims.yaml": """\
figures:
  - {stem: toy, title: Squares, shows: Squares, alt: Dots, published: not in the paper, claims: []}
""",
    "config.schema.yaml": "type: object\n",
}

SLURM = ("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
]


class Tree:
    """A checkout of the pipeline with the toy and one real experiment."""

    def __init__(self, path: Path, jobs: dict[str, dict]):
        self.path = path
        for part in PARTS:
            (path / part).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, path / part)
        folder = path / "experiments" / "toy"
        folder.mkdir()
        for name, text in TOY.items():
            (folder / name).write_text(text)
        self.set(jobs)

    def set(self, jobs: dict[str, dict]) -> None:
        scales = {scale: {"jobs": jobs} for scale in ("tiny", "quick", "full", "paper")}
        (self.path / "experiments/toy/config.yaml").write_text(yaml.safe_dump({"scales": scales}))

    def command(self, *targets: str, options: tuple[str, ...] = ()) -> list[str]:
        return ["snakemake", *targets, "--config", "scale=tiny", "--keep-going", *options]

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        packages = [str(source) for source in self.path.glob("packages/*/src")]
        return base | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), base["PATH"]]),
            "PYTHONPATH": os.pathsep.join(packages),
        }

    def made(self) -> dict[str, bytes]:
        """The results, without their certificates."""
        files = sorted((self.path / "results").rglob("*.json"))
        return {str(file.relative_to(self.path)): file.read_bytes() for file in files if "record" not in file.name}


@pytest.fixture(scope="module")
def slurm():
    with cluster(nodes=3) as running:
        yield running


def jobs(**seconds: float) -> dict[str, dict]:
    return {name: {"number": number, "seconds": time} for number, (name, time) in enumerate(seconds.items())}


def results(*names: str) -> list[str]:
    return [f"results/tiny/toy/{name}.json" for name in names]


def on_slurm(tree: Tree, slurm, *targets: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = tree.command(*targets, options=(*SLURM, *options))
    return subprocess.run(
        command, cwd=tree.path, env=tree.environment(slurm.environment), capture_output=True, text=True
    )


def start_on_slurm(tree: Tree, slurm, *targets: str) -> subprocess.Popen:
    command = tree.command(*targets, options=SLURM)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=tree.path,
        env=tree.environment(slurm.environment),
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_results_are_those_of_a_local_run_bit_for_bit(slurm, tmp_path):
    targets = [f"results/tiny/step_response/{name}.json" for name in ("lif", "alif", "ltc")]
    there, here = Tree(tmp_path / "there", jobs(a=0)), Tree(tmp_path / "here", jobs(a=0))
    done = on_slurm(there, slurm, *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    local = subprocess.run(
        here.command(*targets), cwd=here.path, env=here.environment(dict(os.environ)), capture_output=True, text=True
    )
    assert local.returncode == 0, local.stdout + local.stderr
    assert len(here.made()) == 3 and there.made() == here.made()


def test_a_job_that_fails_is_told_with_its_reason_and_alone_made_again(slurm, tmp_path):
    tree = Tree(tmp_path / "tree", jobs(zero=0, one=0, two=0) | {"bad": {"number": -1, "seconds": 0}})
    done = on_slurm(tree, slurm, *results("zero", "one", "bad", "two"))
    assert done.returncode != 0 and len(tree.made()) == 3
    assert "the number -1 is negative" in done.stdout + done.stderr
    times = {path: (tree.path / path).stat().st_mtime_ns for path in tree.made()}
    tree.set(jobs(zero=0, one=0, two=0) | {"bad": {"number": 5, "seconds": 0}})
    done = on_slurm(tree, slurm, *results("zero", "one", "bad", "two"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(tree.made()) == 4
    assert {path: (tree.path / path).stat().st_mtime_ns for path in times} == times


def test_a_job_over_its_time_is_told(slurm, tmp_path):
    tree = Tree(tmp_path / "tree", jobs(short=0, long=300))
    done = on_slurm(tree, slurm, *results("short", "long"), options=("--default-resources", "runtime=1", "mem_mb=1000"))
    assert done.returncode != 0 and list(tree.made()) == results("short")
    assert "TIMEOUT" in done.stdout + done.stderr


def test_a_node_that_dies_loses_no_result(slurm, tmp_path):
    tree = Tree(tmp_path / "tree", jobs(a=20, b=20, c=20))
    run = start_on_slurm(tree, slurm, *results("a", "b", "c"))
    wait_for(lambda: "n2" in slurm.ask("squeue", "--noheader", "--format=%N %T"), "job on the node n2", slurm.log, 120)
    slurm.kill_node("n2")
    out, _ = run.communicate(timeout=600)
    slurm.start_node("n2")
    if run.returncode:  # what was lost with the node is made by the same command
        done = on_slurm(tree, slurm, *results("a", "b", "c"))
        assert done.returncode == 0, out + done.stdout + done.stderr
    assert [yaml.safe_load(content)["square"] for content in tree.made().values()] == [0, 1, 4]


def test_a_cancelled_job_is_told(slurm, tmp_path):
    tree = Tree(tmp_path / "tree", jobs(long=300))
    run = start_on_slurm(tree, slurm, *results("long"))
    wait_for(lambda: "RUNNING" in slurm.ask("squeue", "--noheader", "--format=%T"), "running job", slurm.log, 120)
    slurm.ask("scancel", "--user", slurm.ask("id", "-un").strip())
    out, _ = run.communicate(timeout=300)
    assert run.returncode != 0 and "CANCELLED" in out


def test_a_full_queue_is_told(tmp_path):
    with cluster(nodes=1, most_jobs=1) as full:
        tree = Tree(tmp_path / "tree", jobs(a=5, b=0, c=0))
        start = time.monotonic()
        done = on_slurm(tree, full, *results("a", "b", "c"))
        assert time.monotonic() - start < 300
        if done.returncode:
            assert "sbatch" in done.stdout + done.stderr.lower() or "submit" in (done.stdout + done.stderr).lower()
        else:
            assert len(tree.made()) == 3
