"""Data sets that other libraries read, each in an environment of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "data_sets"
UV = [Path(sys.executable).with_name("uv"), "run", "--no-project", "--quiet", "--script"]
PATHS = os.environ | {"PYTHONPATH": str(FOLDER.parents[1] / "data")}  # for the contract and the small sets


SCRIPTS = [[*UV, "mlxtend_reads.py"], [*UV, "neurobench_reads.py"]]


@pytest.mark.parametrize("command", SCRIPTS, ids=lambda command: command[-1])
def test_sets_are_read_or_refused(command):
    run = subprocess.run(command, cwd=FOLDER, env=PATHS, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
