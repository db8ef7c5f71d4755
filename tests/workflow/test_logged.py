"""workflow/logged: what stands before each job's command."""

import os
import subprocess
from pathlib import Path

LOGGED = Path(__file__).parents[2] / "workflow" / "logged"


def test_xla_has_the_threads_of_the_rule(tmp_path):
    command = [LOGGED, tmp_path / "log", "printenv", "NPROC"]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "3"}, check=True)
    assert (tmp_path / "log").read_text() == "3\n"
