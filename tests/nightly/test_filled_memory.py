"""What a rule computes does not depend on what was in the memory that it gets."""

import os
import subprocess
import sys
from pathlib import Path


def test_rtrl_reads_no_memory_that_nothing_wrote():
    """XLA's optimizations on; glibc fills what malloc returns, where otherwise chance decides what was there."""
    environment = os.environ | {"MALLOC_PERTURB_": "37", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
    program = Path(__file__).with_name("filled_memory.py")
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
