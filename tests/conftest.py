"""Strict settings for all tests: CPU, no silent type or rank promotion, warnings are errors (see pyproject.toml)."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

from experiments.pipeline.program_cache import keep_programs

keep_programs()

# Tracing makes many objects that stay: to look through them less often takes a tenth of the time away.
gc.set_threshold(50_000, 20, 50)

os.environ["JAX_PLATFORMS"] = "cpu"

# Compiling is nearly all of the time, and takes half as long without XLA's optimizations, here and in what tests start.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 turns them on.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0":
    flags = ["--xla_cpu_parallel_codegen_split_count=1"]
    # A later one ends the process at a flag that it lacks.
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a test compiles; the same examples in every run.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")


def pytest_collection_modifyitems(config, items):
    """Files with slow tests come first if there are several processes, so that none is left to one of them at the end."""
    if not hasattr(config, "workerinput"):
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


MOST_MAPS = 30_000  # each program takes some memory maps, of which Linux gives a process 65,530


@pytest.fixture(autouse=True, scope="module")
def _programs_fit_into_a_process():
    """Frees compiled programs after a file, where a process has so many that it could not go on."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_shape_checks():
    """Runs a test as a user does, without the shape annotations being checked, so that it sees our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
