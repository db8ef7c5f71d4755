"""Data sets that other libraries read, each in an environment of its own, which its script names."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent / "foreign").glob("*.py"))
UV = Path(sys.executable).with_name("uv")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_sets_of_other_libraries_are_read(script):
    run = subprocess.run([UV, "run", "--no-project", "--quiet", "--script", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
