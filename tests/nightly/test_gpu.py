"""The one command for a GPU, as far as a CPU can run it."""

import csv
import subprocess
from pathlib import Path

from experiments import gpu

ROOT = Path(__file__).parents[2]


def test_steps_in_an_iteration_are_timed_first_and_written_to_one_file(tmp_path):
    first = next(gpu.steps())
    assert first.files == (gpu.ITERATIONS,) and first.command[-1] == str(gpu.ITERATIONS)
    small = ["--sizes", "4", "--rules", "bptt", "ottt", "--repeats", "1", "--output", tmp_path / "times.csv"]
    subprocess.run([*first.command, *small], cwd=ROOT, check=True)
    device, *lines = (tmp_path / "times.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert device.startswith("# cpu") and [row["rule"] for row in rows] == ["BPTT"] * 4 + ["OTTT"] * 4
    assert [row["steps in an iteration"] for row in rows] == 2 * ["1", "4", "8", "16"]
    assert all(float(row["N = 4"]) > 0 for row in rows)
