"""The pipeline with a toy: an experiment whose jobs wait, fail, or square a number, in a checkout of its own."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments.pipeline.plan import stored

ROOT = Path(__file__).parents[2]
VOWELS = Path("data/raw/japanese_vowels.npz.dvc")
PARTS = (
    *("Snakefile", "workflow", "gallery", "profiles", "packages", "requirements.lock", "templates/experiment"),
    *("data/config.yaml", str(VOWELS), str(stored(VOWELS)), "benchmarks/__init__.py", "benchmarks/side_by_side"),
    *(f"experiments/{folder}" for folder in ("common", "drawing", "pipeline")),
    *(str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("experiments/*.py"))),
)
# An experiment whose jobs do what a test wants: wait, fail, or be alone on a node. They leave a file, `started`.
# One more job reads the numbers of all, and a figure has their squares.
TOY = {
    "jobs.py": """
from experiments.pipeline.job import ARRAYS, NUMBERS, TIMES, Job

def jobs(settings):
    for name, own in settings["jobs"].items():
        yield Job(name, own, endings=(TIMES,) if own["alone"] else (NUMBERS, ARRAYS))
    if settings["total"]:
        yield Job("total", {}, module="total", reads=tuple(settings["jobs"]))
""",
    "run.py": """
import time
from pathlib import Path

def compute(config):
    Path("started").touch()
    time.sleep(config["seconds"])
    if config["number"] < 0:
        raise SystemExit(f"the number {config['number']} is negative")
    square = {"square": config["number"] ** 2}
    return square if config["alone"] else (square, {"number": config["number"]})
""",
    "total.py": """
import numpy as np

def compute(config, *files):
    return {"square": sum(int(np.load(file)["number"]) for file in files)}
""",
    "plot.py": """
from matplotlib import pyplot as plt
from experiments.drawing.figures import Plot

def prepare(results):
    return sorted([result["square"]] for result in results)

def draw(squares):
    figure, ax = plt.subplots()
    ax.plot(squares, "o")
    return figure

FIGURES = {"toy": Plot(["square"], list, draw)}
""",
    "claims.yaml": """\
figures:
  - {stem: toy, title: Squares, shows: Squares, alt: Dots, published: not in the paper, claims: []}
""",
}

PATIENCE = "300"  # seconds for one command: whatever happens, a test ends


class Tree:
    """A checkout of the pipeline with the toy. What a run says goes into a file, by default one beside it."""

    def __init__(self, path: Path, output: Path | None = None):
        self.path, self.output = path, output or path.with_name("said")

    @classmethod
    def new(cls, path: Path) -> "Tree":
        """Make one, with one small set of spikes."""
        for part in PARTS:
            (path / part).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, path / part)
        (path / "experiments/toy").mkdir()
        for name, text in TOY.items():
            (path / "experiments/toy" / name).write_text(text)
        sets = yaml.safe_load((path / "data/config.yaml").read_text())["sets"]
        only = {"sets": {"japanese_vowels": sets["japanese_vowels"]}}
        (path / "data/config.yaml").write_text(yaml.safe_dump(only))
        return cls(path)

    def set(self, jobs: dict[str, dict], total: bool = False) -> None:
        scales = {scale: {"jobs": jobs, "total": total} for scale in ("tiny", "quick", "full", "paper")}
        (self.path / "experiments/toy/config.yaml").write_text(yaml.safe_dump({"scales": scales}))

    def run(self, *targets: str, **how) -> int:
        """Make files, and return the exit status."""
        return self.start(*targets, **how).wait()

    def start(
        self, *targets: str, options: Sequence[str] = (), config: Sequence[str] = ("scale=tiny",), **process
    ) -> subprocess.Popen:
        """Begin to make files; `said` is the output."""
        command = ["timeout", PATIENCE, "snakemake", *targets, "--keep-going", *options, "--config", *config]
        where = {"cwd": self.path, "env": self.environment()}
        with self.output.open("w") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **where, **process)

    def environment(self) -> dict[str, str]:
        packages = [str(source) for source in self.path.glob("packages/*/src")]
        return os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(packages),
        }

    def python(self, *arguments: str) -> tuple[int, str]:
        """The exit status and the output of `python -m ...` in the tree."""
        return self.call(sys.executable, "-m", *arguments)

    def call(self, *command: str) -> tuple[int, str]:
        """The exit status and the output of a command in the tree."""
        done = subprocess.run(command, cwd=self.path, env=self.environment(), capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def copy(self, path: Path) -> "Tree":
        shutil.copytree(self.path, path, symlinks=True)
        return Tree(path)

    def edit(self, file: str, old: str = "", new: str = "edited = 1\n") -> None:
        content = (self.path / file).read_text()
        assert old in content
        (self.path / file).write_text(content.replace(old, new, 1) if old else content + new)

    def wait_for(self, file: Path, run: subprocess.Popen) -> None:
        """Wait until a run has made a file."""
        while not file.exists():
            assert run.poll() is None, self.said()
            time.sleep(0.1)

    def ran(self) -> frozenset[str]:
        """The rules whose jobs ran, or would run, as the last run said."""
        return frozenset(re.findall(r"^(\w+) +\d+$", self.said(), re.MULTILINE)) - {"total"}

    def said(self) -> str:
        """The output of the last run."""
        return self.output.read_text()


def jobs(**seconds: float) -> dict[str, dict]:
    return {
        name: {"number": number, "seconds": time, "alone": False} for number, (name, time) in enumerate(seconds.items())
    }
