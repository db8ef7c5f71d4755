"""No figure has a number without a file: plot.py computes nothing; every figure has its table, two pictures and its claims."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gallery.claims_file import read_claims

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("experiments/*/jobs.py"))
FORMS = {"csv", "png", "svg", "record"}  # "record" is STEM.record.json

# What plot.py may take: the standard library, arrays, drawing, reading; and of ours the table of rules and that of neurons.
MODULES = {"matplotlib", "mpl_toolkits", "numpy", "yaml", *sys.stdlib_module_names}
OURS = {
    "experiments.common.figures": r"\w+",
    "experiments.common": r"rate_curves",
    "experiments.common.rate_curves": r"\w+",
    "experiments.credit_grid.grid": r"REFERENCES?|FIXED|cells|published",
    "experiments.throughput.libraries": r"\w+",
    "slax_rules": r"RULES",
    "slax_neurons": r"NEURONS",
    "slax_viz": r"plot_\w+|style|mean_interval|PNG_METADATA|SVG_METADATA",
}
COMPUTING = {"linalg", "random", "fft", "polyfit", "cov", "corrcoef", "dot", "matmul", "einsum", "gradient"}


def mistakes_of(source):
    """What a plot.py takes that computes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module, alias.name) for alias in node.names]
        else:
            names = []
        for module, name in names:
            allowed = OURS.get(module)
            if module.partition(".")[0] not in MODULES and not (allowed and name and re.fullmatch(allowed, name)):
                yield f"line {node.lineno}: {module}{f'.{name}' if name else ''}"
        numpy = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
        if (numpy and node.attr in COMPUTING) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_plot_computes_nothing(experiment):
    assert list(mistakes_of((ROOT / "experiments" / experiment / "plot.py").read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import jax",
        "import jax.numpy as jnp",
        "from optax import adam",
        "from scipy.stats import t",
        "import slax_rules",
        "from slax_rules import gradients",
        "from slax_neurons import LIF",
        "from slax_viz import cosine_similarity",
        "from experiments.common.training import make_model",
        "from experiments.accuracy import run",
        "def main():\n    from slax_data import make_task",
        "np.linalg.norm(x)",
        "np.random.normal()",
        "x @ y",
    ],
)
def test_what_computes_is_found(line):
    assert len(list(mistakes_of(line))) == 1


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """By scale, the experiment, stem and forms of each figure that `snakemake figures/all` would make."""
    folder = tmp_path_factory.mktemp("plan")
    for part in (
        "Snakefile",
        "workflow",
        "profiles",
        "experiments",
        "gallery",
        "packages",
        "dvc.yaml",
        "requirements.lock",
    ):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns(".envs"))
    shutil.copytree(ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("processed", "cache"))
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    plans = {}
    for scale in ("tiny", "quick", "paper"):
        command = ["snakemake", "figures/all", "--dry-run", "--quiet", "host", "--config", f"scale={scale}"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
        jobs = re.findall(r"^(?:local)?rule (\w+):((?:\n .*)*)", done.stdout + done.stderr, re.MULTILINE)
        assert jobs
        plans[scale] = {}
        for rule, about in jobs:
            for stem, form in re.findall(rf"figures/{scale}/(\w+)\.(\w+)", "".join(re.findall(r"output: .*", about))):
                plans[scale].setdefault((rule, stem), set()).add(form)
    return plans


@pytest.fixture(scope="module")
def claimed():
    """The experiment and stem of each figure that a claims.yaml has."""
    paths = sorted(ROOT.glob("experiments/*/claims.yaml"))
    return {(path.parent.name, figure["stem"]) for path in paths for figure in read_claims(path)}


@pytest.mark.parametrize("scale", ["tiny", "quick", "paper"])
def test_every_figure_has_a_table_a_picture_in_two_forms_and_a_record(planned, scale):
    assert planned[scale] and {figure: forms for figure, forms in planned[scale].items() if forms != FORMS} == {}


def test_figures_are_the_same_at_all_scales(planned):
    assert planned["tiny"].keys() == planned["quick"].keys() == planned["paper"].keys()


def test_every_figure_has_claims_and_every_claim_a_figure(planned, claimed):
    made = {stem: rule for rule, stem in planned["quick"]}
    assert made.keys() == {stem for _, stem in claimed}
    assert [(experiment, stem) for experiment, stem in claimed if not made[stem].startswith(f"{experiment}_")] == []
