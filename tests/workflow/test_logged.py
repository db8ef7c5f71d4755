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


def test_failed_command_shows_the_end_of_its_log(tmp_path):
    done = run(tmp_path / "log", "sh", "-c", "seq 30; exit 3")
    assert done.returncode == 3 and done.stdout == ""
    assert "FAILED: sh -c" in done.stderr and "    30\n" in done.stderr and "    10\n" not in done.stderr
