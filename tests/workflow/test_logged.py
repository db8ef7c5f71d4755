"""workflow/logged: what stands before each job's command."""

import os
import subprocess
from pathlib import Path

import pytest

LOGGED = Path(__file__).parents[2] / "workflow" / "logged"


def run(log, *command, **variables):
    return subprocess.run([LOGGED, log, *command], env=os.environ | variables, capture_output=True, text=True)


@pytest.mark.parametrize("threads", ["1", "4"])
def test_xla_has_the_threads_of_the_rule(tmp_path, threads):
    assert run(tmp_path / "log", "printenv", "NPROC", OMP_NUM_THREADS=threads).returncode == 0
    assert (tmp_path / "log").read_text() == f"{threads}\n"
