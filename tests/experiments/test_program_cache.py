"""Compiled programs are kept on disk, and a second process finds them."""

import os
import subprocess
import sys
from pathlib import Path

from experiments.pipeline.program_cache import ROOT

PROGRAM = """
import sys
from experiments.pipeline import program_cache
program_cache.ROOT = program_cache.Path(sys.argv[1])
print(program_cache.keep_programs())
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jax.jit(lambda x: x * 3 + 1)(2.0)
print(sum(event.endswith("cache_hits") for event in events), sum(event.endswith("cache_misses") for event in events))
"""


def run(folder):
    command = [sys.executable, "-c", PROGRAM, folder]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
    }
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    place, counts = done.stdout.splitlines()
    return place, *map(int, counts.split())


def test_second_process_finds_the_programs_of_the_first(tmp_path):
    place, hits, misses = run(tmp_path)
    assert (hits, misses > 0) == (0, True) and place.startswith(str(tmp_path))
    assert list(Path(place).iterdir())
    assert run(tmp_path) == (place, misses, 0)
