"""Programs of functions that are made anew in each pass of a loop."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "training/many_fits.py"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_three_hundred_fits_need_the_memory_of_the_programs_that_are_kept():
    """Of 64; the next 36 fits let what was made meanwhile be collected."""
    run = [sys.executable, SCRIPT, "300", "64"]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    memory, maps = np.loadtxt(told.splitlines()).T
    assert memory[-1] - memory[99] < 20 and maps[-1] - maps[99] < 100
