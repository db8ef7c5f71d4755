"""The pipeline on trial: a copy of what it consists of, with the experiment cut down to seconds."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PARTS = [
    "Snakefile",
    "dvc.yaml",
    ".dvcignore",
    ".dvc/config",
    ".gitignore",
    "requirements.lock",
    "workflow",
    "gallery",
    "profiles",
    "data/config.yaml",
    "data/raw/.gitignore",
    "data/raw/japanese_vowels.npz.dvc",
    "data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz.dvc",
    "data/store",
    "shipped/dvc.yaml",
    "shipped/.gitignore",
]
ARCHIVE = yaml.safe_load((ROOT / "shipped/full.tar.xz.dvc").read_text())["outs"][0]["md5"][2:]  # its name in the store
SOURCES = [
    "packages",
    *(str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("experiments/*.py"))),
    "experiments/common",
    "benchmarks/__init__.py",
    "benchmarks/side_by_side",
    "benchmarks/peers",
    "experiments/gradient_similarity",
]
TINY = {"seeds": 1, "measure_at": [0, 3], "batch_size": 4, "eval_batches": 2, "test_size": 20, "rules": ["ostl"]}
TINY_TASKS = ["randman_shallow", "digits_shallow"]
TASK_WITH_SPIKES = "japanese_vowels"  # of the scale full
STEMS = ["gradient_similarity" + end for end in ("", "_norms", "_noise", "_terms")]
TINY_CLAIM = {  # in place of the experiment's, which are about what is cut off here
    "id": "ostl_is_exact_in_the_read_out",
    "statement": "OSTL is exact in the read-out.",
    "source": "ours",
    "ours": {
        "where": {"task": "randman_shallow", "training_steps": 3, "rule": "ostl", "layer": 2},
        "column": "cosine",
    },
    "relation": "near",
    "than": 1.0,
    "tolerance": 0.0001,
}
TEXTS = {"title": "Agreement with BPTT", "shows": "Cosines", "alt": "Bars", "published": "not in the paper"}
TINY_FIGURES = [{"stem": stem, **TEXTS, "claims": [TINY_CLAIM] if stem == STEMS[0] else []} for stem in STEMS]


class Tree:
    """A checkout in which the pipeline can be run and looked at."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "experiments/gradient_similarity/config.yaml"

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=self.path, env=self.environment(), text=True, capture_output=True)

    def start(self, *command: str) -> subprocess.Popen:
        """A command that goes on, in a group of processes of its own."""
        pipe, options = subprocess.PIPE, {"text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=self.path, env=self.environment(), stdout=pipe, stderr=pipe, **options)

    def environment(self) -> dict[str, str]:
        packages = [str(source) for source in self.path.glob("packages/*/src")]
        return {name: value for name, value in os.environ.items() if name != "DVC_ROOT"} | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(packages),
        }

    def output_of(self, *command: str) -> str:
        """What a command prints, which must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def pending(self) -> set[str]:
        """The files that `snakemake figures/all` would make now."""
        plan = self.output_of("snakemake", "figures/all", "--dry-run", "--quiet", "host")
        return {file for files in re.findall(r"^ +output: (.*)$", plan, re.MULTILINE) for file in files.split(", ")}

    def made(self) -> dict[str, int]:
        """When each result and figure was made."""
        files = [
            file
            for folder in ("data/processed", "results", "figures")
            for file in (self.path / folder).rglob("*")
            if file.is_file()
        ]
        return {str(file.relative_to(self.path)): file.stat().st_mtime_ns for file in files}

    def edit(self, file: str, old: str, new: str) -> None:
        content = (self.path / file).read_text()
        assert old in content
        (self.path / file).write_text(content.replace(old, new, 1))

    def copy(self, path: Path) -> "Tree":
        shutil.copytree(self.path, path, symlinks=True)
        return Tree(path)


def new_tree(path: Path) -> Tree:
    """A fresh git checkout of the pipeline with a tiny quick scale."""
    for part in PARTS + SOURCES:
        (path / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__", ARCHIVE))
        else:
            shutil.copy2(ROOT / part, path / part)
    tree = Tree(path)
    scales = yaml.safe_load(tree.config.read_text())["scales"]
    tasks = {name: scales["quick"]["tasks"][name] for name in TINY_TASKS}
    scales["quick"] |= TINY | {"tasks": tasks}
    with_spikes = scales["tiny"]["tasks"][TASK_WITH_SPIKES] | {"rules": TINY["rules"]}
    full_tasks = {TINY_TASKS[0]: tasks[TINY_TASKS[0]], TASK_WITH_SPIKES: with_spikes}
    scales["full"] = copy.deepcopy(scales["quick"] | {"tasks": full_tasks})
    tree.config.write_text(yaml.safe_dump({"scales": scales}))
    (tree.config.parent / "claims.yaml").write_text(yaml.safe_dump({"figures": TINY_FIGURES}))
    tree.output_of("git", "init", "--quiet")
    tree.output_of("git", "add", "--all")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    tree.output_of("git", *identity, "commit", "--quiet", "--message", "Start")
    return tree
