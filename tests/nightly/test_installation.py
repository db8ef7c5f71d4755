"""What a user installs by pip, who has nothing of ours yet: slax-all, and a package made from the template.

Everything is downloaded and installed into a new environment, so the versions that they ask for must exist together.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a command of a new environment with slax-all, the template and pytest, in the folder of a copy of the template."""
    folder = tmp_path_factory.mktemp("installation")
    template = shutil.copytree(ROOT / "templates/slax-my-rule", folder / "slax-my-rule")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        python = folder / "venv/bin/python"
        done = subprocess.run([python, *command], cwd=template, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "pip", "install", "-q", ROOT / "packages/slax-all", template, "pytest")
    yield run
    shutil.rmtree(folder / "venv")


def test_all_packages_are_there_in_one_version(installed):
    names = "slax_data", "slax_neurons", "slax_rules", "slax_viz"
    script = f"import {', '.join(names)}; print(*({', '.join(f'{name}.__version__' for name in names)},))"
    script += f"; print(*({', '.join(f'{name}.__file__' for name in names)},))"
    versions, places = installed("-c", script).splitlines()
    assert len({*versions.split()}) == 1 and len(versions.split()) == 4
    assert all("site-packages" in place for place in places.split())


def test_the_template_passes_its_own_test(installed):
    assert "1 passed" in installed("-m", "pytest", "-q")
