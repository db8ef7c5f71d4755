"""Compiled programs are kept on disk, so that tests, jobs of the pipeline and the site compile each one once.

`keep_programs()` is called before JAX is imported. Programs lie in `.programs/`, in a folder for each jaxlib and processor,
since they are machine code. JAX finds a program by all that it was compiled from, so that a kept one is never a stale one.
SLAX_PROGRAM_CACHE=0 turns this off. `make clean` removes the folder.
"""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def processor() -> str:
    """What machine code depends on: the architecture, and on Linux the name and the features of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return f"{platform.machine()}-{hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"


def keep_programs() -> Path | None:
    """Tells JAX, in this process and in those that it starts, where to keep programs. Returns the folder."""
    if os.environ.get("SLAX_PROGRAM_CACHE", "1") == "0":
        return None
    folder = ROOT / ".programs" / f"jaxlib-{version('jaxlib')}-{processor()}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    return folder
