"""The environment of a container, without a builder: the steps of the Dockerfile run in a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toy_pipeline import Tree, jobs

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "containers/Dockerfile").read_text().replace("\\\n", "")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The variables of the image, whose environment is in a temporary folder."""
    folder = tmp_path_factory.mktemp("image")
    for names in re.findall(r"^COPY (.*) /opt/source", DOCKERFILE, re.MULTILINE):
        for name in names.split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / "source" / name)
            else:
                (folder / "source").mkdir(exist_ok=True)
                shutil.copy2(ROOT / name, folder / "source" / name)
    (run,) = re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)
    build = os.environ | {"VARIANT": "cpu", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", run.replace("/opt", str(folder))], cwd=folder / "source", env=build, check=True)
    (variables,) = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
    return dict(
        pair.split("=", 1) for pair in variables.replace("/opt", str(folder)).replace("$PATH", "/usr/bin:/bin").split()
    )


def test_pipeline_runs_inside(image, tmp_path):
    """With nothing but the variables of the image, and the packages of the checkout."""
    tree = Tree.new(tmp_path / "tree", jobs(a=0))
    run = ["snakemake", "figures/all", "--config", "scale=tiny"]
    done = subprocess.run(run, cwd=tree.path, env=image, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = "import slax_rules; print(slax_rules.__file__, slax_rules.__version__)"
    said = subprocess.check_output(["python", "-c", found], cwd=tree.path, env=image, text=True)
    assert said.startswith(f"{tree.path}/packages/slax-rules/src/")
